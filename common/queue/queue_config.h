/*
 * queue_config - what the environment says of Redis, once for all programs that reach it.
 *
 * Owns: names, ranges, defaults and help of the variables. Does not own: reading them: a program
 * puts the entries into its own table (common/base/config.h). Threads: plain data.
 */
#ifndef QUEUE_QUEUE_CONFIG_H
#define QUEUE_QUEUE_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include "common/queue/queue.h"

struct queue_config {
    char *host, *username, *password; /* NULL = unset */
    char *prefix;
    int64_t port, database, max_age_ms;
};

/* Entries of a table; at_ = offset of its struct queue_config in the table's target. */
/* clang-format off */
#define QUEUE_CONFIG_ENTRIES(at_)                                                                  \
    {"REDIS_HOST", CONFIG_STRING, (at_) + offsetof(struct queue_config, host), 1, 255,             \
     "127.0.0.1", false, false, "Redis host, or the path of a unix socket"},                       \
    {"REDIS_PORT", CONFIG_INT, (at_) + offsetof(struct queue_config, port), 1, 65535, "6379",      \
     false, false, "Redis port"},                                                                  \
    {"REDIS_DATABASE", CONFIG_INT, (at_) + offsetof(struct queue_config, database), 0, 1000000,    \
     "0", false, false, "Redis database number"},                                                  \
    {"REDIS_PREFIX", CONFIG_STRING, (at_) + offsetof(struct queue_config, prefix), 1, 64,          \
     "sandbox:", false, false,                                                                     \
     "prefix of every key; each deployment in a shared Redis database needs its own"},                   \
    {"REDIS_USERNAME", CONFIG_STRING, (at_) + offsetof(struct queue_config, username), 0, 255,     \
     NULL, false, false, "Redis ACL user; empty = default user"},                                  \
    {"REDIS_PASSWORD", CONFIG_STRING, (at_) + offsetof(struct queue_config, password), 0, 4096,    \
     NULL, false, true, "Redis password; empty = none"},                                           \
    {"REDIS_CONNECTION_MAX_AGE_MS", CONFIG_INT, (at_) + offsetof(struct queue_config, max_age_ms), \
     0, 86400000, "60000", false, false,                                                           \
     "age at which a connection is made anew, so that a name that points elsewhere is followed "   \
     "though the old server still answers; 0 = never"}
/* clang-format on */

/* ERR_CONFIG: a prefix that would not be literal in a pattern. */
int queue_config_check(const struct queue_config *config, struct error *err) MUST_CHECK;
/* How that Redis is reached; borrows the strings of `config`, and `owner` (may be NULL). */
struct queue_options queue_config_options(const struct queue_config *config,
                                          struct queue_owner *owner);

#endif
