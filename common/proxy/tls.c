/* tls - see tls.h. */
#include "common/proxy/tls.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"

enum { HANDSHAKE_BYTE = 0x16, BUFFER_BYTES = 16384, LINGER_MS = 1000, STACK_BYTES = 256 * 1024 };

struct tls {
    const char *certificate, *key; /* paths */
    pthread_mutex_t lock;
    SSL_CTX *context;
    struct timespec read_at[2]; /* change times of certificate and key when they were read */
};

/* ---- the certificate ---- */

static int fail(struct error *err, const char *path)
{
    const unsigned long code = ERR_get_error();

    ERR_clear_error();
    return error_set(err, ERR_CONFIG, "%s: %s", path,
                     code != 0 && ERR_reason_error_string(code) != NULL
                         ? ERR_reason_error_string(code)
                         : "cannot be used");
}

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *out_length,
                           const unsigned char *in, unsigned in_length, void *arg)
{
    static const unsigned char own[] = "\x08http/1.1";
    unsigned char *chosen;

    (void)ssl;
    (void)arg;
    if (SSL_select_next_proto(&chosen, out_length, own, sizeof(own) - 1, in, in_length) !=
        OPENSSL_NPN_NEGOTIATED) {
        return SSL_TLSEXT_ERR_NOACK; /* such a client may speak HTTP/1.1 all the same */
    }
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

static void change_times(const struct tls *tls, struct timespec out[2])
{
    const char *const paths[] = {tls->certificate, tls->key};
    struct stat status;

    for (int i = 0; i < 2; i++) {
        out[i] = stat(paths[i], &status) == 0 ? status.st_mtim : (struct timespec){0};
    }
}

static SSL_CTX *load(const struct tls *tls, struct error *err)
{
    SSL_CTX *fresh = SSL_CTX_new(TLS_server_method());

    if (fresh == NULL) {
        fail(err, "TLS");
        return NULL;
    }
    SSL_CTX_set_min_proto_version(fresh, TLS1_2_VERSION);
    SSL_CTX_set_mode(fresh, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_alpn_select_cb(fresh, choose_protocol, NULL);
    if (SSL_CTX_use_certificate_chain_file(fresh, tls->certificate) != 1) {
        fail(err, tls->certificate);
    } else if (SSL_CTX_use_PrivateKey_file(fresh, tls->key, SSL_FILETYPE_PEM) != 1 ||
               SSL_CTX_check_private_key(fresh) != 1) {
        fail(err, tls->key);
    } else {
        return fresh;
    }
    SSL_CTX_free(fresh);
    return NULL;
}

struct tls *tls_open(const char *certificate, const char *key, struct error *err)
{
    struct tls *tls = xcalloc(1, sizeof(*tls));

    tls->certificate = certificate;
    tls->key = key;
    pthread_mutex_init(&tls->lock, NULL);
    change_times(tls, tls->read_at);
    tls->context = load(tls, err);
    if (tls->context == NULL) {
        tls_close(tls);
        return NULL;
    }
    return tls;
}

void tls_close(struct tls *tls)
{
    if (tls != NULL) {
        SSL_CTX_free(tls->context);
        pthread_mutex_destroy(&tls->lock);
        free(tls);
    }
}

/* A session with the certificate as the file has it now. */
static SSL *new_session(struct tls *tls)
{
    struct error err = ERROR_INIT;
    struct timespec now[2];
    SSL_CTX *fresh;
    SSL *ssl;

    pthread_mutex_lock(&tls->lock);
    change_times(tls, now);
    if (memcmp(now, tls->read_at, sizeof(now)) != 0) {
        memcpy(tls->read_at, now, sizeof(now));
        fresh = load(tls, &err);
        if (fresh != NULL) {
            SSL_CTX_free(tls->context);
            tls->context = fresh;
            log_event(LOG_INFO, "tls.certificate_read");
        } else {
            log_error(LOG_ERROR, "tls.certificate_not_read", &err); /* the old one stays in use */
        }
    }
    ssl = SSL_new(tls->context);
    pthread_mutex_unlock(&tls->lock);
    return ssl;
}

/* ---- the two directions ---- */

/* What was read from one side and not written to the other yet. */
struct flow {
    char data[BUFFER_BYTES];
    size_t at, length;
    bool ended; /* no more is to be read */
};

struct tunnel {
    SSL *ssl;
    int client, plain;
    int64_t timeout_ms, stall_ms;
    struct flow in, out;
    bool wants_write; /* the TLS side must be written to before it can go on */
};

static bool must_wait(struct tunnel *tunnel, int result)
{
    const int reason = SSL_get_error(tunnel->ssl, result);

    ERR_clear_error();
    tunnel->wants_write = tunnel->wants_write || reason == SSL_ERROR_WANT_WRITE;
    return reason == SSL_ERROR_WANT_READ || reason == SSL_ERROR_WANT_WRITE;
}

/* Each of these moves what can be moved without waiting; false: this direction is over. */
static void read_client(struct tunnel *tunnel)
{
    struct flow *in = &tunnel->in;

    if (in->length == 0 && !in->ended) {
        const int n = SSL_read(tunnel->ssl, in->data, sizeof(in->data));

        if (n > 0) {
            in->at = 0;
            in->length = (size_t)n;
        } else if (!must_wait(tunnel, n)) {
            in->ended = true;
            shutdown(tunnel->plain, SHUT_WR);
        }
    }
}

static bool write_plain(struct tunnel *tunnel)
{
    struct flow *in = &tunnel->in;

    if (in->length > 0) {
        const ssize_t n =
            send(tunnel->plain, in->data + in->at, in->length, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0) {
            return errno == EAGAIN || errno == EINTR;
        }
        in->at += (size_t)n;
        in->length -= (size_t)n;
    }
    return true;
}

static void read_plain(struct tunnel *tunnel)
{
    struct flow *out = &tunnel->out;

    if (out->length == 0 && !out->ended) {
        const ssize_t n = recv(tunnel->plain, out->data, sizeof(out->data), MSG_DONTWAIT);

        if (n > 0) {
            out->at = 0;
            out->length = (size_t)n;
        } else if (n == 0 || (errno != EAGAIN && errno != EINTR)) {
            out->ended = true;
        }
    }
}

static bool write_client(struct tunnel *tunnel)
{
    struct flow *out = &tunnel->out;

    if (out->length > 0) {
        const int n = SSL_write(tunnel->ssl, out->data + out->at, (int)out->length);

        if (n <= 0) {
            return must_wait(tunnel, n);
        }
        out->at += (size_t)n;
        out->length -= (size_t)n;
    }
    return true;
}

/* Waits until something can move. False: the client takes nothing for too long. */
static bool wait_for_either(struct tunnel *tunnel)
{
    const struct flow *in = &tunnel->in, *out = &tunnel->out;
    struct pollfd fds[2] = {{.fd = tunnel->client}, {.fd = tunnel->plain}};
    const bool writes = out->length > 0 || tunnel->wants_write;

    if (in->length == 0 && !in->ended && SSL_pending(tunnel->ssl) > 0) {
        return true;
    }
    fds[0].events = (short)((in->length == 0 && !in->ended ? POLLIN : 0) | (writes ? POLLOUT : 0));
    fds[1].events =
        (short)((in->length > 0 ? POLLOUT : 0) | (out->length == 0 && !out->ended ? POLLIN : 0));
    if (fds[0].events == 0) {
        fds[0].fd = -1; /* its end alone would wake us again and again */
    }
    if (fds[1].events == 0) {
        fds[1].fd = -1;
    }
    tunnel->wants_write = false;
    /* a client that says nothing is the proxy's to end */
    return poll(fds, 2, writes ? (int)tunnel->stall_ms : -1) > 0;
}

static void carry(struct tunnel *tunnel)
{
    for (;;) {
        read_client(tunnel);
        if (!write_plain(tunnel)) {
            return;
        }
        read_plain(tunnel);
        if (!write_client(tunnel)) {
            return;
        }
        if (tunnel->out.ended && tunnel->out.length == 0) {
            return; /* the proxy is done with it */
        }
        if (!wait_for_either(tunnel)) {
            return;
        }
    }
}

/* Lets the client read the last of it before the socket goes. */
static void close_gently(struct tunnel *tunnel)
{
    struct pollfd readable = {.fd = tunnel->client, .events = POLLIN};
    const int64_t until_ms = clock_mono_ms() + LINGER_MS;
    char waste[4096];

    (void)SSL_shutdown(tunnel->ssl);
    ERR_clear_error();
    shutdown(tunnel->client, SHUT_WR);
    while (clock_mono_ms() < until_ms && poll(&readable, 1, LINGER_MS) > 0 &&
           recv(tunnel->client, waste, sizeof(waste), MSG_DONTWAIT) > 0) {}
}

static void end(struct tunnel *tunnel)
{
    SSL_free(tunnel->ssl);
    close(tunnel->client);
    if (tunnel->plain >= 0) {
        close(tunnel->plain);
    }
    free(tunnel);
}

/* ---- the beginning ---- */

bool tls_is_hello(unsigned char first)
{
    return first == HANDSHAKE_BYTE;
}

static bool shake_hands(struct tunnel *tunnel)
{
    const int64_t until_ms = clock_mono_ms() + tunnel->timeout_ms;
    int result;

    while ((result = SSL_accept(tunnel->ssl)) != 1) {
        struct pollfd ready = {.fd = tunnel->client, .events = POLLIN};
        const int64_t left_ms = until_ms - clock_mono_ms();

        tunnel->wants_write = false;
        if (!must_wait(tunnel, result) || left_ms <= 0) {
            return false;
        }
        ready.events = tunnel->wants_write ? POLLOUT : POLLIN;
        if (poll(&ready, 1, (int)left_ms) <= 0) {
            return false;
        }
    }
    tunnel->wants_write = false;
    return true;
}

static void *run(void *arg)
{
    struct tunnel *tunnel = arg;

    if (shake_hands(tunnel)) {
        carry(tunnel);
        close(tunnel->plain);
        tunnel->plain = -1;
        close_gently(tunnel);
    }
    end(tunnel);
    return NULL;
}

static bool start(struct tunnel *tunnel, int ends[2])
{
    pthread_attr_t attributes;
    pthread_t thread;
    bool started;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) {
        return false;
    }
    tunnel->plain = ends[1];
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    started = pthread_create(&thread, &attributes, run, tunnel) == 0;
    pthread_attr_destroy(&attributes);
    if (!started) {
        close(ends[0]);
    }
    return started;
}

int tls_accept(struct tls *tls, int fd, int64_t timeout_ms, int64_t stall_ms)
{
    /* alert, TLS 1.0 as records of a beginning say, fatal, handshake_failure (RFC 8446, 6) */
    static const unsigned char refusal[] = {0x15, 3, 1, 0, 2, 2, 40};
    struct tunnel *tunnel;
    SSL *ssl = tls != NULL ? new_session(tls) : NULL;
    int ends[2];

    if (ssl == NULL) {
        (void)!send(fd, refusal, sizeof(refusal), MSG_NOSIGNAL | MSG_DONTWAIT);
        close(fd);
        return -1;
    }
    tunnel = xcalloc(1, sizeof(*tunnel));
    tunnel->ssl = ssl;
    tunnel->client = fd;
    tunnel->plain = -1;
    tunnel->timeout_ms = timeout_ms;
    tunnel->stall_ms = stall_ms;
    if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || SSL_set_fd(ssl, fd) != 1 || !start(tunnel, ends)) {
        end(tunnel);
        return -1;
    }
    return ends[0];
}
