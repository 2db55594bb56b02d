/* json - see json.h. */
#include "common/base/json.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"

/* Integers up to here are exact in a double. */
static const double exact_max = 9007199254740991.0;

enum { FIELD_MAX_BYTES = 64 };

/* ---- the scan of untrusted bytes: RFC 8259 grammar, no recursion ------------------------------
 */

struct scan {
    const char *text;
    size_t length;
    size_t at;
    size_t values;
    const char *field; /* member of the outermost object whose value is being scanned */
    size_t field_length;
    struct error *err;
};

/* Fails, and names the member of the outermost object, unless its name cannot be one of our fields:
 * the message quotes it. */
static int scan_fail(struct scan *s, const char *what)
{
    size_t length = s->field_length;

    for (size_t i = 0; i < s->field_length; i++) {
        char c = s->field[i];

        length = c == '_' || (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z')
                     ? length
                     : 0;
    }
    if (length == 0 || length > FIELD_MAX_BYTES) {
        return error_set(s->err, ERR_JSON, "invalid JSON at byte %zu: %s", s->at, what);
    }
    return error_set(s->err, ERR_JSON, "invalid JSON at byte %zu, in %.*s: %s", s->at, (int)length,
                     s->field, what);
}

static int peek(const struct scan *s)
{
    return s->at < s->length ? (unsigned char)s->text[s->at] : -1;
}

static void skip_space(struct scan *s)
{
    int c = peek(s);

    while (c == ' ' || c == '\t' || c == '\n' || c == '\r') {
        s->at++;
        c = peek(s);
    }
}

static int scan_hex4(struct scan *s, unsigned *ret)
{
    *ret = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        int c = peek(s);

        if (c >= '0' && c <= '9') {
            *ret = *ret * 16 + (unsigned)(c - '0');
        } else if ((c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')) {
            *ret = *ret * 16 + (unsigned)((c | 0x20) - 'a' + 10);
        } else {
            return scan_fail(s, "bad \\u escape");
        }
    }
    return 0;
}

static int scan_escape(struct scan *s)
{
    unsigned unit;
    int c = peek(s);

    if (c < 0 || strchr("\"\\/bfnrtu", c) == NULL) {
        return scan_fail(s, "bad escape in a string");
    }
    s->at++;
    if (c != 'u') {
        return 0;
    }
    if (scan_hex4(s, &unit) < 0) {
        return -1;
    }
    if (unit == 0) {
        return scan_fail(s, "\\u0000 is not allowed in a string");
    }
    if (unit >= 0xdc00 && unit <= 0xdfff) {
        return scan_fail(s, "lone surrogate in a string");
    }
    if (unit >= 0xd800 && unit <= 0xdbff) {
        if (s->length - s->at < 6 || s->text[s->at] != '\\' || s->text[s->at + 1] != 'u') {
            return scan_fail(s, "lone surrogate in a string");
        }
        s->at += 2;
        if (scan_hex4(s, &unit) < 0) {
            return -1;
        }
        if (unit < 0xdc00 || unit > 0xdfff) {
            return scan_fail(s, "lone surrogate in a string");
        }
    }
    return 0;
}

static int scan_string(struct scan *s)
{
    size_t start;
    int c;

    if (peek(s) != '"') {
        return scan_fail(s, "a string was expected");
    }
    s->at++;
    start = s->at;
    while ((c = peek(s)) != '"') {
        if (c < 0) {
            return scan_fail(s, "the text ends inside a string");
        }
        if (c < 0x20) {
            return scan_fail(s, "control character in a string");
        }
        s->at++;
        if (c == '\\' && scan_escape(s) < 0) {
            return -1;
        }
    }
    if (!utf8_is_valid(s->text + start, s->at - start)) {
        s->at = start + utf8_valid_prefix(s->text + start, s->at - start);
        return scan_fail(s, "invalid UTF-8");
    }
    s->at++;
    return 0;
}

static int scan_digits(struct scan *s)
{
    size_t start = s->at;

    while (peek(s) >= '0' && peek(s) <= '9') {
        s->at++;
    }
    return s->at > start ? 0 : scan_fail(s, "a digit was expected");
}

static int scan_number(struct scan *s)
{
    if (peek(s) == '-') {
        s->at++;
    }
    if (peek(s) == '0') {
        s->at++;
    } else if (scan_digits(s) < 0) {
        return -1;
    }
    if (peek(s) == '.') {
        s->at++;
        if (scan_digits(s) < 0) {
            return -1;
        }
    }
    if (peek(s) == 'e' || peek(s) == 'E') {
        s->at++;
        if (peek(s) == '+' || peek(s) == '-') {
            s->at++;
        }
        return scan_digits(s);
    }
    return 0;
}

static int scan_literal(struct scan *s, const char *word)
{
    size_t length = strlen(word);

    if (s->length - s->at < length || memcmp(s->text + s->at, word, length) != 0) {
        return scan_fail(s, "a value was expected");
    }
    s->at += length;
    return 0;
}

static int scan_scalar(struct scan *s)
{
    int c = peek(s);

    if (c == '"') {
        return scan_string(s);
    }
    if (c == '-' || (c >= '0' && c <= '9')) {
        return scan_number(s);
    }
    return scan_literal(s, c == 't' ? "true" : c == 'f' ? "false" : "null");
}

/* Scans the key and colon before a member's value. */
static int scan_key(struct scan *s, int depth)
{
    size_t start;

    s->field_length = depth == 1 ? 0 : s->field_length;
    skip_space(s);
    start = s->at + 1;
    if (scan_string(s) < 0) {
        return -1;
    }
    if (depth == 1) {
        s->field = s->text + start;
        s->field_length = s->at - 1 - start;
    }
    skip_space(s);
    if (peek(s) != ':') {
        return scan_fail(s, "':' was expected");
    }
    s->at++;
    return 0;
}

/* Scans one whole value and what follows it. The stack of open brackets holds JSON_MAX_DEPTH. */
static int scan_text(struct scan *s)
{
    char open[JSON_MAX_DEPTH];
    int depth = 0;

    for (;;) {
        int c;

        if (++s->values > JSON_MAX_VALUES) {
            return scan_fail(s, "too many values");
        }
        skip_space(s);
        c = peek(s);
        if (c == '{' || c == '[') {
            char close = c == '{' ? '}' : ']';

            if (depth == JSON_MAX_DEPTH) {
                return scan_fail(s, "nested too deep");
            }
            open[depth++] = close;
            s->at++;
            skip_space(s);
            if (peek(s) != close) {
                if (close == '}' && scan_key(s, depth) < 0) {
                    return -1;
                }
                continue;
            }
        } else if (scan_scalar(s) < 0) {
            return -1;
        }
        /* a value has ended, or an empty bracket ends now: handle closing brackets */
        for (;;) {
            skip_space(s);
            if (depth == 0) {
                s->field_length = 0;
                return s->at == s->length ? 0 : scan_fail(s, "bytes after the end");
            }
            if (peek(s) == open[depth - 1]) {
                s->at++;
                depth--;
                continue;
            }
            if (peek(s) != ',') {
                return scan_fail(s, open[depth - 1] == '}' ? "',' or '}' was expected"
                                                           : "',' or ']' was expected");
            }
            s->at++;
            if (open[depth - 1] == '}' && scan_key(s, depth) < 0) {
                return -1;
            }
            break;
        }
    }
}

/* ---- duplicate keys ----------------------------------------------------------------------------
 */

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int check_object_keys(const cJSON *object, struct error *err)
{
    size_t count = 0;
    const char **keys;
    const cJSON *child;
    int status = 0;

    cJSON_ArrayForEach(child, object)
    {
        count++;
    }
    if (count < 2) {
        return 0;
    }
    keys = xmalloc(count * sizeof(*keys));
    count = 0;
    cJSON_ArrayForEach(child, object)
    {
        keys[count++] = child->string;
    }
    qsort(keys, count, sizeof(*keys), compare_keys);
    for (size_t i = 1; i < count && status == 0; i++) {
        if (strcmp(keys[i - 1], keys[i]) == 0) {
            status = error_set(err, ERR_JSON, "invalid JSON: key '%.64s' twice", keys[i]);
        }
    }
    free(keys);
    return status;
}

/* Depth is bounded by the scan, so is this recursion. */
static int check_keys(const cJSON *node, struct error *err)
{
    const cJSON *child;

    if (cJSON_IsObject(node) && check_object_keys(node, err) < 0) {
        return -1;
    }
    cJSON_ArrayForEach(child, node)
    {
        if (check_keys(child, err) < 0) {
            return -1;
        }
    }
    return 0;
}

cJSON *json_parse(const char *text, size_t length, struct error *err)
{
    struct scan scan = {.text = text, .length = length, .err = err};
    cJSON *tree;

    if (scan_text(&scan) < 0) {
        return NULL;
    }
    tree = cJSON_ParseWithLength(text, length);
    if (tree == NULL) {
        error_set(err, ERR_JSON, "invalid JSON");
        return NULL;
    }
    if (check_keys(tree, err) < 0) {
        cJSON_Delete(tree);
        return NULL;
    }
    return tree;
}

int json_print(const cJSON *node, struct strbuf *out)
{
    char *text = cJSON_PrintUnformatted(node);
    int status;

    if (text == NULL) {
        abort(); /* cJSON fails here only without memory */
    }
    status = strbuf_puts(out, text);
    cJSON_free(text);
    return status;
}

/* ---- typed getters ------------------------------------------------------------------------------
 */

/* The member, or NULL when it is missing or null. */
static const cJSON *find(const cJSON *object, const char *field)
{
    const cJSON *node = cJSON_GetObjectItemCaseSensitive(object, field);

    return cJSON_IsNull(node) ? NULL : node;
}

static int missing(const char *field, struct error *err)
{
    return error_set(err, ERR_INVALID, "%s is required", field);
}

static int check_string(const cJSON *node, const char *field, size_t min_bytes, size_t max_bytes,
                        const char **ret, struct error *err)
{
    size_t length;

    if (!cJSON_IsString(node)) {
        return error_set(err, ERR_INVALID, "%s must be a string", field);
    }
    length = strlen(node->valuestring);
    if (length < min_bytes) {
        return error_set(err, ERR_INVALID,
                         min_bytes == 1 ? "%s must not be empty" : "%s is too short", field);
    }
    if (length > max_bytes) {
        return error_set(err, ERR_INVALID, "%s is %zu bytes long, at most %zu are allowed", field,
                         length, max_bytes);
    }
    *ret = node->valuestring;
    return 0;
}

int json_get_string_req(const cJSON *object, const char *field, size_t min_bytes, size_t max_bytes,
                        const char **ret, struct error *err)
{
    const cJSON *node = find(object, field);

    return node == NULL ? missing(field, err)
                        : check_string(node, field, min_bytes, max_bytes, ret, err);
}

const char *json_text(const cJSON *object, const char *field)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, field);

    return cJSON_IsString(item) ? item->valuestring : "";
}

