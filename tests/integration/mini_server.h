/*
 * mini_server - a scripted HTTP server on a loopback port, inside the test process.
 *
 * One thread accepts, one thread per connection reads whole requests (Content-Length or chunked)
 * and calls the test's handler, which writes whatever bytes it likes. Test code only: it trusts its
 * peer and aborts on its own mistakes.
 */
#ifndef TESTS_MINI_SERVER_H
#define TESTS_MINI_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define MINI_HEAD_BYTES 16384
#define MINI_BODY_BYTES (8 * 1024 * 1024)

struct mini_request {
    int fd;
    int nth;                    /* on this connection, from 1 */
    char head[MINI_HEAD_BYTES]; /* request line and headers, NUL-terminated */
    char *body;
    size_t body_bytes;
};

enum mini_after { MINI_KEEP, MINI_CLOSE, MINI_RESET };

struct mini_server {
    enum mini_after (*handle)(struct mini_server *, struct mini_request *);
    void *arg;
    int port;
    atomic_int connections, requests;
    /* private */
    int fd;
    pthread_t thread;
    pthread_mutex_t lock;
    int open_fds[1024];
    atomic_int live;
};

static inline void mini_write(int fd, const void *data, size_t bytes)
{
    const char *at = data;
    while (bytes > 0) {
        ssize_t n = send(fd, at, bytes, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the client has left: part of many tests */
        at += n;
        bytes -= (size_t)n;
    }
}

static inline void mini_puts(int fd, const char *text)
{
    mini_write(fd, text, strlen(text));
}

/* A whole answer with Content-Length. `headers` are lines with \r\n. */
static inline void mini_answer(int fd, int status, const char *headers, const void *body,
                               size_t bytes)
{
    char head[4096];
    int n = snprintf(head, sizeof(head), "HTTP/1.1 %d X\r\n%sContent-Length: %zu\r\n\r\n", status,
                     headers, bytes);
    if (n < 0 || (size_t)n >= sizeof(head))
        abort();
    mini_write(fd, head, (size_t)n);
    mini_write(fd, body, bytes);
}

static inline bool mini_read(int fd, void *data, size_t bytes)
{
    char *at = data;
    while (bytes > 0) {
        ssize_t n = recv(fd, at, bytes, 0);
        if (n <= 0)
            return false;
        at += n;
        bytes -= (size_t)n;
    }
    return true;
}

static inline bool mini_read_line(int fd, char *line, size_t size)
{
    size_t n = 0;
    while (n + 1 < size) {
        if (!mini_read(fd, line + n, 1))
            return false;
        if (line[n++] == '\n') {
            line[n] = '\0';
            return true;
        }
    }
    abort();
}

/* Value of a header, copied into out; false when absent. */
static inline bool mini_header(const struct mini_request *r, const char *name, char *out,
                               size_t size)
{
    size_t length = strlen(name);
    for (const char *at = strstr(r->head, "\r\n"); at; at = strstr(at, "\r\n")) {
        at += 2;
        if (strncasecmp(at, name, length) == 0 && at[length] == ':') {
            const char *value = at + length + 1;
            while (*value == ' ')
                value++;
            size_t n = strcspn(value, "\r");
            if (n >= size)
                abort();
            memcpy(out, value, n);
            out[n] = '\0';
            return true;
        }
    }
    return false;
}

static inline bool mini_read_request(struct mini_request *r)
{
    size_t n = 0;
    char value[64];
    char line[256];
    r->body_bytes = 0;
    while (n < 4 || memcmp(r->head + n - 4, "\r\n\r\n", 4) != 0) {
        if (n + 1 >= sizeof(r->head))
            abort();
        if (!mini_read(r->fd, r->head + n, 1))
            return false;
        r->head[++n] = '\0';
    }
    if (mini_header(r, "Content-Length", value, sizeof(value))) {
        r->body_bytes = strtoul(value, NULL, 10);
        if (r->body_bytes > MINI_BODY_BYTES)
            abort();
        if (!mini_read(r->fd, r->body, r->body_bytes))
            return false;
    } else if (mini_header(r, "Transfer-Encoding", value, sizeof(value))) {
        for (;;) {
            if (!mini_read_line(r->fd, line, sizeof(line)))
                return false;
            size_t chunk = strtoul(line, NULL, 16);
            if (r->body_bytes + chunk > MINI_BODY_BYTES)
                abort();
            if (!mini_read(r->fd, r->body + r->body_bytes, chunk))
                return false;
            r->body_bytes += chunk;
            if (!mini_read_line(r->fd, line, sizeof(line)))
                return false;
            if (chunk == 0)
                break;
        }
    }
    r->body[r->body_bytes] = '\0';
    return true;
}

struct mini_connection {
    struct mini_server *server;
    int fd;
};

static inline void *mini_serve(void *arg)
{
    struct mini_connection *c = arg;
    struct mini_server *server = c->server;
    struct mini_request *r = calloc(1, sizeof(*r));
    enum mini_after after = MINI_KEEP;
    r->fd = c->fd;
    r->body = malloc(MINI_BODY_BYTES + 1);
    while (after == MINI_KEEP && mini_read_request(r)) {
        r->nth++;
        atomic_fetch_add(&server->requests, 1);
        after = server->handle(server, r);
    }
    if (after == MINI_RESET)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
    pthread_mutex_lock(&server->lock);
    for (int i = 0; i < 1024; i++) {
        if (server->open_fds[i] == c->fd)
            server->open_fds[i] = 0;
    }
    close(c->fd);
    pthread_mutex_unlock(&server->lock);
    free(r->body);
    free(r);
    free(c);
    atomic_fetch_sub(&server->live, 1);
    return NULL;
}

static inline void *mini_accept(void *arg)
{
    struct mini_server *server = arg;
    int fd;
    while ((fd = accept(server->fd, NULL, NULL)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
        struct mini_connection *c = calloc(1, sizeof(*c));
        c->server = server;
        c->fd = fd;
        pthread_mutex_lock(&server->lock);
        for (int i = 0; i < 1024; i++) {
            if (server->open_fds[i] == 0) {
                server->open_fds[i] = fd;
                break;
            }
        }
        pthread_mutex_unlock(&server->lock);
        atomic_fetch_add(&server->connections, 1);
        atomic_fetch_add(&server->live, 1);
        pthread_t thread;
        if (pthread_create(&thread, NULL, mini_serve, c) != 0)
            abort();
        pthread_detach(thread);
    }
    return NULL;
}

static inline void
mini_start(struct mini_server *server,
           enum mini_after (*handle)(struct mini_server *, struct mini_request *), void *arg)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof(address);
    memset(server, 0, sizeof(*server));
    server->handle = handle;
    server->arg = arg;
    pthread_mutex_init(&server->lock, NULL);
    server->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(server->fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(server->fd, 1024) != 0 ||
        getsockname(server->fd, (struct sockaddr *)&address, &length) != 0)
        abort();
    server->port = ntohs(address.sin_port);
    if (pthread_create(&server->thread, NULL, mini_accept, server) != 0)
        abort();
}

static inline void mini_stop(struct mini_server *server)
{
    shutdown(server->fd, SHUT_RDWR);
    pthread_join(server->thread, NULL);
    close(server->fd);
    pthread_mutex_lock(&server->lock);
    for (int i = 0; i < 1024; i++) {
        if (server->open_fds[i] > 0)
            shutdown(server->open_fds[i], SHUT_RDWR);
    }
    pthread_mutex_unlock(&server->lock);
    while (atomic_load(&server->live) > 0)
        usleep(1000);
    pthread_mutex_destroy(&server->lock);
}

#endif
