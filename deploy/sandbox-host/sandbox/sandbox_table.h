/*
 * sandbox_table - every sandbox of the host: entries, references, user ids, journals.
 *
 * Owns: the list and its lock. Does not own: what changes a sandbox (sandbox.h).
 */
#ifndef SANDBOX_HOST_SANDBOX_TABLE_H
#define SANDBOX_HOST_SANDBOX_TABLE_H

#include <pthread.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/isolation/spawn.h"
#include "deploy/sandbox-host/sandbox/journal.h"
#include "deploy/sandbox-host/sandbox/meter.h"
#include "deploy/sandbox-host/sandbox/sandbox_view.h"

/* `view`, `died`, the journal and the meter are guarded by the table's lock; `processes` and all
 * changes of `view.state` by `transition`. */
struct sandbox {
    struct sandbox_view view;
    struct spawn_processes processes;
    uid_t uid; /* outside; 0 = as the host */
    int uid_index;
    int64_t timeout_ms;    /* asked for at create: what traffic resumes with */
    int64_t lived_from_ms; /* start or resume: the longest life counts from here */
    bool died;             /* its processes ended by themselves */
    int64_t measured_ms;   /* monotonic, last sample */
    int64_t proc_files_ms; /* monotonic, its own figures last written (proc_files.h) */
    struct journal journal;
    struct meter meter;
    int references;
    int removal_tries;          /* tried in vain */
    int64_t remove_at_ms;       /* monotonic, the next try */
    pthread_mutex_t transition; /* held over a pause, resume or end */
    struct sandbox *next;
};

void table_init(const struct host_config *config, int64_t first_uid);
void table_done(void);
void table_lock(void);
void table_unlock(void);
/* With the lock held. */
struct sandbox *table_first(void);

/* A new entry, starting, with a reference for the caller and a user id; ERR_RATE_LIMITED. */
struct sandbox *table_add(struct error *err);
/* An entry of an earlier host with its uid; false when the uid is taken or not of this range. */
bool table_adopt(struct sandbox *sandbox);
/* An entry of an earlier host that has no processes: it gets a user id. False: none is free. */
bool table_adopt_alone(struct sandbox *sandbox);
/* A reference to one that runs or is paused, or NULL with ERR_NOT_FOUND. */
struct sandbox *table_take(const char *id, struct error *err);
/* The same, with the transition lock held and the sandbox still alive. */
struct sandbox *table_take_locked(const char *id, struct error *err);
void table_release(struct sandbox *sandbox);
void table_give_back(struct sandbox *sandbox); /* unlocks the transition and releases */
/* Out of the table; the table's own reference goes with it. */
void table_remove(struct sandbox *sandbox);
void table_set_state(struct sandbox *sandbox, enum sandbox_state state);
void table_copy_view(const struct sandbox *sandbox,
                     struct sandbox_view *ret); /* with the lock held */
int table_no_such(const char *id, struct error *err);
void sandbox_free(struct sandbox *sandbox);

/* A line in the sandbox's journal and in the host's log. */
void sandbox_note(struct sandbox *sandbox, enum journal_level level, const char *event,
                  const char *text);

#endif
