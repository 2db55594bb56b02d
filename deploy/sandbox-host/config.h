/*
 * config - the host's settings, one table of environment variables (config.c).
 */
#ifndef SANDBOX_HOST_CONFIG_H
#define SANDBOX_HOST_CONFIG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"

struct host_config {
    char *listen, *api_key, *domain, *state_dir, *agent, *templates, *log_level;
    char *disk, *egress_deny, *egress_allow, *nameservers, *without, *base_aliases;
    char *tls_certificate, *tls_key;
    bool any_template, internet;
    int64_t max_sandboxes, max_connections, max_timeout_s, start_timeout_ms, head_timeout_ms;
    int64_t idle_timeout_ms, stall_timeout_ms;
    int64_t disk_bytes, disk_reserve_bytes, adopt_s;
    int64_t builds, build_timeout_s, upload_bytes;
    int64_t memory_bytes, processes, open_files, cpu_percent, tmp_bytes, first_uid;
};

int host_config_load(struct host_config *config, struct error *err) MUST_CHECK;
void host_config_free(struct host_config *config);
void host_config_help(FILE *out);

#endif