int json_get_string(const cJSON *object, const char *field, size_t max_bytes, const char *fallback,
                    const char **ret, struct error *err)
{
    const cJSON *node = find(object, field);

    if (node == NULL) {
        *ret = fallback;
        return 0;
    }
    return check_string(node, field, 0, max_bytes, ret, err);
}

static int check_int(const cJSON *node, const char *field, int64_t min, int64_t max, int64_t *ret,
                     struct error *err)
{
    double value = cJSON_IsNumber(node) ? node->valuedouble : NAN;

    if (!isfinite(value) || value != floor(value)) {
        return error_set(err, ERR_INVALID, "%s must be a whole number", field);
    }
    if (fabs(value) > exact_max || (int64_t)value < min || (int64_t)value > max) {
        return error_set(err, ERR_INVALID, "%s must be between %" PRId64 " and %" PRId64, field,
                         min, max);
    }
    *ret = (int64_t)value;
    return 0;
}

int json_get_int_req(const cJSON *object, const char *field, int64_t min, int64_t max, int64_t *ret,
                     struct error *err)
{
    const cJSON *node = find(object, field);

    return node == NULL ? missing(field, err) : check_int(node, field, min, max, ret, err);
}

int json_get_int(const cJSON *object, const char *field, int64_t min, int64_t max, int64_t fallback,
                 int64_t *ret, struct error *err)
{
    const cJSON *node = find(object, field);

    if (node == NULL) {
        *ret = fallback;
        return 0;
    }
    return check_int(node, field, min, max, ret, err);
}

