/* head - see head.h. */
#include "common/proxy/head.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- heads ---- */

size_t head_length(const char *data, size_t length)
{
    const char *end = memmem(data, length, "\r\n\r\n", 4);

    return end != NULL ? (size_t)(end - data) + 4 : 0;
}

/* The line after the one at `line`, NULL at the empty one. */
static const char *next_line(const char *line)
{
    const char *end = strstr(line, "\r\n");

    return end == NULL || end[2] == '\r' || end[2] == '\0' ? NULL : end + 2;
}

static bool is_header(const char *line, const char *name)
{
    size_t length = strlen(name);

    return strncasecmp(line, name, length) == 0 && line[length] == ':';
}

static const char *find_header(const char *head, const char *name)
{
    for (const char *line = next_line(head); line != NULL; line = next_line(line)) {
        if (is_header(line, name)) {
            return line;
        }
    }
    return NULL;
}

bool head_value(const char *head, const char *name, char *out, size_t size)
{
    const char *line = find_header(head, name), *value, *end;

    out[0] = '\0';
    if (line == NULL) {
        return false;
    }
    value = line + strlen(name) + 1;
    end = strstr(value, "\r\n");
    while (*value == ' ' || *value == '\t') {
        value++;
    }
    while (end > value && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }
    if ((size_t)(end - value) >= size) {
        return false;
    }
    memcpy(out, value, (size_t)(end - value));
    out[end - value] = '\0';
    return true;
}

bool head_has(const char *head, const char *name)
{
    return find_header(head, name) != NULL;
}

bool head_lists(const char *head, const char *name, const char *token)
{
    const size_t wanted = strlen(token);

    for (const char *line = next_line(head); line != NULL; line = next_line(line)) {
        if (!is_header(line, name)) {
            continue;
        }
        const char *at = line + strlen(name) + 1, *end = strstr(line, "\r\n");
        while (at < end) {
            at += strspn(at, " \t,");
            const size_t length = strcspn(at, " \t,\r");
            if (length == wanted && strncasecmp(at, token, length) == 0) {
                return true;
            }
            at += length;
            if (*at == '\r') {
                break;
            }
        }
    }
    return false;
}

bool head_target(const char *head, char *path, size_t path_size, char *query, size_t query_size)
{
    const char *end = strstr(head, "\r\n"), *at = memchr(head, ' ', (size_t)(end - head));

    if (at == NULL) {
        return false;
    }
    at++;
    if (strncasecmp(at, "http://", 7) == 0) {
        at += 7;
        at += strcspn(at, "/? \r");
    }
    const size_t path_bytes = strcspn(at, "? \r");
    if (path_bytes >= path_size) {
        return false;
    }
    memcpy(path, at, path_bytes);
    path[path_bytes] = '\0';
    at += path_bytes;
    at += *at == '?' ? 1 : 0;
    const size_t query_bytes = strcspn(at, " \r");
    if (query_bytes >= query_size) {
        return false;
    }
    memcpy(query, at, query_bytes);
    query[query_bytes] = '\0';
    return true;
}

bool head_method_is(const char *head, const char *method)
{
    const size_t length = strlen(method);

    return strncmp(head, method, length) == 0 && head[length] == ' ';
}

bool head_keeps_alive(const char *head)
{
    const char *end = strstr(head, "\r\n");

    return end - head > 9 && memcmp(end - 9, " HTTP/1.1", 9) == 0 &&
           !head_lists(head, "Connection", "close");
}

int head_status(const char *head)
{
    if (strncmp(head, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)head[7]) || head[8] != ' ' ||
        !isdigit((unsigned char)head[9]) || !isdigit((unsigned char)head[10]) ||
        !isdigit((unsigned char)head[11])) {
        return 0;
    }
    return (head[9] - '0') * 100 + (head[10] - '0') * 10 + (head[11] - '0');
}

