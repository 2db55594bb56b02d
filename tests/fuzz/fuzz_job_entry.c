/*
 * Fuzz target: entries of a work stream, as hiredis hands them over. Whatever somebody put into a
 * stream, an entry names a job by a UUID or none at all, and every text stays within its field.
 *
 * Input: a tree of replies in prefix form. A byte below 64 is an array of so many (at most 16), 64
 * to 127 nil, integer, status or error; any other begins a string of (byte - 128) * 3 bytes. What
 * is missing at the end is nil.
 */
#include <hiredis/hiredis.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/id.h"
#include "common/queue/link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ELEMENTS_MAX = 16, DEPTH_MAX = 6, ARRAY = 64, SIMPLE = 128, STRING_STEP = 3 };

struct input {
    const uint8_t *data;
    size_t size;
};

static void *allocate(size_t bytes)
{
    void *memory = calloc(1, bytes > 0 ? bytes : 1);

    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void take_string(struct input *input, size_t bytes, redisReply *ret)
{
    bytes = bytes < input->size ? bytes : input->size;
    ret->str = allocate(bytes + 1);
    memcpy(ret->str, input->data, bytes);
    ret->len = bytes;
    input->data += bytes;
    input->size -= bytes;
}

static redisReply *take_reply(struct input *input, int depth)
{
    static const int simple[] = {REDIS_REPLY_NIL, REDIS_REPLY_INTEGER, REDIS_REPLY_STATUS,
                                 REDIS_REPLY_ERROR};
    redisReply *reply = allocate(sizeof(*reply));
    uint8_t kind;

    reply->type = REDIS_REPLY_NIL;
    if (input->size == 0) {
        return reply;
    }
    kind = *input->data++;
    input->size--;
    if (kind >= SIMPLE) {
        reply->type = REDIS_REPLY_STRING;
        take_string(input, (size_t)(kind - SIMPLE) * STRING_STEP, reply);
    } else if (kind >= ARRAY) {
        reply->type = simple[kind % 4];
        if (kind % 4 >= 2) {
            take_string(input, STRING_STEP, reply);
        }
    } else if (depth < DEPTH_MAX) {
        reply->type = REDIS_REPLY_ARRAY;
        reply->elements = kind % (ELEMENTS_MAX + 1);
        reply->element = allocate(reply->elements * sizeof(*reply->element));
        for (size_t i = 0; i < reply->elements; i++) {
            reply->element[i] = take_reply(input, depth + 1);
        }
    }
    return reply;
}

#define CHECK_TEXT(field)                                                                          \
    do {                                                                                           \
        if (memchr((field), '\0', sizeof(field)) == NULL) {                                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static void try_entry(const redisReply *reply, enum job_op op)
{
    struct queue_entry entry;

    if (queue_entry_parse(reply, op, &entry) != 0) {
        return;
    }
    CHECK_TEXT(entry.id);
    CHECK_TEXT(entry.wakeup.job_id);
    CHECK_TEXT(entry.wakeup.sandbox_id);
    CHECK_TEXT(entry.wakeup.request_id);
    CHECK_TEXT(entry.wakeup.reply_to);
    CHECK_TEXT(entry.wakeup.traceparent);
    if (entry.op != op ||
        (entry.wakeup.job_id[0] != '\0' && !id_is_uuid_lower(entry.wakeup.job_id))) {
        abort();
    }
}

static struct queue_keys keys;

/* Every part of an answer as if it were an entry: the parser must refuse what is none. */
static void walk(const redisReply *reply)
{
    (void)queue_stream_op(&keys, reply);
    try_entry(reply, JOB_PAUSE);
    for (size_t i = 0; i < reply->elements; i++) {
        walk(reply->element[i]);
    }
}

/* freeReplyObject frees with hiredis' own allocator, which need not be ours. */
static void release(redisReply *reply)
{
    for (size_t i = 0; i < reply->elements; i++) {
        release(reply->element[i]);
    }
    free(reply->element);
    free(reply->str);
    free(reply);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    queue_keys_init(&keys, NULL);
    struct input input = {data, size};
    redisReply *reply = take_reply(&input, 0);

    walk(reply);
    release(reply);
    return 0;
}
