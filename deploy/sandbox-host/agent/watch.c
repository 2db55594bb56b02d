/*
 * watch - inotify; see watch.h.
 */
#include "deploy/sandbox-host/agent/watch.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/id.h"
#include "deploy/sandbox-host/agent/entry.h"
#include "deploy/sandbox-host/agent/tree.h"

#define WATCH_MASK                                                                                 \
    (IN_CREATE | IN_MOVED_TO | IN_MOVED_FROM | IN_MODIFY | IN_ATTRIB | IN_DELETE |                 \
     IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR | IN_EXCL_UNLINK)
#define WATCH_BUFFER      8192
#define WATCH_MAX_FOLDERS 65536 /* of one recursive watch */

struct folder {
    int wd;
    char *relative; /* "" is the root */
};

struct watch {
    int fd;
    bool recursive, include_entry, full;
    char *root;
    struct folder *folders;
    size_t count, capacity;
};

struct watcher {
    struct watcher *next;
    char id[WATCH_ID_BYTES];
    struct watch *watch;
    cJSON *events;
    int count;
    bool removed;
    struct connect_error error;
};

static struct {
    pthread_mutex_t lock;
    struct watcher *first;
    int count;
    int wake_fd;
    bool running;
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake_fd = -1};

/* ---- one watch ---- */

static bool folder_add(struct watch *watch, const char *path)
{
    if (watch->count >= WATCH_MAX_FOLDERS) {
        watch->full = true;
        return false;
    }
    const int wd = inotify_add_watch(watch->fd, path, WATCH_MASK);
    if (wd < 0) {
        watch->full = watch->full || errno == ENOSPC;
        return false;
    }
    const size_t root = strlen(watch->root);
    const char *relative = strlen(path) > root ? path + root + 1 : "";
    for (size_t i = 0; i < watch->count; i++) {
        if (watch->folders[i].wd == wd) { /* the same folder under a new name */
            free(watch->folders[i].relative);
            watch->folders[i].relative = xstrdup(relative);
            return false;
        }
    }
    if (watch->count == watch->capacity) {
        watch->capacity = watch->capacity == 0 ? 4 : 2 * watch->capacity;
        watch->folders = xrealloc(watch->folders, watch->capacity * sizeof(*watch->folders));
    }
    watch->folders[watch->count++] = (struct folder){.wd = wd, .relative = xstrdup(relative)};
    return true;
}

static int add_if_folder(void *arg, const char *path)
{
    struct stat info;

    if (lstat(path, &info) == 0 && S_ISDIR(info.st_mode)) {
        (void)folder_add(arg, path);
    }
    return 0;
}

struct watch *watch_open(const char *path, bool recursive, bool include_entry,
                         struct connect_error *err)
{
    struct watch *watch = xcalloc(1, sizeof(*watch));
    size_t length = strlen(path);

    while (length > 1 && path[length - 1] == '/') {
        length--;
    }
    watch->root = length == 1 ? xstrdup("") : xstrndup(path, length); /* "" + "/name" */
    watch->recursive = recursive;
    watch->include_entry = include_entry;
    watch->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
    if (watch->fd < 0) {
        const int failure = errno;
        connect_fail(err, failure == EMFILE ? CONNECT_RESOURCE_EXHAUSTED : CONNECT_INTERNAL,
                     "error creating watcher: %s", strerrordesc_np(failure));
        watch_close(watch);
        return NULL;
    }
    const int wd = inotify_add_watch(watch->fd, path, WATCH_MASK);
    if (wd < 0) {
        const int failure = errno;
        connect_fail(err, CONNECT_INTERNAL, "error adding path %.300s to watcher: %s", path,
                     strerrordesc_np(failure));
        watch_close(watch);
        return NULL;
    }
    watch->capacity = 4;
    watch->folders = xcalloc(watch->capacity, sizeof(*watch->folders));
    watch->folders[watch->count++] = (struct folder){.wd = wd, .relative = xstrdup("")};
    if (recursive) {
        (void)tree_walk(path, watch->root, UINT_MAX, add_if_folder, watch);
    }
    if (watch->full) {
        connect_fail(err, CONNECT_RESOURCE_EXHAUSTED,
                     "more folders than can be watched under %.300s", path);
        watch_close(watch);
        return NULL;
    }
    return watch;
}

void watch_close(struct watch *watch)
{
    if (watch == NULL) {
        return;
    }
    if (watch->fd >= 0) {
        close(watch->fd);
    }
    for (size_t i = 0; i < watch->count; i++) {
        free(watch->folders[i].relative);
    }
    free(watch->folders);
    free(watch->root);
    free(watch);
}

int watch_fd(const struct watch *watch)
{
    return watch->fd;
}

struct delivery {
    struct watch *watch;
    void (*event)(void *arg, cJSON *event);
    void *arg;
};

