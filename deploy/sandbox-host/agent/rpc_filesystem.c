/*
 * rpc_filesystem - the methods of filesystem.Filesystem.
 *
 * Owns: their JSON, codes and messages. Does not own: walking and removing (tree), inotify (watch),
 * the shape of an entry (entry). Threads: each call on its handler thread. As in envd, files are
 * touched with the agent's own rights; new ones are given to the calling user.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/service.h"
#include "deploy/sandbox-host/agent/entry.h"
#include "deploy/sandbox-host/agent/process.h"
#include "deploy/sandbox-host/agent/rpc_filesystem.h"
#include "deploy/sandbox-host/agent/tree.h"
#include "deploy/sandbox-host/agent/watch.h"

#define LIST_MAX_BYTES  (48u << 20)
#define LOOK_MS         1000
#define MOVE_TIMEOUT_MS 600000

static int fail_errno(struct connect_error *err, enum connect_code code, const char *what,
                      const char *path, int errnum)
{
    const char *reason = strerrordesc_np(errnum);

    return connect_fail(err, code, "%s %.300s: %s", what, path,
                        reason != NULL ? reason : "unknown error");
}

/* Adds the entry of `path` to the answer. */
static int add_entry(cJSON *response, const char *path, struct connect_error *err)
{
    cJSON *entry = entry_json(path);

    if (entry == NULL) {
        const int failure = errno;
        return failure == ENOENT
                   ? fail_errno(err, CONNECT_NOT_FOUND, "file not found: lstat", path, failure)
                   : fail_errno(err, CONNECT_INTERNAL, "error getting file info:", path, failure);
    }
    cJSON_AddItemToObject(response, "entry", entry);
    return 0;
}

int rpc_filesystem_stat(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    char path[PATH_MAX];

    if (rpc_get_path(call, "path", path, err) != 0) {
        return -1;
    }
    return add_entry(response, path, err);
}

int rpc_filesystem_make_dir(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    char path[PATH_MAX];
    struct stat info;
    struct error cause = ERROR_INIT;

    if (rpc_get_path(call, "path", path, err) != 0) {
        return -1;
    }
    if (stat(path, &info) == 0) {
        return S_ISDIR(info.st_mode)
                   ? connect_fail(err, CONNECT_ALREADY_EXISTS, "directory already exists: %.300s",
                                  path)
                   : connect_fail(err, CONNECT_INVALID_ARGUMENT,
                                  "path already exists but it is not a directory: %.300s", path);
    }
    if (errno != ENOENT) {
        return fail_errno(err, CONNECT_INTERNAL, "error getting file info:", path, errno);
    }
    if (user_make_dirs(&call->user, path, &cause) != 0) {
        return connect_fail_from(
            err, cause.code == ERR_LIMIT ? CONNECT_RESOURCE_EXHAUSTED : CONNECT_INTERNAL, "",
            &cause);
    }
    return add_entry(response, path, err);
}

/* ---- list ---- */

struct listing {
    struct strbuf text;
};

static int list_visit(void *arg, const char *path)
{
    struct listing *listing = arg;
    cJSON *entry = entry_json(path);

    if (entry == NULL) {
        return 0; /* gone since its folder was read */
    }
    if (listing->text.length > 1) {
        strbuf_putc(&listing->text, ',');
    }
    (void)json_print(entry, &listing->text);
    cJSON_Delete(entry);
    return listing->text.overflow ? -1 : 0;
}

int rpc_filesystem_list_dir(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    char path[PATH_MAX];
    struct listing listing;
    struct stat info;
    uint32_t depth = 0;
    int result = -1;

    if (rpc_get_path(call, "path", path, err) != 0 ||
        rpc_get_uint32(call->request, "depth", &depth, err) != 0) {
        return -1;
    }
    char *real = realpath(path, NULL);
    if (real == NULL) {
        const int failure = errno;
        return failure == ENOENT
                   ? fail_errno(err, CONNECT_NOT_FOUND, "path not found: lstat", path, failure)
               : failure == ELOOP
                   ? connect_fail(err, CONNECT_FAILED_PRECONDITION,
                                  "cyclic symlink or chain >255 links at \"%.300s\"", path)
                   : fail_errno(err, CONNECT_INTERNAL, "error resolving symlink:", path, failure);
    }
    strbuf_init(&listing.text, LIST_MAX_BYTES);
    if (stat(real, &info) != 0) {
        fail_errno(err, CONNECT_NOT_FOUND, "directory not found:", path, errno);
        goto out;
    }
    if (!S_ISDIR(info.st_mode)) {
        connect_fail(err, CONNECT_INVALID_ARGUMENT, "path is not a directory: %.300s", path);
        goto out;
    }
    strbuf_putc(&listing.text, '[');
    const int walked = tree_walk(real, path, depth == 0 ? 1 : depth, list_visit, &listing);
    if (walked < 0) {
        fail_errno(err, CONNECT_INTERNAL, "error reading directory", path, errno);
        goto out;
    }
    strbuf_putc(&listing.text, ']');
    if (walked > 0 || listing.text.overflow) {
        connect_fail(err, CONNECT_RESOURCE_EXHAUSTED,
                     "the listing is larger than %lu bytes: ask for less depth",
                     (unsigned long)LIST_MAX_BYTES);
        goto out;
    }
    if (listing.text.length > 2) {
        cJSON_AddRawToObject(response, "entries", listing.text.data);
    }
    result = 0;
out:
    strbuf_done(&listing.text);
    free(real);
    return result;
}

