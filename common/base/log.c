/* log - see log.h. */
#include "common/base/log.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/strbuf.h"

enum { LOG_LINE_MAX_BYTES = 8192, LOG_STRING_MAX_BYTES = 2048, LOG_ID_BYTES = 64 };

static const char *const level_names[] = {"debug", "info", "warn", "error"};
static char service_name[64] = "sandbox";
static enum log_level least = LOG_INFO;
static _Thread_local char request_id[LOG_ID_BYTES], job_id[LOG_ID_BYTES], sandbox_id[LOG_ID_BYTES];

int log_init(const char *service, const char *level_name)
{
    str_copy(service_name, sizeof(service_name), service);
    if (level_name == NULL) {
        return 0;
    }
    for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (strcmp(level_name, level_names[i]) == 0) {
            least = (enum log_level)i;
            return 0;
        }
    }
    return -1;
}

bool log_enabled(enum log_level level)
{
    return level >= least;
}

static void put_string(struct strbuf *out, const char *text)
{
    size_t length = strnlen(text, LOG_STRING_MAX_BYTES);
    size_t at = 0;

    strbuf_putc(out, '"');
    while (at < length) {
        size_t valid = utf8_valid_prefix(text + at, length - at);

        for (size_t i = at; i < at + valid; i++) {
            unsigned char c = (unsigned char)text[i];

            if (c == '"' || c == '\\') {
                strbuf_putc(out, '\\');
                strbuf_putc(out, (char)c);
            } else if (c < 0x20 || c == 0x7f) {
                strbuf_printf(out, "\\u%04x", c);
            } else {
                strbuf_putc(out, (char)c);
            }
        }
        at += valid;
        if (at < length) {
            strbuf_puts(out, "\xef\xbf\xbd");
            at++;
        }
    }
    strbuf_putc(out, '"');
}

static void put_pair(struct strbuf *out, const char *name, const char *text)
{
    if (text == NULL || *text == '\0') {
        return;
    }
    strbuf_printf(out, ",\"%s\":", name);
    put_string(out, text);
}

static void put_field(struct strbuf *out, const struct log_field *field)
{
    switch (field->value.type) {
    case LOG_VALUE_STRING:
        if (field->value.string != NULL) {
            strbuf_printf(out, ",\"%s\":", field->name);
            put_string(out, field->value.string);
        }
        break;
    case LOG_VALUE_INT:
        strbuf_printf(out, ",\"%s\":%" PRId64, field->name, field->value.integer);
        break;
    case LOG_VALUE_DOUBLE:
        strbuf_printf(out, ",\"%s\":%.3f", field->name, field->value.real);
        break;
    case LOG_VALUE_BOOL:
        strbuf_printf(out, ",\"%s\":%s", field->name, field->value.integer ? "true" : "false");
        break;
    }
}

void log_write(enum log_level level, const char *event, const struct log_field *fields,
               unsigned count)
{
    char when[CLOCK_RFC3339_BYTES];
    struct strbuf line;
    ssize_t written;

    strbuf_init(&line, LOG_LINE_MAX_BYTES);
    strbuf_printf(&line,
                  "{\"ts\":\"%s\",\"level\":\"%s\",\"service\":\"%s\",\"pid\":%ld,\"event\":",
                  clock_format_rfc3339(clock_wall_ms(), when), level_names[level], service_name,
                  (long)getpid());
    put_string(&line, event);
    put_pair(&line, "request_id", request_id);
    put_pair(&line, "job_id", job_id);
    put_pair(&line, "sandbox_id", sandbox_id);
    for (unsigned i = 0; i < count; i++) {
        size_t before = line.length;

        put_field(&line, &fields[i]);
        if (line.overflow || line.length > LOG_LINE_MAX_BYTES - 32) {
            /* leave out a field that does not fit, so that the line stays one JSON object */
            line.length = before;
            line.data[before] = '\0';
            line.overflow = false;
            strbuf_puts(&line, ",\"cut\":true");
            break;
        }
    }
    strbuf_puts(&line, "}\n");
    written = write(STDERR_FILENO, line.data, line.length);
    (void)written; /* a failed write of the log cannot be reported anywhere */
    strbuf_done(&line);
}

void log_error(enum log_level level, const char *event, const struct error *err)
{
    log_event(level, event, LOG_S("error_code", error_code_name(err->code)),
              LOG_S("error", err->message));
}

static void keep_id(char slot[LOG_ID_BYTES], const char *text)
{
    str_copy(slot, LOG_ID_BYTES, text != NULL ? text : "");
}

void log_context(const char *request, const char *job, const char *sandbox)
{
    keep_id(request_id, request);
    keep_id(job_id, job);
    keep_id(sandbox_id, sandbox);
}

void log_context_clear(void)
{
    log_context(NULL, NULL, NULL);
}
