/*
 * config - see config.h.
 */
#include "lifecycle-worker/config.h"

#include <stddef.h>

#include "common/base/config.h"
#include "common/base/log.h"
#include "common/provider/provider.h"
#include "common/store/store_config.h"

#define AT(field) offsetof(struct worker_config, field)

static const struct config_entry table[] = {
    STORE_CONFIG_ENTRY(AT(database_url)),
    QUEUE_CONFIG_ENTRIES(AT(redis)),
    {"SANDBOX_PROVIDERS", CONFIG_STRING, AT(providers), 1, 255, "e2b", false, false,
     "comma list of the providers this worker calls"},
    {"SANDBOX_START_COMMAND", CONFIG_STRING, AT(start_command), 1, 65536, NULL, false, false,
     "shell command started in the background of every sandbox that comes up, for templates that "
     "start nothing; must bear being started twice (default: none)"},
    LOG_CONFIG_ENTRY(AT(log_level)),
    {"WORKER_MAX_IN_FLIGHT", CONFIG_INT, AT(max_in_flight), 1, 2048, "256", false, false,
     "jobs worked on at once; at the limit nothing is read"},
    {"WORKER_PROVIDER_MAX_IN_FLIGHT", CONFIG_INT, AT(provider_max_in_flight), 0, 2048, "0", false,
     false, "of these, calls to one provider; 0 = all, or 3/4 with several providers"},
    {"WORKER_LEASE_MS", CONFIG_INT, AT(lease_ms), 1000, 3600000, "40000", false, false,
     "how long a claimed job is ours"},
    {"WORKER_ATTEMPT_MS", CONFIG_INT, AT(attempt_ms), 500, 3600000, "25000", false, false,
     "bound of one attempt's provider calls; below WORKER_LEASE_MS"},
    {"WORKER_MIN_IDLE_MS", CONFIG_INT, AT(min_idle_ms), 1000, 7200000, "45000", false, false,
     "age at which another worker's entry is taken over; above WORKER_LEASE_MS"},
    {"SANDBOX_SETTLE_MS", CONFIG_INT, AT(settle_ms), 0, 3600000, "42000", false, false,
     "how long after a create was sent an empty lookup at the provider proves nothing: its "
     "request's bound, and 22 s for an effect that comes after we gave it up"},
    {"WORKER_DRAIN_MS", CONFIG_INT, AT(drain_ms), 0, 3600000, "28000", false, false,
     "time for work in flight after SIGTERM; then jobs are given back"},
    {"WORKER_HEARTBEAT_MS", CONFIG_INT, AT(heartbeat_ms), 100, 600000, "3000", false, false,
     "interval of the heartbeats; without one for three of them a worker counts as dead, which is "
     "to be below WORKER_LEASE_MS"},
    {"WORKER_RETRY_BASE_MS", CONFIG_INT, AT(retry_base_ms), 1, 3600000, "1000", false, false,
     "first retry delay, doubled each time, with jitter"},
    {"WORKER_RETRY_CAP_MS", CONFIG_INT, AT(retry_cap_ms), 1, 86400000, "60000", false, false,
     "longest retry delay"},
    {"WORKER_CAPACITY_BASE_MS", CONFIG_INT, AT(capacity_base_ms), 1, 3600000, "15000", false, false,
     "first retry delay when the provider is full"},
    {"WORKER_AUTH_HOLD_MS", CONFIG_INT, AT(auth_hold_ms), 1, 3600000, "30000", false, false,
     "pause of a provider's queue when it refuses our key"},
    {"WORKER_MAX_CRASHES", CONFIG_INT, AT(max_crashes), 1, 100, "3", false, false,
     "workers that die of one job in a row before it is dead; a delete is only tried less often"},
    {"WORKER_BREAKER_FAILURES", CONFIG_INT, AT(breaker_failures), 1, 100000, "5", false, false,
     "failures in a row that stop calls to a provider"},
    {"WORKER_BREAKER_WINDOW_MS", CONFIG_INT, AT(breaker_window_ms), 1, 3600000, "10000", false,
     false, "within which these failures fall"},
    {"WORKER_BREAKER_OPEN_MS", CONFIG_INT, AT(breaker_open_ms), 1, 3600000, "15000", false, false,
     "how long calls stop before one is tried"},
    {"WORKER_RETRY_BUDGET_PERCENT", CONFIG_INT, AT(retry_budget_percent), 0, 10000, "20", false,
     false, "retries allowed to a provider for each hundred first attempts"},
    {"WORKER_RETRY_BUDGET_PER_SECOND", CONFIG_INT, AT(retry_budget_per_s), 1, 100000, "10", false,
     false, "retries allowed to a provider in any case; unspent ones are kept for ten seconds"},
    {"SANDBOX_FAILOVER_PATIENCE_MS", CONFIG_INT, AT(failover_patience_ms), 0, 86400000, "10000",
     false, false, "how long a create waits for a provider's rate limit before it goes to another"},
    {"SANDBOX_FAILOVER_UNSETTLED_MS", CONFIG_INT, AT(failover_unsettled_ms), 0, 86400000, "30000",
     false, false,
     "a create whose provider has told of no create for so long, nor of this one, goes elsewhere; "
     "0 = never"},
    {"WORKER_RECONCILE_SWEEP_MS", CONFIG_INT, AT(reconcile_sweep_ms), 1000, 3600000, "120000",
     false, false,
     "a sweep ends when the list of a provider's sandboxes shows no new one for so long"},
    {"WORKER_RECONCILE_MIN_AGE_MS", CONFIG_INT, AT(reconcile_min_age_ms), 0, 86400000, "300000",
     false, false,
     "a sandbox that no row names is killed this long after its row ended, or, without a row, "
     "after "
     "the first sweep that saw it"},
    {"RECONCILE_ABSENT_MS", CONFIG_INT, AT(absent_ms), 0, 86400000, "300000", false, false,
     "a sandbox that the provider does not know, nor lists, ends as lost this long after the first "
     "look, when the list holds an older sandbox of ours"},
    {"RECONCILE_ABSENT_UNPROVEN_MS", CONFIG_INT, AT(absent_unproven_ms), 0, 604800000, "3600000",
     false, false, "the same when nothing proves that key and URL are right"},
    {"RECONCILE_LOOK_AGAIN_MS", CONFIG_INT, AT(look_again_ms), 1, 60000, "3000", false, false,
     "after a provider's first not-found, the time until the same job looks again"},
    {"WORKER_RECONCILE_CONFIRM", CONFIG_INT, AT(reconcile_confirm), 1, 100, "2", false, false,
     "complete sweeps in a row that must find the same before anything is done"},
    {"WORKER_RECONCILE_MAX_PERCENT", CONFIG_INT, AT(reconcile_max_percent), 1, 100, "20", false,
     false,
     "of a provider's sandboxes, how many one sweep may kill or look for because they are absent"},
    {"SANDBOX_LIFETIME_MARGIN_MS", CONFIG_INT, AT(lifetime_margin_ms), 0, 3600000, "60000", false,
     false, "a deadline is kept this long before the provider's own end"},
    {"SANDBOX_TIMEOUT_SECONDS", CONFIG_INT, AT(idle_timeout_s), 1, 2592000, "3000", false, false,
     "idle timeout of a sandbox resumed after its own deadline has passed, seconds"},
};
enum { TABLE_COUNT = sizeof(table) / sizeof(table[0]) };

