/*
 * sandbox-gateway - the HTTP API: authenticates clients, checks requests, enqueues jobs, waits for
 * their end.
 *
 * Verbs: serve (default), migrate, user, key, jobs, health, doctor. Settings: config.def.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/base/service_main.h"
#include "common/store/store_audit.h"
#include "common/store/store_events.h"
#include "gateway/cli/doctor.h"
#include "gateway/cli/health_cli.h"
#include "gateway/cli/jobs_cli.h"
#include "gateway/cli/key_cli.h"
#include "gateway/cli/user_cli.h"
#include "gateway/data/sandbox_proxy.h"
#include "gateway/gateway.h"
#include "gateway/http/router.h"

/* a request head holds a token of TOKEN_BYTES and 3 KiB of other lines */
enum {
    HEAD_MAX_BYTES = TOKEN_BYTES + 3072,
    DRAIN_STEP_MS = 50,
    DRAIN_NOTICE_MS = 200,
    DRAIN_CUT_MS = 1000,
    OWN_DESCRIPTORS = 64 /* listeners, logs, Redis, our own threads */
};

/* Waits for a stop signal, then drains. */
static void serve_until_stopped(struct httpd *httpd, struct waiters *waiters, int signal_fd,
                                int64_t drain_ms)
{
    int64_t until_ms;

    service_wait_for_stop(signal_fd);
    log_event(LOG_INFO, "gateway.draining", LOG_I("active", httpd_active(httpd)));
    httpd_drain(httpd);
    until_ms = clock_mono_ms() + drain_ms;
    /* a connection that is being accepted now still gets its 503 */
    clock_sleep_ms(DRAIN_NOTICE_MS);
    while (httpd_active(httpd) > 0 && clock_mono_ms() < until_ms) {
        service_read_signals(signal_fd);
        /* jobs continue without this process: answer their callers 202 while there is time */
        if (clock_mono_ms() >= until_ms - DRAIN_CUT_MS && !waiters_are_cut(waiters)) {
            waiters_cut(waiters);
        }
        clock_sleep_ms(DRAIN_STEP_MS);
    }
    if (httpd_active(httpd) > 0) {
        /* joining these threads would wait for their commands */
        log_event(LOG_WARN, "gateway.cut", LOG_I("active", httpd_active(httpd)));
        _exit(EXIT_OK);
    }
}

/* Raises RLIMIT_NOFILE for the configured connections. If it cannot, returns the number that fits
 * beside our own descriptors: each thread has one of CivetWeb's, and its request may hold one to a
 * provider. */
static int bound_connections(const struct gateway_config *config)
{
    const int64_t own = 2 * config->threads + config->database_pool + OWN_DESCRIPTORS;
    struct rlimit files;
    int64_t room = config->connections;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        const rlim_t wanted = (rlim_t)(config->connections + own);

        if (files.rlim_cur < wanted) {
            files.rlim_cur = files.rlim_max < wanted ? files.rlim_max : wanted;
            (void)setrlimit(RLIMIT_NOFILE, &files);
        }
        if (files.rlim_cur < wanted) {
            room = (int64_t)files.rlim_cur > 2 * own ? (int64_t)files.rlim_cur - own
                                                     : (int64_t)files.rlim_cur / 2;
            log_event(LOG_WARN, "gateway.few_descriptors", LOG_I("limit", (int64_t)files.rlim_cur),
                      LOG_I("connections", room), LOG_I("configured", config->connections));
        }
    }
    return (int)room;
}

static int serve(const struct gateway_config *config, int signal_fd, struct error *err)
{
    struct gateway gateway;
    struct httpd_options options = {.listen = config->listen,
                                    .threads = (int)config->threads,
                                    .connection_queue = (int)config->connection_queue,
                                    .keep_alive_ms = (int)config->keep_alive_ms,
                                    .request_timeout_ms = (int)config->request_timeout_ms,
                                    .max_head_bytes = HEAD_MAX_BYTES,
                                    .max_connections = bound_connections(config),
                                    .max_address_connections = (int)config->address_connections,
                                    .address_body_percent = (int)config->address_body_percent,
                                    .body_bytes_per_s = config->body_bytes_per_s,
                                    .trusted_proxies = config->trusted_proxies,
                                    .refusal_body = router_refusal_body,
                                    .handler = router_handle,
                                    .bad_request = router_bad_request,
                                    .arg = &gateway};
    struct sandbox_proxy *proxy = NULL;
    struct httpd *httpd = NULL;
    int status = -1;

    if (gateway_open(&gateway, config, err) < 0 || sandbox_proxy_start(&gateway, &proxy, err) < 0 ||
        (httpd = httpd_start(&options, err)) == NULL) {
        goto out;
    }
    log_event(LOG_INFO, "gateway.started", LOG_S("listen", config->listen),
              LOG_I("port", httpd_port(httpd)), LOG_I("sandbox_port", sandbox_proxy_port(proxy)),
              LOG_S("name", gateway.name), LOG_S("version", VERSION));
    serve_until_stopped(httpd, gateway.waiters, signal_fd, config->drain_ms);
    status = 0;
out:
    sandbox_proxy_stop(proxy);
    if (httpd != NULL) {
        httpd_stop(httpd);
    }
    gateway_close(&gateway);
    return status;
}

