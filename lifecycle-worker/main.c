/* sandbox-worker - its verbs, and the worker's life from start to drain. */
#include <string.h>

#include "common/base/log.h"
#include "common/base/service_main.h"
#include "common/provider/http.h"
#include "common/store/store_config.h"
#include "lifecycle-worker/config.h"
#include "lifecycle-worker/worker.h"

static int run(const struct service_call *call, struct error *err)
{
    struct worker worker;
    int status;

    if (http_global_init(err) < 0) {
        return -1;
    }
    memset(&worker, 0, sizeof(worker));
    status = worker_init(&worker, call->config, call->signal_fd, err);
    if (status == 0) {
        status = worker_run(&worker, err);
    }
    worker_done(&worker);
    return status;
}

static int health(const struct service_call *call, struct error *err)
{
    const struct worker_config *config = call->config;
    struct queue_options redis = queue_config_options(&config->redis, NULL);
    struct store_options database = store_config_options(config->database_url, "sandbox-worker", 1);
    struct error database_err = ERROR_INIT;

    if (queue_health(&redis, QUEUE_ROLE_WORKER, err) == 0) {
        return 0;
    }
    /* a Redis that is full takes no heartbeats: the database has them, too */
    if (err->code == ERR_NOT_FOUND) {
        if (store_process_health(&database, STORE_ROLE_WORKER, &database_err) == 0) {
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
    .name = "sandbox-worker",
    .log_name = "worker",
    .event_name = "worker",
    .usage = "usage: sandbox-worker [health | --help | --version]\n",
    .about = "\nTakes sandbox jobs from Redis, calls the provider, writes PostgreSQL.\n"
             "health: exit status 0 when a worker of this host is alive.\n"
             "Configured by environment variables; <NAME>_FILE reads a text value from a file:\n\n",
    .log_level_name = "LOG_LEVEL",
    .log_level_at = offsetof(struct worker_config, log_level),
    .settings = &worker_config_schema,
    .verbs = verbs,
    .verb_count = sizeof(verbs) / sizeof(verbs[0]),
};

int main(int argc, char **argv)
{
    struct worker_config config;

    return service_main(&program, &config, argc, argv);
}
