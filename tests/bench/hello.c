/*
 * hello - the least a CivetWeb handler can do: the machine's own limit for `make bench`.
 * Usage: hello PORT. Ends on SIGTERM.
 */
#include <civetweb.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

static int answer(struct mg_connection *connection, void *arg)
{
    static const char text[] =
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        "Content-Length: 13\r\nConnection: keep-alive\r\n\r\n{\"code\":200}\n";

    (void)arg;
    mg_write(connection, text, sizeof(text) - 1);
    return 200;
}

int main(int argc, char **argv)
{
    char address[64];
    const char *options[] = {"listening_ports",
                             address,
                             "num_threads",
                             "64",
                             "enable_keep_alive",
                             "yes",
                             "keep_alive_timeout_ms",
                             "5000",
                             "tcp_nodelay",
                             "1",
                             NULL};
    struct mg_context *server;
    sigset_t stop;
    int received;

    if (argc != 2) {
        return 64;
    }
    snprintf(address, sizeof(address), "127.0.0.1:%s", argv[1]);
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &stop, NULL);
    mg_init_library(0);
    server = mg_start(NULL, NULL, options);
    if (server == NULL) {
        return 1;
    }
    mg_set_request_handler(server, "/", answer, NULL);
    sigwait(&stop, &received);
    mg_stop(server);
    return 0;
}