static void deliver(const struct delivery *delivery, const char *relative, const char *type)
{
    const struct watch *watch = delivery->watch;
    cJSON *event = cJSON_CreateObject();
    char *path = NULL;

    entry_add_name(event, "name", relative[0] != '\0' ? relative : ".");
    cJSON_AddStringToObject(event, "type", type);
    if (watch->include_entry) {
        const size_t bytes = strlen(watch->root) + strlen(relative) + 2;
        path = xmalloc(bytes);
        snprintf(path, bytes, "%s/%s", watch->root, relative);
        cJSON *entry = entry_json(path); /* NULL for what is gone */
        if (entry != NULL) {
            cJSON_AddItemToObject(event, "entry", entry);
        }
        free(path);
    }
    delivery->event(delivery->arg, event);
}

/* What a new folder already held before it was watched would otherwise never be told. */
static int deliver_found(void *arg, const char *path)
{
    const struct delivery *delivery = arg;
    const char *relative = path + strlen(delivery->watch->root) + 1;
    struct stat info;

    deliver(delivery, relative, "EVENT_TYPE_CREATE");
    if (lstat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) {
            (void)folder_add(delivery->watch, path);
        } else if (info.st_size > 0) {
            deliver(delivery, relative, "EVENT_TYPE_WRITE");
        }
    }
    return 0;
}

static void handle(const struct delivery *delivery, const struct inotify_event *raw)
{
    static const struct {
        uint32_t mask;
        const char *type;
    } kinds[] = {
        {IN_CREATE | IN_MOVED_TO, "EVENT_TYPE_CREATE"},
        {IN_MOVED_FROM | IN_MOVE_SELF, "EVENT_TYPE_RENAME"},
        {IN_ATTRIB, "EVENT_TYPE_CHMOD"},
        {IN_MODIFY, "EVENT_TYPE_WRITE"},
        {IN_DELETE | IN_DELETE_SELF, "EVENT_TYPE_REMOVE"},
    };
    struct watch *watch = delivery->watch;
    size_t i = 0;

    while (i < watch->count && watch->folders[i].wd != raw->wd) {
        i++;
    }
    if (i == watch->count) {
        return;
    }
    if ((raw->mask & IN_IGNORED) != 0) {
        free(watch->folders[i].relative);
        watch->folders[i] = watch->folders[--watch->count];
        return;
    }
    const char *parent = watch->folders[i].relative;
    /* the parent's watch tells of a subfolder's end and move */
    if (raw->len == 0 && parent[0] != '\0') {
        return;
    }
    char *relative = xmalloc(PATH_MAX);
    snprintf(relative, PATH_MAX, "%s%s%s", parent, parent[0] != '\0' && raw->len > 0 ? "/" : "",
             raw->len > 0 ? raw->name : "");
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
        if ((raw->mask & kinds[k].mask) != 0) {
            deliver(delivery, relative, kinds[k].type);
        }
    }
    if (watch->recursive && (raw->mask & IN_ISDIR) != 0 &&
        (raw->mask & (IN_CREATE | IN_MOVED_TO)) != 0) {
        char *path = xmalloc(PATH_MAX);
        if (snprintf(path, PATH_MAX, "%s/%s", watch->root, relative) < PATH_MAX &&
            folder_add(watch, path)) {
            (void)tree_walk(path, path, UINT_MAX, deliver_found, (void *)(uintptr_t)delivery);
        }
        free(path);
    }
    free(relative);
}

int watch_read(struct watch *watch, void (*event)(void *arg, cJSON *event), void *arg,
               struct connect_error *err)
{
    const struct delivery delivery = {.watch = watch, .event = event, .arg = arg};
    char *buffer = xmalloc(WATCH_BUFFER); /* malloc aligns for struct inotify_event */
    int result = 0;

    for (;;) {
        const ssize_t n = read(watch->fd, buffer, WATCH_BUFFER);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            break;
        }
        for (ssize_t at = 0; at < n;) {
            const struct inotify_event *raw = (const void *)(buffer + at);
            at += (ssize_t)(sizeof(*raw) + raw->len);
            if ((raw->mask & IN_Q_OVERFLOW) != 0) {
                result = connect_fail(err, CONNECT_INTERNAL, "watcher error: queue overflow");
                goto out;
            }
            handle(&delivery, raw);
        }
    }
    if (watch->full) {
        result = connect_fail(err, CONNECT_RESOURCE_EXHAUSTED, "more folders than can be watched");
    }
out:
    free(buffer);
    return result;
}

/* ---- polled watchers ---- */

static void registry_wake(void)
{
    const uint64_t one = 1;

    if (write(registry.wake_fd, &one, sizeof(one)) < 0) {
        return; /* EAGAIN: awake already */
    }
}

