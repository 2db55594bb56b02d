/*
 * sandbox-tool-server - what an MCP client finds on port 6060 of a sandbox.
 *
 * Owns: start-up order, waiting for the end. Configuration: environment (config.c).
 * Failure: anything missing at start is said and ends the program.
 */
#include <malloc.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/service.h"
#include "deploy/template/tool-server/command.h"
#include "deploy/template/tool-server/door.h"
#include "deploy/template/tool-server/notice.h"
#include "deploy/template/tool-server/tools.h"

#define USAGE "usage: sandbox-tool-server [--help | --version | --notice ADDRESS:PORT]"

enum {
    HEAD_MAX_BYTES = 16384,
    CONNECTION_QUEUE = 64,
    DRAIN_STEP_MS = 20,
    ARENAS = 2,
    NOTICE_THREADS = 2
};
enum { GIVE_BACK_BYTES = 128 * 1024 };

static void wait_for_end(struct httpd *httpd, int signal_fd, int64_t drain_ms)
{
    struct pollfd stop = {.fd = signal_fd, .events = POLLIN};
    int64_t until_ms;

    while (!service_draining()) {
        if (poll(&stop, 1, -1) > 0) {
            service_read_signals(signal_fd);
        }
    }
    httpd_drain(httpd);
    until_ms = clock_mono_ms() + drain_ms;
    while (httpd_active(httpd) > 0 && clock_mono_ms() < until_ms) {
        clock_sleep_ms(DRAIN_STEP_MS);
        service_read_signals(signal_fd);
    }
}

/* Serves the notice until the end is asked for. */
static int serve_notice(const struct tool_config *config, const char *listen, int signal_fd,
                        struct error *err)
{
    const struct httpd_options options = {
        .listen = listen,
        .threads = NOTICE_THREADS,
        .connection_queue = CONNECTION_QUEUE,
        .keep_alive_ms = (int)config->keep_alive_ms,
        .request_timeout_ms = (int)config->request_timeout_ms,
        .max_head_bytes = HEAD_MAX_BYTES,
        .handler = notice_serve,
        .bad_request = notice_bad_request,
    };
    struct httpd *httpd = httpd_start(&options, err);

    if (httpd == NULL) {
        return -1;
    }
    wait_for_end(httpd, signal_fd, 0);
    httpd_stop(httpd);
    return 0;
}

static int serve(const struct tool_config *config, int signal_fd, struct error *err)
{
    struct door door = {.config = config, .sessions = sessions_new((int)config->sessions)};
    const struct httpd_options options = {
        .listen = config->listen,
        .threads = (int)config->threads,
        .connection_queue = CONNECTION_QUEUE,
        .keep_alive_ms = (int)config->keep_alive_ms,
        .request_timeout_ms = (int)config->request_timeout_ms,
        .max_head_bytes = HEAD_MAX_BYTES,
        .handler = door_serve,
        .bad_request = door_bad_request,
        .arg = &door,
    };
    struct httpd *httpd;
    int status = -1;

    if (tools_init(err) == 0 && commands_init((int)config->commands, err) == 0) {
        httpd = httpd_start(&options, err);
        if (httpd != NULL) {
            log_event(LOG_INFO, "tool_server.ready", LOG_I("port", httpd_port(httpd)),
                      LOG_S("workdir", config->workdir), LOG_S("version", VERSION));
            wait_for_end(httpd, signal_fd, config->drain_ms);
            status = 0;
        }
        commands_done(); /* who waits for one gets its end, and returns */
        httpd_stop(httpd);
    }
    tools_done();
    sessions_free(door.sessions);
    return status;
}

int main(int argc, char **argv)
{
    struct tool_config config = {.listen = NULL};
    struct error err = ERROR_INIT;
    const char *notice = NULL;
    int signal_fd, status;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        puts(USAGE "\n  --notice ADDRESS:PORT   serves only the page that says code-server is not "
                   "installed\n");
        tool_config_help(stdout);
        return EXIT_OK;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        puts("sandbox-tool-server " VERSION);
        return EXIT_OK;
    }
    if (argc == 3 && strcmp(argv[1], "--notice") == 0) {
        notice = argv[2];
    } else if (argc != 1) {
        fputs(USAGE "\n", stderr);
        return EXIT_USAGE;
    }
    /* commands run under the same user id: they must not read the token out of this process */
    (void)prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L);
    /* once per sandbox: few arenas, and what a large answer took goes back */
    (void)mallopt(M_ARENA_MAX, ARENAS);
    (void)mallopt(M_MMAP_THRESHOLD, GIVE_BACK_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, GIVE_BACK_BYTES);
    if (tool_config_load(&config, &err) != 0) {
        fprintf(stderr, "sandbox-tool-server: %s\n", err.message);
        return EXIT_CONFIG;
    }
    status = log_init("tool-server", config.log_level) != 0
                 ? error_set(&err, ERR_CONFIG, "MCP_LOG_LEVEL is none of debug info warn error")
                 : service_init(&signal_fd, &err);
    if (status == 0) {
        status = notice != NULL ? serve_notice(&config, notice, signal_fd, &err)
                                : serve(&config, signal_fd, &err);
    }
    if (status != 0) {
        log_error(LOG_ERROR, "tool_server.failed", &err);
    }
    tool_config_free(&config);
    return status == 0 ? EXIT_OK : err.code == ERR_CONFIG ? EXIT_CONFIG : EXIT_RUNTIME;
}
