/* openapi - see openapi.h. */
#include "gateway/http/openapi.h"
#include "gateway/work/idempotency.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/domain/providers.h"
#include "gateway/http/bounds.h"
#include "gateway/http/router.h"

#define NO_NUL "^[^\\u0000]*$" /* no string field accepts U+0000 */
#define UUID   "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"

enum answer_kind {
    ANSWER_DATA,
    ANSWER_BARE,
    ANSWER_EVENTS,
    ANSWER_TABLE,
    ANSWER_OUTPUT,
    ANSWER_BYTES,
    ANSWER_TEXT,
    ANSWER_HTML
};
enum field_place { IN_BODY, IN_QUERY, IN_FORM, IN_ANSWER };

/* One number per handler of routes.def, so that the two lists cannot differ. */
enum call_id {
#define CALL(handler, tag, kind, summary) CALL_##handler,
#define IN(handler, place, name, type, required, text)
#define OUT(handler, name, type, text)
#define MAY(handler, name, type, text)
#include "gateway/http/openapi.def"
#undef CALL
#undef IN
#undef OUT
#undef MAY
    CALL_COUNT
};

static const struct {
    const char *name, *tag, *summary;
    enum answer_kind kind;
} calls[CALL_COUNT] = {
#define CALL(handler, tag, kind, summary) {#handler, tag, summary, kind},
#define IN(handler, place, name, type, required, text)
#define OUT(handler, name, type, text)
#define MAY(handler, name, type, text)
#include "gateway/http/openapi.def"
#undef CALL
#undef IN
#undef OUT
#undef MAY
};

