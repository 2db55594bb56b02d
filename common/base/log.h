/*
 * log - one JSON object a line on stderr.
 *
 * Owns: format, level, ids of the current work (thread-local), redaction. Every line carries
 * ts, level, service, pid, event and, when set, request_id, job_id, sandbox_id.
 * Threads: each line is one write(2); safe from any thread. Failure: a line that cannot be
 * written is dropped.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* `service` names the program; `level_name` is debug|info|warn|error (NULL = info). Returns -1 on
 * an unknown name. */
int log_init(const char *service, const char *level_name);
/* The entry for LOG_LEVEL in a program's table (config.h). at_: offset of its char *. */
/* clang-format off */
#define LOG_CONFIG_ENTRY(at_)                                                                      \
    {"LOG_LEVEL", CONFIG_STRING, (at_), 1, 16, "info", false, false, "debug, info, warn or error"}
/* clang-format on */
bool log_enabled(enum log_level level);

/* A typed value; build it with the macros. */
struct log_value {
    enum { LOG_VALUE_STRING, LOG_VALUE_INT, LOG_VALUE_DOUBLE, LOG_VALUE_BOOL } type;
    const char *string;
    int64_t integer;
    double real;
};
struct log_field {
    const char *name;
    struct log_value value;
};
#define LOG_S(name_, s_)                                                                           \
    {                                                                                              \
        (name_),                                                                                   \
        {                                                                                          \
            .type = LOG_VALUE_STRING, .string = (s_)                                               \
        }                                                                                          \
    }
#define LOG_I(name_, i_)                                                                           \
    {                                                                                              \
        (name_),                                                                                   \
        {                                                                                          \
            .type = LOG_VALUE_INT, .integer = (i_)                                                 \
        }                                                                                          \
    }
#define LOG_F(name_, d_)                                                                           \
    {                                                                                              \
        (name_),                                                                                   \
        {                                                                                          \
            .type = LOG_VALUE_DOUBLE, .real = (d_)                                                 \
        }                                                                                          \
    }
#define LOG_B(name_, b_)                                                                           \
    {                                                                                              \
        (name_),                                                                                   \
        {                                                                                          \
            .type = LOG_VALUE_BOOL, .integer = (b_)                                                \
        }                                                                                          \
    }

/*
 * log_event(LOG_INFO, "job.claimed", LOG_S("op", op), LOG_I("attempt", n));
 * Strings are escaped, cut at 2 KiB; invalid UTF-8 is replaced; a NULL string is omitted.
 */
#define log_event(level_, event_, ...)                                                             \
    do {                                                                                           \
        if (log_enabled(level_)) {                                                                 \
            const struct log_field log_fields_[] = {{NULL, {.type = LOG_VALUE_INT}}, __VA_ARGS__}; \
            log_write((level_), (event_), log_fields_ + 1,                                         \
                      sizeof(log_fields_) / sizeof(log_fields_[0]) - 1);                           \
        }                                                                                          \
    } while (0)

void log_write(enum log_level level, const char *event, const struct log_field *fields,
               unsigned count);
/* An event with error_code and error fields taken from err. */
void log_error(enum log_level level, const char *event, const struct error *err);

/* Sets the ids of every later line of this thread; NULL clears one. Copies them. */
void log_context(const char *request_id, const char *job_id, const char *sandbox_id);
void log_context_clear(void);

#endif
