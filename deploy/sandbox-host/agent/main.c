/*
 * sandbox-agent - the first process of a sandbox: its init, its door for the host, its envd.
 *
 * Owns: start-up order, the main loop, the end. Descriptors it is given: 3, a listening UNIX socket
 * (relay.h); 4, a pipe with the configuration, one JSON object to EOF (agent.h); 5, a pipe that
 * closes when the sandbox is to end because nobody outside holds it any more. With --standalone
 * there are none: the configuration is SANDBOX_AGENT_CONFIG, and only HTTP is served. With
 * --as-root it is no agent, but what the sandbox's sudo becomes (root.h).
 * Failure: anything missing at start is logged and ends the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/config.h"
#include "common/base/log.h"
#include "common/base/service.h"
#include "common/base/strbuf.h"
#include "common/httpd/httpd.h"
#include "deploy/sandbox-host/agent/agent.h"
#include "deploy/sandbox-host/agent/answers.h"
#include "deploy/sandbox-host/agent/process.h"
#include "deploy/sandbox-host/agent/process_loop.h"
#include "deploy/sandbox-host/agent/relay.h"
#include "deploy/sandbox-host/agent/root.h"
#include "deploy/sandbox-host/agent/routes.h"
#include "deploy/sandbox-host/agent/spawn.h"
#include "deploy/sandbox-host/agent/watch.h"

#define RELAY_FD         3
#define CONFIG_FD        4
#define LIFELINE_FD      5
#define CONFIG_MAX_BYTES (8u << 20)
#define END_MS           2000 /* for killed processes to be reaped */

struct agent_env {
    int64_t port;
    int64_t threads;
    int64_t stall_ms;
    char *log_level;
    char *config;
};

static const struct config_entry table[] = {
    {"SANDBOX_AGENT_PORT", CONFIG_INT, offsetof(struct agent_env, port), 1, 65535, "49983", false,
     false, "TCP port on 127.0.0.1 that serves envd's protocol"},
    {"SANDBOX_AGENT_THREADS", CONFIG_INT, offsetof(struct agent_env, threads), 4, 4096, "128",
     false, false, "connections served at once; an open stream holds one"},
    {"SANDBOX_AGENT_STALL_MS", CONFIG_INT, offsetof(struct agent_env, stall_ms), 100, 3600000,
     "30000", false, false,
     "a client that sends nothing of its request, or takes nothing of its answer, for so long is "
     "cut"},
    {"SANDBOX_AGENT_LOG_LEVEL", CONFIG_STRING, offsetof(struct agent_env, log_level), 1, 16, "warn",
     false, false, "debug, info, warn or error"},
    {"SANDBOX_AGENT_CONFIG", CONFIG_STRING, offsetof(struct agent_env, config), 2, CONFIG_MAX_BYTES,
     "{}", false, true, "with --standalone: the JSON the host would send"},
};
#define TABLE_COUNT (sizeof(table) / sizeof(table[0]))

static int read_to_end(int fd, struct strbuf *out, struct error *err)
{
    char buffer[8192];
    ssize_t n;

    while ((n = read(fd, buffer, sizeof(buffer))) != 0) {
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return error_set_errno(err, ERR_CONFIG, errno, "descriptor %d", fd);
        }
        if (strbuf_append(out, buffer, (size_t)n) != 0) {
            return error_set(err, ERR_CONFIG, "the configuration is larger than %lu bytes",
                             (unsigned long)out->max_bytes);
        }
    }
    return 0;
}

static int load_config(struct agent_config *config, const struct agent_env *env, bool standalone,
                       struct error *err)
{
    struct strbuf text;
    int result = 0;

    strbuf_init(&text, CONFIG_MAX_BYTES);
    if (standalone) {
        (void)strbuf_puts(&text, env->config);
    } else {
        result = read_to_end(CONFIG_FD, &text, err);
        close(CONFIG_FD);
    }
    if (result == 0) {
        result = agent_config_parse(config, text.data, text.length, err);
    }
    memset(text.data, 0, text.length);
    strbuf_done(&text);
    return result;
}

static int keep_to_self(int fd, struct error *err)
{
    return fcntl(fd, F_SETFD, FD_CLOEXEC) != 0
               ? error_set_errno(err, ERR_CONFIG, errno, "descriptor %d", fd)
               : 0;
}

/* Children get the limit the agent was started with; the agent itself needs one per connection. */
static void raise_nofile(struct agent_config *config)
{
    if (getrlimit(RLIMIT_NOFILE, &config->nofile) == 0) {
        const struct rlimit raised = {config->nofile.rlim_max, config->nofile.rlim_max};
        (void)setrlimit(RLIMIT_NOFILE, &raised);
    }
}