/* ---- remove, move ---- */

int rpc_filesystem_remove(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    char path[PATH_MAX];

    (void)response;
    if (rpc_get_path(call, "path", path, err) != 0) {
        return -1;
    }
    if (tree_remove(path) != 0) {
        return fail_errno(err, CONNECT_INTERNAL, "error removing file or directory:", path, errno);
    }
    return 0;
}

/* rename(2) does not cross mounts, and a sandbox has several where E2B has one disk: mv copies. */
static int move_across(const struct rpc_call *call, const char *source, const char *destination,
                       struct connect_error *err)
{
    struct user self = call->user;
    char command[] = "mv", force[] = "-f", exact[] = "-T", end[] = "--",
         path[] = "PATH=/usr/bin:/bin";
    char *from = xstrdup(source), *to = xstrdup(destination);
    char *argv[] = {command, force, exact, end, from, to, NULL};
    char *envp[] = {path, NULL};
    struct process_sub *sub = NULL;
    struct process_news news;
    uint32_t pid = 0;
    char reason[200] = "";
    int result = -1;

    self.uid = geteuid();
    self.gid = getegid();
    const struct spawn_spec spec = {
        .argv = argv,
        .envp = envp,
        .cwd = "/",
        .user = &self,
        .nofile = call->config->nofile,
    };
    cJSON *description = cJSON_CreateObject();
    cJSON_AddStringToObject(description, "cmd", command);
    if (process_start(&spec, description, NULL, MOVE_TIMEOUT_MS, &sub, &pid, err) != 0) {
        goto out;
    }
    for (news.kind = PROCESS_IDLE; news.kind == PROCESS_IDLE || news.kind == PROCESS_DATA;) {
        process_wait(sub, LOOK_MS, &news);
        if (news.kind == PROCESS_DATA && reason[0] == '\0') {
            const struct process_chunk *first = news.chunks[0];
            const char *line_end = memchr(first->data, '\n', first->length);
            const size_t length =
                line_end != NULL ? (size_t)(line_end - first->data) : first->length;
            snprintf(reason, sizeof(reason), "%.*s", length < 199 ? (int)length : 199, first->data);
        }
        process_news_done(&news);
    }
    process_unsubscribe(sub);
    if (news.kind == PROCESS_ENDED && WIFEXITED(news.wait_status) &&
        WEXITSTATUS(news.wait_status) == 0) {
        result = 0;
    } else {
        connect_fail(err, CONNECT_INTERNAL, "error renaming: %s", reason);
    }
out:
    free(from);
    free(to);
    return result;
}

int rpc_filesystem_move(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    char source[PATH_MAX], destination[PATH_MAX], parent[PATH_MAX];
    struct error cause = ERROR_INIT;

    if (rpc_get_path(call, "source", source, err) != 0 ||
        rpc_get_path(call, "destination", destination, err) != 0) {
        return -1;
    }
    path_dir(destination, parent);
    if (user_make_dirs(&call->user, parent, &cause) != 0) {
        return connect_fail_from(err, CONNECT_INTERNAL, "", &cause);
    }
    if (rename(source, destination) != 0) {
        const int failure = errno;
        if (failure == ENOENT) {
            return fail_errno(err, CONNECT_NOT_FOUND, "source file not found: rename", source,
                              failure);
        }
        if (failure != EXDEV) {
            return fail_errno(err, CONNECT_INTERNAL, "error renaming: rename", source, failure);
        }
        if (move_across(call, source, destination, err) != 0) {
            return -1;
        }
    }
    return add_entry(response, destination, err);
}

/* ---- watches ---- */

static struct watch *open_watch(struct rpc_call *call, struct connect_error *err)
{
    char path[PATH_MAX];
    struct stat info;
    struct error cause = ERROR_INIT;
    bool recursive = false, include_entry = false;

