/*
 * sandbox-gateway - the door: accepts what clients ask, checks it, enqueues it, waits for its end.
 *
 * Subcommands: serve (default), migrate, user, jobs, health, doctor. Configuration: environment
 * (config.c).
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "gateway/doctor.h"
#include "gateway/gateway.h"
#include "gateway/health_cli.h"
#include "gateway/jobs_cli.h"
#include "gateway/router.h"
#include "gateway/user_cli.h"

enum { HEAD_MAX_BYTES = 16384, DRAIN_STEP_MS = 50, DRAIN_NOTICE_MS = 200, DRAIN_CUT_MS = 1000 };

static const char usage[] = "usage: sandbox-gateway [serve | migrate | health | doctor | user ... "
                            "| jobs ... | --help | --version]\n";

static struct store *open_store(const struct gateway_config *config)
{
    const struct store_options options = {.conninfo = config->database_url,
                                          .application = "sandbox-gateway",
                                          .pool_size = (int)config->database_pool,
                                          .connect_timeout_s = 3,
                                          .statement_timeout_ms = 5000,
                                          .pool_wait_ms = 2000};

    return store_new(&options);
}

static struct queue_options queue_options(const struct gateway_config *config)
{
    return (struct queue_options){.host = config->redis_host,
                                  .port = (int)config->redis_port,
                                  .database = (int)config->redis_database,
                                  .username = config->redis_username,
                                  .password = config->redis_password,
                                  .connect_timeout_ms = 1000,
                                  .command_timeout_ms = 2000};
}

static struct auth *open_auth(const struct gateway_config *config, struct store *store,
                              struct error *err)
{
    const struct auth_options options = {.algorithm = config->jwt_algorithm,
                                         .secret = config->jwt_secret,
                                         .public_key_file = config->jwt_public_key_file,
                                         .private_key_file = config->jwt_private_key_file,
                                         .issuer = config->jwt_issuer,
                                         .audience = config->jwt_audience,
                                         .token_ttl_s = (int)config->jwt_ttl_s,
                                         .login_max_parallel = (int)config->login_parallel,
                                         .login_user_max = (int)config->login_user_max,
                                         .login_address_max = (int)config->login_address_max,
                                         .login_window_s = (int)config->login_window_s};

    return auth_new(&options, store, err);
}

/* Waits for a stop signal, then lets what runs come to its end. */
static void serve_until_stopped(struct httpd *httpd, struct waiters *waiters, int signal_fd,
                                int64_t drain_ms)
{
    struct pollfd stop = {.fd = signal_fd, .events = POLLIN};
    int64_t until_ms;

    while (!service_draining()) {
        if (poll(&stop, 1, -1) > 0) {
            service_read_signals(signal_fd);
        }
    }
    log_event(LOG_INFO, "gateway.draining", LOG_I("active", httpd_active(httpd)));
    httpd_drain(httpd);
    until_ms = clock_mono_ms() + drain_ms;
    /* a connection that is just being made still gets its 503 */
    clock_sleep_ms(DRAIN_NOTICE_MS);
    while (httpd_active(httpd) > 0 && clock_mono_ms() < until_ms) {
        service_read_signals(signal_fd);
        /* jobs go on without us: who waits for one gets its 202 while there is time to send it */
        if (clock_mono_ms() >= until_ms - DRAIN_CUT_MS && !waiters_are_cut(waiters)) {
            waiters_cut(waiters);
        }
        clock_sleep_ms(DRAIN_STEP_MS);
    }
    if (httpd_active(httpd) > 0) {
        /* joining these threads would take as long as their commands */
        log_event(LOG_WARN, "gateway.cut", LOG_I("active", httpd_active(httpd)));
        _exit(EXIT_OK);
    }
}