static const struct field {
    enum call_id call;
    enum field_place place;
    const char *name, *type;
    bool required;
    const char *text;
} fields[] = {
#define CALL(handler, tag, kind, summary)
#define IN(handler, place, name, type, required, text)                                             \
    {CALL_##handler, place, name, type, required, text},
#define OUT(handler, name, type, text) {CALL_##handler, IN_ANSWER, name, type, true, text},
#define MAY(handler, name, type, text) {CALL_##handler, IN_ANSWER, name, type, false, text},
#include "gateway/http/openapi.def"
#undef CALL
#undef IN
#undef OUT
#undef MAY
};
enum { FIELD_COUNT = sizeof(fields) / sizeof(fields[0]) };

static const struct {
    const char *method, *path;
    unsigned flags;
    enum call_id call;
} served[] = {
#define X(method, path, flags, handler) {method, path, flags, CALL_##handler},
#include "gateway/http/routes.def"
#undef X
};
enum { SERVED_COUNT = sizeof(served) / sizeof(served[0]) };

bool openapi_takes(const char *method, const char *path, const char *name)
{
    for (int s = 0; s < SERVED_COUNT; s++) {
        if (strcmp(served[s].method, method) != 0 || strcmp(served[s].path, path) != 0) {
            continue;
        }
        for (int i = 0; i < FIELD_COUNT; i++) {
            if (fields[i].call == served[s].call && fields[i].place != IN_ANSWER &&
                strcmp(fields[i].name, name) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* ---- schemas ---- */

static void add_enum(cJSON *schema, const char *names)
{
    cJSON *list = cJSON_AddArrayToObject(schema, "enum");

    while (*names != '\0') {
        char name[32];
        size_t length = strcspn(names, "|");

        snprintf(name, sizeof(name), "%.*s", (int)length, names);
        cJSON_AddItemToArray(list, cJSON_CreateString(name));
        names += length + (names[length] == '|');
    }
}

/* Translates a type of openapi.def into JSON Schema. */
static cJSON *type_schema(const char *type)
{
    static const struct {
        const char *name, *base, *format;
    } known[] = {{"uuid", "string", "uuid"},
                 {"time", "string", "date-time"},
                 {"file", "string", "binary"},
                 {"map", "object", NULL}};
    cJSON *schema = cJSON_CreateObject(), *either;
    char base[32];
    const char *format = NULL;

    if (strncmp(type, "strings", 7) == 0) {
        cJSON *items;

        cJSON_AddStringToObject(schema, "type", "array");
        items = cJSON_AddObjectToObject(schema, "items");
        cJSON_AddStringToObject(items, "type", "string");
        if (type[7] == ':') {
            json_add_int64(schema, "minItems", 1);
            add_enum(items, type + 8);
        }
        return schema;
    }
    if (strncmp(type, "pattern:", 8) == 0) {
        cJSON_AddStringToObject(schema, "pattern", type + 8);
        type = "string";
    }
    if (strncmp(type, "enum:", 5) == 0) {
        add_enum(schema, type + 5);
        type = "string";
    }
    const bool nullable = type[strlen(type) - 1] == '?';
    snprintf(base, sizeof(base), "%.*s", (int)(strlen(type) - nullable), type);
    if (strcmp(base, "map") == 0) {
        cJSON_AddStringToObject(cJSON_AddObjectToObject(schema, "additionalProperties"), "type",
                                "string");
    }
    if (strcmp(base, "array") == 0) {
        cJSON_AddStringToObject(cJSON_AddObjectToObject(schema, "items"), "type", "object");
    }
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(base, known[i].name) == 0) {
            snprintf(base, sizeof(base), "%s", known[i].base);
            format = known[i].format;
            break;
        }
    }
    if (nullable) {
        either = cJSON_AddArrayToObject(schema, "type");
        cJSON_AddItemToArray(either, cJSON_CreateString(base));
        cJSON_AddItemToArray(either, cJSON_CreateString("null"));
    } else {
        cJSON_AddStringToObject(schema, "type", base);
    }
    if (format != NULL) {
        cJSON_AddStringToObject(schema, "format", format);
    }
    return schema;
}

/* Lets an optional field be null, which means the same as leaving it out. */
static void allow_null(cJSON *schema)
{
    cJSON *values = cJSON_GetObjectItemCaseSensitive(schema, "enum");
    cJSON *type = cJSON_DetachItemFromObjectCaseSensitive(schema, "type"), *either;

    either = cJSON_AddArrayToObject(schema, "type");
    cJSON_AddItemToArray(either, type);
    cJSON_AddItemToArray(either, cJSON_CreateString("null"));
    if (values != NULL) {
        cJSON_AddItemToArray(values, cJSON_CreateNull());
    }
}

static void add_text_bounds(cJSON *schema, int64_t min, int64_t max)
{
    if (min > 0) {
        json_add_int64(schema, "minLength", min);
    }
    json_add_int64(schema, "maxLength", max);
    cJSON_AddStringToObject(schema, "pattern", NO_NUL);
}

static void add_bounds(cJSON *schema, const struct bound *bound,
                       const struct gateway_config *config)
{
    int64_t max = bounds_max(bound, config);
    cJSON *names;

    switch (bound->kind) {
    case BOUND_TEXT:
        add_text_bounds(schema, bound->min, max);
        break;
    case BOUND_NUMBER:
        json_add_int64(schema, "minimum", bound->min);
        json_add_int64(schema, "maximum", max);
        break;
    case BOUND_MAP:
        json_add_int64(schema, "maxProperties", max);
        names = cJSON_AddObjectToObject(schema, "propertyNames");
        add_text_bounds(names, 1, bound->name_max_bytes);
        if (bound->variables) {
            cJSON_ReplaceItemInObjectCaseSensitive(names, "pattern",
                                                   cJSON_CreateString("^[A-Za-z_][A-Za-z0-9_]*$"));
        }
        add_text_bounds(cJSON_GetObjectItemCaseSensitive(schema, "additionalProperties"), 0,
                        bound->value_max_bytes);
        break;
    }
}

static void describe(cJSON *schema, const char *text, const struct bound *bound)
{
    bool bytes = bound != NULL && bound->kind != BOUND_NUMBER;
    char description[512];

    snprintf(description, sizeof(description), "%s%s%s", text, text[0] != '\0' && bytes ? " " : "",
             bytes ? "Lengths are of UTF-8, in bytes." : "");
    if (description[0] != '\0') {
        cJSON_AddStringToObject(schema, "description", description);
    }
}

/* Lists the names in SANDBOX_PROVIDERS, which were checked at start. */
static void add_providers(cJSON *schema, const struct gateway_config *config)
{
    cJSON *list = cJSON_AddArrayToObject(schema, "enum");
    const char *cursor = config->providers;
    char name[PROVIDER_BYTES];

    while (provider_list_next(&cursor, name, sizeof(name)) > 0) {
        cJSON_AddItemToArray(list, cJSON_CreateString(name));
    }
}

/* config: NULL for a field of an answer, which has no bounds. */
static cJSON *field_schema(const struct field *field, const struct gateway_config *config)
{
    bool provider = strcmp(field->type, "provider") == 0;
    cJSON *schema = type_schema(provider ? "string" : field->type);
    const struct bound *bound =
        config != NULL ? bounds_find(calls[field->call].name, field->name) : NULL;

    if (provider) {
        add_providers(schema, config);
    } else if (bound != NULL) {
        add_bounds(schema, bound, config);
    } else if (config != NULL && strcmp(field->type, "string") == 0) {
        cJSON_AddStringToObject(schema, "pattern", NO_NUL);
    } else if (config != NULL && strcmp(field->type, "uuid") == 0) {
        cJSON_AddStringToObject(schema, "pattern", UUID); /* ids in a path must be lower case */
    }
    describe(schema, field->text, bound);
    if (field->place == IN_BODY && !field->required) {
        allow_null(schema);
    }
    return schema;
}

/* The fields of one place as an object schema; NULL: there are none. */
static cJSON *object_schema(enum call_id call, enum field_place place,
                            const struct gateway_config *config)
{
    cJSON *schema = cJSON_CreateObject(), *properties, *required = cJSON_CreateArray();

    cJSON_AddStringToObject(schema, "type", "object");
    properties = cJSON_AddObjectToObject(schema, "properties");
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (fields[i].call == call && fields[i].place == place) {
            cJSON_AddItemToObject(properties, fields[i].name, field_schema(&fields[i], config));
            if (fields[i].required) {
                cJSON_AddItemToArray(required, cJSON_CreateString(fields[i].name));
            }
        }
    }
    if (cJSON_GetArraySize(required) > 0) {
        cJSON_AddItemToObject(schema, "required", required);
    } else {
        cJSON_Delete(required);
    }
    if (properties->child == NULL) {
        cJSON_Delete(schema);
        return NULL;
    }
    return schema;
}

static cJSON *reference(const char *to)
{
    cJSON *object = cJSON_CreateObject();

    cJSON_AddStringToObject(object, "$ref", to);
    return object;
}

static void add_content(cJSON *object, const char *media_type, cJSON *schema)
{
    cJSON *content = cJSON_GetObjectItemCaseSensitive(object, "content");

    if (content == NULL) {
        content = cJSON_AddObjectToObject(object, "content");
    }
    cJSON_AddItemToObject(cJSON_AddObjectToObject(content, media_type), "schema", schema);
}

static cJSON *text_schema(const char *format)
{
    cJSON *schema = cJSON_CreateObject();

    cJSON_AddStringToObject(schema, "type", "string");
    if (format != NULL) {
        cJSON_AddStringToObject(schema, "format", format);
    }
    return schema;
}

static cJSON *envelope_schema(cJSON *data)
{
    cJSON *schema = cJSON_CreateObject(), *properties;

    cJSON_AddStringToObject(schema, "type", "object");
    properties = cJSON_AddObjectToObject(schema, "properties");
    cJSON_AddItemToObject(properties, "code", type_schema("integer"));
    cJSON_AddItemToObject(properties, "msg", type_schema("string"));
    cJSON_AddItemToObject(properties, "data", data != NULL ? data : type_schema("object"));
    return schema;
}

/* ---- operations ---- */

static void add_parameter(cJSON *list, const char *in, const char *name, bool required,
                          cJSON *schema)
{
    cJSON *parameter = cJSON_CreateObject();

    cJSON_AddStringToObject(parameter, "name", name);
    cJSON_AddStringToObject(parameter, "in", in);
    cJSON_AddBoolToObject(parameter, "required", required);
    cJSON_AddItemToObject(parameter, "schema", schema);
    cJSON_AddItemToArray(list, parameter);
}

/* A header that the contract requires; told as optional, because a setting makes it so. */
static void add_contract_header(cJSON *list, const char *name, cJSON *schema, const char *text)
{
    cJSON_AddStringToObject(schema, "description", text);
    add_parameter(list, "header", name, false, schema);
}

static void add_key_parameter(cJSON *list)
{
    cJSON *schema = text_schema(NULL);

    json_add_int64(schema, "minLength", 1);
    json_add_int64(schema, "maxLength", IDEMPOTENCY_KEY_BYTES - 1);
    cJSON_AddStringToObject(schema, "pattern", "^[\\x21-\\x7e]+$");
    cJSON_AddStringToObject(schema, "description",
                            "Sent again with the same request, it gets the first one's answer.");
    add_parameter(list, "header", "Idempotency-Key", false, schema);
}

static void add_parameters(cJSON *operation, int route, const struct gateway_config *config)
{
    cJSON *list = cJSON_AddArrayToObject(operation, "parameters");
    const char *path = served[route].path;
    unsigned flags = served[route].flags;
    char name[32];

    for (const char *hole = strchr(path, '{'); hole != NULL; hole = strchr(hole + 1, '{')) {
        snprintf(name, sizeof(name), "%.*s", (int)strcspn(hole + 1, "}"), hole + 1);
        add_parameter(list, "path", name, true, type_schema(*name == 'p' ? "integer" : "uuid"));
    }
    if ((flags & OPEN) == 0) {
        add_contract_header(list, "X-Request-ID", type_schema("uuid"),
                            "Required unless GATEWAY_STRICT_HEADERS=0.");
        add_contract_header(list, "User-Agent", type_schema("string"),
                            "Required unless GATEWAY_STRICT_HEADERS=0.");
    }
    if ((flags & KEYED) != 0) {
        add_key_parameter(list);
    }
    if ((flags & ASYNC) != 0) {
        cJSON *prefer = text_schema(NULL);

        cJSON_AddStringToObject(prefer, "description",
                                "respond-async: answer 202 at once. Others are ignored.");
        add_parameter(list, "header", "Prefer", false, prefer);
    }
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (fields[i].call == served[route].call && fields[i].place == IN_QUERY) {
            add_parameter(list, "query", fields[i].name, fields[i].required,
                          field_schema(&fields[i], config));
        }
    }
}

static void add_body(cJSON *operation, int route, const struct gateway_config *config)
{
    cJSON *json = object_schema(served[route].call, IN_BODY, config);
    cJSON *form = object_schema(served[route].call, IN_FORM, config);
    cJSON *body;

    if (json == NULL && form == NULL) {
        return;
    }
    body = cJSON_AddObjectToObject(operation, "requestBody");
    cJSON_AddBoolToObject(body, "required", (served[route].flags & MAYBE_JSON) == 0);
    if (json != NULL) {
        add_content(body, "application/json", json);
    }
    if (form != NULL) {
        add_content(body, "multipart/form-data", form);
    }
}

static void add_responses(cJSON *operation, int route)
{
    enum call_id call = served[route].call;
    cJSON *responses = cJSON_AddObjectToObject(operation, "responses");
    cJSON *good = cJSON_AddObjectToObject(responses, "200");
    cJSON *data = object_schema(call, IN_ANSWER, NULL);

    cJSON_AddStringToObject(good, "description", "OK");
    switch (calls[call].kind) {
    case ANSWER_DATA:
    case ANSWER_TABLE:
    case ANSWER_EVENTS:
    case ANSWER_OUTPUT: /* some programs that are made of it take the first */
        add_content(good, "application/json", envelope_schema(data));
        if (calls[call].kind != ANSWER_DATA) {
            add_content(good, calls[call].kind == ANSWER_TABLE ? "text/csv" : "text/event-stream",
                        text_schema(NULL));
        }
        if (calls[call].kind == ANSWER_OUTPUT) {
            add_content(good, "application/octet-stream", text_schema("binary"));
        }
        break;
    case ANSWER_BARE:
        add_content(good, "application/json", data != NULL ? data : type_schema("object"));
        break;
    case ANSWER_BYTES:
        add_content(good, "application/octet-stream", text_schema("binary"));
        break;
    case ANSWER_TEXT:
        add_content(good, "text/plain", text_schema(NULL));
        break;
    case ANSWER_HTML:
        add_content(good, "text/html", text_schema(NULL));
        break;
    }
    if ((served[route].flags & ASYNC) != 0) {
        cJSON *accepted = cJSON_AddObjectToObject(responses, "202");

        cJSON_AddStringToObject(accepted, "description", "Accepted; the work goes on.");
        add_content(accepted, "application/json", reference("#/components/schemas/Pending"));
    }
    cJSON_AddItemToObject(responses, "default", reference("#/components/responses/Failure"));
}

/* Lists the credentials: a token, or an API key where the route accepts one. */
static void add_security(cJSON *object, bool keys)
{
    cJSON *list = cJSON_AddArrayToObject(object, "security"), *token = cJSON_CreateObject();

    cJSON_AddArrayToObject(token, "token");
    cJSON_AddItemToArray(list, token);
    if (keys) {
        cJSON *key = cJSON_CreateObject();

        cJSON_AddArrayToObject(key, "key");
        cJSON_AddItemToArray(list, key);
    }
}

static cJSON *operation_json(int route, const struct gateway_config *config)
{
    enum call_id call = served[route].call;
    cJSON *operation = cJSON_CreateObject();
    char id[64];
    int before = 0;

    for (int i = 0; i < route; i++) {
        before += served[i].call == call;
    }
    snprintf(id, sizeof(id), before > 0 ? "%s_%d" : "%s", calls[call].name + strlen("handle_"),
             before + 1);
    cJSON_AddStringToObject(operation, "operationId", id);
    cJSON_AddItemToArray(cJSON_AddArrayToObject(operation, "tags"),
                         cJSON_CreateString(calls[call].tag));
    cJSON_AddStringToObject(operation, "summary", calls[call].summary);
    add_parameters(operation, route, config);
    add_body(operation, route, config);
    add_responses(operation, route);
    if ((served[route].flags & OPEN) != 0) {
        cJSON_AddArrayToObject(operation, "security");
    } else if ((served[route].flags & NO_KEY) != 0) {
        add_security(operation, false);
    }
    return operation;
}

/* Schema of the answer 202: the job continues; read `status` for its progress. */
static cJSON *pending_schema(void)
{
    cJSON *data = cJSON_CreateObject(), *properties, *required;

    cJSON_AddStringToObject(data, "type", "object");
    properties = cJSON_AddObjectToObject(data, "properties");
    cJSON_AddItemToObject(properties, "success", type_schema("boolean"));
    cJSON_AddItemToObject(properties, "sandbox_id", type_schema("uuid"));
    cJSON_AddItemToObject(properties, "status", type_schema("enum:" STATUSES));
    cJSON_AddItemToObject(properties, "message", type_schema("string"));
    required = cJSON_AddArrayToObject(data, "required");
    for (const cJSON *property = properties->child; property != NULL; property = property->next) {
        cJSON_AddItemToArray(required, cJSON_CreateString(property->string));
    }
    return envelope_schema(data);
}

static void add_components(cJSON *root)
{
    cJSON *key;
    cJSON *components = cJSON_AddObjectToObject(root, "components");
    cJSON *scheme =
        cJSON_AddObjectToObject(cJSON_AddObjectToObject(components, "securitySchemes"), "token");
    cJSON *failure =
        cJSON_AddObjectToObject(cJSON_AddObjectToObject(components, "responses"), "Failure");
    cJSON *schema = envelope_schema(cJSON_CreateObject());
    cJSON *properties = cJSON_GetObjectItemCaseSensitive(schema, "properties");
    cJSON *error = cJSON_CreateObject(), *members, *types, *names;

    cJSON_AddItemToObject(cJSON_AddObjectToObject(components, "schemas"), "Pending",
                          pending_schema());
    cJSON_AddStringToObject(scheme, "type", "http");
    cJSON_AddStringToObject(scheme, "scheme", "bearer");
    cJSON_AddStringToObject(scheme, "bearerFormat", "JWT");
    key = cJSON_AddObjectToObject(cJSON_GetObjectItemCaseSensitive(components, "securitySchemes"),
                                  "key");
    cJSON_AddStringToObject(key, "type", "apiKey");
    cJSON_AddStringToObject(key, "in", "header");
    cJSON_AddStringToObject(key, "name", "X-API-Key");
    cJSON_AddStringToObject(failure, "description",
                            "code is the HTTP status. 503 and 429 carry Retry-After.");
    cJSON_ReplaceItemInObjectCaseSensitive(properties, "data", type_schema("null"));
    cJSON_AddStringToObject(error, "type", "object");
    members = cJSON_AddObjectToObject(error, "properties");
    types = text_schema(NULL);
    names = cJSON_AddArrayToObject(types, "enum");
    for (int code = 0; code < ERR_COUNT; code++) {
        if (code != ERR_OK && code != ERR_FENCED) { /* clients never get these two */
            cJSON_AddItemToArray(names, cJSON_CreateString(error_code_name((enum error_code)code)));
        }
    }
    cJSON_AddItemToObject(members, "type", types);
    cJSON_AddItemToObject(members, "detail", type_schema("string"));
    cJSON_AddItemToObject(members, "fields", type_schema("array"));
    cJSON_AddItemToObject(properties, "error", error);
    cJSON_AddItemToObject(properties, "request_id", type_schema("uuid"));
    add_content(failure, "application/json", schema);
}

cJSON *openapi_json(const struct gateway_config *config)
{
    cJSON *root = cJSON_CreateObject(), *info, *paths;

    cJSON_AddStringToObject(root, "openapi", "3.1.0");
    info = cJSON_AddObjectToObject(root, "info");
    cJSON_AddStringToObject(info, "title", "Sandbox Server");
    cJSON_AddStringToObject(info, "version", VERSION);
    add_security(root, true);
    paths = cJSON_AddObjectToObject(root, "paths");
    for (int i = 0; i < SERVED_COUNT; i++) {
        cJSON *path = cJSON_GetObjectItemCaseSensitive(paths, served[i].path);
        char method[16] = "";

        if (path == NULL) {
            path = cJSON_AddObjectToObject(paths, served[i].path);
        }
        for (size_t c = 0; served[i].method[c] != '\0' && c + 1 < sizeof(method); c++) {
            method[c] = (char)(served[i].method[c] | 0x20); /* letters only */
            method[c + 1] = '\0';
        }
        cJSON_AddItemToObject(path, method, operation_json(i, config));
    }
    add_components(root);
    return root;
}

/* ---- the page ---- */

/* Our own texts contain only these characters of markup. */
static void put_escaped(struct strbuf *out, const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text == '<') {
            strbuf_puts(out, "&lt;");
        } else if (*text == '&') {
            strbuf_puts(out, "&amp;");
        } else {
            strbuf_putc(out, *text);
        }
    }
}

