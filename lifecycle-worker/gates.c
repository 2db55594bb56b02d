/* gates - see gates.h. */
#include "lifecycle-worker/gates.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "lifecycle-worker/dependencies.h"

void gates_init(struct worker *worker)
{
    const struct worker_config *config = worker->config;
    worker->gate_count = (int)provider_set_count(worker->providers);
    int64_t limit = config->provider_max_in_flight > 0
                        ? config->provider_max_in_flight
                        : provider_set_share(worker->providers, (int)config->max_in_flight);
    for (int i = 0; i < worker->gate_count; i++) {
        gate_init(&worker->gates[i], provider_set_at(worker->providers, (size_t)i), (int)limit,
                  &worker->gate_policy, clock_mono_ms());
    }
}

struct gate *gates_find(struct worker *worker, const char *provider)
{
    for (int i = 0; i < worker->gate_count; i++) {
        if (strcmp(worker->gates[i].name, provider) == 0) {
            return &worker->gates[i];
        }
    }
    return NULL;
}

const char *gates_label(struct worker *worker, const char *provider)
{
    const struct gate *gate = gates_find(worker, provider);
    return gate != NULL ? gate->provider->label : provider;
}

void gates_hold(struct worker *worker, const char *provider, int64_t hold_ms, enum outcome outcome)
{
    struct gate *gate = gates_find(worker, provider);
    if (gate == NULL) {
        return;
    }
    int64_t until = clock_mono_ms() + hold_ms;
    if (until <= gate->hold_until_ms) {
        return;
    }
    gate->hold_until_ms = until;
    gate->counts.holds++;
    log_event(LOG_WARN, "provider.hold", LOG_S("provider", gate->provider->label),
              LOG_S("outcome", outcome_name(outcome)), LOG_I("hold_ms", hold_ms));
    struct error err = ERROR_INIT;
    if (queue_hold_set(worker->queue, provider, hold_ms, outcome_name(outcome), &err) != 0) {
        dependencies_queue_failed(worker, &err); /* the other workers learn it from the provider */
    }
}

void gates_read_holds(struct worker *worker, int64_t now_ms, int64_t max_age_ms)
{
    if (now_ms - worker->holds_read_ms < max_age_ms || !worker->queue_up) {
        return;
    }
    worker->holds_read_ms = now_ms;
    for (int i = 0; i < worker->gate_count; i++) {
        struct gate *gate = &worker->gates[i];
        struct error err = ERROR_INIT;
        int64_t left_ms = 0;
        char why[QUEUE_HOLD_BYTES];
        if (queue_hold_get(worker->queue, gate->name, &left_ms, why, &err) != 0) {
            dependencies_queue_failed(worker, &err);
            return;
        }
        /* the shared hold rules: an operator may delete it to go on at once */
        gate_hold(gate, now_ms, left_ms, strcmp(why, outcome_name(OUTCOME_AUTH)) == 0);
    }
}