    if (rpc_get_path(call, "path", path, err) != 0) {
        return NULL;
    }
    if (json_get_bool(call->request, "recursive", false, &recursive, &cause) != 0 ||
        json_get_bool(call->request, "includeEntry", false, &include_entry, &cause) != 0) {
        connect_fail_from(err, CONNECT_INVALID_ARGUMENT, "", &cause);
        return NULL;
    }
    if (stat(path, &info) != 0) {
        const int failure = errno;
        if (failure == ENOENT) {
            fail_errno(err, CONNECT_NOT_FOUND, "path not found: stat", path, failure);
        } else {
            fail_errno(err, CONNECT_INTERNAL, "error statting path", path, failure);
        }
        return NULL;
    }
    if (!S_ISDIR(info.st_mode)) {
        connect_fail(err, CONNECT_INVALID_ARGUMENT, "path %.300s not a directory", path);
        return NULL;
    }
    return watch_open(path, recursive, include_entry, err);
}

struct watch_stream {
    struct connect_stream *stream;
    struct strbuf text;
};

static void stream_event(void *arg, cJSON *event)
{
    struct watch_stream *out = arg;
    cJSON *message = cJSON_CreateObject();

    cJSON_AddItemToObject(message, "filesystem", event);
    strbuf_reset(&out->text);
    if (json_print(message, &out->text) == 0) {
        (void)connect_stream_put(out->stream, out->text.data, out->text.length);
    }
    cJSON_Delete(message);
    if (out->stream->out.length >= AGENT_STREAM_OUT_BYTES) {
        (void)connect_stream_flush(out->stream);
    }
}

int rpc_filesystem_watch_dir(struct rpc_call *call, struct connect_stream *stream,
                             struct connect_error *err)
{
    static const char start[] = "{\"start\":{}}", keepalive[] = "{\"keepalive\":{}}";
    struct watch_stream out = {.stream = stream};
    struct watch *watch = open_watch(call, err);
    int64_t last_sent = clock_mono_ms();
    const int64_t deadline = call->timeout_ms >= 0 ? last_sent + call->timeout_ms : INT64_MAX;
    int result = 0;

    if (watch == NULL) {
        return -1;
    }
    strbuf_init(&out.text, 64 * 1024);
    (void)connect_stream_put(stream, start, sizeof(start) - 1);
    while (connect_stream_flush(stream) == 0) {
        const int64_t now = clock_mono_ms();
        int64_t wait =
            last_sent + call->keepalive_ms < deadline ? last_sent + call->keepalive_ms : deadline;
        wait = wait <= now ? 0 : wait - now < LOOK_MS ? wait - now : LOOK_MS;
        struct pollfd ready = {.fd = watch_fd(watch), .events = POLLIN};
        if (poll(&ready, 1, (int)wait) > 0) {
            if (watch_read(watch, stream_event, &out, err) != 0) {
                result = -1;
                break;
            }
            last_sent = clock_mono_ms();
        } else if (clock_mono_ms() >= deadline) {
            result = connect_fail(err, CONNECT_DEADLINE_EXCEEDED, "context deadline exceeded");
            break;
        } else if (clock_mono_ms() - last_sent >= call->keepalive_ms) {
            (void)connect_stream_put(stream, keepalive, sizeof(keepalive) - 1);
            last_sent = clock_mono_ms();
        } else if (http_peer_gone(call->exchange)) {
            stream->gone = true;
        } else if (service_draining()) {
            result = connect_fail(err, CONNECT_UNAVAILABLE, "the sandbox is stopping");
            break;
        }
    }
    strbuf_done(&out.text);
    watch_close(watch);
    return result;
}

int rpc_filesystem_create_watcher(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    char id[WATCH_ID_BYTES];
    struct watch *watch = open_watch(call, err);

    if (watch == NULL || watcher_add(watch, id, err) != 0) {
        return -1;
    }
    cJSON_AddStringToObject(response, "watcherId", id);
    return 0;
}

int rpc_filesystem_get_watcher_events(struct rpc_call *call, cJSON *response,
                                      struct connect_error *err)
{
    const char *id = NULL;

    if (rpc_get_string(call->request, "watcherId", 256, &id, err) != 0) {
        return -1;
    }
    cJSON *events = watcher_events(id, err);
    if (events == NULL) {
        return -1;
    }
    if (events->child != NULL) {
        cJSON_AddItemToObject(response, "events", events);
    } else {
        cJSON_Delete(events);
    }
    return 0;
}

int rpc_filesystem_remove_watcher(struct rpc_call *call, cJSON *response, struct connect_error *err)
{
    const char *id = NULL;

    (void)response;
    if (rpc_get_string(call->request, "watcherId", 256, &id, err) != 0) {
        return -1;
    }
    return watcher_remove(id, err);
}
