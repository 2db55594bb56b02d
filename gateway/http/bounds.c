/* bounds - see bounds.h. */
#include "gateway/http/bounds.h"

#include <ctype.h>
#include <string.h>

#include "common/store/store_audit.h"
#include "gateway/auth/password.h"
#include "gateway/data/data_call.h"
#include "gateway/gateway.h"
#include "gateway/http/handlers.h"
#include "gateway/http/request_state.h"
#include "gateway/http/router.h"

/* The handler's name. Does not compile for a handler that does not exist. */
#define NAME(handler) (&#handler[0 * sizeof(&(handler))])
#define BOUND(handler, field, kind, outer, min, max, setting, name, value)                         \
    {NAME(handler), field, kind, outer, min, max, setting, name, value, false},
static const struct bound bounds[] = {
#define TEXT(handler, field, min, max) BOUND(handler, field, BOUND_TEXT, false, min, max, 0, 0, 0)
#define NUMBER(handler, field, min, max)                                                           \
    BOUND(handler, field, BOUND_NUMBER, false, min, max, 0, 0, 0)
#define SETTING(handler, field, min, member)                                                       \
    BOUND(handler, field, BOUND_NUMBER, false, min, 0, offsetof(struct gateway_config, member), 0, \
          0)
#define MAP(handler, field, entries, name, value)                                                  \
    BOUND(handler, field, BOUND_MAP, false, 0, entries, 0, name, value)
#define VARIABLES(handler, field, entries, name, value)                                            \
    {NAME(handler), field, BOUND_MAP, false, 0, entries, 0, name, value, true},
#define OUTER_TEXT(handler, field, min, max)                                                       \
    BOUND(handler, field, BOUND_TEXT, true, min, max, 0, 0, 0)
#define OUTER_NUMBER(handler, field, min, max)                                                     \
    BOUND(handler, field, BOUND_NUMBER, true, min, max, 0, 0, 0)
#include "gateway/http/bounds.def"
#undef TEXT
#undef VARIABLES
#undef NUMBER
#undef SETTING
#undef MAP
#undef OUTER_TEXT
#undef OUTER_NUMBER
};
enum { BOUND_COUNT = sizeof(bounds) / sizeof(bounds[0]) };

const struct bound *bounds_find(const char *handler, const char *field)
{
    for (int i = 0; i < BOUND_COUNT; i++) {
        if (strcmp(bounds[i].handler, handler) == 0 && strcmp(bounds[i].field, field) == 0) {
            return &bounds[i];
        }
    }
    return NULL;
}

int64_t bounds_max(const struct bound *bound, const struct gateway_config *config)
{
    int64_t max = bound->max;

    if (bound->setting != 0) {
        memcpy(&max, (const char *)config + bound->setting, sizeof(max));
    }
    return max;
}

int bounds_check_env_names(const cJSON *map, const char *field, struct error *err)
{
    for (const cJSON *item = map != NULL ? map->child : NULL; item != NULL; item = item->next) {
        bool ok = item->string[0] != '\0' && !isdigit((unsigned char)item->string[0]);

        for (const char *c = item->string; *c != '\0'; c++) {
            ok = ok && (isalnum((unsigned char)*c) || *c == '_') && (unsigned char)*c < 0x80;
        }
        if (!ok) {
            return error_set(
                err, ERR_INVALID,
                "%s: a name is made of letters, digits and _, and does not begin with a "
                "digit",
                field);
        }
    }
    return 0;
}

static int check(const cJSON *body, const struct bound *bound, int64_t max, struct error *err)
{
    const char *text;
    const cJSON *map;
    int64_t number;

    switch (bound->kind) {
    case BOUND_TEXT:
        return json_get_string_req(body, bound->field, (size_t)bound->min, (size_t)max, &text, err);
    case BOUND_NUMBER:
        return json_get_int_req(body, bound->field, bound->min, max, &number, err);
    case BOUND_MAP:
        if (json_get_string_map(body, bound->field, (size_t)max, (size_t)bound->name_max_bytes,
                                (size_t)bound->value_max_bytes, &map, err) < 0) {
            return -1;
        }
        return bound->variables ? bounds_check_env_names(map, bound->field, err) : 0;
    }
    return 0;
}

int bounds_check(const struct request *request, struct error *err)
{
    if (request->body == NULL) {
        return 0;
    }
    for (int i = 0; i < BOUND_COUNT; i++) {
        const struct bound *bound = &bounds[i];
        const cJSON *value;

        if (bound->outer || strcmp(bound->handler, request->state->route->handler_name) != 0) {
            continue;
        }
        value = cJSON_GetObjectItemCaseSensitive(request->body, bound->field);
        if (value != NULL && !cJSON_IsNull(value) &&
            check(request->body, bound, bounds_max(bound, request->gateway->config), err) < 0) {
            return -1;
        }
    }
    return 0;
}
