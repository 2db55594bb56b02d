/*
 * reader - the two readers of streams: parked work reads, and a gateway's replies.
 *
 * Owns: read positions and the blocking commands' own connections. Threads: one at a time each.
 * Failure: ERR_QUEUE_DOWN drops the connection; the next read starts over from what this consumer
 * had been given and not acknowledged (work) or from the last id read (replies).
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/queue/keys.h"
#include "common/queue/link.h"
#include "common/queue/queue.h"

#define BLOCK_MAX_MS   2000
#define BLOCK_GRACE_MS 3000
#define EMPTY_FRESH_MS 20 /* how long streams found empty are believed to be */

struct queue_reader {
    struct queue_link link;
    struct queue_args args;
    char *consumer;
    int block_ms;
    bool parked;
    int64_t parked_at_ms;
    int asked;  /* fewer new entries than this mean that there are no more */
    bool empty; /* the last read found no more, at emptied_at_ms */
    int64_t emptied_at_ms;
    /* what was delivered to this consumer and not acknowledged is read again after a connect */
    bool history[JOB_OP_COUNT];
    char after[JOB_OP_COUNT][32];
    int first;                 /* the op whose stream is read first */
    bool blocked;              /* the parked read waits */
    bool broken[JOB_OP_COUNT]; /* what is under the key is no stream */
    char fault[QUEUE_KEY_BYTES + 128];
};

struct queue_reader *queue_reader_new(const struct queue_options *options, const char *consumer,
                                      int block_ms)
{
    struct queue_reader *reader = xcalloc(1, sizeof(*reader));
    queue_link_init(&reader->link, options);
    queue_args_init(&reader->args);
    reader->consumer = xstrdup(consumer);
    reader->block_ms = block_ms < 1 ? 1 : block_ms > BLOCK_MAX_MS ? BLOCK_MAX_MS : block_ms;
    return reader;
}

void queue_reader_free(struct queue_reader *reader)
{
    if (reader != NULL) {
        queue_link_done(&reader->link);
        queue_args_done(&reader->args);
        free(reader->consumer);
        free(reader);
    }
}

bool queue_reader_parked(const struct queue_reader *reader)
{
    return reader->parked;
}

const char *queue_reader_fault(const struct queue_reader *reader)
{
    return reader->fault[0] == '\0' ? NULL : reader->fault;
}

int queue_reader_fd(const struct queue_reader *reader)
{
    return reader->link.context == NULL ? -1 : reader->link.context->fd;
}

static void reader_drop(struct queue_reader *reader)
{
    queue_link_drop(&reader->link);
    reader->parked = false;
}

/* What a script says of a stream that cannot be read: its key and the error, in place of entries.
 */
#define TELL_BROKEN                                                                                \
    "if got and got.err and string.find(got.err, 'WRONGTYPE', 1, true) then "                      \
    "  out[#out + 1] = {key, got.err} got = nil "                                                  \
    "end "

/* Up to `max` entries of what this consumer had been given before. False: there are none. */
static bool park_history(struct queue_reader *reader, int max)
{
    static const char script[] =
        "local out = {} "
        "for i, key in ipairs(KEYS) do "
        "  local got = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', ARGV[3], "
        "                          'STREAMS', key, ARGV[3 + i]) " TELL_BROKEN
        "  if got and got.err then return got end "
        "  if got then out[#out + 1] = got[1] end "
        "end "
        "return out";
    struct queue_args *args = &reader->args;
    enum job_op ops[JOB_OP_COUNT];
    int count = 0;
    for (int op = 0; op < JOB_OP_COUNT && count < max; op++) {
        if (reader->history[op]) {
            ops[count++] = (enum job_op)op;
        }
    }
    if (count == 0) {
        return false;
    }
    reader->asked = 0; /* says nothing of new entries */
    queue_args_pair(args, "EVAL", script);
    queue_args_int(args, count);
    for (int i = 0; i < count; i++) {
        queue_args_text(args, reader->link.keys.streams[ops[i]]);
    }
    queue_args_pair(args, QUEUE_GROUP, reader->consumer);
    queue_args_int(args, max / count);
    for (int i = 0; i < count; i++) {
        queue_args_text(args, reader->after[ops[i]]);
    }
    return true;
}

