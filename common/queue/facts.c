/*
 * facts - what Redis and the heartbeats in it say about the state of the system.
 *
 * Owns: counting live processes, and what `sandbox-gateway doctor` and the health checks ask.
 * Does not own: what is good or bad (the callers judge). Threads: a struct queue belongs to one at
 * a time. Failure: ERR_QUEUE_DOWN; nothing is changed, every function may be repeated.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/queue/keys.h"
#include "common/queue/queue_internal.h"

static const char *const role_kind[] = {
    [QUEUE_ROLE_WORKER] = QUEUE_KEY_WORKER,
    [QUEUE_ROLE_REAPER] = QUEUE_KEY_REAPER,
};

/* Calls back for every key by SCAN: KEYS would stop Redis for everybody while it looks. A key may
 * come twice. */
static int each_key(struct queue *queue, const char *pattern,
                    void (*each)(void *arg, const char *key), void *arg, struct error *err)
{
    char cursor[32] = "0";
    do {
        struct queue_args *args = queue_begin(queue, "SCAN");
        queue_args_text(args, cursor);
        queue_args_pair(args, "MATCH", pattern);
        queue_args_pair(args, "COUNT", "1000");
        redisReply *reply;
        if (queue_link_call(&queue->link, args, &reply, err) != 0) {
            return -1;
        }
        bool good = reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
                    reply->element[0]->type == REDIS_REPLY_STRING &&
                    str_copy(cursor, sizeof(cursor), reply->element[0]->str) == 0;
        if (good && reply->element[1]->type == REDIS_REPLY_ARRAY) {
            for (size_t i = 0; i < reply->element[1]->elements; i++) {
                const redisReply *key = reply->element[1]->element[i];
                if (key->type == REDIS_REPLY_STRING) {
                    each(arg, key->str);
                }
            }
        }
        freeReplyObject(reply);
        if (!good) {
            queue_link_drop(&queue->link);
            return error_set(err, ERR_QUEUE_DOWN, "Redis: SCAN answered in an unknown form");
        }
    } while (strcmp(cursor, "0") != 0);
    return 0;
}

static void count_key(void *arg, const char *key)
{
    (void)key;
    ++*(int *)arg;
}

static int count_keys(struct queue *queue, const char *pattern, int *ret, struct error *err)
{
    int found = 0;
    if (each_key(queue, pattern, count_key, &found, err) != 0) {
        return -1;
    }
    *ret = found;
    return 0;
}

int queue_alive(struct queue *queue, enum queue_role role, const char *host, int *ret,
                struct error *err)
{
    char pattern[QUEUE_KEY_BYTES + 2];
    snprintf(pattern, sizeof(pattern), "%s%s%s%s*", queue_prefix(queue), role_kind[role],
             host == NULL ? "" : host, host == NULL ? "" : ":");
    return count_keys(queue, pattern, ret, err);
}

struct beats {
    char prefix[QUEUE_KEY_BYTES];
    struct queue_beat *items;
    size_t count, capacity;
};

static void note_key(void *arg, const char *key)
{
    struct beats *beats = arg;
    const char *name = key + strlen(beats->prefix);
    for (size_t i = 0; i < beats->count; i++) {
        if (strcmp(beats->items[i].name, name) == 0) {
            return;
        }
    }
    if (beats->count == beats->capacity) {
        beats->capacity = beats->capacity == 0 ? 16 : 2 * beats->capacity;
        beats->items = xrealloc(beats->items, beats->capacity * sizeof(*beats->items));
    }
    struct queue_beat *beat = &beats->items[beats->count];
    memset(beat, 0, sizeof(*beat));
    if (str_copy(beat->name, sizeof(beat->name), name) == 0) {
        beats->count++;
    }
}

