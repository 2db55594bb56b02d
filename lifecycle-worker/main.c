/*
 * main - the lifecycle worker's edges: arguments, configuration, start, drain, exit status.
 *
 * Exit: 0 after a drain, 64 wrong arguments, 78 wrong configuration, 1 anything else.
 */
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/service.h"
#include "common/provider/http.h"
#include "common/store/store_config.h"
#include "lifecycle-worker/config.h"
#include "lifecycle-worker/worker.h"

static void print_help(void)
{
    printf("usage: sandbox-worker [health | --help | --version]\n\n"
           "Takes sandbox jobs from Redis, calls the provider, writes PostgreSQL.\n"
           "health: exit status 0 when a worker of this host is alive.\n"
           "Configured by environment variables; <NAME>_FILE reads a text value from a file:\n\n");
    worker_config_help(stdout);
}

static int health(const struct worker_config *config)
{
    struct queue_options redis = queue_config_options(&config->redis, NULL);
    struct store_options database = store_config_options(config->database_url, "sandbox-worker", 1);
    struct error err = ERROR_INIT, store_err = ERROR_INIT;

    /* a Redis that is full takes no heartbeats */
    if (queue_health(&redis, QUEUE_ROLE_WORKER, &err) != 0 &&
        (err.code != ERR_NOT_FOUND ||
         store_process_health(&database, STORE_ROLE_WORKER, &store_err) != 0)) {
        fprintf(stderr, "sandbox-worker: %s; %s\n", err.message, store_err.message);
        return EXIT_RUNTIME;
    }
    return EXIT_OK;
}

static int run(bool only_health, int signal_fd)
{
    struct worker_config config;
    struct worker worker;
    struct error err = ERROR_INIT;
    int status = EXIT_CONFIG;

    if (worker_config_load(&config, &err) != 0) {
        log_error(LOG_ERROR, "worker.config", &err);
        return EXIT_CONFIG;
    }
    if (only_health) {
        status = health(&config);
        worker_config_free(&config);
        return status;
    }
    memset(&worker, 0, sizeof(worker));
    if (log_init("worker", config.log_level) != 0) {
        error_set(&err, ERR_CONFIG, "LOG_LEVEL: %s is none of debug, info, warn, error",
                  config.log_level);
        goto out;
    }
    if (http_global_init(&err) != 0) {
        status = EXIT_RUNTIME;
        goto out;
    }
    if (worker_init(&worker, &config, signal_fd, &err) != 0) {
        goto out;
    }
    status = worker_run(&worker, &err) == 0 ? EXIT_OK : EXIT_CONFIG;
out:
    if (status != EXIT_OK) {
        log_error(LOG_ERROR, "worker.start", &err);
    }
    worker_done(&worker);
    worker_config_free(&config);
    return status;
}

int main(int argc, char **argv)
{
    struct error err = ERROR_INIT;
    int signal_fd;

    if (argc == 2 && strcmp(argv[1], "--help") == 0) {
        print_help();
        return EXIT_OK;
    }
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("sandbox-worker %s\n", VERSION);
        return EXIT_OK;
    }
    bool only_health = argc == 2 && strcmp(argv[1], "health") == 0;
    if (argc != 1 && !only_health) {
        fprintf(stderr, "sandbox-worker: takes no arguments but health, --help and --version\n");
        return EXIT_USAGE;
    }
    log_init("worker", NULL);
    if (service_init(&signal_fd, &err) != 0) {
        log_error(LOG_ERROR, "worker.start", &err);
        return EXIT_RUNTIME;
    }
    return run(only_health, signal_fd);
}
