/* http_connect - see http_connect.h. */
#include "common/provider/http_connect.h"

#include <curl/curl.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/provider/http_internal.h"

enum { CARRIER_STACK_BYTES = 262144 };

/* One direction: bytes that were read and are not written yet. */
struct half {
    char data[HTTP_CONNECT_BUFFER_BYTES];
    size_t length, written;
    bool ended;   /* no more will be read */
    bool starved; /* the last read found nothing: poll before the next */
};

struct carrier {
    CURL *easy;
    int server_fd; /* of libcurl; only polled */
    int local_fd;  /* our end of the pair */
    struct half to_server, to_client;
};

static bool is_empty(const struct half *half)
{
    return half->written == half->length;
}

static void took(struct half *half, size_t bytes)
{
    half->length = bytes;
    half->written = 0;
    half->ended = bytes == 0;
}

/* Reads once into an empty half. False: the stream broke. */
static bool read_local(struct carrier *carrier)
{
    ssize_t got =
        recv(carrier->local_fd, carrier->to_server.data, HTTP_CONNECT_BUFFER_BYTES, MSG_DONTWAIT);

    carrier->to_server.starved = got < 0;
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    took(&carrier->to_server, (size_t)got);
    return true;
}

static bool read_server(struct carrier *carrier)
{
    size_t got = 0;
    CURLcode code =
        curl_easy_recv(carrier->easy, carrier->to_client.data, HTTP_CONNECT_BUFFER_BYTES, &got);

    carrier->to_client.starved = code == CURLE_AGAIN;
    if (code == CURLE_AGAIN) {
        return true;
    }
    took(&carrier->to_client, code == CURLE_OK ? got : 0);
    return code == CURLE_OK;
}

static bool write_local(struct carrier *carrier)
{
    struct half *half = &carrier->to_client;
    ssize_t sent = send(carrier->local_fd, half->data + half->written, half->length - half->written,
                        MSG_DONTWAIT | MSG_NOSIGNAL);

    if (sent < 0) {
        return errno == EAGAIN || errno == EINTR;
    }
    half->written += (size_t)sent;
    return true;
}

static bool write_server(struct carrier *carrier)
{
    struct half *half = &carrier->to_server;
    size_t sent = 0;
    CURLcode code = curl_easy_send(carrier->easy, half->data + half->written,
                                   half->length - half->written, &sent);

    half->written += sent;
    return code == CURLE_OK || code == CURLE_AGAIN;
}

/* Waits until something can move. TLS may hold bytes that poll() does not see: the server is only
 * waited for after a read that found nothing. */
static void wait_for_more(struct carrier *carrier)
{
    struct pollfd fds[] = {{.fd = carrier->local_fd}, {.fd = carrier->server_fd}};

    if (is_empty(&carrier->to_server) && !carrier->to_server.ended) {
        fds[0].events |= POLLIN;
    } else if (!is_empty(&carrier->to_server)) {
        fds[1].events |= POLLOUT;
    }
    if (is_empty(&carrier->to_client)) {
        fds[1].events |= POLLIN;
    } else {
        fds[0].events |= POLLOUT;
    }
    (void)poll(fds, 2, -1);
}

/* Ends with the server's end, once what it sent has gone on; or with the client's. */
static void *carry(void *arg)
{
    struct carrier *carrier = arg;
    bool fine = true;

    while (fine) {
        bool moved = false;

        if (is_empty(&carrier->to_server) && !carrier->to_server.ended) {
            fine = read_local(carrier);
            moved = !carrier->to_server.starved;
        }
        if (carrier->to_server.ended) {
            break;
        }
        if (fine && !is_empty(&carrier->to_server)) {
            size_t before = carrier->to_server.written;

            fine = write_server(carrier);
            moved = moved || carrier->to_server.written != before;
        }
        if (fine && is_empty(&carrier->to_client)) {
            fine = read_server(carrier);
            moved = moved || !carrier->to_client.starved;
        }
        if (carrier->to_client.ended) {
            break;
        }
        if (fine && !is_empty(&carrier->to_client)) {
            size_t before = carrier->to_client.written;

            fine = write_local(carrier);
            moved = moved || carrier->to_client.written != before;
        }
        if (fine && !moved) {
            wait_for_more(carrier);
        }
    }
    close(carrier->local_fd);
    curl_easy_cleanup(carrier->easy);
    free(carrier);
    return NULL;
}

/* The thread has carrier, easy and local_fd from then on. */
static int start_carrier(struct carrier *carrier)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    pthread_t thread;
    int failed;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, CARRIER_STACK_BYTES);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    failed = pthread_create(&thread, &attributes, carry, carrier);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return failed == 0 ? 0 : -1;
}

static int carry_tls(CURL *easy, int server_fd, int *ret_fd, struct error *err)
{
    struct carrier *carrier;
    int pair[2];

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        curl_easy_cleanup(easy);
        return error_set_errno(err, ERR_INTERNAL, errno, "socketpair");
    }
    carrier = xcalloc(1, sizeof(*carrier));
    carrier->easy = easy;
    carrier->server_fd = server_fd;
    carrier->local_fd = pair[1];
    if (start_carrier(carrier) < 0) {
        close(pair[0]);
        close(pair[1]);
        curl_easy_cleanup(easy);
        free(carrier);
        return error_set(err, ERR_OVERLOADED, "no thread for a connection through TLS");
    }
    *ret_fd = pair[0];
    return 0;
}

static CURL *connect_to(const char *url, int64_t timeout_ms, char text[CURL_ERROR_SIZE])
{
    CURL *easy = curl_easy_init();

    if (easy == NULL) {
        return NULL;
    }
    text[0] = '\0';
    http_connection_options(easy, url);
    curl_easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, text);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    if (strncasecmp(url, "http://", strlen("http://")) == 0) {
        curl_easy_setopt(easy, CURLOPT_PROXY, ""); /* one would have to let us speak through it */
    }
    if (curl_easy_perform(easy) != CURLE_OK) {
        curl_easy_cleanup(easy);
        return NULL;
    }
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, NULL);
    return easy;
}

int http_connect(const char *url, int64_t timeout_ms, int *ret_fd, struct error *err)
{
    char text[CURL_ERROR_SIZE] = "";
    CURL *easy = connect_to(url, timeout_ms, text);
    curl_socket_t fd = CURL_SOCKET_BAD;

    if (easy == NULL) {
        return error_set(err, ERR_PROVIDER_DOWN, "cannot connect: %.120s", text);
    }
    if (curl_easy_getinfo(easy, CURLINFO_ACTIVESOCKET, &fd) != CURLE_OK || fd == CURL_SOCKET_BAD) {
        curl_easy_cleanup(easy);
        return error_set(err, ERR_PROVIDER_DOWN, "the connection ended at once");
    }
    if (strncasecmp(url, "https://", strlen("https://")) == 0) {
        return carry_tls(easy, fd, ret_fd, err);
    }
    *ret_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    curl_easy_cleanup(easy); /* closes its own descriptor; the connection lives on in ours */
    if (*ret_fd < 0 || fcntl(*ret_fd, F_SETFL, fcntl(*ret_fd, F_GETFL) & ~O_NONBLOCK) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "no descriptor for a connection");
    }
    return 0;
}