static bool is_hop_header(const char *head, const char *line, bool upgrade)
{
    static const char *const always[] = {"Keep-Alive", "Proxy-Connection"};
    /* framing is ours to follow: a Connection header that names it must not make it go */
    static const char *const kept[] = {"Content-Length", "Transfer-Encoding", "Host"};
    char name[128];
    const size_t length = strcspn(line, ":\r");

    for (size_t i = 0; i < sizeof(always) / sizeof(always[0]); i++) {
        if (is_header(line, always[i])) {
            return true;
        }
    }
    if (is_header(line, "Connection")) {
        return !upgrade;
    }
    if (upgrade || length == 0 || length >= sizeof(name)) {
        return false;
    }
    for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++) {
        if (is_header(line, kept[i])) {
            return false;
        }
    }
    memcpy(name, line, length);
    name[length] = '\0';
    return head_lists(head, "Connection", name);
}

/* Whether one of the whole lines in `lines` has the name of the header `line`. */
static bool is_replaced(const char *lines, const char *line)
{
    const size_t length = strcspn(line, ":\r") + 1;

    while (lines != NULL && *lines != '\0') {
        const char *end = strstr(lines, "\r\n");

        if (strncasecmp(lines, line, length) == 0) {
            return true;
        }
        lines = end != NULL ? end + 2 : NULL;
    }
    return false;
}

/* Whether the comma-separated `names` have the name of the header `line`. */
static bool is_dropped(const char *names, const char *line)
{
    const size_t length = strcspn(line, ":\r");

    while (names != NULL && *names != '\0') {
        names += strspn(names, ", ");
        const size_t name = strcspn(names, ", ");

        if (name == length && name > 0 && strncasecmp(names, line, length) == 0) {
            return true;
        }
        names += name;
    }
    return false;
}

/* The request line with another target. */
static void put_target(const char *head, const char *path, struct strbuf *out)
{
    const size_t line = (size_t)(strstr(head, "\r\n") - head);
    const char *method = memchr(head, ' ', line), *version = memrchr(head, ' ', line);

    if (method == NULL || method == version) {
        strbuf_append(out, head, line);
    } else {
        strbuf_append(out, head, (size_t)(method + 1 - head));
        strbuf_puts(out, path);
        strbuf_append(out, version, line - (size_t)(version - head));
    }
    strbuf_puts(out, "\r\n");
}

void head_rewrite(const char *head, const struct head_edit *edit, struct strbuf *out)
{
    for (const char *line = head; line != NULL; line = next_line(line)) {
        const char *end = strstr(line, "\r\n");

        if (line == head && edit->path != NULL) {
            put_target(head, edit->path, out);
        } else if (line == head ||
                   !((edit->host != NULL && is_header(line, "Host")) ||
                     is_hop_header(head, line, edit->upgrade) || is_replaced(edit->set, line) ||
                     is_dropped(edit->drop, line))) {
            strbuf_append(out, line, (size_t)(end - line) + 2);
        }
        if (line == head && edit->host != NULL) {
            strbuf_printf(out, "Host: %s\r\n", edit->host);
        }
    }
    if (!edit->upgrade) {
        strbuf_printf(out, "Connection: %s\r\n", edit->connection);
    }
    strbuf_puts(out, edit->set != NULL ? edit->set : "");
    strbuf_puts(out, "\r\n");
}

/* ---- framing ---- */

/* A Content-Length that can be trusted; false also when there are several. */
static bool read_length(const char *head, int64_t *ret)
{
    const char *line = find_header(head, "Content-Length");
    char text[24], *end;

    for (const char *more = next_line(line); more != NULL; more = next_line(more)) {
        if (is_header(more, "Content-Length")) {
            return false;
        }
    }
    if (!head_value(head, "Content-Length", text, sizeof(text)) || strlen(text) > 18 ||
        !isdigit((unsigned char)text[0])) {
        return false;
    }
    *ret = strtoll(text, &end, 10);
    return *end == '\0';
}

static bool is_chunked(const char *head)
{
    char coding[64];

    return head_value(head, "Transfer-Encoding", coding, sizeof(coding)) &&
           strcasecmp(coding, "chunked") == 0;
}

static void set_length(struct body_scan *scan, int64_t length)
{
    *scan = (struct body_scan){
        .kind = BODY_LENGTH, .state = length > 0 ? CHUNK_DATA : BODY_DONE, .left = length};
}

