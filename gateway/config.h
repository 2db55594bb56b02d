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

#include "common/base/config.h"
#include "common/queue/queue_config.h"

struct gateway_config {
    char *database_url;
    struct queue_config redis;
    char *log_level;
#define X(...) CONFIG_FIELD(__VA_ARGS__)
#include "gateway/config.def"
#undef X
};

extern const struct config_schema gateway_config_schema;
/* Longest JSON body that carries a file, in bytes. */
int64_t gateway_config_file_body(const struct gateway_config *config);

#endif
