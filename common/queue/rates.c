/*
 * rates - token buckets in Redis, which all gateways share.
 *
 * Owns: the arithmetic of a bucket, by the clock of Redis. Does not own: who is limited, and to
 * what. Threads: a struct queue belongs to one at a time. Failure: ERR_QUEUE_DOWN.
 */
#include <stdio.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/queue/keys.h"
#include "common/queue/queue_internal.h"

enum { RATE_NUMBERS = 3, NUMBER_BYTES = 24 };

/* A bucket is never owed more than it can hold: one that was overdrawn recovers in bounded time. */
static const char script[] =
    "local t = redis.call('TIME') "
    "local now = t[1] * 1000 + math.floor(t[2] / 1000) "
    "local left = {} "
    "for i = 1, #KEYS do "
    "  local rate, burst, used = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1]), "
    "tonumber(ARGV[3 * i]) "
    "  local was = redis.call('HMGET', KEYS[i], 'left', 'at') "
    "  local have = tonumber(was[1]) or burst "
    "  have = math.min(burst, have + math.max(0, now - (tonumber(was[2]) or now)) * rate / 1000) - "
    "used "
    "  have = math.max(have, -burst) "
    "  redis.call('HSET', KEYS[i], 'left', tostring(have), 'at', now) "
    "  redis.call('PEXPIRE', KEYS[i], math.ceil(2000 * burst / rate) + 1000) "
    "  left[i] = math.floor(have) "
    "end "
    "return left";

static void append_rate(struct queue_args *args, const struct queue_rate *rate,
                        char numbers[RATE_NUMBERS][NUMBER_BYTES])
{
    const int64_t values[RATE_NUMBERS] = {rate->per_second, rate->burst, rate->used};

    for (int i = 0; i < RATE_NUMBERS; i++) {
        snprintf(numbers[i], NUMBER_BYTES, "%lld", (long long)values[i]);
        queue_args_text(args, numbers[i]);
    }
}

int queue_rates(struct queue *queue, struct queue_rate *rates, size_t count, struct error *err)
{
    char(*keys)[QUEUE_KEY_BYTES] = xcalloc(count, sizeof(*keys));
    char(*numbers)[RATE_NUMBERS][NUMBER_BYTES] = xcalloc(count, sizeof(*numbers));
    struct queue_args *args = queue_begin(queue, "EVAL");
    redisReply *reply;
    int status;

    queue_args_text(args, script);
    queue_args_int(args, (int64_t)count);
    for (size_t i = 0; i < count; i++) {
        queue_key(&queue->link.keys, QUEUE_KEY_RATE, rates[i].key, keys[i]);
        queue_args_text(args, keys[i]);
    }
    for (size_t i = 0; i < count; i++) {
        append_rate(args, &rates[i], numbers[i]);
    }
    status = queue_link_call(&queue->link, args, &reply, err);
    free(keys);
    free(numbers);
    if (status != 0) {
        return -1;
    }
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != count) {
        freeReplyObject(reply);
        queue_link_drop(&queue->link);
        return error_set(err, ERR_QUEUE_DOWN, "Redis: EVAL answered in an unknown form");
    }
    for (size_t i = 0; i < count; i++) {
        rates[i].ret_left = reply->element[i]->integer;
    }
    freeReplyObject(reply);
    return 0;
}
