/*
 * queue - the commands: wake-ups, settling, holds, heartbeats, takeover.
 *
 * Owns: what each command looks like on the wire. Does not own: connections (link.c), the parked
 * reader and the replies' reader (reader.c), what an operator asks (facts.c). Threads: a struct
 * queue belongs to one at a time. Failure: ERR_QUEUE_DOWN; every function may be repeated.
 */
#include "common/queue/queue.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/queue/keys.h"
#include "common/queue/queue_internal.h"

#define PIPELINE_MAX 512 /* commands sent before their replies are read */
#define DEAD_MAXLEN  "100000"

struct queue *queue_new(const struct queue_options *options)
{
    struct queue *queue = xcalloc(1, sizeof(*queue));
    queue_link_init(&queue->link, options);
    queue_args_init(&queue->args);
    return queue;
}

void queue_free(struct queue *queue)
{
    if (queue != NULL) {
        queue_link_done(&queue->link);
        queue_args_done(&queue->args);
        free(queue);
    }
}

struct queue_args *queue_begin(struct queue *queue, const char *command)
{
    queue_args_reset(&queue->args);
    queue_args_text(&queue->args, command);
    return &queue->args;
}

/* Sends one command whose reply says nothing beyond success. */
static int call_simple(struct queue *queue, struct error *err)
{
    redisReply *reply;
    if (queue_link_call(&queue->link, &queue->args, &reply, err) != 0) {
        return -1;
    }
    freeReplyObject(reply);
    return 0;
}

static int call_int(struct queue *queue, int64_t *ret, struct error *err)
{
    redisReply *reply;
    if (queue_link_call(&queue->link, &queue->args, &reply, err) != 0) {
        return -1;
    }
    *ret = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
    freeReplyObject(reply);
    return 0;
}

int queue_ping(struct queue *queue, struct error *err)
{
    queue_begin(queue, "PING");
    return call_simple(queue, err);
}

/* A pipeline that is read back in time, so that neither side's buffers grow without bound. A
 * command that is refused does not keep the others from being sent. */
struct pipeline {
    struct queue *queue;
    size_t sent;
    const char *keys[PIPELINE_MAX]; /* of the commands sent */
    struct error failure;           /* the first, or the first that was no refusal */
};

static int pipeline_read(struct pipeline *pipeline, struct error *err)
{
    for (size_t i = 0; i < pipeline->sent; i++) {
        redisReply *reply;
        if (queue_link_read(&pipeline->queue->link, &reply, err) != 0) {
            return -1;
        }
        if (reply->type == REDIS_REPLY_ERROR) {
            struct error failure = ERROR_INIT;
            queue_reply_error(reply, &failure);
            error_prefix(&failure, "%s: ", pipeline->keys[i]);
            if (pipeline->failure.code == ERR_OK ||
                (pipeline->failure.code == ERR_LIMIT && failure.code != ERR_LIMIT)) {
                pipeline->failure = failure;
            }
        }
        freeReplyObject(reply);
    }
    pipeline->sent = 0;
    return 0;
}

/* `key` outlives the pipeline. */
static int pipeline_add(struct pipeline *pipeline, const char *key, struct error *err)
{
    queue_link_append(&pipeline->queue->link, &pipeline->queue->args);
    pipeline->keys[pipeline->sent] = key;
    return ++pipeline->sent < PIPELINE_MAX ? 0 : pipeline_read(pipeline, err);
}

static int pipeline_end(struct pipeline *pipeline, struct error *err)
{
    if (pipeline_read(pipeline, err) != 0) {
        return -1;
    }
    if (pipeline->failure.code == ERR_OK) {
        return 0;
    }
    *err = pipeline->failure;
    if (!queue_link_kept(err)) {
        queue_link_drop(&pipeline->queue->link);
    }
    return -1;
}

