/*
 * config - the gateway's configuration, read from the environment.
 *
 * Owns: names, ranges, defaults, and the rules between values. Failure: ERR_CONFIG names the
 * variable.
 */
#ifndef GATEWAY_CONFIG_H
#define GATEWAY_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"
#include "common/queue/queue_config.h"

struct gateway_config {
    char *listen, *sandbox_listen, *sandbox_domain, *sandbox_ports;
    int64_t max_ports; /* that one sandbox exposes */
    int64_t threads, connection_queue, keep_alive_ms, request_timeout_ms, drain_ms;
    int64_t connections, address_connections, address_body_percent, body_bytes_per_s;
    char *trusted_proxies;
    int64_t max_body_bytes, max_file_bytes, list_max_entries;
    bool strict_headers;
    char *database_url;
    int64_t database_pool;
    struct queue_config redis;
    char *jwt_algorithm, *jwt_secret, *jwt_public_key_file, *jwt_private_key_file, *jwt_issuer,
        *jwt_audience, *jwt_admin_claim, *jwt_admin_values;
    int64_t jwt_ttl_s;
    int64_t login_parallel, login_user_max, login_address_max, key_address_max, login_window_s,
        login_delay_max_s;
    char *providers, *templates;
    int64_t wait_s, idempotency_s, idempotency_claim_ms, idle_timeout_s, job_attempts,
        delete_attempts;
    int64_t mcp_port, code_server_port;
    char *services, *services_templates;
    int64_t services_wait_ms;
    int64_t command_timeout_s, command_timeout_max_s, command_output_bytes, command_tail_bytes;
    int64_t command_kept_bytes, command_retention_s;       /* of its output, in the sandbox */
    int64_t commands_kept, commands_open;                  /* of one sandbox; open 0 = no limit */
    int64_t max_sandboxes, max_paused, creates_per_minute; /* 0 = no limit */
    int64_t calls_per_second;                              /* per user; 0 = no limit */
    int64_t audit_days;                                    /* 0 = for ever */
    bool audit_commands;
    int64_t max_keys; /* API keys of one user; 0 = no limit */
    int64_t admission_depth, admission_age_ms, admission_max;
    int64_t paused_ttl_s, max_life_s;
    char *usage_prices;
    int64_t work_percent, user_share_percent, event_follower_percent, buffer_bytes;
    char *log_level;
};

int gateway_config_load(struct gateway_config *config, struct error *err) MUST_CHECK;
/* Longest JSON body that carries a file, in bytes. */
int64_t gateway_config_file_body(const struct gateway_config *config);
void gateway_config_free(struct gateway_config *config);
void gateway_config_help(FILE *out);

#endif