static void put_fields(struct strbuf *out, enum call_id call, bool answers)
{
    static const char *const places[] = {"body", "query", "form", ""};
    bool any = false;

    for (int i = 0; i < FIELD_COUNT; i++) {
        const struct field *field = &fields[i];

        if (field->call != call || (field->place == IN_ANSWER) != answers) {
            continue;
        }
        if (!any) {
            strbuf_printf(out, "<table><caption>%s</caption>", answers ? "Gives" : "Takes");
            any = true;
        }
        strbuf_printf(out, "<tr><td><code>%s</code></td><td>", field->name);
        put_escaped(out, field->type);
        strbuf_printf(out, "%s%s%s</td><td>", answers ? "" : ", in the ",
                      answers ? "" : places[field->place],
                      answers           ? field->required ? "" : ", sometimes"
                      : field->required ? ", required"
                                        : "");
        put_escaped(out, field->text);
        strbuf_puts(out, "</td></tr>");
    }
    strbuf_puts(out, any ? "</table>" : "");
}

static void put_route(struct strbuf *out, int route)
{
    unsigned flags = served[route].flags;

    strbuf_printf(out, "<section><h3><b>%s</b> <code>", served[route].method);
    put_escaped(out, served[route].path);
    strbuf_puts(out, "</code></h3><p>");
    put_escaped(out, calls[served[route].call].summary);
    strbuf_printf(out, ".%s%s%s</p>", (flags & OPEN) != 0 ? " Needs no token." : "",
                  (flags & KEYED) != 0 ? " Takes an Idempotency-Key." : "",
                  (flags & ASYNC) != 0 ? " Takes Prefer: respond-async." : "");
    put_fields(out, served[route].call, false);
    put_fields(out, served[route].call, true);
    strbuf_puts(out, "</section>");
}