static int serve(const struct gateway_config *config, int signal_fd, struct error *err)
{
    struct queue_options redis = queue_options(config);
    struct gateway gateway = {.config = config};
    struct httpd_options options = {.listen = config->listen,
                                    .threads = (int)config->threads,
                                    .connection_queue = (int)config->connection_queue,
                                    .keep_alive_ms = (int)config->keep_alive_ms,
                                    .request_timeout_ms = (int)config->request_timeout_ms,
                                    .max_head_bytes = HEAD_MAX_BYTES,
                                    .refusal_body = router_refusal_body,
                                    .handler = router_handle,
                                    .bad_request = router_bad_request,
                                    .arg = &gateway};
    struct httpd *httpd = NULL;
    int status = -1;

    gateway.buffers.max_bytes = config->buffer_bytes;
    gateway.max_work = (int)(config->threads * config->work_percent / 100);
    service_identity(gateway.name);
    router_init();
    gateway.store = open_store(config);
    gateway.activity = activity_new(gateway.store);
    gateway.clients = client_pool_new();
    gateway.fleet = fleet_new(&redis);
    if (http_global_init(err) < 0 ||
        (gateway.providers = provider_set_open(config->providers, err)) == NULL ||
        (gateway.placement = placement_open(config->templates, gateway.providers, err)) == NULL ||
        (gateway.auth = open_auth(config, gateway.store, err)) == NULL ||
        (gateway.enqueuer = enqueuer_start(&redis, err)) == NULL ||
        (gateway.waiters = waiters_start(&redis, gateway.store, gateway.name, err)) == NULL ||
        (gateway.ticker = ticker_start(&gateway, &redis, err)) == NULL ||
        (httpd = httpd_start(&options, err)) == NULL) {
        goto out;
    }
    log_event(LOG_INFO, "gateway.started", LOG_S("listen", config->listen),
              LOG_I("port", httpd_port(httpd)), LOG_S("name", gateway.name),
              LOG_S("version", VERSION));
    serve_until_stopped(httpd, gateway.waiters, signal_fd, config->drain_ms);
    status = 0;
out:
    if (httpd != NULL) {
        httpd_stop(httpd);
    }
    ticker_stop(gateway.ticker);
    waiters_stop(gateway.waiters);
    enqueuer_stop(gateway.enqueuer);
    auth_free(gateway.auth);
    placement_close(gateway.placement);
    provider_set_close(gateway.providers);
    fleet_free(gateway.fleet);
    client_pool_free(gateway.clients);
    activity_free(gateway.activity);
    store_free(gateway.store);
    return status;
}

static int migrate(const struct gateway_config *config, struct error *err)
{
    struct store *store = open_store(config);
    int applied = 0;
    int status = store_migrate(store, &applied, err);

    if (status == 0) {
        printf("%d migrations applied\n", applied);
    }
    store_free(store);
    return status;
}

static int run(int argc, char **argv, const struct gateway_config *config, int signal_fd,
               struct error *err)
{
    const char *verb = argc > 1 ? argv[1] : "serve";
    struct queue_options redis = queue_options(config);
    struct store *store;
    int status;

    if (strcmp(verb, "serve") == 0) {
        return serve(config, signal_fd, err);
    }
    if (strcmp(verb, "migrate") == 0) {
        return migrate(config, err);
    }
    if (strcmp(verb, "health") == 0) {
        return health_cli_run(config->listen, err);
    }
    store = open_store(config);
    if (strcmp(verb, "user") == 0) {
        status = user_cli_run(argc - 2, argv + 2, store, err);
    } else if (strcmp(verb, "jobs") == 0) {
        status = jobs_cli_run(argc - 2, argv + 2, store, &redis, err);
    } else if (strcmp(verb, "doctor") == 0) {
        status = doctor_run(config, store, &redis, err);
    } else {
        status = error_set(err, ERR_INVALID, "unknown command %.40s\n%s", verb, usage);
    }
    store_free(store);
    return status;
}

int main(int argc, char **argv)
{
    struct gateway_config config;
    struct error err = ERROR_INIT;
    int signal_fd, status;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        gateway_config_help(stdout);
        return EXIT_OK;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("sandbox-gateway " VERSION);
        return EXIT_OK;
    }
    if (gateway_config_load(&config, &err) < 0) {
        fprintf(stderr, "sandbox-gateway: %s\n", err.message);
        return EXIT_CONFIG;
    }
    status = log_init("gateway", config.log_level) < 0
                 ? error_set(&err, ERR_CONFIG, "LOG_LEVEL is none of debug info warn error")
                 : service_init(&signal_fd, &err);
    if (status == 0) {
        status = run(argc, argv, &config, signal_fd, &err);
    }
    if (status < 0) {
        fprintf(stderr, "sandbox-gateway: %s\n", err.message);
    }
    gateway_config_free(&config);
    if (status == 0) {
        return EXIT_OK;
    }
    return err.code == ERR_CONFIG    ? EXIT_CONFIG
           : err.code == ERR_INVALID ? EXIT_USAGE
                                     : EXIT_RUNTIME;
}
