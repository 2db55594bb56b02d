/* queue_config - see queue_config.h. */
#include "common/queue/queue_config.h"

#include <string.h>

enum { CONNECT_TIMEOUT_MS = 1000, COMMAND_TIMEOUT_MS = 2000 };

int queue_config_check(const struct queue_config *config, struct error *err)
{
    static const char allowed[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:._-{}";
    return config->prefix[strspn(config->prefix, allowed)] == '\0'
               ? 0
               : error_set(err, ERR_CONFIG,
                           "REDIS_PREFIX may have letters, digits and any of : . _ - { } only");
}

struct queue_options queue_config_options(const struct queue_config *config,
                                          struct queue_owner *owner)
{
    return (struct queue_options){
        .prefix = config->prefix,
        .owner = owner,
        .host = config->host,
        .port = (int)config->port,
        .database = (int)config->database,
        .username = config->username,
        .password = config->password,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .command_timeout_ms = COMMAND_TIMEOUT_MS,
        .max_age_ms = config->max_age_ms,
    };
}