void openapi_html(struct strbuf *out)
{
    static const char *const tags[] = {"auth", "keys",    "lifecycle", "sandboxes",
                                       "work", "account", "admin",     "operations"};

    strbuf_puts(
        out,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Sandbox "
        "Server</title><meta name=\"viewport\" "
        "content=\"width=device-width\"><style>body{font:16px/"
        "1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}code{font-family:"
        "ui-monospace,monospace}table{border-collapse:collapse;width:100%;margin:.5rem 0}caption{"
        "text-align:left;font-weight:600}td{border-top:1px solid #ccc;padding:.2rem .6rem .2rem "
        "0;vertical-align:top}section{margin:1.5rem 0;padding-left:1rem;border-left:3px solid "
        "#888}h2{text-transform:capitalize}</style></head><body><h1>Sandbox Server</h1><p>Every "
        "call but login and operations needs <code>Authorization: Bearer</code>, "
        "<code>User-Agent</code> and <code>X-Request-ID</code>, a UUID. Success is "
        "<code>{\"code\":200,\"msg\":\"OK\",\"data\":{…}}</code>; a failure has the HTTP status as "
        "<code>code</code> and a stable <code>error.type</code>. The same for programs: <a "
        "href=\"/openapi.json\">openapi.json</a>.</p>");
    for (size_t t = 0; t < sizeof(tags) / sizeof(tags[0]); t++) {
        strbuf_printf(out, "<h2>%s</h2>", tags[t]);
        for (int i = 0; i < SERVED_COUNT; i++) {
            if (strcmp(calls[served[i].call].tag, tags[t]) == 0) {
                put_route(out, i);
            }
        }
    }
    strbuf_puts(out, "</body></html>\n");
}
