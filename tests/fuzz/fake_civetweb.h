/*
 * fake_civetweb - CivetWeb's API over one request in memory, so that everything above it,
 * common/httpd included, can be fuzzed as it is.
 *
 * Owns: the library's functions that common/httpd calls; parsing a head in place as CivetWeb 1.15
 * does, because common/httpd's guards look at what that leaves behind. Does not own: sockets,
 * threads, chunk framing (a chunked body is what is behind the head). One connection at a time.
 */
#ifndef TESTS_FUZZ_FAKE_CIVETWEB_H
#define TESTS_FUZZ_FAKE_CIVETWEB_H

#include <civetweb.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include "common/base/strbuf.h"

struct mg_context {
    struct mg_callbacks callbacks;
    void *user_data;
};

struct mg_connection {
    struct mg_request_info info;
    const char *body;
    size_t body_left;
    void *conn_data;
    bool close;
    struct strbuf out; /* what the client gets */
};

static struct mg_context fake_context;

unsigned mg_init_library(unsigned features)
{
    return features;
}

unsigned mg_exit_library(void)
{
    return 0;
}

struct mg_context *mg_start(const struct mg_callbacks *callbacks, void *user_data,
                            const char **options)
{
    (void)options;
    /* common/httpd counts on seeing this call */
    if (listen(socket(AF_INET, SOCK_STREAM, 0), 1) != 0) {
        return NULL;
    }
    fake_context.callbacks = *callbacks;
    fake_context.user_data = user_data;
    return &fake_context;
}

void mg_stop(struct mg_context *context)
{
    (void)context;
}

int mg_get_server_ports(const struct mg_context *context, int size, struct mg_server_port *ports)
{
    (void)context;
    (void)size;
    ports[0].port = 1;
    return 1;
}

struct mg_context *mg_get_context(const struct mg_connection *mg)
{
    (void)mg;
    return &fake_context;
}

void *mg_get_user_data(const struct mg_context *context)
{
    return context->user_data;
}

void *mg_get_user_connection_data(const struct mg_connection *mg)
{
    return mg->conn_data;
}

const struct mg_request_info *mg_get_request_info(const struct mg_connection *mg)
{
    return &mg->info;
}

const char *mg_get_response_code_text(const struct mg_connection *mg, int status)
{
    (void)mg;
    (void)status;
    return "Text";
}

void mg_disable_connection_keep_alive(struct mg_connection *mg)
{
    mg->close = true;
}

int mg_read(struct mg_connection *mg, void *buf, size_t bytes)
{
    size_t now = bytes < mg->body_left ? bytes : mg->body_left;

    memcpy(buf, mg->body, now);
    mg->body += now;
    mg->body_left -= now;
    return (int)now;
}

int mg_write(struct mg_connection *mg, const void *data, size_t bytes)
{
    return strbuf_append(&mg->out, data, bytes) == 0 ? (int)bytes : -1;
}

/* Headers from `at` on, separators replaced by NUL. -1: CivetWeb would not have read it. */
static int fake_parse_headers(char *at, struct mg_header *headers)
{
    int count = 0;

    while (count < MG_MAX_HEADERS) {
        char *end = at;

        while (*end != ':' && *end >= 33 && *end <= 126) {
            end++;
        }
        if (end == at) {
            break;
        }
        while (*end == ' ') {
            *end++ = '\0';
        }
        if (*end != ':') {
            return -1;
        }
        *end = '\0';
        headers[count].name = at;
        do {
            end++;
        } while (*end == ' ' || *end == '\t');
        headers[count].value = end;
        end += strcspn(end, "\r\n");
        if (*end == '\r') {
            *end++ = '\0';
            if (*end != '\n') {
                return -1;
            }
        }
        count++;
        if (*end == '\0') {
            break;
        }
        *end++ = '\0';
        at = end;
        if (*at == '\r' || *at == '\n') {
            break;
        }
    }
    return count;
}

/* Splits `head` (NUL-terminated, ends with an empty line) into mg->info. -1: not read. */
static int fake_parse_head(struct mg_connection *mg, char *head)
{
    char *line_end = strstr(head, "\r\n"), *target, *version, *query;

    if (line_end == NULL) {
        return -1;
    }
    *line_end = '\0';
    target = strchr(head, ' ');
    version = target != NULL ? strchr(target + 1, ' ') : NULL;
    if (version == NULL || strncmp(version + 1, "HTTP/", 5) != 0) {
        return -1;
    }
    *target++ = '\0';
    *version++ = '\0';
    mg->info.request_method = head;
    mg->info.request_uri = target;
    mg->info.http_version = version + 5;
    query = strchr(target, '?');
    if (query != NULL) {
        *query = '\0';
        mg->info.query_string = query + 1;
    }
    mg->info.num_headers = fake_parse_headers(line_end + 2, mg->info.http_headers);
    return mg->info.num_headers < 0 ? -1 : 0;
}

#endif