int json_get_bool(const cJSON *object, const char *field, bool fallback, bool *ret,
                  struct error *err)
{
    const cJSON *node = find(object, field);

    if (node != NULL && !cJSON_IsBool(node)) {
        return error_set(err, ERR_INVALID, "%s must be true or false", field);
    }
    *ret = node == NULL ? fallback : cJSON_IsTrue(node);
    return 0;
}

int json_get_string_map(const cJSON *object, const char *field, size_t max_entries,
                        size_t max_key_bytes, size_t max_value_bytes, const cJSON **ret,
                        struct error *err)
{
    const cJSON *node = find(object, field);
    const cJSON *entry;
    size_t entries = 0;

    if (node != NULL && !cJSON_IsObject(node)) {
        return error_set(err, ERR_INVALID, "%s must be an object of strings", field);
    }
    cJSON_ArrayForEach(entry, node)
    {
        size_t key_bytes = strlen(entry->string);

        if (key_bytes == 0 || key_bytes > max_key_bytes) {
            return error_set(err, ERR_INVALID, "%s has a key of %zu bytes, allowed are 1..%zu",
                             field, key_bytes, max_key_bytes);
        }
        if (!cJSON_IsString(entry)) {
            return error_set(err, ERR_INVALID, "%s.%.64s must be a string", field, entry->string);
        }
        if (strlen(entry->valuestring) > max_value_bytes) {
            return error_set(err, ERR_INVALID, "%s.%.64s is longer than %zu bytes", field,
                             entry->string, max_value_bytes);
        }
        if (++entries > max_entries) {
            return error_set(err, ERR_INVALID, "%s has more than %zu entries", field, max_entries);
        }
    }
    *ret = node;
    return 0;
}

/* ---- building
 * ------------------------------------------------------------------------------------ */

void json_add_int64(cJSON *object, const char *field, int64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRId64, value);
    cJSON_AddRawToObject(object, field, text);
}

void json_add_time(cJSON *object, const char *field, int64_t wall_ms)
{
    char text[CLOCK_RFC3339_BYTES];

    json_add_string_or_null(object, field,
                            wall_ms > 0 ? clock_format_rfc3339(wall_ms, text) : NULL);
}

void json_add_string_or_null(cJSON *object, const char *field, const char *text)
{
    if (text == NULL || *text == '\0') {
        cJSON_AddNullToObject(object, field);
    } else {
        cJSON_AddStringToObject(object, field, text);
    }
}
