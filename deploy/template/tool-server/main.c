/*
 * sandbox-tool-server - what an MCP client finds on port 6060 of a sandbox.
 *
 * Owns: start-up order, waiting for the end. Settings: config.def.
 * Failure: anything missing at start is said and ends the program.
 */
#include <malloc.h>
#include <sys/prctl.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/service.h"
#include "common/base/service_main.h"
#include "deploy/template/tool-server/command.h"
#include "deploy/template/tool-server/door.h"
#include "deploy/template/tool-server/notice.h"
#include "deploy/template/tool-server/tools.h"

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
    int64_t until_ms;

    service_wait_for_stop(signal_fd);
    httpd_drain(httpd);
    until_ms = clock_mono_ms() + drain_ms;
    while (httpd_active(httpd) > 0 && clock_mono_ms() < until_ms) {
        clock_sleep_ms(DRAIN_STEP_MS);
        service_read_signals(signal_fd);
    }
}

/* Serves the notice until the end is asked for. */
static int serve_notice(const struct service_call *call, struct error *err)
{
    const struct tool_config *config = call->config;
    const struct httpd_options options = {
        .listen = call->argv[2],
        .threads = NOTICE_THREADS,
        .connection_queue = CONNECTION_QUEUE,
        .keep_alive_ms = (int)config->keep_alive_ms,
        .request_timeout_ms = (int)config->request_timeout_ms,
        .max_head_bytes = HEAD_MAX_BYTES,
        .handler = notice_serve,
        .bad_request = notice_bad_request,
    };
    struct httpd *httpd;

    if (call->argc != 3) {
        return error_set(err, ERR_INVALID, "--notice takes one ADDRESS:PORT");
    }
    httpd = httpd_start(&options, err);
    if (httpd == NULL) {
        return -1;
    }
    wait_for_end(httpd, call->signal_fd, 0);
    httpd_stop(httpd);
    return 0;
}

static int serve(const struct service_call *call, struct error *err)
{
    const struct tool_config *config = call->config;
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
            wait_for_end(httpd, call->signal_fd, config->drain_ms);
            status = 0;
        }
        commands_done(); /* who waits for one gets its end, and returns */
        httpd_stop(httpd);
    }
    tools_done();
    sessions_free(door.sessions);
    return status;
}

static const struct service_verb verbs[] = {
    {.name = NULL, .run = serve, .logs_failure = true},
    {.name = "--notice", .run = serve_notice, .logs_failure = true, .takes_words = true},
};

static const struct service_program program = {
    .name = "sandbox-tool-server",
    .log_name = "tool-server",
    .event_name = "tool_server",
    .usage = "usage: sandbox-tool-server [--help | --version | --notice ADDRESS:PORT]\n",
    .about = "\n  --notice ADDRESS:PORT   serves only the page that says code-server is not "
             "installed\n\n",
    .log_level_name = "MCP_LOG_LEVEL",
    .log_level_at = offsetof(struct tool_config, log_level),
    .settings = &tool_config_schema,
    .verbs = verbs,
    .verb_count = sizeof(verbs) / sizeof(verbs[0]),
};

int main(int argc, char **argv)
{
    struct tool_config config;

    /* commands run under the same user id: they must not read the token out of this process */
    (void)prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L);
    /* once per sandbox: few arenas, and what a large answer took goes back */
    (void)mallopt(M_ARENA_MAX, ARENAS);
    (void)mallopt(M_MMAP_THRESHOLD, GIVE_BACK_BYTES);
    (void)mallopt(M_TRIM_THRESHOLD, GIVE_BACK_BYTES);
    return service_main(&program, &config, argc, argv);
}