int64_t worker_config_lease_margin_ms(const struct worker_config *config)
{
    int64_t spare = config->lease_ms - config->attempt_ms;
    return spare / 3 < 3000 ? spare / 3 : 3000;
}

int worker_config_load(struct worker_config *config, struct error *err)
{
    if (config_load(table, TABLE_COUNT, config, err) != 0) {
        return -1;
    }
    int status = queue_config_check(&config->redis, err);
    if (status == 0 && config->attempt_ms >= config->lease_ms) {
        status = error_set(err, ERR_CONFIG,
                           "WORKER_ATTEMPT_MS (%lld) must be below WORKER_LEASE_MS (%lld)",
                           (long long)config->attempt_ms, (long long)config->lease_ms);
    } else if (config->lease_ms >= config->min_idle_ms) {
        status = error_set(err, ERR_CONFIG,
                           "WORKER_LEASE_MS (%lld) must be below WORKER_MIN_IDLE_MS (%lld)",
                           (long long)config->lease_ms, (long long)config->min_idle_ms);
    } else if (3 * config->heartbeat_ms >= config->lease_ms) {
        status = error_set(err, ERR_CONFIG,
                           "three times WORKER_HEARTBEAT_MS (%lld) must be below WORKER_LEASE_MS "
                           "(%lld), or a crash could not be told from a late lease",
                           (long long)config->heartbeat_ms, (long long)config->lease_ms);
    } else if (config->absent_ms > config->absent_unproven_ms) {
        status = error_set(err, ERR_CONFIG,
                           "RECONCILE_ABSENT_MS (%lld) must not exceed "
                           "RECONCILE_ABSENT_UNPROVEN_MS (%lld)",
                           (long long)config->absent_ms, (long long)config->absent_unproven_ms);
    } else if (config->retry_base_ms > config->retry_cap_ms) {
        status = error_set(err, ERR_CONFIG,
                           "WORKER_RETRY_BASE_MS (%lld) must not exceed WORKER_RETRY_CAP_MS (%lld)",
                           (long long)config->retry_base_ms, (long long)config->retry_cap_ms);
    } else if (config->provider_max_in_flight > config->max_in_flight) {
        status = error_set(err, ERR_CONFIG,
                           "WORKER_PROVIDER_MAX_IN_FLIGHT must not exceed WORKER_MAX_IN_FLIGHT");
    }
    if (status != 0) {
        worker_config_free(config);
    }
    return status;
}

void worker_config_free(struct worker_config *config)
{
    config_free(table, TABLE_COUNT, config);
}

void worker_config_help(FILE *out)
{
    config_print_help(table, TABLE_COUNT, out);
    provider_config_help(out);
}