/* All, or those that can be read; how many. */
static int put_streams(struct queue_reader *reader, bool all)
{
    int count = 0;
    for (int i = 0; i < JOB_OP_COUNT; i++) {
        int op = (reader->first + i) % JOB_OP_COUNT;
        if (all || !reader->broken[op]) {
            queue_args_text(&reader->args, reader->link.keys.streams[op]);
            count++;
        }
    }
    return count;
}

/*
 * Up to `max` new entries of all streams together, answered at once. COUNT alone cannot say that:
 * it counts per stream. Each stream is first offered an even share of what is left, then what the
 * others did not use; the next read begins behind the last stream that gave something.
 */
static void park_backlog(struct queue_reader *reader, int max)
{
    static const char script[] =
        "local left, out = tonumber(ARGV[3]), {} "
        "for pass = 1, 2 do "
        "  for i, key in ipairs(KEYS) do "
        "    if left == 0 then return out end "
        "    local share = pass == 1 and math.ceil(left / (#KEYS - i + 1)) or left "
        "    local got = redis.pcall('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', share, "
        "                            'STREAMS', key, '>') " TELL_BROKEN
        "    if got and got.err then return #out > 0 and out or got end "
        "    if got then out[#out + 1] = got[1] left = left - #got[1][2] end "
        "  end "
        "end "
        "return out";
    struct queue_args *args = &reader->args;
    reader->asked = max;
    queue_args_pair(args, "EVAL", script);
    queue_args_int(args, JOB_OP_COUNT);
    put_streams(reader, true);
    queue_args_pair(args, QUEUE_GROUP, reader->consumer);
    queue_args_int(args, max);
    memset(reader->broken, 0, sizeof(reader->broken)); /* it will say which */
    reader->fault[0] = '\0';
}

/* Waits for new entries in any stream. */
static void park_blocked(struct queue_reader *reader, int max)
{
    struct queue_args *args = &reader->args;
    reader->asked = max < JOB_OP_COUNT ? 1 : max / JOB_OP_COUNT;
    queue_args_pair(args, "XREADGROUP", "GROUP");
    queue_args_pair(args, QUEUE_GROUP, reader->consumer);
    queue_args_text(args, "COUNT");
    queue_args_int(args, reader->asked);
    queue_args_text(args, "BLOCK");
    queue_args_int(args, reader->block_ms);
    queue_args_text(args, "STREAMS");
    int count = put_streams(reader, false);
    for (int i = 0; i < count; i++) {
        queue_args_text(args, ">");
    }
}

static bool all_broken(const struct queue_reader *reader)
{
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        if (!reader->broken[op]) {
            return false;
        }
    }
    return true;
}

int queue_reader_park(struct queue_reader *reader, int max, struct error *err)
{
    if (reader->parked || max < 1) {
        return 0;
    }
    bool fresh = false;
    if (queue_link_open(&reader->link, &fresh, err) != 0) {
        return -1;
    }
    if (fresh) {
        reader->empty = false;
        for (int op = 0; op < JOB_OP_COUNT; op++) {
            reader->history[op] = true;
            str_copy(reader->after[op], sizeof(reader->after[op]), "0-0");
        }
    }
    int64_t now = clock_mono_ms();
    if (max < JOB_OP_COUNT && now - reader->emptied_at_ms > EMPTY_FRESH_MS) {
        reader->empty = false; /* a blocking read may give one of each stream: more than `max` */
    }
    if (all_broken(reader) && now - reader->emptied_at_ms < reader->block_ms) {
        return 0; /* there is nothing to wait for */
    }
    queue_args_reset(&reader->args);
    reader->blocked = false;
    if (!park_history(reader, max)) {
        if (reader->empty && !all_broken(reader)) {
            reader->blocked = true;
            park_blocked(reader, max);
        } else {
            park_backlog(reader, max);
        }
    }
    queue_link_append(&reader->link, &reader->args);
    int flushed = 0;
    while (flushed == 0) {
        if (redisBufferWrite(reader->link.context, &flushed) != REDIS_OK) {
            error_set(err, ERR_QUEUE_DOWN, "Redis: %s", reader->link.context->errstr);
            reader_drop(reader);
            return -1;
        }
    }
    reader->parked = true;
    reader->parked_at_ms = now;
    return 0;
}

