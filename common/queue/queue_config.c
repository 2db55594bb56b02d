/* queue_config - see queue_config.h. */
#include "common/queue/queue_config.h"

enum { CONNECT_TIMEOUT_MS = 1000, COMMAND_TIMEOUT_MS = 2000 };

struct queue_options queue_config_options(const struct queue_config *config)
{
    return (struct queue_options){
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