static void watcher_free(struct watcher *watcher)
{
    watch_close(watcher->watch);
    cJSON_Delete(watcher->events);
    free(watcher);
}

static void watcher_collect(void *arg, cJSON *event)
{
    struct watcher *watcher = arg;

    if (watcher->count >= WATCH_MAX_EVENTS) {
        cJSON_Delete(event);
        connect_fail(&watcher->error, CONNECT_RESOURCE_EXHAUSTED,
                     "more than %d events were not fetched", WATCH_MAX_EVENTS);
        return;
    }
    cJSON_AddItemToArray(watcher->events, event);
    watcher->count++;
}

static void watcher_update(struct watcher *watcher)
{
    if (watcher->error.code == CONNECT_OK &&
        watch_read(watcher->watch, watcher_collect, watcher, &watcher->error) != 0) {
        return; /* told to whoever asks next */
    }
}

/* Keeps recursive watches current while nobody asks; frees the removed. */
static void *registry_main(void *arg)
{
    struct pollfd waits[WATCH_MAX_WATCHERS + 1];
    uint64_t value;

    (void)arg;
    for (;;) {
        nfds_t count = 1;
        waits[0] = (struct pollfd){.fd = registry.wake_fd, .events = POLLIN};
        pthread_mutex_lock(&registry.lock);
        for (struct watcher **link = &registry.first; *link != NULL;) {
            struct watcher *watcher = *link;
            if (watcher->removed) {
                *link = watcher->next;
                registry.count--;
                watcher_free(watcher);
                continue;
            }
            watcher_update(watcher);
            if (watcher->error.code == CONNECT_OK) {
                waits[count++] = (struct pollfd){.fd = watch_fd(watcher->watch), .events = POLLIN};
            }
            link = &watcher->next;
        }
        pthread_mutex_unlock(&registry.lock);
        (void)poll(waits, count, -1);
        while (read(registry.wake_fd, &value, sizeof(value)) > 0) {}
    }
    return NULL;
}

int watch_init(struct error *err)
{
    registry.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (registry.wake_fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "watch: eventfd");
    }
    return 0;
}

static struct watcher *watcher_find(const char *id, struct connect_error *err)
{
    struct watcher *watcher = registry.first;

    while (watcher != NULL && (watcher->removed || strcmp(watcher->id, id) != 0)) {
        watcher = watcher->next;
    }
    if (watcher == NULL) {
        connect_fail(err, CONNECT_NOT_FOUND, "watcher with id %.64s not found", id);
    }
    return watcher;
}

int watcher_add(struct watch *watch, char ret_id[WATCH_ID_BYTES], struct connect_error *err)
{
    pthread_t thread;
    int result = -1;

    pthread_mutex_lock(&registry.lock);
    if (!registry.running) { /* most sandboxes never need the thread */
        registry.running = pthread_create(&thread, NULL, registry_main, NULL) == 0;
        if (registry.running) {
            pthread_detach(thread);
        }
    }
    if (!registry.running) {
        connect_fail(err, CONNECT_INTERNAL, "error creating watcher: no thread");
    } else if (registry.count >= WATCH_MAX_WATCHERS) {
        connect_fail(err, CONNECT_RESOURCE_EXHAUSTED, "more than %d watchers", WATCH_MAX_WATCHERS);
    } else {
        struct watcher *watcher = xcalloc(1, sizeof(*watcher));
        watcher->watch = watch;
        watcher->events = cJSON_CreateArray();
        watcher->id[0] = 'w';
        id_random_alnum(watcher->id + 1, WATCH_ID_BYTES - 2);
        watcher->next = registry.first;
        registry.first = watcher;
        registry.count++;
        memcpy(ret_id, watcher->id, WATCH_ID_BYTES);
        result = 0;
    }
    pthread_mutex_unlock(&registry.lock);
    if (result == 0) {
        registry_wake();
    } else {
        watch_close(watch);
    }
    return result;
}

cJSON *watcher_events(const char *id, struct connect_error *err)
{
    cJSON *events = NULL;

    pthread_mutex_lock(&registry.lock);
    struct watcher *watcher = watcher_find(id, err);
    if (watcher != NULL) {
        watcher_update(watcher); /* what happened before this call belongs to its answer */
        if (watcher->error.code != CONNECT_OK) {
            *err = watcher->error;
        } else {
            events = watcher->events;
            watcher->events = cJSON_CreateArray();
            watcher->count = 0;
        }
    }
    pthread_mutex_unlock(&registry.lock);
    return events;
}

int watcher_remove(const char *id, struct connect_error *err)
{
    pthread_mutex_lock(&registry.lock);
    struct watcher *watcher = watcher_find(id, err);
    if (watcher != NULL) {
        watcher->removed = true;
    }
    pthread_mutex_unlock(&registry.lock);
    registry_wake();
    return watcher != NULL ? 0 : -1;
}