/* Reads [[key, [entry ...]] ...]; nil = nothing within the block time. */
static size_t reader_collect(struct queue_reader *reader, const redisReply *reply,
                             struct queue_entry *ret, size_t max)
{
    size_t count = 0;
    if (reply->type != REDIS_REPLY_ARRAY) {
        return 0;
    }
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *stream = reply->element[i];
        if (stream->type != REDIS_REPLY_ARRAY || stream->elements != 2) {
            continue;
        }
        int op = queue_stream_op(&reader->link.keys, stream->element[0]);
        if (op >= 0 && stream->element[1]->type == REDIS_REPLY_STRING) {
            reader->broken[op] = true;
            reader->history[op] = false;
            snprintf(reader->fault, sizeof(reader->fault), "%s: %.120s",
                     reader->link.keys.streams[op], stream->element[1]->str);
        }
        if (op < 0 || stream->element[1]->type != REDIS_REPLY_ARRAY) {
            continue;
        }
        const redisReply *entries = stream->element[1];
        if (entries->elements == 0) {
            reader->history[op] = false;
        } else {
            reader->first = (op + 1) % JOB_OP_COUNT;
        }
        for (size_t j = 0; j < entries->elements && count < max; j++) {
            if (queue_entry_parse(entries->element[j], (enum job_op)op, &ret[count]) == 0) {
                if (reader->history[op]) {
                    str_copy(reader->after[op], sizeof(reader->after[op]), ret[count].id);
                }
                count++;
            }
        }
    }
    return count;
}

int queue_reader_take(struct queue_reader *reader, struct queue_entry *ret, size_t max,
                      size_t *ret_count, bool *ret_done, struct error *err)
{
    *ret_count = 0;
    *ret_done = !reader->parked;
    if (!reader->parked) {
        return 0;
    }
    if (reader->link.owner != NULL && atomic_load(&reader->link.owner->foreign)) {
        reader_drop(reader); /* what it gets now is not ours */
        return error_set(err, ERR_QUEUE_DOWN, "Redis: the keys are another deployment's");
    }
    redisContext *context = reader->link.context;
    void *answer = NULL;
    for (;;) {
        struct pollfd poll_fd = {.fd = context->fd, .events = POLLIN};
        if (poll(&poll_fd, 1, 0) <= 0) {
            break;
        }
        if (redisBufferRead(context) != REDIS_OK ||
            redisGetReplyFromReader(context, &answer) != REDIS_OK) {
            error_set(err, ERR_QUEUE_DOWN, "Redis: %s", context->errstr);
            reader_drop(reader);
            return -1;
        }
        if (answer != NULL) {
            break;
        }
    }
    if (answer == NULL) {
        /* a server that went away without closing never makes the descriptor readable */
        if (clock_mono_ms() - reader->parked_at_ms >= reader->block_ms + BLOCK_GRACE_MS) {
            reader_drop(reader);
            return error_set(err, ERR_QUEUE_DOWN, "Redis: no answer to XREADGROUP");
        }
        return 0;
    }
    redisReply *reply = answer;
    reader->parked = false;
    *ret_done = true;
    int status = 0;
    if (reply->type == REDIS_REPLY_ERROR) {
        status = queue_reply_error(reply, err);
        if (err->code == ERR_LIMIT) { /* the next read says which */
            reader->empty = false;
            freeReplyObject(reply);
            return 0;
        }
        reader_drop(reader);
        /* the connection was good: its successor need not wait */
        if (err->code == ERR_NOT_FOUND) {
            reader->link.next_connect_ms = 0;
        }
    } else {
        *ret_count = reader_collect(reader, reply, ret, max);
        /* one that is broken is looked at again from time to time */
        reader->empty =
            *ret_count < (size_t)reader->asked && !(reader->blocked && reader->fault[0] != '\0');
        reader->emptied_at_ms = clock_mono_ms();
    }
    freeReplyObject(reply);
    return status;
}

