/*
 * json - the strict door to cJSON.
 *
 * Owns: parsing of untrusted JSON and typed access to its fields. cJSON alone accepts
 * trailing bytes, invalid UTF-8, raw control characters, "\u0000" (which truncates), duplicate
 * keys, 1000 levels of nesting (which overflows a small stack) and any number of
 * values; this door refuses each by scanning the bytes before cJSON sees them. Building JSON uses
 * cJSON's own constructors and json_print(). Threads: no shared state. Failure: -1/NULL with err
 * filled; messages name the field.
 */
#ifndef BASE_JSON_H
#define BASE_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

#define JSON_MAX_DEPTH 32
/* A value takes JSON_VALUE_BYTES of a tree, which may be 30 times its text. */
#define JSON_MAX_VALUES  262144
#define JSON_VALUE_BYTES 64

/* Parses exactly one JSON text of `length` bytes (white space around it allowed). NULL with
 * ERR_JSON, which says what and at which byte. The caller frees with cJSON_Delete(). */
cJSON *json_parse(const char *text, size_t length, struct error *err) MUST_CHECK;

/* Appends compact JSON. 0, or -1 on strbuf overflow. */
int json_print(const cJSON *node, struct strbuf *out);

/*
 * Typed getters over an object. `*_req`: missing or null is ERR_INVALID. Plain: missing or null
 * gives the default. A wrong type or an out-of-range value is ERR_INVALID for both; the message
 * begins with the field's name. Returned strings belong to the tree.
 */
int json_get_string_req(const cJSON *object, const char *field, size_t min_bytes, size_t max_bytes,
                        const char **ret, struct error *err) MUST_CHECK;
int json_get_string(const cJSON *object, const char *field, size_t max_bytes, const char *fallback,
                    const char **ret, struct error *err) MUST_CHECK;
/* The field's string, or "" if it is missing or no string; for optional fields in a peer's answers.
 */
const char *json_text(const cJSON *object, const char *field);
/* Numbers must be integral; 1.0 counts as integral, "1" and true do not. */
int json_get_int_req(const cJSON *object, const char *field, int64_t min, int64_t max, int64_t *ret,
                     struct error *err) MUST_CHECK;
int json_get_int(const cJSON *object, const char *field, int64_t min, int64_t max, int64_t fallback,
                 int64_t *ret, struct error *err) MUST_CHECK;
int json_get_bool(const cJSON *object, const char *field, bool fallback, bool *ret,
                  struct error *err) MUST_CHECK;
/* An object whose values are all strings, at most max_entries, keys 1..max_key_bytes, values
 * 0..max_value_bytes; *ret is NULL when absent. */
int json_get_string_map(const cJSON *object, const char *field, size_t max_entries,
                        size_t max_key_bytes, size_t max_value_bytes, const cJSON **ret,
                        struct error *err) MUST_CHECK;

/* Adds int64 exactly (cJSON's own numbers are doubles). */
void json_add_int64(cJSON *object, const char *field, int64_t value);
/* Adds RFC 3339 for wall_ms > 0, else null. */
void json_add_time(cJSON *object, const char *field, int64_t wall_ms);
/* Adds the string, or null when text is NULL or empty. */
void json_add_string_or_null(cJSON *object, const char *field, const char *text);

#endif
