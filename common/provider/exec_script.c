/*
 * exec_script - see exec_script.h.
 */
#include "common/provider/exec_script.h"

#include <stdlib.h>
#include <string.h>

enum { MARK_BEGIN = '\001', MARK_END = '\002' };

/* ---- marks ------------------------------------------------------------------------------------
 */

static void take_survivors(struct exec_result *result, const char *text)
{
    char *end;

    result->survivor_count = 0;
    for (;;) {
        long long pid = strtoll(text, &end, 10);

        if (end == text || result->survivor_count == EXEC_SURVIVORS_MAX) {
            return;
        }
        result->survivors[result->survivor_count++] = pid;
        text = end;
    }
}

/* `text` is what stands behind the id. */
static void take_mark(struct exec_marks *marks, enum exec_stream stream, const char *text)
{
    struct exec_result *result = marks->result;
    char *end;

    switch (text[0]) {
    case 'E':
        result->exited = true;
        result->exit_code = (int)(strtol(text + 1, &end, 10) & 0xff);
        result->background_processes = strtol(end, NULL, 10) != 0;
        break;
    case 'T':
        result->timed_out = true;
        take_survivors(result, text + 1);
        break;
    case 'W':
        marks->refused = text[1] == ' ' && text[2] != '\0' ? text[2] : '?';
        break;
    case 'P':
        result->pid = strtoll(text + 1, NULL, 10);
        return; /* the output begins */
    default:
        return;
    }
    marks->streams[stream].ended = true;
}

static int give(struct exec_marks *marks, enum exec_stream stream, const char *data, size_t bytes,
                exec_output_fn on_output, void *arg)
{
    if (bytes > 0 && on_output != NULL && !marks->stopped &&
        on_output(arg, stream, data, bytes) != 0) {
        marks->stopped = true;
    }
    return marks->stopped ? -1 : 0;
}

enum found { FOUND_MARK, FOUND_PART, FOUND_NONE };

/* Is there a mark at the beginning of `data`? Its length goes to *ret_bytes. */
static enum found find_mark(const struct exec_marks *marks, const char *data, size_t bytes,
                            size_t *ret_bytes)
{
    size_t id_bytes = strlen(marks->id), known = bytes - 1 < id_bytes ? bytes - 1 : id_bytes;
    const char *end;

    if (memcmp(data + 1, marks->id, known) != 0 ||
        (bytes > id_bytes + 1 && data[id_bytes + 1] != ' ')) {
        return FOUND_NONE;
    }
    end = memchr(data, MARK_END, bytes < EXEC_MARK_MAX_BYTES ? bytes : EXEC_MARK_MAX_BYTES);
    if (end == NULL) {
        return bytes < EXEC_MARK_MAX_BYTES ? FOUND_PART : FOUND_NONE;
    }
    *ret_bytes = (size_t)(end - data) + 1;
    return FOUND_MARK;
}

/* Takes what can be decided; *ret_left = bytes at the end of `data` that are to be held. */
static int scan(struct exec_marks *marks, enum exec_stream stream, const char *data, size_t bytes,
                exec_output_fn on_output, void *arg, size_t *ret_left)
{
    size_t id_bytes = strlen(marks->id), plain = 0, mark_bytes = 0;

    *ret_left = 0;
    while (plain < bytes && !marks->streams[stream].ended) {
        const char *begin = memchr(data + plain, MARK_BEGIN, bytes - plain);
        size_t at = begin != NULL ? (size_t)(begin - data) : bytes;
        enum found found =
            begin != NULL ? find_mark(marks, begin, bytes - at, &mark_bytes) : FOUND_NONE;

        if (found == FOUND_NONE) {
            plain = begin != NULL ? at + 1 : bytes;
            continue;
        }
        if (give(marks, stream, data, at, on_output, arg) < 0) {
            return -1;
        }
        if (found == FOUND_PART) {
            *ret_left = bytes - at;
            return 0;
        }
        char text[EXEC_MARK_MAX_BYTES];
        size_t text_bytes = mark_bytes - 1 - id_bytes - 2;

        memcpy(text, begin + 1 + id_bytes + 1, text_bytes);
        text[text_bytes] = '\0';
        take_mark(marks, stream, text);
        data = begin + mark_bytes;
        bytes -= at + mark_bytes;
        plain = 0;
    }
    return marks->streams[stream].ended ? 0 : give(marks, stream, data, bytes, on_output, arg);
}

