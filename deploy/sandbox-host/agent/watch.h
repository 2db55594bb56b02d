/*
 * watch - directory watches over inotify, for the streaming and the polled form alike.
 *
 * Owns: the inotify descriptors, recursion into folders made later, the polled watchers and the
 * one thread that keeps them current. Does not own: JSON framing (rpc_filesystem). Threads: a
 * struct watch belongs to one thread; the registry of polled watchers has its own lock.
 */
#ifndef AGENT_WATCH_H
#define AGENT_WATCH_H

#include "common/base/json.h"
#include <stdbool.h>

#include "deploy/sandbox-host/agent/connect.h"

#define WATCH_MAX_EVENTS   16384 /* kept for a polled watcher nobody asks */
#define WATCH_MAX_WATCHERS 128   /* polled ones */
#define WATCH_ID_BYTES     22

struct watch;

/* Once, before any thread. */
int watch_init(struct error *err) MUST_CHECK;

struct watch *watch_open(const char *path, bool recursive, bool include_entry,
                         struct connect_error *err);
void watch_close(struct watch *watch);
int watch_fd(const struct watch *watch); /* readable when watch_read() has something */
/* Hands every pending FilesystemEvent to `event` (ownership moves). -1: the watch is over. */
int watch_read(struct watch *watch, void (*event)(void *arg, cJSON *event), void *arg,
               struct connect_error *err) MUST_CHECK;

/* Polled watchers. Takes the watch. */
int watcher_add(struct watch *watch, char ret_id[WATCH_ID_BYTES],
                struct connect_error *err) MUST_CHECK;
/* Array of the events since the last call; NULL + err. */
cJSON *watcher_events(const char *id, struct connect_error *err);
int watcher_remove(const char *id, struct connect_error *err) MUST_CHECK;

#endif
