/*
 * config - the host's settings, one table of environment variables (config.c).
 */
#ifndef SANDBOX_HOST_CONFIG_H
#define SANDBOX_HOST_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/config.h"

struct host_config {
    char *log_level;
#define X(...) CONFIG_FIELD(__VA_ARGS__)
#include "deploy/sandbox-host/config.def"
#undef X
};

extern const struct config_schema host_config_schema;

#endif