bool body_scan_request(struct body_scan *scan, const char *head)
{
    const bool has_length = head_has(head, "Content-Length");
    const bool has_coding = head_has(head, "Transfer-Encoding");
    int64_t length;

    *scan = (struct body_scan){.kind = BODY_NONE, .state = BODY_DONE};
    if (has_length && has_coding) {
        return false;
    }
    if (has_coding) {
        if (!is_chunked(head)) {
            return false;
        }
        *scan = (struct body_scan){.kind = BODY_CHUNKED, .state = CHUNK_SIZE};
    } else if (has_length) {
        if (!read_length(head, &length)) {
            return false;
        }
        set_length(scan, length);
    }
    return true;
}

void body_scan_response(struct body_scan *scan, const char *head, bool to_head_request)
{
    const int status = head_status(head);
    const bool has_coding = head_has(head, "Transfer-Encoding");
    int64_t length;

    if (to_head_request || status == 204 || status == 304) {
        *scan = (struct body_scan){.kind = BODY_NONE, .state = BODY_DONE};
    } else if (has_coding && is_chunked(head) && !head_has(head, "Content-Length")) {
        *scan = (struct body_scan){.kind = BODY_CHUNKED, .state = CHUNK_SIZE};
    } else if (!has_coding && head_has(head, "Content-Length") && read_length(head, &length)) {
        set_length(scan, length);
    } else {
        *scan = (struct body_scan){.kind = BODY_TO_END, .state = CHUNK_DATA, .left = INT64_MAX};
    }
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One byte of a chunk's size line: digits, perhaps an extension, line end. */
static void feed_size(struct body_scan *scan, char c)
{
    const int digit = hex_digit(c);

    if (c == '\n') {
        if (!scan->size_seen) {
            scan->state = BODY_BROKEN;
        } else if (scan->size == 0) {
            scan->state = CHUNK_TRAILER;
        } else {
            scan->state = CHUNK_DATA;
            scan->left = scan->size + 2;
        }
        scan->line_bytes = 0;
        return;
    }
    if (++scan->line_bytes > 4096) {
        scan->state = BODY_BROKEN;
    } else if (digit >= 0 && !scan->size_ended) {
        /* 15 digits stay below INT64_MAX */
        if (scan->line_bytes > 15) {
            scan->state = BODY_BROKEN;
            return;
        }
        scan->size = scan->size * 16 + digit;
        scan->size_seen = true;
    } else if (!scan->size_seen || (!scan->size_ended && strchr(" \t;\r", c) == NULL)) {
        scan->state = BODY_BROKEN;
    } else {
        scan->size_ended = true; /* an extension, or CR */
    }
}

static size_t feed_data(struct body_scan *scan, size_t length)
{
    const size_t now = (int64_t)length < scan->left ? length : (size_t)scan->left;

    if (scan->kind == BODY_TO_END) {
        return now;
    }
    scan->left -= (int64_t)now;
    if (scan->left == 0) {
        scan->state = scan->kind == BODY_LENGTH ? BODY_DONE : CHUNK_SIZE;
        scan->size = 0;
        scan->size_seen = scan->size_ended = false;
        scan->line_bytes = 0;
    }
    return now;
}

size_t body_scan_feed(struct body_scan *scan, const char *data, size_t length)
{
    size_t at = 0;

    while (at < length && scan->state != BODY_DONE && scan->state != BODY_BROKEN) {
        if (scan->state == CHUNK_DATA) {
            at += feed_data(scan, length - at);
        } else if (scan->state == CHUNK_SIZE) {
            feed_size(scan, data[at++]);
        } else { /* trailers end with an empty line */
            const char c = data[at++];

            if (c == '\n') {
                if (scan->line_bytes == 0) {
                    scan->state = BODY_DONE;
                }
                scan->line_bytes = 0;
            } else if (c != '\r' && ++scan->line_bytes > HEAD_MAX_BYTES) {
                scan->state = BODY_BROKEN;
            }
        }
    }
    return at;
}
