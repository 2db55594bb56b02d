/*
 * link - one Redis connection with its rules, and commands built as argument vectors.
 *
 * Owns: connect, authenticate, select, time limits, the reconnect pause, reading replies, and
 * turning error replies into struct error. Private to common/queue.
 * Threads: one at a time. Failure: after ERR_QUEUE_DOWN the connection is gone; a later
 * queue_link_open() makes a fresh one (a hiredis context is unusable after any error, and
 * redisReconnect() would drop the read timeout).
 */
#ifndef QUEUE_LINK_H
#define QUEUE_LINK_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/queue/keys.h"
#include "common/queue/queue.h"

#define QUEUE_ARG_NUMBERS 8

/* The keys of one prefix that have one name; the others are made by queue_key(). */
struct queue_keys {
    char prefix[QUEUE_PREFIX_BYTES];
    char streams[JOB_OP_COUNT][QUEUE_KEY_BYTES];
    char dead[QUEUE_KEY_BYTES], mark[QUEUE_KEY_BYTES];
};
void queue_keys_init(struct queue_keys *keys, const char *prefix /* NULL = the default */);
/* prefix + kind + name. Returns ret. */
const char *queue_key(const struct queue_keys *keys, const char *kind, const char *name,
                      char ret[QUEUE_KEY_BYTES]);

struct queue_link {
    struct queue_keys keys;
    struct queue_owner *owner; /* borrowed; NULL = the owner is not checked */
    char *host;
    int port;
    int database;
    char *username;
    char *password;
    int connect_timeout_ms;
    int command_timeout_ms;
    int64_t max_age_ms;
    redisContext *context;   /* NULL = not connected */
    int64_t next_connect_ms; /* monotonic, as is the following */
    int64_t aged_ms;         /* when the connection is too old */
};

void queue_link_init(struct queue_link *link, const struct queue_options *options);
void queue_link_done(struct queue_link *link);
void queue_link_drop(struct queue_link *link);
/* Call it between commands. Connects when there is no connection, or when the connection is
 * older than max_age_ms; an old connection stays in use while a new one fails. *ret_fresh (may
 * be NULL) = a new connection was made. */
int queue_link_open(struct queue_link *link, bool *ret_fresh, struct error *err) MUST_CHECK;

/* A command under construction; text is borrowed until queue_link_append(). */
struct queue_args {
    const char **argv;
    size_t *lengths;
    int count, capacity;
    char numbers[QUEUE_ARG_NUMBERS][24];
    int number_count;
};
void queue_args_init(struct queue_args *args);
void queue_args_done(struct queue_args *args);
void queue_args_reset(struct queue_args *args);
void queue_args_text(struct queue_args *args, const char *text);
void queue_args_int(struct queue_args *args, int64_t number);
/* Field and value; an empty value is sent as "". */
void queue_args_pair(struct queue_args *args, const char *field, const char *value);

/* Buffers the command for sending; copies it, so args may be reset at once. */
void queue_link_append(struct queue_link *link, const struct queue_args *args);
/* Sends what is buffered and reads the next reply, an error reply included. The caller frees. */
int queue_link_read(struct queue_link *link, redisReply **ret, struct error *err) MUST_CHECK;
/* As queue_link_read, but an error reply is an error: ERR_NOT_FOUND for NOGROUP and UNBLOCKED,
 * ERR_LIMIT for what a Redis refuses that is full or whose key is of another type (the connection
 * is kept), else ERR_QUEUE_DOWN and the connection is dropped. */
int queue_link_expect(struct queue_link *link, redisReply **ret, struct error *err) MUST_CHECK;
/* Reads `count` replies and forgets them; the first error reply is the error, after all of them
 * were read. */
int queue_link_skip(struct queue_link *link, size_t count, struct error *err) MUST_CHECK;
/* One command, one reply. */
int queue_link_call(struct queue_link *link, const struct queue_args *args, redisReply **ret,
                    struct error *err) MUST_CHECK;
/* Translates an error reply into `err`. Returns -1. */
int queue_reply_error(const redisReply *reply, struct error *err);
/* True when the connection is still usable after this error. */
bool queue_link_kept(const struct error *err);
bool queue_reply_begins(const redisReply *reply, const char *prefix);

/* XADD of a wake-up to the stream of its op. */
void queue_args_wakeup(struct queue_args *args, const struct queue_keys *keys,
                       const struct wakeup *wakeup);
/* The op of a stream key, or -1. */
int queue_stream_op(const struct queue_keys *keys, const redisReply *key);
/* Checks the value of the mark. ERR_CONFIG names both deployments when it is another
 * deployment's id. Old versions wrote a value without an id; it matches every deployment. */
int queue_owner_check(struct queue_owner *owner, const char *mark, const char *prefix,
                      struct error *err) MUST_CHECK;
/* Reads one [id, [field, value ...]] of the stream of `op`. -1 when it is not even an entry. A
 * deleted entry (fields nil) and a malformed one have wakeup.job_id "". */
int queue_entry_parse(const redisReply *reply, enum job_op op, struct queue_entry *ret);

#endif
