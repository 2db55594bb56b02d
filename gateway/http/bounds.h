/*
 * bounds - limits for the fields of requests: length, value, number of entries.
 *
 * Owns: constant limits, and the table of bounds.def. Does not own: the fields and their types
 * (openapi.def), the values (handlers). Threads: const tables only. Failure: ERR_INVALID names the
 * field and what is allowed.
 */
#ifndef GATEWAY_BOUNDS_H
#define GATEWAY_BOUNDS_H

#include <stddef.h>

#include "gateway/config.h"
#include "gateway/http/request.h"

enum {
    USERNAME_MAX_BYTES = 255,
    PASSWORD_TEXT_MAX_BYTES = 1023,
    TIMEOUT_MAX_S = 86400,
    PAUSED_TTL_MIN_S = 60,
    PAUSED_TTL_MAX_S = 31536000,
    METADATA_MAX = 64,
    METADATA_KEY_BYTES = 128,
    METADATA_VALUE_BYTES = 1024,
    ENVS_MAX = 128,
    ENV_NAME_BYTES = 128,
    ENV_VALUE_BYTES = 16384,
    KEY_EXPIRY_MIN_S = 60,
    KEY_EXPIRY_MAX_S = 315360000, /* ten years */
    KEY_OVERLAP_MAX_S = 2592000,
    COMMAND_MAX_BYTES = 262144,
    COMMAND_INPUT_MAX_BYTES = 262144, /* of one piece of a command's stdin */
    COMMAND_WAIT_MAX_S = 3600,
    COMMAND_TTY_MAX = 1000, /* rows and columns of a terminal */
    COMMAND_OUTPUT_PAGE_BYTES = 262144,
    COMMAND_OUTPUT_PAGE_MAX_BYTES = 1048576,
    PORT_MAX = 65535,
    PORT_EXPIRY_MAX_S = 31536000, /* a year */
};

/* Of an offset in a command's output or stdin: what a double, and so any JSON reader, has exactly.
 */
#define COMMAND_OFFSET_MAX INT64_C(9007199254740991)

enum bound_kind { BOUND_TEXT, BOUND_NUMBER, BOUND_MAP };

struct bound {
    const char *handler, *field;
    enum bound_kind kind;
    bool outer;       /* the field is not in the JSON body */
    int64_t min, max; /* TEXT: bytes; NUMBER: the value; MAP: entries, min is 0 */
    size_t setting; /* offset of an int64_t in gateway_config that is the maximum; 0 = use `max` */
    int64_t name_max_bytes;  /* MAP: longest name; the shortest has 1 byte */
    int64_t value_max_bytes; /* MAP: longest value */
    bool variables;          /* MAP: names must be valid for environment variables */
};

/* The bound of this field of this handler; NULL: it has none. `handler` as written in routes.def.
 */
const struct bound *bounds_find(const char *handler, const char *field);
int64_t bounds_max(const struct bound *bound, const struct gateway_config *config);
/* Checks names of environment variables: [A-Za-z_][A-Za-z0-9_]*. `map` may be NULL. */
int bounds_check_env_names(const cJSON *map, const char *field, struct error *err) MUST_CHECK;
/* Checks the fields of request->body against the bounds of the request's handler. The handler
 * itself checks for missing and null fields. */
int bounds_check(const struct request *request, struct error *err) MUST_CHECK;

#endif
