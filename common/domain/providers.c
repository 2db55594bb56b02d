/* providers - see providers.h. */
#include "common/domain/providers.h"

#include <string.h>

enum { LABEL_MAX_CHARS = 31 };
enum { LIFETIME_MIN_S = 15, LIFETIME_MAX_S = 315360000 };

static const char *const names[PROVIDER_KIND_COUNT] = {
#define X(id, name_env, env, seconds, help) [PROVIDER_KIND_##id] = #id,
#include "common/domain/providers.def"
#undef X
};

#define OFFSET(id) (CONFIG_AT(struct provider_lifetimes, max_s) + (id) * sizeof(int64_t))

/* clang-format off */
const struct config_entry provider_lifetime_config[PROVIDER_KIND_COUNT] = {
#define X(id, name_env, env, seconds, help)                                                                  \
    [PROVIDER_KIND_##id] = {env, CONFIG_INT, OFFSET(PROVIDER_KIND_##id), LIFETIME_MIN_S,           \
                            LIFETIME_MAX_S, seconds, false, false, help},
#include "common/domain/providers.def"
#undef X
};

const struct config_entry provider_label_config[PROVIDER_KIND_COUNT] = {
#define X(id, name_env, env, seconds, help)                                                        \
    [PROVIDER_KIND_##id] = {name_env, CONFIG_STRING,                                               \
                            CONFIG_AT(struct provider_labels, of) +                                \
                                PROVIDER_KIND_##id * sizeof(char *),                               \
                            1, LABEL_MAX_CHARS, #id, false, false,                                 \
                            "its name in doctor, readyz, metrics and logs: a-z, 0-9, -"},
#include "common/domain/providers.def"
#undef X
};
/* clang-format on */

const char *provider_kind_name(enum provider_kind kind)
{
    return names[kind];
}

int provider_kind_parse(const char *name, enum provider_kind *ret)
{
    for (int i = 0; i < PROVIDER_KIND_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = (enum provider_kind)i;
            return 0;
        }
    }
    return -1;
}

int provider_labels_load(struct provider_labels *ret, struct error *err)
{
    if (config_load(provider_label_config, PROVIDER_KIND_COUNT, ret, err) != 0) {
        return -1;
    }
    for (int i = 0; i < PROVIDER_KIND_COUNT; i++) {
        const char *label = ret->of[i];
        if (label[strspn(label, "abcdefghijklmnopqrstuvwxyz0123456789-")] != '\0') {
            error_set(err, ERR_CONFIG, "%s must consist of a-z, 0-9 and -",
                      provider_label_config[i].name);
            goto fail;
        }
        for (int j = 0; j < i; j++) {
            if (strcmp(label, ret->of[j]) == 0) {
                error_set(err, ERR_CONFIG, "%s and %s are the same name",
                          provider_label_config[j].name, provider_label_config[i].name);
                goto fail;
            }
        }
    }
    return 0;
fail:
    provider_labels_free(ret);
    return -1;
}

void provider_labels_free(struct provider_labels *labels)
{
    config_free(provider_label_config, PROVIDER_KIND_COUNT, labels);
}

int provider_list_next(const char **cursor, char *name, size_t size)
{
    const char *begin = *cursor + strspn(*cursor, " \t,");
    size_t length = strcspn(begin, ",");

    *cursor = begin + length;
    while (length > 0 && strchr(" \t", begin[length - 1]) != NULL) {
        length--;
    }
    if (length == 0) {
        return 0;
    }
    if (length >= size) {
        return -1;
    }
    memcpy(name, begin, length);
    name[length] = '\0';
    return 1;
}
