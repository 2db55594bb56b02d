/*
 * sandbox_internal - what sandbox.c, sandbox_table.c, keeper.c and record.c share.
 */
#ifndef SANDBOX_HOST_SANDBOX_INTERNAL_H
#define SANDBOX_HOST_SANDBOX_INTERNAL_H

#include <pthread.h>

#include "deploy/sandbox-host/isolation/spawn.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"
#include "deploy/sandbox-host/sandbox/template.h"

/* `view`, `died`, the journal and the meter are guarded by the table's lock; `processes` and all
 * changes of `view.state` by `transition`. */
struct box {
    struct box_view view;
    struct spawn_box processes;
    uid_t uid; /* outside; 0 = as the host */
    int uid_index;
    int64_t timeout_ms;    /* asked for at create: what traffic resumes with */
    int64_t lived_from_ms; /* start or resume: the longest life counts from here */
    bool died;             /* its processes ended by themselves */
    int64_t measured_ms;   /* monotonic, last sample */
    int64_t told_ms;       /* monotonic, its own figures last written (facts.h) */
    struct journal journal;
    struct meter meter;
    int references;
    int burials;                /* tried in vain */
    int64_t bury_at_ms;         /* monotonic, the next try */
    pthread_mutex_t transition; /* held over a pause, resume or end */
    struct box *next;
};

/* ---- sandbox_table.c ---- */

void table_init(const struct host_config *config, int64_t first_uid);
void table_done(void);
void table_lock(void);
void table_unlock(void);
/* With the lock held. */
struct box *table_first(void);

/* A new entry, starting, with a reference for the caller and a user id; ERR_RATE_LIMITED. */
struct box *table_add(struct error *err);
/* An entry of an earlier host with its uid; false when the uid is taken or not of this range. */
bool table_adopt(struct box *box);
/* An entry of an earlier host that has no processes: it gets a user id. False: none is free. */
bool table_adopt_alone(struct box *box);
/* A reference to one that runs or is paused, or NULL with ERR_NOT_FOUND. */
struct box *table_take(const char *id, struct error *err);
/* The same, with the transition lock held and the sandbox still alive. */
struct box *table_take_locked(const char *id, struct error *err);
void table_release(struct box *box);
void table_give_back(struct box *box); /* unlocks the transition and releases */
/* Out of the table; the table's own reference goes with it. */
void table_remove(struct box *box);
void table_set_state(struct box *box, enum box_state state);
void table_copy_view(const struct box *box, struct box_view *ret); /* with the lock held */
int table_no_such(const char *id, struct error *err);
void box_free(struct box *box);

/* A line in the sandbox's journal and in the host's log. */
void box_note(struct box *box, enum journal_level level, const char *event, const char *text);

/* ---- sandbox.c ---- */

/* With the transition lock held. */
int box_pause_locked(struct box *box, bool keeps_memory, struct error *err) MUST_CHECK;
/* Starts its processes and the template's command. On failure they are killed. `disk`: as in
 * spawn_request. */
int box_start_processes(struct box *box, const struct template *template, const char *disk,
                        const char *closed, bool connected, struct error *err) MUST_CHECK;
/* What the sandbox may reach, from what was asked for. */
int box_plan_network(enum box_internet internet, const cJSON *network, struct strbuf *closed,
                     bool *ret_connected, struct error *err) MUST_CHECK;
/* Kills it; box_bury() waits until it is gone and takes it out of the table. -1, with the reason in
 * the log: something of it stays, and with it its place in the table and its user id. */
void box_end_locked(struct box *box, const char *why);
int box_bury(struct box *box) MUST_CHECK;

/* ---- sandbox_disk.c: sandboxes that are a disk alone ---- */

/* With the transition lock held: ends the processes of one that is paused, or is to be, and keeps
 * its disk. On failure they are killed. */
int disk_alone_locked(struct box *box, struct error *err) MUST_CHECK;
/* With the transition lock held: new processes for one that is a disk alone. On failure it stays
 * that. */
int disk_alone_boot(struct box *box, struct error *err) MUST_CHECK;
/* Takes over a paused one that an earlier host left, whose processes are gone or are to go. */
int disk_alone_adopt(struct box *box, struct error *err) MUST_CHECK;
/* At the end of the host: a paused one leaves the table and stays on disk. */
int disk_alone_put_away(const char *id, struct error *err) MUST_CHECK;

/* ---- keeper.c ---- */

/* Before anything else of it. */
void keeper_init(void);
int keeper_start(struct error *err) MUST_CHECK;
/* Ends the keeping of deadlines. */
void keeper_stop(void);
/* Takes over a killed one and the caller's reference, to bury it in the background: at once, and
 * again until nothing of it is left. Without the transition lock. */
void keeper_bury(struct box *box);
/* Ends that too, after one more try of each. */
void keeper_drain(void);

/* ---- record.c: one file in the sandbox's folder, of what a restarted host must know ---- */

int record_write(const struct box *box, struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND when there is none. */
int record_read(const char *id, struct box *box, struct error *err) MUST_CHECK;

#endif
