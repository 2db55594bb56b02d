/*
 * config - the environment variables of the lifecycle worker.
 *
 * Owns: names, ranges, defaults, and the rules between values (an attempt fits into its lease, a
 * lease ends before an entry may be taken over). Failure: ERR_CONFIG names the variable.
 */
#ifndef WORKER_CONFIG_H
#define WORKER_CONFIG_H

#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "common/queue/queue_config.h"

struct worker_config {
    char *database_url;
    struct queue_config redis;
    char *providers;
    char *start_command;
    char *log_level;
    int64_t max_in_flight;
    int64_t provider_max_in_flight;
    int64_t lease_ms;
    int64_t attempt_ms;
    int64_t min_idle_ms;
    int64_t settle_ms;
    int64_t drain_ms;
    int64_t heartbeat_ms;
    int64_t retry_base_ms;
    int64_t retry_cap_ms;
    int64_t capacity_base_ms;
    int64_t auth_hold_ms;
    int64_t max_crashes;
    int64_t breaker_failures;
    int64_t breaker_window_ms;
    int64_t breaker_open_ms;
    int64_t retry_budget_percent, retry_budget_per_s;
    int64_t failover_patience_ms, failover_unsettled_ms;
    int64_t reconcile_sweep_ms;
    int64_t reconcile_min_age_ms;
    int64_t absent_ms, absent_unproven_ms, look_again_ms;
    int64_t reconcile_confirm;
    int64_t reconcile_max_percent;
    int64_t lifetime_margin_ms;
    int64_t idle_timeout_s;
};

int worker_config_load(struct worker_config *config, struct error *err) MUST_CHECK;
void worker_config_free(struct worker_config *config);
void worker_config_help(FILE *out);

/* Time left of a lease in which nothing is begun or written any more: clocks of different hosts
 * and a slow commit must not let two holders act at once. */
int64_t worker_config_lease_margin_ms(const struct worker_config *config);

#endif
