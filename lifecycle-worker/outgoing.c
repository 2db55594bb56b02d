/* outgoing - see outgoing.h. */
#include "lifecycle-worker/outgoing.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "lifecycle-worker/dependencies.h"

enum { ITEMS_MAX = 8192 }; /* of each list */

/* Makes room for one more element; false when the list is full. */
static bool grow(void **list, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity) {
        return true;
    }
    if (count >= ITEMS_MAX) {
        return false;
    }
    *capacity = *capacity == 0 ? 64 : *capacity * 2;
    *list = xrealloc(*list, *capacity * size);
    return true;
}

void outgoing_ack(struct worker *worker, const struct queue_entry *entry)
{
    struct worker_outgoing *out = &worker->outgoing;
    if (entry->id[0] != '\0' &&
        grow((void **)&out->acks, out->ack_count, &out->ack_capacity, sizeof(*out->acks))) {
        out->acks[out->ack_count++] = *entry;
    }
}

void outgoing_wake(struct worker *worker, const struct wakeup *wakeup)
{
    struct worker_outgoing *out = &worker->outgoing;
    if (grow((void **)&out->wakeups, out->wakeup_count, &out->wakeup_capacity,
             sizeof(*out->wakeups))) {
        out->wakeups[out->wakeup_count++] = *wakeup;
    }
}

void outgoing_reply(struct worker *worker, const struct job *job, enum job_state state)
{
    struct worker_outgoing *out = &worker->outgoing;
    if (job->reply_to[0] != '\0' && grow((void **)&out->replies, out->reply_count,
                                         &out->reply_capacity, sizeof(*out->replies))) {
        struct queue_reply *reply = &out->replies[out->reply_count++];
        str_copy(reply->gateway, sizeof(reply->gateway), job->reply_to);
        str_copy(reply->job_id, sizeof(reply->job_id), job->id);
        reply->state = state;
    }
}

void outgoing_send(struct worker *worker)
{
    struct worker_outgoing *out = &worker->outgoing;
    struct error err = ERROR_INIT;
    if (out->ack_count + out->reply_count + out->wakeup_count == 0) {
        return;
    }
    if (queue_settle(worker->queue, out->acks, out->ack_count, out->replies, out->reply_count,
                     out->wakeups, out->wakeup_count, &err) != 0) {
        dependencies_queue_failed(worker, &err);
        if (err.code != ERR_LIMIT) {
            return;
        }
    }
    dependencies_queue_works(worker);
    out->ack_count = out->reply_count = out->wakeup_count = 0;
}

void outgoing_free(struct worker *worker)
{
    free(worker->outgoing.acks);
    free(worker->outgoing.replies);
    free(worker->outgoing.wakeups);
    memset(&worker->outgoing, 0, sizeof(worker->outgoing));
}