/* ---- replies ------------------------------------------------------------------------------ */

struct queue_reply_reader {
    struct queue_link link;
    struct queue_args args;
    char *gateway;
    char key[QUEUE_KEY_BYTES];
    char last[32];
};

struct queue_reply_reader *queue_reply_reader_new(const struct queue_options *options,
                                                  const char *gateway)
{
    struct queue_reply_reader *reader = xcalloc(1, sizeof(*reader));
    queue_link_init(&reader->link, options);
    /* the longest wait of this connection is a blocked read */
    reader->link.command_timeout_ms = BLOCK_MAX_MS + BLOCK_GRACE_MS;
    queue_args_init(&reader->args);
    reader->gateway = xstrdup(gateway);
    queue_key(&reader->link.keys, QUEUE_KEY_REPLY, gateway, reader->key);
    str_copy(reader->last, sizeof(reader->last), "0-0");
    return reader;
}

void queue_reply_reader_free(struct queue_reply_reader *reader)
{
    if (reader != NULL) {
        queue_link_done(&reader->link);
        queue_args_done(&reader->args);
        free(reader->gateway);
        free(reader);
    }
}

static bool reply_parse(const redisReply *fields, struct queue_reply *ret)
{
    bool has_state = false;
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const redisReply *name = fields->element[i];
        const redisReply *value = fields->element[i + 1];
        if (name->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING) {
            continue;
        }
        if (strcmp(name->str, QUEUE_FIELD_JOB) == 0) {
            if (str_copy(ret->job_id, sizeof(ret->job_id), value->str) != 0) {
                return false;
            }
        } else if (strcmp(name->str, QUEUE_FIELD_STATE) == 0) {
            has_state = job_state_parse(value->str, &ret->state) == 0;
        }
    }
    return has_state && id_is_uuid_lower(ret->job_id);
}

int queue_reply_read(struct queue_reply_reader *reader, int block_ms, struct queue_reply *ret,
                     size_t max, size_t *ret_count, struct error *err)
{
    *ret_count = 0;
    struct queue_args *args = &reader->args;
    queue_args_reset(args);
    queue_args_pair(args, "XREAD", "COUNT");
    queue_args_int(args, (int64_t)max);
    queue_args_text(args, "BLOCK"); /* 0 would mean for ever */
    queue_args_int(args, block_ms < 1 ? 1 : block_ms > BLOCK_MAX_MS ? BLOCK_MAX_MS : block_ms);
    queue_args_pair(args, "STREAMS", reader->key);
    queue_args_text(args, reader->last);
    redisReply *reply;
    if (queue_link_call(&reader->link, args, &reply, err) != 0) {
        /* the stream was deleted under the blocked read (a wiped Redis): simply nothing yet */
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    }
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 1 &&
        reply->element[0]->type == REDIS_REPLY_ARRAY && reply->element[0]->elements == 2 &&
        reply->element[0]->element[1]->type == REDIS_REPLY_ARRAY) {
        const redisReply *entries = reply->element[0]->element[1];
        for (size_t i = 0; i < entries->elements && *ret_count < max; i++) {
            const redisReply *entry = entries->element[i];
            if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 ||
                entry->element[0]->type != REDIS_REPLY_STRING ||
                entry->element[1]->type != REDIS_REPLY_ARRAY) {
                continue;
            }
            str_copy(reader->last, sizeof(reader->last), entry->element[0]->str);
            struct queue_reply *out = &ret[*ret_count];
            memset(out, 0, sizeof(*out));
            str_copy(out->gateway, sizeof(out->gateway), reader->gateway);
            if (reply_parse(entry->element[1], out)) {
                (*ret_count)++;
            }
        }
    }
    freeReplyObject(reply);
    return 0;
}