int exec_marks_feed(struct exec_marks *marks, enum exec_stream stream, const char *data,
                    size_t bytes, exec_output_fn on_output, void *arg)
{
    char *held = marks->streams[stream].held;
    size_t *held_bytes = &marks->streams[stream].held_bytes, left = 0, taken;

    /* what is held grows until it is a mark or is none */
    while (*held_bytes > 0 && bytes > 0 && !marks->streams[stream].ended) {
        taken = sizeof(marks->streams[stream].held) - *held_bytes;
        taken = taken < bytes ? taken : bytes;
        memcpy(held + *held_bytes, data, taken);
        *held_bytes += taken;
        data += taken;
        bytes -= taken;
        if (scan(marks, stream, held, *held_bytes, on_output, arg, &left) < 0) {
            return -1;
        }
        memmove(held, held + *held_bytes - left, left);
        *held_bytes = left;
    }
    if (bytes == 0 || marks->streams[stream].ended) {
        return 0;
    }
    if (scan(marks, stream, data, bytes, on_output, arg, &left) < 0) {
        return -1;
    }
    memcpy(held, data + bytes - left, left);
    *held_bytes = left;
    return 0;
}

int exec_marks_flush(struct exec_marks *marks, exec_output_fn on_output, void *arg)
{
    for (int stream = EXEC_STDOUT; stream <= EXEC_STDERR; stream++) {
        size_t bytes = marks->streams[stream].held_bytes;

        marks->streams[stream].held_bytes = 0;
        if (!marks->streams[stream].ended &&
            give(marks, (enum exec_stream)stream, marks->streams[stream].held, bytes, on_output,
                 arg) < 0) {
            return -1;
        }
    }
    return 0;
}

bool exec_marks_complete(const struct exec_marks *marks)
{
    return marks->streams[EXEC_STDOUT].ended && marks->streams[EXEC_STDERR].ended;
}

int exec_marks_check(const struct exec_marks *marks, struct error *err)
{
    switch (marks->refused) {
    case '\0':
        return 0;
    case 'm':
        return error_set(err, ERR_INVALID, "cwd: there is no such directory");
    case 'n':
        return error_set(err, ERR_INVALID, "cwd is not a directory");
    default:
        return error_set(err, ERR_INVALID, "cwd: permission denied");
    }
}

int exec_take_left(struct exec_result *ret, const char *text)
{
    const char *left = strstr(text, "left");

    if (left == NULL || strchr(left, '\n') == NULL) {
        return -1;
    }
    take_survivors(ret, left + strlen("left"));
    return 0;
}

/* ---- what is sent -----------------------------------------------------------------------------
 */

int64_t exec_script_limit(const struct exec_request *request)
{
    return request->timeout_ms > 0 ? (request->timeout_ms + 9) / 10 : 0;
}

void exec_script_quote(struct strbuf *out, const char *text)
{
    strbuf_putc(out, '\'');
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '\'') {
            strbuf_puts(out, "'\\''");
        } else {
            strbuf_putc(out, *c);
        }
    }
    strbuf_putc(out, '\'');
}

void exec_script_command(const char *command, const cJSON *envs, struct strbuf *out)
{
    const cJSON *path = cJSON_GetObjectItemCaseSensitive(envs, "PATH");

    if (cJSON_IsString(path)) { /* on the same line: a shell tells of lines by their numbers */
        strbuf_puts(out, "export PATH=");
        exec_script_quote(out, path->valuestring);
        strbuf_puts(out, "; ");
    }
    strbuf_puts(out, command);
}