static int migrate(const struct gateway_config *config, struct error *err)
{
    struct store *store = gateway_store(config);
    int applied = 0;
    int status = store_migrate(store, &applied, err);

    if (status == 0) {
        status = store_event_clock_mend(store, err);
    }
    if (status == 0) {
        printf("%d migrations applied\n", applied);
    }
    store_free(store);
    return status;
}

/* Writes an operator's change to the audit log, whether it succeeded or not. */
static int audit_command(int argc, char **argv, struct store *store, int status, struct error *err)
{
    struct store_audit record = {.at_ms = clock_wall_ms(), .status = status < 0 ? 1 : 0};
    const struct store_audit *list[] = {&record};
    struct error audit_err = ERROR_INIT;

    if (argc < 4 || strcmp(argv[2], "list") == 0 || (strcmp(argv[2], "limit") == 0 && argc < 5)) {
        return status; /* the command changes nothing */
    }
    snprintf(record.action, sizeof(record.action), "%.15s %.15s", argv[1], argv[2]);
    str_copy(record.actor, sizeof(record.actor), "operator");
    snprintf(record.target, sizeof(record.target), "%.200s", argv[3]);
    str_copy(record.error, sizeof(record.error), status < 0 ? error_code_name(err->code) : "");
    for (int i = 4; i < argc; i++) {
        size_t used = strlen(record.detail);

        snprintf(record.detail + used, sizeof(record.detail) - used, "%s%s", i > 4 ? " " : "",
                 argv[i]);
    }
    record.detail[utf8_valid_prefix(record.detail, strlen(record.detail))] = '\0';
    if (store_audit_add(store, list, 1, &audit_err) < 0 && status == 0) {
        *err = audit_err;
        return error_prefix(err, "done, but not written to the audit log");
    }
    return status;
}

/* ---- verbs ---- */

static int run_serve(const struct service_call *call, struct error *err)
{
    return serve(call->config, call->signal_fd, err);
}

static int run_migrate(const struct service_call *call, struct error *err)
{
    return migrate(call->config, err);
}

static int run_health(const struct service_call *call, struct error *err)
{
    const struct gateway_config *config = call->config;

    return health_cli_run(config->listen, err);
}

static int run_doctor(const struct service_call *call, struct error *err)
{
    const struct gateway_config *config = call->config;
    struct queue_options redis = queue_config_options(&config->redis, NULL);
    struct store *store = gateway_store(config);
    int status = doctor_run(config, store, &redis, err);

    store_free(store);
    return status;
}

static int run_user(const struct service_call *call, struct error *err)
{
    struct store *store = gateway_store(call->config);
    int status = user_cli_run(call->argc - 2, call->argv + 2, store, err);

    status = audit_command(call->argc, call->argv, store, status, err);
    store_free(store);
    return status;
}

static int run_key(const struct service_call *call, struct error *err)
{
    const struct gateway_config *config = call->config;
    struct store *store = gateway_store(config);
    int status = key_cli_run(call->argc - 2, call->argv + 2, store, config->max_keys, err);

    status = audit_command(call->argc, call->argv, store, status, err);
    store_free(store);
    return status;
}

static int run_jobs(const struct service_call *call, struct error *err)
{
    const struct gateway_config *config = call->config;
    struct queue_options redis = queue_config_options(&config->redis, NULL);
    struct store *store = gateway_store(config);
    int status = jobs_cli_run(call->argc - 2, call->argv + 2, store, &redis, err);

    store_free(store);
    return status;
}

static const struct service_verb verbs[] = {
    {.name = "serve", .run = run_serve},
    {.name = "migrate", .run = run_migrate},
    {.name = "health", .run = run_health},
    {.name = "doctor", .run = run_doctor},
    {.name = "user", .run = run_user, .takes_words = true},
    {.name = "key", .run = run_key, .takes_words = true},
    {.name = "jobs", .run = run_jobs, .takes_words = true},
};

static const struct service_program program = {
    .name = "sandbox-gateway",
    .log_name = "gateway",
    .event_name = "gateway",
    .usage = "usage: sandbox-gateway [serve | migrate | health | doctor | user ... "
             "| key ... | jobs ... | --help | --version]\n",
    .about = "",
    .log_level_name = "LOG_LEVEL",
    .log_level_at = offsetof(struct gateway_config, log_level),
    .settings = &gateway_config_schema,
    .verbs = verbs,
    .verb_count = sizeof(verbs) / sizeof(verbs[0]),
};

int main(int argc, char **argv)
{
    struct gateway_config config;

    return service_main(&program, &config, argc, argv);
}
