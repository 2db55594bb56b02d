/* process_subscriber - see process_subscriber.h. */
#include "deploy/sandbox-host/agent/process_subscriber.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/agent/process_table.h"

enum { QUEUE_BYTES = 1 << 20, QUEUE_SLOTS = 512 };

/* Guarded by the table's lock. */
struct process_sub {
    struct process *process;
    struct process_sub *next;
    pthread_cond_t wake;
    struct process_chunk *slots[QUEUE_SLOTS];
    unsigned first, count;
    size_t bytes;
    int64_t progress_ms; /* when it last took something, or was last empty */
    bool owner;          /* the Start call's: hears of the deadline */
    bool expired, dropped;
};

static void chunk_release(struct process_chunk *chunk)
{
    if (--chunk->refs == 0) {
        free(chunk);
    }
}

static bool sub_full(const struct process_sub *sub)
{
    return !sub->dropped && !sub->expired &&
           (sub->bytes >= QUEUE_BYTES || sub->count == QUEUE_SLOTS);
}

static void sub_empty(struct process_sub *sub)
{
    while (sub->count > 0) {
        chunk_release(sub->slots[sub->first]);
        sub->first = (sub->first + 1) % QUEUE_SLOTS;
        sub->count--;
    }
    sub->bytes = 0;
}

bool process_subscriber_any_full(const struct process *process)
{
    for (const struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        if (sub_full(sub)) {
            return true;
        }
    }
    return false;
}

void process_subscriber_publish(struct process *process, enum process_output output,
                                const char *data, size_t length)
{
    struct process_chunk *chunk = NULL;

    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        if (sub->dropped || sub->expired || sub->count == QUEUE_SLOTS) {
            continue;
        }
        if (chunk == NULL) {
            chunk = xmalloc(sizeof(*chunk) + length);
            chunk->refs = 0;
            chunk->output = output;
            chunk->length = length;
            memcpy(chunk->data, data, length);
        }
        chunk->refs++;
        if (sub->count == 0) {
            sub->progress_ms = clock_mono_ms();
        }
        sub->slots[(sub->first + sub->count++) % QUEUE_SLOTS] = chunk;
        sub->bytes += length;
        pthread_cond_signal(&sub->wake);
    }
}

void process_subscriber_end(struct process *process)
{
    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        pthread_cond_signal(&sub->wake);
    }
}

void process_subscriber_expire(struct process *process)
{
    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        if (sub->owner) {
            sub->expired = true;
            sub_empty(sub);
            pthread_cond_signal(&sub->wake);
        }
    }
}

bool process_subscriber_drop_stalled(struct process *process, int64_t now, int64_t *next)
{
    bool full = false;

    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        if (!sub_full(sub)) {
            continue;
        }
        if (now - sub->progress_ms >= PROCESS_STALL_MS) {
            sub->dropped = true;
            sub_empty(sub);
            pthread_cond_signal(&sub->wake);
        } else {
            full = true;
            *next = sub->progress_ms + PROCESS_STALL_MS < *next
                        ? sub->progress_ms + PROCESS_STALL_MS
                        : *next;
        }
    }
    return full;
}

void process_subscriber_forgive(struct process *process, int64_t late_ms)
{
    for (struct process_sub *sub = process->subs; sub != NULL; sub = sub->next) {
        sub->progress_ms += late_ms;
    }
}

struct process_sub *process_subscriber_add(struct process *process, bool owner)
{
    struct process_sub *sub = xcalloc(1, sizeof(*sub));

    sub->process = process;
    sub->owner = owner;
    sub->progress_ms = clock_mono_ms();
    clock_cond_init(&sub->wake);
    sub->next = process->subs;
    process->subs = sub;
    process->refs++;
    return sub;
}

int process_connect(const struct process_selector *selector, struct process_sub **ret_sub,
                    uint32_t *ret_pid, struct connect_error *err)
{
    int result = -1;

    pthread_mutex_lock(&process_table.lock);
    struct process *process = process_find(selector, true, err);
    if (process != NULL) {
        *ret_pid = (uint32_t)process->pid;
        *ret_sub = process_subscriber_add(process, false);
        result = 0;
    }
    pthread_mutex_unlock(&process_table.lock);
    return result;
}

void process_wait(struct process_sub *sub, int64_t wait_ms, struct process_news *ret)
{
    const struct timespec until = clock_cond_until(wait_ms);

    ret->count = 0;
    pthread_mutex_lock(&process_table.lock);
    while (sub->count == 0 && !sub->expired && !sub->dropped && !sub->process->ended &&
           pthread_cond_timedwait(&sub->wake, &process_table.lock, &until) == 0) {}
    if (sub->expired) {
        ret->kind = PROCESS_EXPIRED;
    } else if (sub->dropped) {
        ret->kind = PROCESS_DROPPED;
    } else if (sub->count > 0) {
        ret->kind = PROCESS_DATA;
        while (sub->count > 0 && ret->count < PROCESS_BATCH) {
            struct process_chunk *chunk = sub->slots[sub->first];
            sub->first = (sub->first + 1) % QUEUE_SLOTS;
            sub->count--;
            sub->bytes -= chunk->length;
            ret->chunks[ret->count++] = chunk;
        }
        sub->progress_ms = clock_mono_ms();
        if (sub->process->blocked) {
            process_table_wake();
        }
    } else if (sub->process->ended) {
        ret->kind = PROCESS_ENDED;
        ret->wait_status = sub->process->wait_status;
    } else {
        ret->kind = PROCESS_IDLE;
    }
    pthread_mutex_unlock(&process_table.lock);
}

void process_news_done(struct process_news *news)
{
    pthread_mutex_lock(&process_table.lock);
    for (int i = 0; i < news->count; i++) {
        chunk_release(news->chunks[i]);
    }
    pthread_mutex_unlock(&process_table.lock);
    news->count = 0;
}

void process_unsubscribe(struct process_sub *sub)
{
    pthread_mutex_lock(&process_table.lock);
    struct process *process = sub->process;
    struct process_sub **link = &process->subs;
    while (*link != sub) {
        link = &(*link)->next;
    }
    *link = sub->next;
    sub_empty(sub);
    if (process->blocked) {
        process_table_wake();
    }
    process_unref(process);
    pthread_mutex_unlock(&process_table.lock);
    pthread_cond_destroy(&sub->wake);
    free(sub);
}
