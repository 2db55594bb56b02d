/*
 * link - see link.h.
 *
 * Owns: the only calls that open and close hiredis contexts. Commands go out as argument
 * vectors: user text never meets a format string. Threads: one at a time per link.
 */
#include "common/queue/link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"

#define RECONNECT_PAUSE_MS 250
#define AWAY_SHARE         60 /* a connection that still does is tried anew for 1/60 of the time */

/* ---- keys --------------------------------------------------------------------------------- */

const char *queue_key(const struct queue_keys *keys, const char *kind, const char *name,
                      char ret[QUEUE_KEY_BYTES])
{
    snprintf(ret, QUEUE_KEY_BYTES, "%s%s%s", keys->prefix, kind, name);
    return ret;
}

void queue_keys_init(struct queue_keys *keys, const char *prefix)
{
    memset(keys, 0, sizeof(*keys));
    snprintf(keys->prefix, sizeof(keys->prefix), "%s",
             prefix == NULL ? QUEUE_PREFIX_DEFAULT : prefix);
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        queue_key(keys, QUEUE_KEY_JOBS, job_op_name((enum job_op)op), keys->streams[op]);
    }
    queue_key(keys, QUEUE_KEY_DEAD, "", keys->dead);
    queue_key(keys, QUEUE_KEY_MARK, "", keys->mark);
}

/* ---- whose keys they are ------------------------------------------------------------------- */

void queue_owner_set(struct queue_owner *owner, const char *deployment_id)
{
    if (!atomic_load(&owner->known)) {
        str_copy(owner->deployment_id, sizeof(owner->deployment_id), deployment_id);
        atomic_store(&owner->known, true);
    }
}

int queue_owner_check(struct queue_owner *owner, const char *mark, const char *prefix,
                      struct error *err)
{
    if (owner == NULL || !atomic_load(&owner->known)) {
        return 0;
    }
    bool foreign = id_is_uuid_lower(mark) && strcmp(mark, owner->deployment_id) != 0;
    atomic_store(&owner->foreign, foreign);
    return !foreign ? 0
                    : error_set(err, ERR_CONFIG,
                                "the Redis keys %s* are those of deployment %s, and this is "
                                "deployment %s: give each its own REDIS_PREFIX, or delete the key "
                                "%smark if that one is no more",
                                prefix, mark, owner->deployment_id, prefix);
}

/* ---- arguments ---------------------------------------------------------------------------- */

void queue_args_init(struct queue_args *args)
{
    memset(args, 0, sizeof(*args));
}

void queue_args_done(struct queue_args *args)
{
    free(args->argv);
    free(args->lengths);
    memset(args, 0, sizeof(*args));
}

void queue_args_reset(struct queue_args *args)
{
    args->count = 0;
    args->number_count = 0;
}

void queue_args_text(struct queue_args *args, const char *text)
{
    if (args->count == args->capacity) {
        args->capacity = args->capacity == 0 ? 32 : args->capacity * 2;
        args->argv = xrealloc(args->argv, (size_t)args->capacity * sizeof(*args->argv));
        args->lengths = xrealloc(args->lengths, (size_t)args->capacity * sizeof(*args->lengths));
    }
    args->argv[args->count] = text;
    args->lengths[args->count] = strlen(text);
    args->count++;
}

void queue_args_int(struct queue_args *args, int64_t number)
{
    if (args->number_count == QUEUE_ARG_NUMBERS) {
        abort(); /* a command of ours with more numbers than any has */
    }
    char *text = args->numbers[args->number_count++];
    snprintf(text, sizeof(args->numbers[0]), "%lld", (long long)number);
    queue_args_text(args, text);
}

void queue_args_pair(struct queue_args *args, const char *field, const char *value)
{
    queue_args_text(args, field);
    queue_args_text(args, value == NULL ? "" : value);
}

/* ---- connection --------------------------------------------------------------------------- */

