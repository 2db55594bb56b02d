/* sandbox-reaper - its verbs, and the loop around sweep_run(). */
#include <poll.h>

#include "common/base/log.h"
#include "common/base/service.h"
#include "common/base/service_main.h"
#include "common/store/store_config.h"
#include "reaper/config.h"
#include "reaper/sweep.h"

static int run(const struct service_call *call, struct error *err)
{
    struct pollfd stop = {.fd = call->signal_fd, .events = POLLIN};
    struct sweep sweep;

    sweep_init(&sweep, call->config);
    log_event(LOG_INFO, "reaper.started", LOG_S("reaper", sweep.identity),
              LOG_S("version", VERSION));
    while (!service_draining() && sweep.refusal.code == ERR_OK) {
        int64_t wait_ms = sweep_run(&sweep);

        if (poll(&stop, 1, (int)wait_ms) > 0) {
            service_read_signals(call->signal_fd);
        }
    }
    *err = sweep.refusal;
    sweep_done(&sweep);
    if (err->code != ERR_OK) {
        return -1;
    }
    log_event(LOG_INFO, "reaper.stopped");
    return 0;
}

static int health(const struct service_call *call, struct error *err)
{
    const struct reaper_config *config = call->config;
    struct queue_options redis = queue_config_options(&config->redis, NULL);
    struct store_options database = store_config_options(config->database_url, "sandbox-reaper", 1);
    struct error database_err = ERROR_INIT;

    if (queue_health(&redis, QUEUE_ROLE_REAPER, err) == 0) {
        return 0;
    }
    /* a Redis that is full takes no heartbeats: the database has them, too */
    if (err->code == ERR_NOT_FOUND) {
        if (store_process_health(&database, STORE_ROLE_REAPER, &database_err) == 0) {
            return 0;
        }
        error_prefix(&database_err, "%s", err->message);
        *err = database_err;
    }
    return -1;
}

static const struct service_verb verbs[] = {
    {.name = NULL, .run = run, .logs_failure = true},
    {.name = "health", .run = health},
};

static const struct service_program program = {
    .name = "sandbox-reaper",
    .log_name = "reaper",
    .event_name = "reaper",
    .usage = "usage: sandbox-reaper [health | --help | --version]\n",
    .about = "\nDecides what is due: deadlines, lost wake-ups, provider lifetimes.\n"
             "health: exit status 0 when a reaper of this host is alive.\n"
             "Configured by environment variables; <NAME>_FILE reads a text value from a file:\n\n",
    .log_level_name = "LOG_LEVEL",
    .log_level_at = offsetof(struct reaper_config, log_level),
    .settings = &reaper_config_schema,
    .verbs = verbs,
    .verb_count = sizeof(verbs) / sizeof(verbs[0]),
};

int main(int argc, char **argv)
{
    struct reaper_config config;

    return service_main(&program, &config, argc, argv);
}