/* lifeline_fd -1: there is none */
static void run(int signal_fd, int lifeline_fd)
{
    int timeout = 0;
    int64_t until_ms = INT64_MAX;

    /* after a stop signal only until what is killed has been reaped */
    while (clock_mono_ms() < until_ms && (!service_draining() || process_any())) {
        if (service_draining() && until_ms == INT64_MAX) {
            process_kill_all();
            until_ms = clock_mono_ms() + END_MS;
        }
        struct pollfd waits[] = {
            {.fd = process_loop_fd(), .events = POLLIN},
            {.fd = signal_fd, .events = POLLIN},
            {.fd = lifeline_fd, .events = 0},
        };
        (void)poll(waits, 3, until_ms == INT64_MAX ? timeout : END_MS / 10);
        if ((waits[1].revents & POLLIN) != 0) {
            service_read_signals(signal_fd);
        }
        if (waits[2].revents != 0) {
            log_event(LOG_WARN, "agent.let_go");
            _exit(EXIT_RUNTIME); /* the kernel ends what else is in the sandbox */
        }
        timeout = process_loop_turn();
    }
}

int main(int argc, char **argv)
{
    struct agent_env env = {.config = NULL};
    struct agent_config config = {.access_token = NULL};
    struct error err = ERROR_INIT;
    struct httpd *httpd = NULL;
    int signal_fd = -1, status = EXIT_CONFIG;
    bool standalone = false;
    char listen[32];

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        printf("usage: sandbox-agent [--standalone | --as-root -- COMMAND...]\n\n");
        config_print_help(table, TABLE_COUNT, stdout);
        return EXIT_OK;
    }
    if (argc >= 3 && strcmp(argv[1], "--as-root") == 0 && strcmp(argv[2], "--") == 0) {
        return root_exec(argv + 3);
    }
    if (argc == 2 && strcmp(argv[1], "--standalone") == 0) {
        standalone = true;
    } else if (argc != 1) {
        fprintf(stderr, "usage: sandbox-agent [--standalone | --as-root -- COMMAND...]\n");
        return EXIT_USAGE;
    }
    (void)log_init("sandbox-agent", "warn");
    if (config_load(table, TABLE_COUNT, &env, &err) != 0 ||
        (log_init("sandbox-agent", env.log_level) != 0 &&
         error_set(&err, ERR_CONFIG, "SANDBOX_AGENT_LOG_LEVEL: unknown level") != 0) ||
        load_config(&config, &env, standalone, &err) != 0) {
        goto out;
    }
    status = EXIT_RUNTIME;
    unsetenv("SANDBOX_AGENT_CONFIG");
    spawn_init();
    /* commands may run under the same user id: they must not read the token out of this process */
    (void)prctl(PR_SET_DUMPABLE, 0L, 0L, 0L, 0L);
    /* what the agent may do with files ends with it: no command inherits it */
    (void)prctl(PR_CAP_AMBIENT, (unsigned long)PR_CAP_AMBIENT_CLEAR_ALL, 0L, 0L, 0L);
    raise_nofile(&config);
    if (!standalone && agent_config_leave_marks(&config, &err) != 0) {
        log_error(LOG_WARN, "agent.no_marks", &err); /* a template whose /run is read-only */
        err = (struct error)ERROR_INIT;
    }
    /* a sandbox's memory is its commands': few arenas, and what a large request took goes back */
    (void)mallopt(M_ARENA_MAX, 4);
    (void)mallopt(M_MMAP_THRESHOLD, 256 * 1024);
    if (service_init(&signal_fd, &err) != 0 || process_loop_init(&err) != 0 ||
        watch_init(&err) != 0) {
        goto out;
    }
    snprintf(listen, sizeof(listen), "127.0.0.1:%d", (int)env.port);
    const struct httpd_options options = {
        .listen = listen,
        .threads = (int)env.threads,
        .connection_queue = 256,
        .keep_alive_ms = 30000,
        .request_timeout_ms = (int)env.stall_ms,
        .max_head_bytes = 16384,
        .handler = routes_serve,
        .bad_request = answer_bad_request,
        .arg = &config,
    };
    httpd = httpd_start(&options, &err);
    if (httpd == NULL) {
        goto out;
    }
    if (!standalone && (keep_to_self(RELAY_FD, &err) != 0 || keep_to_self(LIFELINE_FD, &err) != 0 ||
                        relay_start(RELAY_FD, &err) != 0)) {
        goto out;
    }
    log_event(LOG_INFO, "agent.ready", LOG_I("port", httpd_port(httpd)));
    run(signal_fd, standalone ? -1 : LIFELINE_FD);
    status = EXIT_OK;
    if (!standalone) {
        _exit(status); /* the relay's thread has no end of its own */
    }
out:
    if (status != EXIT_OK) {
        log_error(LOG_ERROR, "agent.start_failed", &err);
    }
    if (httpd != NULL) {
        httpd_stop(httpd);
    }
    agent_config_done(&config);
    config_free(table, TABLE_COUNT, &env);
    return status;
}