static int read_beat(struct queue *queue, const char *prefix, struct queue_beat *beat,
                     struct error *err)
{
    char key[QUEUE_KEY_BYTES + sizeof(beat->name)];
    redisReply *reply;
    snprintf(key, sizeof(key), "%s%s", prefix, beat->name);
    queue_args_text(queue_begin(queue, "GET"), key);
    if (queue_link_call(&queue->link, &queue->args, &reply, err) != 0) {
        if (err->code != ERR_LIMIT) {
            return -1;
        }
        beat->info_json = xstrdup(""); /* of another type */
        return 0;
    }
    /* else it has just ended */
    beat->info_json = xstrdup(reply->type == REDIS_REPLY_STRING ? reply->str : "");
    freeReplyObject(reply);
    return 0;
}

int queue_beats_read(struct queue *queue, enum queue_role role, struct queue_beat **ret,
                     size_t *ret_count, struct error *err)
{
    struct beats beats = {.count = 0};
    char pattern[QUEUE_KEY_BYTES + 1];
    queue_key(&queue->link.keys, role_kind[role], "", beats.prefix);
    snprintf(pattern, sizeof(pattern), "%s*", beats.prefix);
    int status = each_key(queue, pattern, note_key, &beats, err);
    for (size_t i = 0; i < beats.count && status == 0; i++) {
        status = read_beat(queue, beats.prefix, &beats.items[i], err);
    }
    if (status != 0) {
        queue_beats_free(beats.items, beats.count);
        return -1;
    }
    *ret = beats.items;
    *ret_count = beats.count;
    return 0;
}

void queue_beats_free(struct queue_beat *beats, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        free(beats[i].info_json);
    }
    free(beats);
}

int queue_workers_alive(struct queue *queue, int *ret, struct error *err)
{
    return queue_alive(queue, QUEUE_ROLE_WORKER, NULL, ret, err);
}

int queue_health(const struct queue_options *options, enum queue_role role, struct error *err)
{
    struct queue *queue = queue_new(options);
    char host[64] = "localhost";
    int alive = 0;
    gethostname(host, sizeof(host) - 1);
    int status = queue_alive(queue, role, host, &alive, err);
    if (status == 0 && alive == 0) {
        status = error_set(err, ERR_NOT_FOUND, "no live heartbeat of this host (%s%s*) in Redis",
                           queue_prefix(queue), role_kind[role]);
    }
    queue_free(queue);
    return status;
}

/* The value of "name:value\r\n" in INFO's text, or "". */
static void info_text(const char *info, const char *name, char *ret, size_t size)
{
    size_t length = strlen(name);
    ret[0] = '\0';
    for (const char *line = info; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, name, length) == 0 && line[length] == ':') {
            const char *value = line + length + 1;
            snprintf(ret, size, "%.*s", (int)strcspn(value, "\r\n"), value);
            return;
        }
    }
}

static int64_t info_int(const char *info, const char *name)
{
    char text[32];
    info_text(info, name, text, sizeof(text));
    return strtoll(text, NULL, 10);
}

static int read_info(struct queue *queue, struct queue_facts *ret, struct error *err)
{
    redisReply *reply;
    queue_begin(queue, "INFO");
    if (queue_link_call(&queue->link, &queue->args, &reply, err) != 0) {
        return -1;
    }
    if (reply->type == REDIS_REPLY_STRING) {
        info_text(reply->str, "redis_version", ret->version, sizeof(ret->version));
        info_text(reply->str, "role", ret->role, sizeof(ret->role));
        info_text(reply->str, "maxmemory_policy", ret->maxmemory_policy,
                  sizeof(ret->maxmemory_policy));
        ret->aof = info_int(reply->str, "aof_enabled") == 1;
        ret->used_memory_bytes = info_int(reply->str, "used_memory");
        ret->maxmemory_bytes = info_int(reply->str, "maxmemory");
    }
    freeReplyObject(reply);
    return 0;
}

