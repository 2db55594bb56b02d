/*
 * main - the reaper's edges: arguments, configuration, the loop around sweep_run(), exit status.
 *
 * Exit: 0 after a stop signal, 64 wrong arguments, 78 wrong configuration, 1 anything else.
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/service.h"
#include "common/store/store_config.h"
#include "reaper/config.h"
#include "reaper/sweep.h"

static void print_help(void)
{
    printf("usage: sandbox-reaper [health | --help | --version]\n\n"
           "Decides what is due: deadlines, lost wake-ups, provider lifetimes.\n"
           "health: exit status 0 when a reaper of this host is alive.\n"
           "Configured by environment variables; <NAME>_FILE reads a text value from a file:\n\n");
    reaper_config_help(stdout);
}

static void loop(struct sweep *sweep, int signal_fd)
{
    while (!service_draining() && sweep->refusal.code == ERR_OK) {
        int64_t wait_ms = sweep_run(sweep);
        struct pollfd poll_fd = {.fd = signal_fd, .events = POLLIN};
        if (poll(&poll_fd, 1, (int)wait_ms) > 0) {
            service_read_signals(signal_fd);
        }
    }
}

static int health(const struct reaper_config *config)
{
    struct queue_options redis = queue_config_options(&config->redis, NULL);
    struct store_options database = store_config_options(config->database_url, "sandbox-reaper", 1);
    struct error err = ERROR_INIT, store_err = ERROR_INIT;

    /* a Redis that is full takes no heartbeats */
    if (queue_health(&redis, QUEUE_ROLE_REAPER, &err) != 0 &&
        (err.code != ERR_NOT_FOUND ||
         store_process_health(&database, STORE_ROLE_REAPER, &store_err) != 0)) {
        fprintf(stderr, "sandbox-reaper: %s; %s\n", err.message, store_err.message);
        return EXIT_RUNTIME;
    }
    return EXIT_OK;
}

static int run(bool only_health, int signal_fd)
{
    struct reaper_config config;
    struct error err = ERROR_INIT;
    int status = EXIT_CONFIG;

    if (reaper_config_load(&config, &err) != 0) {
        log_error(LOG_ERROR, "reaper.config", &err);
        return EXIT_CONFIG;
    }
    if (only_health) {
        status = health(&config);
        goto out;
    }
    if (log_init("reaper", config.log_level) != 0) {
        error_set(&err, ERR_CONFIG, "LOG_LEVEL: %s is none of debug, info, warn, error",
                  config.log_level);
        log_error(LOG_ERROR, "reaper.config", &err);
        goto out;
    }
    struct sweep sweep;
    sweep_init(&sweep, &config);
    log_event(LOG_INFO, "reaper.started", LOG_S("reaper", sweep.identity),
              LOG_S("version", VERSION));
    loop(&sweep, signal_fd);
    err = sweep.refusal;
    sweep_done(&sweep);
    if (err.code != ERR_OK) {
        log_error(LOG_ERROR, "reaper.start", &err);
        goto out;
    }
    log_event(LOG_INFO, "reaper.stopped");
    status = EXIT_OK;
out:
    reaper_config_free(&config);
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
        printf("sandbox-reaper %s\n", VERSION);
        return EXIT_OK;
    }
    bool only_health = argc == 2 && strcmp(argv[1], "health") == 0;
    if (argc != 1 && !only_health) {
        fprintf(stderr, "sandbox-reaper: takes no arguments but health, --help and --version\n");
        return EXIT_USAGE;
    }
    log_init("reaper", NULL);
    if (service_init(&signal_fd, &err) != 0) {
        log_error(LOG_ERROR, "reaper.start", &err);
        return EXIT_RUNTIME;
    }
    return run(only_health, signal_fd);
}