void queue_link_init(struct queue_link *link, const struct queue_options *options)
{
    memset(link, 0, sizeof(*link));
    queue_keys_init(&link->keys, options->prefix);
    link->owner = options->owner;
    link->host = xstrdup(options->host);
    link->port = options->port;
    link->database = options->database;
    link->username = options->username == NULL ? NULL : xstrdup(options->username);
    link->password = options->password == NULL ? NULL : xstrdup(options->password);
    link->connect_timeout_ms = options->connect_timeout_ms > 0 ? options->connect_timeout_ms : 1000;
    link->command_timeout_ms = options->command_timeout_ms > 0 ? options->command_timeout_ms : 2000;
    link->max_age_ms = options->max_age_ms;
}

void queue_link_drop(struct queue_link *link)
{
    if (link->context != NULL) {
        redisFree(link->context);
        link->context = NULL;
    }
}

void queue_link_done(struct queue_link *link)
{
    queue_link_drop(link);
    free(link->host);
    free(link->username);
    free(link->password);
    memset(link, 0, sizeof(*link));
}

static struct timeval to_timeval(int ms)
{
    struct timeval tv = {.tv_sec = ms / 1000, .tv_usec = (ms % 1000) * 1000};
    return tv;
}

static int link_error(struct queue_link *link, struct error *err)
{
    error_set(err, ERR_QUEUE_DOWN, "Redis: %s",
              link->context != NULL && link->context->errstr[0] != '\0' ? link->context->errstr
                                                                        : "connection failed");
    queue_link_drop(link);
    return -1;
}

/* Reads the answer to GET of the mark. */
static int link_check_mark(struct queue_link *link, struct error *err)
{
    redisReply *reply;
    if (queue_link_read(link, &reply, err) != 0) {
        return -1;
    }
    /* else it is absent, or something else keeps us from reading it, as later commands will say */
    int status = queue_owner_check(link->owner, reply->type == REDIS_REPLY_STRING ? reply->str : "",
                                   link->keys.prefix, err);
    freeReplyObject(reply);
    return status;
}

static int link_handshake(struct queue_link *link, struct error *err)
{
    struct queue_args args;
    queue_args_init(&args);
    size_t replies = 1;
    if (link->password != NULL && link->password[0] != '\0') {
        queue_args_text(&args, "AUTH");
        if (link->username != NULL && link->username[0] != '\0') {
            queue_args_text(&args, link->username);
        }
        queue_args_text(&args, link->password);
        queue_link_append(link, &args);
        replies++;
    }
    if (link->database != 0) {
        queue_args_reset(&args);
        queue_args_text(&args, "SELECT");
        queue_args_int(&args, link->database);
        queue_link_append(link, &args);
        replies++;
    }
    /* what accepts a connection need not be a server that answers */
    queue_args_reset(&args);
    queue_args_text(&args, "PING");
    queue_link_append(link, &args);
    queue_args_reset(&args);
    queue_args_pair(&args, "GET", link->keys.mark);
    queue_link_append(link, &args);
    queue_args_done(&args);
    return queue_link_skip(link, replies, err) != 0 ? -1 : link_check_mark(link, err);
}

/* Makes link->context, which is NULL. */
static int link_connect(struct queue_link *link, struct error *err)
{
    int64_t start_ms = clock_mono_ms();
    if (start_ms < link->next_connect_ms) {
        return error_set(err, ERR_QUEUE_DOWN, "Redis is away; the next attempt is due in %lld ms",
                         (long long)(link->next_connect_ms - start_ms));
    }
    link->next_connect_ms = start_ms + RECONNECT_PAUSE_MS;
    struct timeval connect_limit = to_timeval(link->connect_timeout_ms);
    link->context = link->host[0] == '/'
                        ? redisConnectUnixWithTimeout(link->host, connect_limit)
                        : redisConnectWithTimeout(link->host, link->port, connect_limit);
    int status = 0;
    if (link->context == NULL || link->context->err != 0) {
        status = link_error(link, err);
    } else if (redisSetTimeout(link->context, to_timeval(link->command_timeout_ms)) != REDIS_OK ||
               (link->host[0] != '/' && redisEnableKeepAlive(link->context) != REDIS_OK)) {
        status = link_error(link, err);
    } else {
        status = link_handshake(link, err);
    }
    if (status != 0) {
        /* a host that swallows packets must not take most of an event loop's time */
        int64_t took_ms = clock_mono_ms() - start_ms;
        if (took_ms > RECONNECT_PAUSE_MS) {
            link->next_connect_ms = start_ms + 3 * took_ms;
        }
        queue_link_drop(link);
        return -1;
    }
    return 0;
}

