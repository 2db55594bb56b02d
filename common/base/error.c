/* error - see error.h. */
#include "common/base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/base/utf8.h"

static const struct {
    const char *name;
    int http_status;
} codes[ERR_COUNT] = {
#define X(code, wire_name, status) [code] = {wire_name, status},
#include "common/base/error_codes.def"
#undef X
};

/* Cuts at a character boundary: half a character would make the JSON invalid. */
static void cut_at_character(struct error *err)
{
    err->message[utf8_valid_prefix(err->message, strlen(err->message))] = '\0';
}

int error_set(struct error *err, enum error_code code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    err->code = code;
    err->retry_after_s = 0;
    err->limit = err->used = 0;
    vsnprintf(err->message, sizeof(err->message), format, args);
    va_end(args);
    cut_at_character(err);
    return -1;
}

int error_set_errno(struct error *err, enum error_code code, int errnum, const char *format, ...)
{
    va_list args;
    char text[ERROR_MESSAGE_BYTES];
    char reason[128];

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    return error_set(err, code, "%s: %s", text, strerror_r(errnum, reason, sizeof(reason)));
}

int error_prefix(struct error *err, const char *format, ...)
{
    va_list args;
    char prefix[ERROR_MESSAGE_BYTES];
    char rest[ERROR_MESSAGE_BYTES];
    int retry_after_s = err->retry_after_s;

    va_start(args, format);
    vsnprintf(prefix, sizeof(prefix), format, args);
    va_end(args);
    memcpy(rest, err->message, sizeof(rest));
    error_set(err, err->code, "%s: %s", prefix, rest);
    err->retry_after_s = retry_after_s;
    return -1;
}

const char *error_code_name(enum error_code code)
{
    return codes[code].name;
}

int error_code_http_status(enum error_code code)
{
    return codes[code].http_status;
}