static int pipeline_wakeups(struct pipeline *pipeline, const struct wakeup *wakeups, size_t count,
                            struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        queue_args_reset(&pipeline->queue->args);
        const struct queue_keys *keys = &pipeline->queue->link.keys;
        queue_args_wakeup(&pipeline->queue->args, keys, &wakeups[i]);
        if (pipeline_add(pipeline, keys->streams[wakeups[i].op], err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int add_once(struct queue *queue, const struct wakeup *wakeups, size_t count,
                    struct error *err)
{
    struct pipeline pipeline = {.queue = queue};
    if (queue_link_open(&queue->link, NULL, err) != 0 ||
        pipeline_wakeups(&pipeline, wakeups, count, err) != 0) {
        return -1;
    }
    return pipeline_end(&pipeline, err);
}

int queue_add(struct queue *queue, const struct wakeup *wakeups, size_t count, struct error *err)
{
    if (count == 0) {
        return 0;
    }
    bool had_connection = queue->link.context != NULL;
    int status = add_once(queue, wakeups, count, err);
    /* a connection that stood idle may have died unseen (Redis was restarted): adding an entry
     * twice costs nothing, waiting for the reaper to miss it costs seconds */
    if (status != 0 && had_connection && queue->link.context == NULL) {
        status = add_once(queue, wakeups, count, err);
    }
    return status;
}

static bool gateway_seen(const struct queue_reply *replies, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (strcmp(replies[i].gateway, replies[index].gateway) == 0) {
            return true;
        }
    }
    return false;
}

static int pipeline_replies(struct pipeline *pipeline, const struct queue_reply *replies,
                            size_t count, struct error *err)
{
    struct queue *queue = pipeline->queue;
    char key[QUEUE_KEY_BYTES];
    for (size_t i = 0; i < count; i++) {
        queue_key(&queue->link.keys, QUEUE_KEY_REPLY, replies[i].gateway, key);
        struct queue_args *args = queue_begin(queue, "XADD");
        queue_args_text(args, key);
        queue_args_pair(args, "MAXLEN", "~");
        queue_args_text(args, QUEUE_REPLY_MAXLEN);
        queue_args_text(args, "*");
        queue_args_pair(args, QUEUE_FIELD_JOB, replies[i].job_id);
        queue_args_pair(args, QUEUE_FIELD_STATE, job_state_name(replies[i].state));
        if (pipeline_add(pipeline, "a gateway's replies", err) != 0) {
            return -1;
        }
        if (!gateway_seen(replies, i)) {
            args = queue_begin(queue, "EXPIRE");
            queue_args_pair(args, key, QUEUE_REPLY_EXPIRE_S);
            if (pipeline_add(pipeline, "a gateway's replies", err) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

/*
 * XDEL goes first: a connection that breaks between the two leaves a pending id without an entry,
 * which the next takeover drops. The other order would leave an entry nobody ever removes.
 */
static int pipeline_acks(struct pipeline *pipeline, const struct queue_entry *acks, size_t count,
                         struct error *err)
{
    struct queue *queue = pipeline->queue;
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        for (int pass = 0; pass < 2; pass++) {
            struct queue_args *args = queue_begin(queue, pass == 0 ? "XDEL" : "XACK");
            queue_args_text(args, queue->link.keys.streams[op]);
            if (pass == 1) {
                queue_args_text(args, QUEUE_GROUP);
            }
            int head = args->count;
            for (size_t i = 0; i < count; i++) {
                if ((int)acks[i].op == op) {
                    queue_args_text(args, acks[i].id);
                }
            }
            if (args->count > head &&
                pipeline_add(pipeline, queue->link.keys.streams[op], err) != 0) {
                return -1;
            }
        }
    }
    return 0;
}

int queue_settle(struct queue *queue, const struct queue_entry *acks, size_t ack_count,
                 const struct queue_reply *replies, size_t reply_count,
                 const struct wakeup *wakeups, size_t wakeup_count, struct error *err)
{
    if (ack_count + reply_count + wakeup_count == 0) {
        return 0;
    }
    struct pipeline pipeline = {.queue = queue};
    if (queue_link_open(&queue->link, NULL, err) != 0 ||
        pipeline_replies(&pipeline, replies, reply_count, err) != 0 ||
        pipeline_wakeups(&pipeline, wakeups, wakeup_count, err) != 0 ||
        pipeline_acks(&pipeline, acks, ack_count, err) != 0) {
        return -1;
    }
    return pipeline_end(&pipeline, err);
}

int queue_add_dead(struct queue *queue, const struct wakeup *wakeup, const char *error,
                   struct error *err)
{
    struct queue_args *args = queue_begin(queue, "XADD");
    queue_args_text(args, queue->link.keys.dead);
    queue_args_pair(args, "MAXLEN", "~");
    queue_args_text(args, DEAD_MAXLEN);
    queue_args_text(args, "*");
    queue_args_pair(args, QUEUE_FIELD_JOB, wakeup->job_id);
    queue_args_pair(args, QUEUE_FIELD_OP, job_op_name(wakeup->op));
    queue_args_pair(args, QUEUE_FIELD_SANDBOX, wakeup->sandbox_id);
    queue_args_pair(args, QUEUE_FIELD_ERROR, error);
    return call_simple(queue, err);
}

int queue_dead_present(struct queue *queue, bool *ret, struct error *err)
{
    int64_t found = 0;
    queue_args_text(queue_begin(queue, "EXISTS"), queue->link.keys.dead);
    if (call_int(queue, &found, err) != 0) {
        return -1;
    }
    *ret = found > 0;
    return 0;
}

const char *queue_prefix(const struct queue *queue)
{
    return queue->link.keys.prefix;
}

/* The mark's text, "" when it is absent or cannot be read as one. */
static int read_mark(struct queue *queue, char ret[UUID_BYTES], bool *ret_present,
                     struct error *err)
{
    redisReply *reply;
    queue_args_text(queue_begin(queue, "GET"), queue->link.keys.mark);
    if (queue_link_call(&queue->link, &queue->args, &reply, err) != 0) {
        return -1;
    }
    *ret_present = reply->type != REDIS_REPLY_NIL;
    if (reply->type != REDIS_REPLY_STRING || str_copy(ret, UUID_BYTES, reply->str) != 0) {
        ret[0] = '\0';
    }
    freeReplyObject(reply);
    return 0;
}

/* Writes our id unless an id is there. */
static int claim_mark(struct queue *queue, bool *ret_was_wiped, struct error *err)
{
    struct queue_owner *owner = queue->link.owner;
    char mark[UUID_BYTES];
    bool present = false;
    int status = read_mark(queue, mark, &present, err);
    if (status != 0 || queue_owner_check(owner, mark, queue_prefix(queue), err) != 0) {
        return -1;
    }
    *ret_was_wiped = false;
    if (id_is_uuid_lower(mark)) {
        return 0;
    }
    struct queue_args *args = queue_begin(queue, "SET");
    queue_args_pair(args, queue->link.keys.mark, owner == NULL ? "" : owner->deployment_id);
    if (!present) {
        queue_args_text(args, "NX"); /* of several that find none one refills */
    }
    redisReply *reply;
    if (queue_link_call(&queue->link, args, &reply, err) != 0) {
        return -1;
    }
    *ret_was_wiped = !present && reply->type == REDIS_REPLY_STATUS;
    freeReplyObject(reply);
    /* when another was quicker, which may be another deployment */
    status = read_mark(queue, mark, &present, err);
    return status != 0 ? -1 : queue_owner_check(owner, mark, queue_prefix(queue), err);
}

int queue_prepare(struct queue *queue, bool *ret_was_wiped, struct error *err)
{
    struct error refusal = ERROR_INIT;
    *ret_was_wiped = false;
    if (claim_mark(queue, ret_was_wiped, &refusal) != 0 && refusal.code != ERR_LIMIT) {
        if (refusal.code == ERR_CONFIG) {
            queue_link_drop(&queue->link);
        }
        *err = refusal;
        return -1;
    }
    if (queue_link_open(&queue->link, NULL, err) != 0) {
        return -1;
    }
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        struct queue_args *args = queue_begin(queue, "XGROUP");
        queue_args_pair(args, "CREATE", queue->link.keys.streams[op]);
        /* at 0, not $: what was added before the group came is delivered */
        queue_args_pair(args, QUEUE_GROUP, "0");
        queue_args_text(args, "MKSTREAM");
        queue_link_append(&queue->link, args);
    }
    bool failed = false;
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        redisReply *reply;
        if (queue_link_read(&queue->link, &reply, err) != 0) {
            return -1;
        }
        if (reply->type == REDIS_REPLY_ERROR && !queue_reply_begins(reply, "BUSYGROUP")) {
            struct error failure = ERROR_INIT;
            queue_reply_error(reply, &failure);
            error_prefix(&failure, "%s: ", queue->link.keys.streams[op]);
            failed = failed || failure.code != ERR_LIMIT;
            if (refusal.code == ERR_OK || failure.code != ERR_LIMIT) {
                refusal = failure;
            }
        }
        freeReplyObject(reply);
    }
    if (failed) {
        queue_link_drop(&queue->link);
    }
    if (refusal.code != ERR_OK) {
        *err = refusal;
        return -1;
    }
    return 0;
}

int queue_mark_present(struct queue *queue, bool *ret, struct error *err)
{
    char mark[UUID_BYTES];
    if (read_mark(queue, mark, ret, err) != 0) {
        return -1;
    }
    if (queue_owner_check(queue->link.owner, mark, queue_prefix(queue), err) != 0) {
        queue_link_drop(&queue->link);
        return -1;
    }
    return 0;
}

/* ---- holds and heartbeats ----------------------------------------------------------------- */

int queue_hold_set(struct queue *queue, const char *provider, int64_t ms, const char *why,
                   struct error *err)
{
    /* one step, so that a shorter hold of another worker cannot overwrite a longer one */
    static const char script[] = "if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[1]) then "
                                 "redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[1]) end return 1";
    if (ms <= 0) {
        return 0;
    }
    char key[QUEUE_KEY_BYTES];
    queue_key(&queue->link.keys, QUEUE_KEY_HOLD, provider, key);
    struct queue_args *args = queue_begin(queue, "EVAL");
    queue_args_pair(args, script, "1");
    queue_args_text(args, key);
    queue_args_int(args, ms);
    queue_args_text(args, why);
    return call_simple(queue, err);
}

int queue_hold_get(struct queue *queue, const char *provider, int64_t *ret_ms,
                   char ret_why[QUEUE_HOLD_BYTES], struct error *err)
{
    char key[QUEUE_KEY_BYTES];
    queue_key(&queue->link.keys, QUEUE_KEY_HOLD, provider, key);
    int64_t left;
    queue_args_text(queue_begin(queue, "PTTL"), key);
    if (call_int(queue, &left, err) != 0) {
        return -1;
    }
    *ret_ms = left > 0 ? left : 0; /* -2 no key, -1 no expiry (never set by us) */
    ret_why[0] = '\0';
    if (left <= 0) {
        return 0;
    }
    redisReply *reply;
    queue_args_text(queue_begin(queue, "GET"), key);
    if (queue_link_call(&queue->link, &queue->args, &reply, err) != 0) {
        return err->code == ERR_LIMIT ? 0 : -1; /* whatever it is, it is no word */
    }
    if (reply->type == REDIS_REPLY_STRING) { /* else it has just ended */
        str_copy(ret_why, QUEUE_HOLD_BYTES, reply->str);
    }
    freeReplyObject(reply);
    return 0;
}

static int beat(struct queue *queue, const char *kind, const char *name, int64_t ttl_ms,
                const char *info_json, struct error *err)
{
    char key[QUEUE_KEY_BYTES];
    queue_key(&queue->link.keys, kind, name, key);
    struct queue_args *args = queue_begin(queue, "SET");
    queue_args_pair(args, key, info_json);
    queue_args_text(args, "PX");
    queue_args_int(args, ttl_ms);
    return call_simple(queue, err);
}

static int beat_end(struct queue *queue, const char *kind, const char *name, struct error *err)
{
    char key[QUEUE_KEY_BYTES];
    queue_key(&queue->link.keys, kind, name, key);
    queue_args_text(queue_begin(queue, "DEL"), key);
    return call_simple(queue, err);
}

int queue_heartbeat(struct queue *queue, const char *consumer, int64_t ttl_ms,
                    const char *info_json, struct error *err)
{
    return beat(queue, QUEUE_KEY_WORKER, consumer, ttl_ms, info_json, err);
}

int queue_heartbeat_remove(struct queue *queue, const char *consumer, struct error *err)
{
    return beat_end(queue, QUEUE_KEY_WORKER, consumer, err);
}

int queue_reaper_heartbeat(struct queue *queue, const char *name, int64_t ttl_ms,
                           const char *info_json, struct error *err)
{
    return beat(queue, QUEUE_KEY_REAPER, name, ttl_ms, info_json, err);
}

int queue_reaper_heartbeat_remove(struct queue *queue, const char *name, struct error *err)
{
    return beat_end(queue, QUEUE_KEY_REAPER, name, err);
}

int queue_depth(struct queue *queue, int64_t *ret_length, int64_t *ret_pending, struct error *err)
{
    if (queue_link_open(&queue->link, NULL, err) != 0) {
        return -1;
    }
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        queue_args_text(queue_begin(queue, "XLEN"), queue->link.keys.streams[op]);
        queue_link_append(&queue->link, &queue->args);
        queue_args_pair(queue_begin(queue, "XPENDING"), queue->link.keys.streams[op], QUEUE_GROUP);
        queue_link_append(&queue->link, &queue->args);
    }
    int64_t length = 0;
    int64_t pending = 0;
    bool failed = false;
    for (int i = 0; i < 2 * JOB_OP_COUNT; i++) {
        redisReply *reply;
        if (queue_link_read(&queue->link, &reply, err) != 0) {
            return -1;
        }
        if (reply->type == REDIS_REPLY_INTEGER) {
            length += reply->integer;
        } else if (reply->type == REDIS_REPLY_ARRAY && reply->elements > 0 &&
                   reply->element[0]->type == REDIS_REPLY_INTEGER) {
            pending += reply->element[0]->integer;
        } else if (reply->type == REDIS_REPLY_ERROR) {
            /* no group yet, or no stream at all: nothing is pending */
            queue_reply_error(reply, err);
            failed = failed || !queue_link_kept(err);
        }
        freeReplyObject(reply);
    }
    if (failed) {
        queue_link_drop(&queue->link);
        return -1;
    }
    *ret_length = length;
    *ret_pending = pending;
    return 0;
}

/* ---- takeover ----------------------------------------------------------------------------- */

int queue_autoclaim(struct queue *queue, const char *consumer, int64_t min_idle_ms,
                    struct queue_entry *ret, size_t max, size_t *ret_count, struct error *err)
{
    size_t count = 0;
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        char cursor[32] = "0-0";
        /* one call looks at no more than 10 x COUNT pending ids: follow its cursor */
        do {
            if (count == max) {
                break;
            }
            struct queue_args *args = queue_begin(queue, "XAUTOCLAIM");
            queue_args_pair(args, queue->link.keys.streams[op], QUEUE_GROUP);
            queue_args_text(args, consumer);
            queue_args_int(args, min_idle_ms);
            queue_args_text(args, cursor);
            queue_args_text(args, "COUNT");
            queue_args_int(args, (int64_t)(max - count));
            redisReply *reply;
            if (queue_link_call(&queue->link, args, &reply, err) != 0) {
                if (err->code == ERR_LIMIT) {
                    break; /* this stream is none: the reader tells */
                }
                return -1;
            }
            /* Redis 7 adds a third element, the ids it dropped because their entries are gone;
             * 6.2 returns such entries as nil instead: reading id 0 settles those. */
            bool good = reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2 &&
                        reply->element[0]->type == REDIS_REPLY_STRING &&
                        reply->element[1]->type == REDIS_REPLY_ARRAY &&
                        str_copy(cursor, sizeof(cursor), reply->element[0]->str) == 0;
            for (size_t i = 0; good && i < reply->element[1]->elements && count < max; i++) {
                if (queue_entry_parse(reply->element[1]->element[i], (enum job_op)op,
                                      &ret[count]) == 0) {
                    count++;
                }
            }
            freeReplyObject(reply);
            if (!good) {
                queue_link_drop(&queue->link);
                return error_set(err, ERR_QUEUE_DOWN,
                                 "Redis: XAUTOCLAIM answered in an unknown form");
            }
        } while (strcmp(cursor, "0-0") != 0);
    }
    *ret_count = count;
    return 0;
}

int queue_consumers_prune(struct queue *queue, int64_t idle_ms, struct error *err)
{
    /* XGROUP DELCONSUMER forgets what is pending for good, so look and delete in one step. */
    static const char script[] =
        "local n = 0 "
        "for _, key in ipairs(KEYS) do "
        "  local list = redis.pcall('XINFO', 'CONSUMERS', key, ARGV[1]) "
        "  if not list.err then "
        "    for _, item in ipairs(list) do "
        "      local c = {} "
        "      for i = 1, #item, 2 do c[item[i]] = item[i + 1] end "
        "      if c['pending'] == 0 and c['idle'] > tonumber(ARGV[2]) then "
        "        redis.call('XGROUP', 'DELCONSUMER', key, ARGV[1], c['name']) n = n + 1 "
        "      end "
        "    end "
        "  end "
        "end "
        "return n";
    struct queue_args *args = queue_begin(queue, "EVAL");
    queue_args_text(args, script);
    queue_args_int(args, JOB_OP_COUNT);
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        queue_args_text(args, queue->link.keys.streams[op]);
    }
    queue_args_text(args, QUEUE_GROUP);
    queue_args_int(args, idle_ms);
    return call_simple(queue, err);
}
