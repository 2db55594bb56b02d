/* schema - see schema.h. */
#include "deploy/template/tool-server/schema.h"

#include <math.h>
#include <string.h>

enum { LIST_BYTES = 160 };

static const cJSON *field(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

/* "a", "b", "c" of an array's strings or an object's names. */
static void put_names(char out[LIST_BYTES], const cJSON *list)
{
    struct strbuf text;
    const cJSON *item;

    strbuf_init(&text, LIST_BYTES - 1);
    cJSON_ArrayForEach(item, list)
    {
        (void)strbuf_printf(&text, "%s\"%s\"", item == list->child ? "" : ", ",
                            item->string != NULL ? item->string : item->valuestring);
    }
    memcpy(out, text.data, text.length + 1);
    strbuf_done(&text);
}

static bool is_type(const cJSON *value, const char *type)
{
    return (strcmp(type, "string") == 0 && cJSON_IsString(value)) ||
           (strcmp(type, "boolean") == 0 && cJSON_IsBool(value)) ||
           (strcmp(type, "object") == 0 && cJSON_IsObject(value)) ||
           (strcmp(type, "integer") == 0 && cJSON_IsNumber(value) &&
            value->valuedouble == floor(value->valuedouble));
}

static int check_bounds(const cJSON *schema, const cJSON *value, const char *name,
                        struct error *err)
{
    const cJSON *low = field(schema, cJSON_IsString(value) ? "minLength" : "minimum");
    const cJSON *high = field(schema, cJSON_IsString(value) ? "maxLength" : "maximum");
    const char *what = cJSON_IsString(value) ? "have a length of" : "be";
    double size = value->valuedouble;

    if (cJSON_IsString(value)) {
        size = 0; /* in characters, as the standard has it */
        for (const char *at = value->valuestring; *at != '\0'; at++) {
            size += ((unsigned char)*at & 0xC0) != 0x80;
        }
    }
    if (low != NULL && size < low->valuedouble) {
        return error_set(err, ERR_INVALID, "%.60s must %s at least %.0f", name, what,
                         low->valuedouble);
    }
    if (high != NULL && size > high->valuedouble) {
        return error_set(err, ERR_INVALID, "%.60s must %s at most %.0f", name, what,
                         high->valuedouble);
    }
    return 0;
}

static int check_enum(const cJSON *allowed, const cJSON *value, const char *name, struct error *err)
{
    char names[LIST_BYTES];
    const cJSON *item;

    cJSON_ArrayForEach(item, allowed)
    {
        if (cJSON_Compare(item, value, true)) {
            return 0;
        }
    }
    put_names(names, allowed);
    return error_set(err, ERR_INVALID, "%.60s must be one of %s", name, names);
}

static int check(const cJSON *schema, const cJSON *value, const char *name, struct error *err);

static int check_object(const cJSON *schema, const cJSON *value, struct error *err)
{
    const cJSON *properties = field(schema, "properties");
    const cJSON *more = field(schema, "additionalProperties");
    const cJSON *item;
    char names[LIST_BYTES];

    cJSON_ArrayForEach(item, field(schema, "required"))
    {
        if (field(value, item->valuestring) == NULL) {
            return error_set(err, ERR_INVALID, "%.60s is required", item->valuestring);
        }
    }
    cJSON_ArrayForEach(item, value)
    {
        const cJSON *known = field(properties, item->string);

        if (known == NULL && cJSON_IsFalse(more)) {
            put_names(names, properties);
            return error_set(err, ERR_INVALID, "%.60s is not an argument of this tool, it takes %s",
                             item->string, names);
        }
        if (known == NULL && !cJSON_IsObject(more)) {
            continue;
        }
        if (check(known != NULL ? known : more, item, item->string, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int check(const cJSON *schema, const cJSON *value, const char *name, struct error *err)
{
    const cJSON *type = field(schema, "type");
    const cJSON *allowed = field(schema, "enum");

    if (cJSON_IsString(type) && !is_type(value, type->valuestring)) {
        return error_set(err, ERR_INVALID, "%.60s must be of type %s", name, type->valuestring);
    }
    if (allowed != NULL && check_enum(allowed, value, name, err) != 0) {
        return -1;
    }
    if (check_bounds(schema, value, name, err) != 0) {
        return -1;
    }
    return cJSON_IsObject(value) ? check_object(schema, value, err) : 0;
}

int schema_check(const cJSON *schema, const cJSON *value, struct error *err)
{
    return check(schema, value, "arguments", err);
}