int queue_link_open(struct queue_link *link, bool *ret_fresh, struct error *err)
{
    redisContext *old = link->context;
    int64_t now_ms = clock_mono_ms();
    if (old != NULL && link->owner != NULL && atomic_load(&link->owner->foreign)) {
        queue_link_drop(link); /* another connection has seen it; the next one asks again */
        old = NULL;
    }
    bool aged = old != NULL && link->max_age_ms > 0 && now_ms >= link->aged_ms;
    if (ret_fresh != NULL) {
        *ret_fresh = false;
    }
    if (old != NULL && !aged) {
        return 0;
    }
    link->context = NULL;
    link->aged_ms = now_ms + link->max_age_ms;
    if (old == NULL) {
        if (link_connect(link, err) != 0) {
            return -1;
        }
    } else {
        struct error no_better = ERROR_INIT; /* the old one may still do */
        if (link_connect(link, &no_better) != 0) {
            link->context = old;
            /* nor may one that keeps silent, or the name's server, when the old one is well */
            link->aged_ms += AWAY_SHARE * (clock_mono_ms() - now_ms);
            return 0;
        }
        redisFree(old);
    }
    if (ret_fresh != NULL) {
        *ret_fresh = true;
    }
    return 0;
}

void queue_link_append(struct queue_link *link, const struct queue_args *args)
{
    if (redisAppendCommandArgv(link->context, args->count, args->argv, args->lengths) != REDIS_OK) {
        abort(); /* fails by memory exhaustion only */
    }
}

int queue_link_read(struct queue_link *link, redisReply **ret, struct error *err)
{
    void *reply = NULL;
    if (redisGetReply(link->context, &reply) != REDIS_OK || reply == NULL) {
        return link_error(link, err);
    }
    *ret = reply;
    return 0;
}

bool queue_reply_begins(const redisReply *reply, const char *prefix)
{
    return strncmp(reply->str, prefix, strlen(prefix)) == 0;
}

int queue_reply_error(const redisReply *reply, struct error *err)
{
    if (queue_reply_begins(reply, "NOGROUP") || queue_reply_begins(reply, "UNBLOCKED")) {
        return error_set(err, ERR_NOT_FOUND, "Redis: %s", reply->str);
    }
    if (queue_reply_begins(reply, "WRONGTYPE") || queue_reply_begins(reply, "OOM") ||
        queue_reply_begins(reply, "MISCONF") || queue_reply_begins(reply, "NOREPLICAS")) {
        return error_set(err, ERR_LIMIT, "Redis: %s", reply->str);
    }
    return error_set(err, ERR_QUEUE_DOWN, "Redis: %s", reply->str);
}

bool queue_link_kept(const struct error *err)
{
    return err->code == ERR_NOT_FOUND || err->code == ERR_LIMIT;
}

int queue_link_expect(struct queue_link *link, redisReply **ret, struct error *err)
{
    redisReply *reply;
    if (queue_link_read(link, &reply, err) != 0) {
        return -1;
    }
    if (reply->type == REDIS_REPLY_ERROR) {
        queue_reply_error(reply, err);
        freeReplyObject(reply);
        /* LOADING, READONLY, NOAUTH ...: the next connection may find a better server */
        if (!queue_link_kept(err)) {
            queue_link_drop(link);
        }
        return -1;
    }
    *ret = reply;
    return 0;
}

int queue_link_skip(struct queue_link *link, size_t count, struct error *err)
{
    bool failed = false;
    for (size_t i = 0; i < count; i++) {
        redisReply *reply;
        if (queue_link_read(link, &reply, err) != 0) {
            return -1;
        }
        if (reply->type == REDIS_REPLY_ERROR && !failed) {
            failed = true;
            queue_reply_error(reply, err);
        }
        freeReplyObject(reply);
    }
    if (failed && !queue_link_kept(err)) {
        queue_link_drop(link);
    }
    return failed ? -1 : 0;
}

