/* activity - see activity.h. */
#include "gateway/work/activity.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

enum {
    NEAR_MS = 15000,       /* a deadline nearer than this is moved before the call starts */
    TOUCH_EVERY_MS = 5000, /* while a call runs */
    SHORT_IDLE_DIVISOR = 4 /* ... or this fraction of a short idle time */
};

struct entry {
    char sandbox_id[UUID_BYTES];
    int running;
    bool dirty, paused;
    unsigned pauses;
    int64_t every_ms, touched_ms;
    struct entry *next;
};

struct activity {
    struct store *store;
    pthread_mutex_t lock;
    struct entry *entries;
};

struct activity *activity_new(struct store *store)
{
    struct activity *activity = xcalloc(1, sizeof(*activity));

    activity->store = store;
    pthread_mutex_init(&activity->lock, NULL);
    return activity;
}

void activity_free(struct activity *activity)
{
    if (activity == NULL) {
        return;
    }
    while (activity->entries != NULL) {
        struct entry *next = activity->entries->next;

        free(activity->entries);
        activity->entries = next;
    }
    pthread_mutex_destroy(&activity->lock);
    free(activity);
}

/* Caller holds the lock. NULL: no call uses the sandbox. */
static struct entry *find(struct activity *activity, const char *sandbox_id)
{
    struct entry *entry = activity->entries;

    while (entry != NULL && strcmp(entry->sandbox_id, sandbox_id) != 0) {
        entry = entry->next;
    }
    return entry;
}

/* Caller holds the lock. Returns the sandbox's entry, marked as changed since the last flush. */
static struct entry *mark(struct activity *activity, const char *sandbox_id)
{
    struct entry *entry = find(activity, sandbox_id);

    if (entry == NULL) {
        entry = xcalloc(1, sizeof(*entry));
        str_copy(entry->sandbox_id, sizeof(entry->sandbox_id), sandbox_id);
        entry->next = activity->entries;
        activity->entries = entry;
    }
    entry->dirty = true;
    return entry;
}

int activity_begin(struct activity *activity, const struct sandbox *sandbox, struct error *err)
{
    const char *id = sandbox->id;
    struct entry *entry;

    if (sandbox->timeout_mode == TIMEOUT_IDLE &&
        sandbox->expires_at_ms - sandbox->read_at_ms < NEAR_MS &&
        store_sandbox_touch(activity->store, &id, 1, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&activity->lock);
    entry = mark(activity, id);
    entry->running++;
    entry->every_ms = sandbox->timeout_ms / SHORT_IDLE_DIVISOR < TOUCH_EVERY_MS
                          ? sandbox->timeout_ms / SHORT_IDLE_DIVISOR
                          : TOUCH_EVERY_MS;
    pthread_mutex_unlock(&activity->lock);
    return 0;
}

void activity_end(struct activity *activity, const char *sandbox_id)
{
    struct entry *entry;

    pthread_mutex_lock(&activity->lock);
    entry = find(activity, sandbox_id);
    if (entry != NULL) {
        entry->running--;
        entry->dirty = true;
    }
    pthread_mutex_unlock(&activity->lock);
}

/* Returns the ids to write now, as a heap array of heap strings, and removes entries without calls.
 */
static char **take_due(struct activity *activity, size_t *ret_count)
{
    int64_t now_ms = clock_mono_ms();
    size_t capacity = 0, count = 0;
    char **ids = NULL;

    pthread_mutex_lock(&activity->lock);
    for (struct entry **at = &activity->entries; *at != NULL;) {
        struct entry *entry = *at;

        if (entry->dirty || now_ms - entry->touched_ms >= entry->every_ms) {
            if (count == capacity) {
                capacity = capacity > 0 ? capacity * 2 : 16;
                ids = xrealloc(ids, capacity * sizeof(*ids));
            }
            ids[count++] = xstrdup(entry->sandbox_id);
            entry->dirty = false;
            entry->touched_ms = now_ms;
        }
        if (entry->running == 0) {
            *at = entry->next;
            free(entry);
        } else {
            at = &entry->next;
        }
    }
    pthread_mutex_unlock(&activity->lock);
    *ret_count = count;
    return ids;
}

/* The write failed: marks the ids again for the next flush, even if their calls have ended
 * meanwhile. */
static void give_back(struct activity *activity, char *const *ids, size_t count)
{
    pthread_mutex_lock(&activity->lock);
    for (size_t i = 0; i < count; i++) {
        mark(activity, ids[i]);
    }
    pthread_mutex_unlock(&activity->lock);
}

int activity_flush(struct activity *activity, struct error *err)
{
    size_t count;
    char **ids = take_due(activity, &count);
    int status = 0;

    if (count > 0) {
        status = store_sandbox_touch(activity->store, (const char *const *)ids, count, err);
        if (status < 0) {
            give_back(activity, ids, count);
        }
    }
    for (size_t i = 0; i < count; i++) {
        free(ids[i]);
    }
    free(ids);
    return status;
}

/* Returns the ids of all sandboxes in use, as a heap array of heap strings. */
static char **take_used(struct activity *activity, size_t *ret_count)
{
    size_t count = 0, used = 0;
    char **ids;

    pthread_mutex_lock(&activity->lock);
    for (struct entry *entry = activity->entries; entry != NULL; entry = entry->next) {
        count += entry->running > 0;
    }
    ids = xcalloc(count + 1, sizeof(*ids));
    for (struct entry *entry = activity->entries; entry != NULL; entry = entry->next) {
        if (entry->running > 0) {
            ids[used++] = xstrdup(entry->sandbox_id);
        }
    }
    pthread_mutex_unlock(&activity->lock);
    *ret_count = count;
    return ids;
}

int activity_watch(struct activity *activity, struct error *err)
{
    size_t count;
    char **ids = take_used(activity, &count);
    bool *paused = xcalloc(count + 1, sizeof(*paused));
    int status = count > 0 ? store_sandboxes_paused(activity->store, (const char *const *)ids,
                                                    count, paused, err)
                           : 0;

    pthread_mutex_lock(&activity->lock);
    for (size_t i = 0; i < count; i++) {
        struct entry *entry = status == 0 ? find(activity, ids[i]) : NULL;

        if (entry != NULL) {
            entry->pauses += paused[i] && !entry->paused;
            entry->paused = paused[i];
        }
        free(ids[i]);
    }
    pthread_mutex_unlock(&activity->lock);
    free(ids);
    free(paused);
    return status;
}

unsigned activity_pauses(struct activity *activity, const char *sandbox_id)
{
    struct entry *entry;
    unsigned pauses;

    pthread_mutex_lock(&activity->lock);
    entry = find(activity, sandbox_id);
    pauses = entry != NULL ? entry->pauses : 0;
    pthread_mutex_unlock(&activity->lock);
    return pauses;
}
