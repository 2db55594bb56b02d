/*
 * error - the one way a failure travels.
 *
 * Owns: the error code list, the struct that carries code + message up the stack.
 * Does not own: logging (a program logs once, where it decides) or HTTP bodies.
 * Threads: no shared state. Failure: none of these functions fail.
 *
 * Convention: a fallible function takes `struct error *err` (non-NULL) last, returns 0,
 * or -1 with *err filled: `return error_set(err, ERR_CONFLICT, "job %s is taken", id)`.
 * Messages are complete, for people, free of secrets; callers may add error_prefix().
 */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <stdint.h>

#define ERROR_MESSAGE_BYTES 256

enum error_code {
#define X(code, name, status) code,
#include "common/base/error_codes.def"
#undef X
    ERR_COUNT
};

struct error {
    enum error_code code;
    int retry_after_s;   /* `Retry-After` sent by the refusing party, in seconds; 0 = not sent */
    int64_t limit, used; /* ERR_QUOTA: the limit, and how much of it is used */
    char message[ERROR_MESSAGE_BYTES];
};

#define ERROR_INIT                                                                                 \
    {                                                                                              \
        .code = ERR_OK, .message = ""                                                              \
    }
#define MUST_CHECK __attribute__((warn_unused_result))

/* Fills *err (message cut at a UTF-8 boundary, all numbers 0) and returns -1. */
int error_set(struct error *err, enum error_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* As error_set, with ": <strerror(errnum)>" appended. Call on the line after the failing call. */
int error_set_errno(struct error *err, enum error_code code, int errnum, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Puts "<formatted>: " before the message and keeps the rest; returns -1. */
int error_prefix(struct error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Stable wire name ("sandbox_not_found") and HTTP status of a code. */
const char *error_code_name(enum error_code code);
int error_code_http_status(enum error_code code);

#endif
