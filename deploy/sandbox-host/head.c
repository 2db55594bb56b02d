/* head - see head.h. */
#include "deploy/sandbox-host/head.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

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

int head_status(const char *head)
{
    return strncmp(head, "HTTP/1.", 7) == 0 && strlen(head) > 12 ? (int)strtol(head + 9, NULL, 10)
                                                                 : 0;
}

void head_rewrite(const char *head, const char *connection, struct strbuf *out)
{
    const char *line = head;

    while (line != NULL) {
        const char *end = strstr(line, "\r\n");
        bool drop = connection != NULL && line != head &&
                    (is_header(line, "Connection") || is_header(line, "Keep-Alive") ||
                     is_header(line, "Proxy-Connection"));

        if (!drop) {
            strbuf_append(out, line, (size_t)(end - line) + 2);
        }
        line = next_line(line);
    }
    if (connection != NULL) {
        strbuf_printf(out, "Connection: %s\r\n", connection);
    }
    strbuf_puts(out, "\r\n");
}

bool body_scan_init(struct body_scan *scan, const char *head)
{
    char length[32], coding[64];
    bool has_length = find_header(head, "Content-Length") != NULL;
    bool has_coding = find_header(head, "Transfer-Encoding") != NULL;
    char *end;

    *scan = (struct body_scan){.kind = BODY_NONE, .state = BODY_DONE};
    if (has_length && has_coding) {
        return false;
    }
    if (has_coding) {
        if (!head_value(head, "Transfer-Encoding", coding, sizeof(coding)) ||
            strcasecmp(coding, "chunked") != 0) {
            return false;
        }
        *scan = (struct body_scan){.kind = BODY_CHUNKED, .state = CHUNK_SIZE};
    } else if (has_length) {
        if (!head_value(head, "Content-Length", length, sizeof(length)) ||
            !isdigit((unsigned char)length[0])) {
            return false;
        }
        scan->left = strtoll(length, &end, 10);
        if (*end != '\0' || scan->left < 0) {
            return false;
        }
        scan->kind = BODY_LENGTH;
        scan->state = scan->left > 0 ? CHUNK_DATA : BODY_DONE;
    }
    return true;
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
    int digit = hex_digit(c);

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
    } else if (digit >= 0 && scan->line_bytes <= 15) {
        scan->size = scan->size * 16 + digit;
        scan->size_seen = true;
    } else if (!scan->size_seen) {
        scan->state = BODY_BROKEN;
    } else {
        scan->line_bytes = 100; /* behind the digits: an extension, or CR */
    }
}

size_t body_scan_feed(struct body_scan *scan, const char *data, size_t length)
{
    size_t at = 0;

    while (at < length && scan->state != BODY_DONE && scan->state != BODY_BROKEN) {
        if (scan->state == CHUNK_DATA) {
            size_t now = (int64_t)(length - at) < scan->left ? length - at : (size_t)scan->left;

            at += now;
            scan->left -= (int64_t)now;
            if (scan->left == 0) {
                scan->state = scan->kind == BODY_LENGTH ? BODY_DONE : CHUNK_SIZE;
                scan->size = 0;
                scan->size_seen = false;
                scan->line_bytes = 0;
            }
        } else if (scan->state == CHUNK_SIZE) {
            feed_size(scan, data[at++]);
        } else { /* trailers end with an empty line */
            char c = data[at++];

            if (c == '\n') {
                if (scan->line_bytes == 0) {
                    scan->state = BODY_DONE;
                }
                scan->line_bytes = 0;
            } else if (c != '\r') {
                scan->line_bytes++;
            }
        }
    }
    return at;
}