int queue_link_call(struct queue_link *link, const struct queue_args *args, redisReply **ret,
                    struct error *err)
{
    if (queue_link_open(link, NULL, err) != 0) {
        return -1;
    }
    queue_link_append(link, args);
    return queue_link_expect(link, ret, err);
}

/* ---- entries ------------------------------------------------------------------------------ */

int queue_stream_op(const struct queue_keys *keys, const redisReply *key)
{
    if (key->type != REDIS_REPLY_STRING) {
        return -1;
    }
    for (int op = 0; op < JOB_OP_COUNT; op++) {
        if (strcmp(key->str, keys->streams[op]) == 0) {
            return op;
        }
    }
    return -1;
}

void queue_args_wakeup(struct queue_args *args, const struct queue_keys *keys,
                       const struct wakeup *wakeup)
{
    queue_args_text(args, "XADD");
    queue_args_text(args, keys->streams[wakeup->op]);
    queue_args_text(args, "*");
    queue_args_pair(args, QUEUE_FIELD_JOB, wakeup->job_id);
    queue_args_pair(args, QUEUE_FIELD_OP, job_op_name(wakeup->op));
    queue_args_pair(args, QUEUE_FIELD_SANDBOX, wakeup->sandbox_id);
    queue_args_text(args, QUEUE_FIELD_ATTEMPT);
    queue_args_int(args, wakeup->attempt);
    queue_args_pair(args, QUEUE_FIELD_REQUEST, wakeup->request_id);
    queue_args_text(args, QUEUE_FIELD_ENQUEUED);
    queue_args_int(args, wakeup->enqueued_at_ms);
    queue_args_pair(args, QUEUE_FIELD_REPLY, wakeup->reply_to);
    queue_args_pair(args, QUEUE_FIELD_TRACE, wakeup->traceparent);
}

/* Copies a field's value; one that does not fit is none. */
static void take_text(char *dst, size_t size, const redisReply *value)
{
    if (str_copy(dst, size, value->str) != 0) {
        dst[0] = '\0';
    }
}

static int64_t take_int(const redisReply *value)
{
    char *end;
    long long number = strtoll(value->str, &end, 10);
    return end == value->str || *end != '\0' ? 0 : number;
}

int queue_entry_parse(const redisReply *reply, enum job_op op, struct queue_entry *ret)
{
    if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2 ||
        reply->element[0]->type != REDIS_REPLY_STRING) {
        return -1;
    }
    memset(ret, 0, sizeof(*ret));
    ret->op = op;
    ret->wakeup.op = op;
    if (str_copy(ret->id, sizeof(ret->id), reply->element[0]->str) != 0) {
        return -1;
    }
    const redisReply *fields = reply->element[1];
    if (fields->type != REDIS_REPLY_ARRAY) {
        return 0;
    }
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const redisReply *name = fields->element[i];
        const redisReply *value = fields->element[i + 1];
        if (name->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING) {
            continue;
        }
        struct wakeup *wakeup = &ret->wakeup;
        if (strcmp(name->str, QUEUE_FIELD_JOB) == 0) {
            take_text(wakeup->job_id, sizeof(wakeup->job_id), value);
        } else if (strcmp(name->str, QUEUE_FIELD_SANDBOX) == 0) {
            take_text(wakeup->sandbox_id, sizeof(wakeup->sandbox_id), value);
        } else if (strcmp(name->str, QUEUE_FIELD_ATTEMPT) == 0) {
            wakeup->attempt = (int)take_int(value);
        } else if (strcmp(name->str, QUEUE_FIELD_REQUEST) == 0) {
            take_text(wakeup->request_id, sizeof(wakeup->request_id), value);
        } else if (strcmp(name->str, QUEUE_FIELD_ENQUEUED) == 0) {
            wakeup->enqueued_at_ms = take_int(value);
        } else if (strcmp(name->str, QUEUE_FIELD_REPLY) == 0) {
            take_text(wakeup->reply_to, sizeof(wakeup->reply_to), value);
        } else if (strcmp(name->str, QUEUE_FIELD_TRACE) == 0) {
            take_text(wakeup->traceparent, sizeof(wakeup->traceparent), value);
        }
    }
    if (!id_is_uuid_lower(ret->wakeup.job_id)) {
        ret->wakeup.job_id[0] = '\0';
    }
    return 0;
}