static int read_time(struct queue *queue, struct queue_facts *ret, struct error *err)
{
    redisReply *reply;
    queue_begin(queue, "TIME");
    if (queue_link_call(&queue->link, &queue->args, &reply, err) != 0) {
        return -1;
    }
    if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 2 &&
        reply->element[0]->type == REDIS_REPLY_STRING &&
        reply->element[1]->type == REDIS_REPLY_STRING) {
        ret->wall_ms = strtoll(reply->element[0]->str, NULL, 10) * 1000 +
                       strtoll(reply->element[1]->str, NULL, 10) / 1000;
    }
    freeReplyObject(reply);
    return 0;
}

static int read_dead(struct queue *queue, struct queue_facts *ret, struct error *err)
{
    redisReply *reply;
    queue_args_text(queue_begin(queue, "XLEN"), queue->link.keys.dead);
    if (queue_link_call(&queue->link, &queue->args, &reply, err) != 0) {
        return err->code == ERR_LIMIT ? 0 : -1; /* queue_condition() tells */
    }
    ret->dead_letters = reply->type == REDIS_REPLY_INTEGER ? reply->integer : 0;
    freeReplyObject(reply);
    return 0;
}

/* One more thing that is wrong. */
static void complain(char ret[QUEUE_CONDITION_BYTES], const char *format, ...)
    __attribute__((format(printf, 2, 3)));
static void complain(char ret[QUEUE_CONDITION_BYTES], const char *format, ...)
{
    size_t used = strlen(ret);
    va_list args;
    if (used > 0 && used + 2 < QUEUE_CONDITION_BYTES) {
        used += (size_t)snprintf(ret + used, QUEUE_CONDITION_BYTES - used, "; ");
    }
    va_start(args, format);
    vsnprintf(ret + used, QUEUE_CONDITION_BYTES - used, format, args);
    va_end(args);
}

int queue_condition(struct queue *queue, char ret[QUEUE_CONDITION_BYTES], struct error *err)
{
    struct queue_facts facts = {.aof = false};
    const struct queue_keys *keys = &queue->link.keys;
    const char *names[JOB_OP_COUNT + 2];
    enum { COUNT = JOB_OP_COUNT + 2 };
    ret[0] = '\0';
    if (read_info(queue, &facts, err) != 0) {
        return -1;
    }
    if (facts.maxmemory_bytes > 0 && facts.used_memory_bytes >= facts.maxmemory_bytes &&
        strcmp(facts.maxmemory_policy, "noeviction") == 0) {
        complain(ret, "it is full (%lld of %lld KB): wake-ups are refused",
                 (long long)(facts.used_memory_bytes >> 10),
                 (long long)(facts.maxmemory_bytes >> 10));
    }
    for (int i = 0; i < COUNT; i++) {
        names[i] = i < JOB_OP_COUNT    ? keys->streams[i]
                   : i == JOB_OP_COUNT ? keys->dead
                                       : keys->mark;
        queue_args_text(queue_begin(queue, "TYPE"), names[i]);
        queue_link_append(&queue->link, &queue->args);
    }
    for (int i = 0; i < COUNT; i++) {
        const char *wanted = i <= JOB_OP_COUNT ? "stream" : "string";
        redisReply *reply;
        if (queue_link_read(&queue->link, &reply, err) != 0) {
            return -1;
        }
        if (reply->type == REDIS_REPLY_STATUS && strcmp(reply->str, wanted) != 0 &&
            strcmp(reply->str, "none") != 0) {
            complain(ret, "%s is a %s, not a %s", names[i], reply->str, wanted);
        }
        freeReplyObject(reply);
    }
    return 0;
}

int queue_facts_read(struct queue *queue, struct queue_facts *ret, struct error *err)
{
    struct queue_facts facts = {.aof = false};
    if (read_info(queue, &facts, err) != 0 || read_time(queue, &facts, err) != 0 ||
        read_dead(queue, &facts, err) != 0) {
        return -1;
    }
    *ret = facts;
    return 0;
}
