/*
 * store - the only door to PostgreSQL: typed rows in, typed rows out, no SQL outside this module.
 *
 * Owns: connections (a small pool), every statement (queries.def), SQLSTATE -> error code, the
 * translation of rows. Does not own: decisions; what a status may become is the caller's argument,
 * applied by compare-and-set.
 * Threads: a struct store may be shared; each call borrows one connection of the pool for its
 * duration (waits at most pool_wait_ms, then ERR_OVERLOADED). Failure: ERR_DATABASE_DOWN when the
 * server is away (the connection is dropped and reopened with backoff by a later call; statements
 * are never silently repeated unless they are read-only), ERR_CONFLICT/ERR_EXISTS/... otherwise.
 * Each call is one statement = one transaction unless it says otherwise. Times are the database's
 * own now(), so hosts with wrong clocks cannot disagree about a lease.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/encode.h"
#include "common/base/error.h"
#include "common/domain/types.h"

struct store;

struct store_options {
    const char *conninfo;     /* DATABASE_URL, multi-host allowed */
    const char *application;  /* application_name */
    int pool_size;            /* connections, opened on demand */
    int connect_timeout_s;    /* 3 */
    int statement_timeout_ms; /* 5000 */
    int pool_wait_ms;         /* 2000 */
};

/* Does not connect, so that a process can start while the database is away. */
struct store *store_new(const struct store_options *options);
void store_free(struct store *store);
/* One round trip; also the schema check: ERR_CONFIG when migrations are missing. */
int store_ping(struct store *store, struct error *err) MUST_CHECK;
/* Applies deploy/migrations-as-built-in, in order, each in its own transaction under an advisory
 * lock; prints nothing; *ret_applied = number applied now. */
int store_migrate(struct store *store, int *ret_applied, struct error *err) MUST_CHECK;
/* This database's own id (made by the first migration): tags our sandboxes at the providers. */
int store_deployment_id(struct store *store, char ret[UUID_BYTES], struct error *err) MUST_CHECK;

/* ---- users and tokens -------------------------------------------------------------------- */

struct store_user {
    char id[UUID_BYTES];
    char username[LABEL_BYTES];
    char role[16]; /* user | admin */
    char password_hash[160];
    bool disabled;
    int64_t created_at_ms;
    int64_t token_generation; /* of the tokens to issue now; older ones have ended */
};
int store_user_add(struct store *store, const struct store_user *user,
                   struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND when there is none. */
int store_user_find(struct store *store, const char *username, struct store_user *ret,
                    struct error *err) MUST_CHECK;
/* The same for a login from `address`; *ret_known_address: this user has logged in from there
 * within 90 days. */
int store_user_find_login(struct store *store, const char *username, const char *address,
                          struct store_user *ret, bool *ret_known_address,
                          struct error *err) MUST_CHECK;
/* Records that the user logged in with the right password from `address`. */
int store_login_address(struct store *store, const char *user_id, const char *address,
                        struct error *err) MUST_CHECK;
/* This call and the next one end every token that the user has. */
int store_user_set_password(struct store *store, const char *username, const char *hash,
                            struct error *err) MUST_CHECK;
int store_user_set_disabled(struct store *store, const char *username, bool disabled,
                            struct error *err) MUST_CHECK;
/* *ret is a heap array of *ret_count. */
int store_user_list(struct store *store, struct store_user **ret, size_t *ret_count,
                    struct error *err) MUST_CHECK;

int store_token_revoke(struct store *store, const char *jti, int64_t expires_at_ms,
                       struct error *err) MUST_CHECK;
/* Calls back every revoked, unexpired jti with id > after (0 = all); *ret_last = highest id. */
int store_tokens_revoked(struct store *store, int64_t after,
                         void (*each)(void *arg, const char *jti, int64_t expires_at_ms), void *arg,
                         int64_t *ret_last, struct error *err) MUST_CHECK;

/* A user whose tokens of a generation below `generation` have ended. */
struct store_user_change {
    char id[UUID_BYTES];
    int64_t generation;
    int64_t not_before_ms; /* when they ended */
    bool disabled;
};
/* Calls back every user changed since `after` (0 = all that ever changed), in the order of the
 * changes; *ret_last = the newest change. */
int store_users_changed(struct store *store, int64_t after,
                        void (*each)(void *arg, const struct store_user_change *change), void *arg,
                        int64_t *ret_last, struct error *err) MUST_CHECK;

/* ---- accepting work (gateway) ------------------------------------------------------------ */

/* Default limits of an owner that has no limit of its own; 0 = no limit. */
struct store_quota {
    int64_t max_sandboxes, max_paused, creates_per_minute;
};

struct store_accept {
    struct store_quota quota;
    const char *owner; /* JWT sub */
    bool admin;        /* sees every owner's sandboxes */
    const char *sandbox_id;
    enum job_op op;
    const char *origin;      /* client | operator */
    const char *params_json; /* NULL = {} */
    int max_attempts;
    int64_t deadline_ms; /* from now, relative; 0 = none */
    const char *reply_to;
    const char *request_id;
    const char *traceparent;
    const char *key_id; /* of the API key that asks; NULL = a token */
    bool join;          /* the newest unfinished job of this sandbox has the same op: join it */
    /* Idempotency-Key to bind to the job, by a claim of store_key_claim(); NULL = none. A claim
     * that was taken over meanwhile makes the call ERR_FENCED, and nothing is accepted. */
    const char *key, *claim;
    const char *waiter; /* of a create: has a place by store_create_line_wait(), given up when
                         * accepted; NULL = has none */
};

/* A request that came with an Idempotency-Key. */
struct store_key_ask {
    const char *owner, *key;
    const char *hash;     /* of what makes two requests the same; "" in an answer = as claimed */
    const char *claim;    /* the caller's fresh id */
    int64_t retention_ms; /* older keys count as new */
    int64_t takeover_ms;  /* a claim that has neither job nor answer for so long is taken over */
    bool once;            /* the call must not run twice: its claim is never taken over */
    unsigned
        again; /* bit per enum outcome: after a job that failed so, the request may run again */
};
/* The state of one caller's Idempotency-Key. */
struct store_key {
    bool mine; /* the caller has just claimed it */
    char request_hash[SHA256_HEX_BYTES];
    char job_id[UUID_BYTES], sandbox_id[UUID_BYTES]; /* "" until a job was accepted */
    int status;                                      /* 0 until it was answered */
    char *body;                                      /* heap; the answer */
    bool once;
    int64_t claimed_ago_ms;
};
/* Claims the key for the caller, or returns the state that an earlier claim left. */
int store_key_claim(struct store *store, const struct store_key_ask *ask, struct store_key *ret,
                    struct error *err) MUST_CHECK;
void store_key_done(struct store_key *key);
/* Keeps the answer, unless there is one; ret is what is kept now. Of `ask` owner, key, claim and
 * hash count. job_id "" = the caller holds the claim. */
int store_key_answer(struct store *store, const struct store_key_ask *ask, const char *job_id,
                     int status, const char *body, struct store_key *ret,
                     struct error *err) MUST_CHECK;
/* Releases the claim of a request that accepted no job, so that the client may retry the key. */
int store_key_release(struct store *store, const char *owner, const char *key, const char *claim,
                      struct error *err) MUST_CHECK;
/* Inserts the sandbox row (status creating) and its create job (seq 1) in one statement. `sandbox`
 * gives id, owner, user_id, provider, template_id, timeout_*, on_timeout, metadata_json. */
int store_accept_create(struct store *store, const struct sandbox *sandbox,
                        const struct store_accept *accept, const char *job_id,
                        struct wakeup *ret_wakeup, struct error *err) MUST_CHECK;

/* Next seq, insert job, supersede what a delete supersedes (queued/retry_wait jobs of other kinds),
 * in one statement under the sandbox's row lock. ERR_SANDBOX_NOT_FOUND for another owner's, a
 * deleted and an unknown one alike. When joined, *ret_joined is true and *ret_wakeup names the
 * other job. `job_id` is the caller's fresh id (so that a waiter can be registered before). */
int store_accept_job(struct store *store, const struct store_accept *accept, const char *job_id,
                     struct wakeup *ret_wakeup, bool *ret_joined, struct error *err) MUST_CHECK;

/* Reads one sandbox. `owner` NULL or `admin` matches any owner. A deleted sandbox is
 * ERR_SANDBOX_NOT_FOUND. */
int store_sandbox_get(struct store *store, const char *sandbox_id, const char *owner, bool admin,
                      struct sandbox *ret, struct error *err) MUST_CHECK;
struct store_list_filter {
    const char *owner;   /* NULL = all */
    int status;          /* enum sandbox_status or -1 = all but deleted */
    const char *user_id; /* NULL = any */
    int limit;
    int64_t before_created_us; /* cursor of the last item, 0 = first page */
    const char *before_id;
};
/* Newest first. *ret is a heap array (sandbox_done each, then free). *ret_next_us > 0 = more;
 * the cursor is (that, id of the last item). */
int store_sandbox_list(struct store *store, const struct store_list_filter *filter,
                       struct sandbox **ret, size_t *ret_count, int64_t *ret_next_us,
                       struct error *err) MUST_CHECK;
/* Activity: last_activity_at = now(), and for TIMEOUT_IDLE expires_at = greatest(expires_at,
 * now() + timeout_ms); one statement for all ids. The provider's end is not a limit here: the
 * reaper moves it behind expires_at, or pauses the sandbox before it. */
int store_sandbox_touch(struct store *store, const char *const *sandbox_ids, size_t count,
                        struct error *err) MUST_CHECK;
/* ret_paused[i]: sandbox_ids[i] is paused. */
int store_sandboxes_paused(struct store *store, const char *const *sandbox_ids, size_t count,
                           bool *ret_paused, struct error *err) MUST_CHECK;

/* States of many jobs at once, for waiters; jobs not found are left with state unchanged. Each
 * jobs[i].id is the question; state, outcome, error, result_json, provider_http_status, op,
 * sandbox_id are filled. */
int store_jobs_poll(struct store *store, struct job *jobs, size_t count,
                    struct error *err) MUST_CHECK;

/* ---- who is alive (worker, reaper) -------------------------------------------------------- */

enum store_role { STORE_ROLE_WORKER, STORE_ROLE_REAPER };
/* A heartbeat, due every interval_ms; without one for three intervals the process counts as dead.
 * wall_ms is the process's own clock, which is compared with the database's. `figures`: what a
 * worker would tell Redis, which does not take it; else NULL. */
int store_process_beat(struct store *store, enum store_role role, const char *name,
                       int64_t interval_ms, int64_t wall_ms, const char *figures,
                       int64_t *ret_database_ms, struct error *err) MUST_CHECK;
/* A process that stops removes its own heartbeat. */
int store_process_end(struct store *store, const char *name, struct error *err) MUST_CHECK;
/* Removes the heartbeats of processes that have been dead for silent_ms. */
int store_processes_prune(struct store *store, int64_t silent_ms, struct error *err) MUST_CHECK;
struct store_process {
    char name[160];
    enum store_role role;
    int64_t clock_offset_ms; /* its clock minus the database's */
};
/* Reads the figures that live workers could not send to Redis. *ret is a heap array. */
struct store_figures {
    char name[160];
    char *json;
};
int store_worker_figures(struct store *store, struct store_figures **ret, size_t *ret_count,
                         struct error *err) MUST_CHECK;
void store_figures_free(struct store_figures *figures, size_t count);
/* For the health check of a container: 0 when a process of that role on this host beats.
 * ERR_NOT_FOUND, ERR_DATABASE_DOWN. */
int store_process_health(const struct store_options *options, enum store_role role,
                         struct error *err) MUST_CHECK;
/* Lists the processes whose heartbeats still come. *ret is a heap array. */
int store_processes_live(struct store *store, struct store_process **ret, size_t *ret_count,
                         struct error *err) MUST_CHECK;

/* ---- doing work (worker) ------------------------------------------------------------------ */

struct store_claimed {
    struct job job;
    struct sandbox sandbox; /* after the START transition */
    enum sandbox_status status_before;
    bool deadline_moved;    /* origin deadline, but expires_at is in the future again: no
                               transition was made, the job must end superseded */
    bool took_over;         /* the last lease ran out: the earlier attempt may have called */
    bool create_maybe_sent; /* a create may have reached the provider in an EARLIER attempt */
    int64_t claimed_at_ms;  /* the database's clock, as are the times of the rows */
};

/*
 * Claims those of `job_ids` that are due and whose sandbox has no unfinished job of lower seq:
 * takes the lease (lease_ms from now), lease_token + 1, attempt + 1, crashes + 1 if its last holder
 * died of it, applies lifecycle START transitions (with an event each), and for a create
 * sets create_sent_at = now(): should the holder die, it may have sent one since. The sandbox comes
 * back with its earlier value, and the finish says what it is to be; a holder that does not send at
 * once says so with store_create_sending(). Jobs not claimable are simply absent from the result:
 * ack their entries and forget them. *ret is a heap array: store_claimed_free().
 *
 * A holder died when its heartbeats have stopped, and lease_owner's own have come without a gap for
 * as long as a dead one's take to expire. A lease that ran out otherwise (the database was away)
 * spends no attempt and is no crash.
 */
int store_jobs_claim(struct store *store, const char *const *job_ids, size_t count,
                     const char *lease_owner, int64_t lease_ms, struct store_claimed **ret,
                     size_t *ret_count, struct error *err) MUST_CHECK;
/* The same, but of the creates and resumes among them only those whose turn it is, and others in
 * their place: `turns` in all, of the owners with the fewest running jobs first. So a wake-up of a
 * create or resume says that one of them waits, not which is next. */
int store_jobs_claim_in_turn(struct store *store, const char *const *job_ids, size_t count,
                             size_t turns, const char *lease_owner, int64_t lease_ms,
                             struct store_claimed **ret, size_t *ret_count,
                             struct error *err) MUST_CHECK;
void store_claimed_free(struct store_claimed *claimed, size_t count);

/*
 * A create is about to be sent, some time after its claim: create_sent_at = now(). *ret_ours is
 * false, and nothing is written, when the lease has run out or is another's. -1 = not known to be
 * written: do not send.
 */
int store_create_sending(struct store *store, const char *job_id, int64_t lease_token,
                         bool *ret_ours, struct error *err) MUST_CHECK;

/* Ids of claimable jobs, oldest first, for when Redis is away. */
int store_jobs_due(struct store *store, int limit, char (**ret_ids)[UUID_BYTES], size_t *ret_count,
                   struct error *err) MUST_CHECK;

enum store_set {
    STORE_SET_PROVIDER = 1 << 0, /* provider_sandbox_id, domain, tokens, agent_version */
    STORE_SET_EXPIRES = 1 << 1,  /* expires_at_ms, timeout_mode, timeout_ms, on_timeout */
    STORE_SET_PROVIDER_EXPIRES = 1 << 2,
    STORE_SET_STARTED = 1 << 3, /* started_at = started_at_ms or now() if 0; stopped_at = NULL */
    STORE_SET_STOPPED = 1 << 4, /* stopped_at = now() */
    STORE_SET_SENT = 1 << 5,    /* create_sent_at_ms; 0 = no create can have had an effect */
    STORE_SET_PLACE = 1 << 7,   /* RETRY_WAIT only: provider, template_id, their reason = reason */
    STORE_DROP_PLACE = 1 << 8,  /* with STORE_SET_PLACE: the place that is left is none any more */
    STORE_START_IDLE = 1 << 6,  /* TIMEOUT_IDLE: expires_at = now() + timeout_ms (resume, create) */
    /* the provider does not know it: missing_since = now(), unless it is set; with an event */
    STORE_SET_MISSING = 1 << 9,
    /* the provider knows it again: missing_since = NULL, and a deadline that passed meanwhile is
     * due at once; with an event */
    STORE_SET_SEEN = 1 << 10,
    STORE_SET_LOST = 1 << 11, /* with to = deleted: for no other reason, so it may be given back */
};

/* The end of one attempt. */
struct store_finish {
    char job_id[UUID_BYTES];
    int64_t lease_token;
    enum job_state state; /* DONE FAILED DEAD SUPERSEDED, or RETRY_WAIT */
    int64_t delay_ms;     /* RETRY_WAIT: run_at = now() + delay */
    bool refund_attempt;  /* attempt - 1 */
    bool release;         /* given back unstarted or on drain: QUEUED-like RETRY_WAIT, delay 0 */
    enum outcome outcome;
    char error[256];
    int provider_http_status;
    const char *result_json; /* borrowed; NULL = {} */
    /* sandbox side, skipped when sandbox_id is "" */
    char sandbox_id[UUID_BYTES];
    bool change_status;
    enum sandbox_status from, to; /* compare-and-set on from */
    char reason[REASON_BYTES];    /* of the status, or of the place */
    unsigned set;                 /* enum store_set */
    struct sandbox values;        /* fields named by `set`; heap members unused */
    /* results */
    bool ret_fenced;          /* lost the lease or the status moved: nothing was written */
    enum job_state ret_state; /* as written: RETRY_WAIT ahead of a delete becomes SUPERSEDED */
    bool ret_has_next;        /* the sandbox's next job, to be woken now */
    struct wakeup ret_next;
};
/* Commits all of them in one transaction and one round trip. An item that is fenced writes nothing
 * and does not disturb the others; -1 = nothing was written, or the answer was lost (ask again:
 * what was written is fenced then). */
int store_jobs_finish(struct store *store, struct store_finish *items, size_t count,
                      const char *actor, struct error *err) MUST_CHECK;

/* ---- deciding (reaper) -------------------------------------------------------------------- */

/* Sandboxes whose expires_at has come: inserts the pause or delete job (origin deadline) in the
 * statement that re-checks expires_at, SKIP LOCKED, at most `limit`; a sandbox that already has an
 * unfinished pause/delete is skipped. *ret_wakeups heap array. */
int store_reap_deadlines(struct store *store, int limit, struct wakeup **ret_wakeups,
                         size_t *ret_count, struct error *err) MUST_CHECK;
/* The same for those whose delete_at has come: inserts their delete job (origin lifetime). */
int store_reap_lives(struct store *store, int limit, struct wakeup **ret_wakeups, size_t *ret_count,
                     struct error *err) MUST_CHECK;
/* Sets *ret to true when the database still keeps a job. Without a job, a queue that lacks its
 * mark is new rather than wiped. */
int store_has_jobs(struct store *store, bool *ret, struct error *err) MUST_CHECK;
/* ms until the earliest expires_at that is not due yet; max_ms when none is nearer. */
int store_next_deadline_ms(struct store *store, int64_t max_ms, int64_t *ret_ms,
                           struct error *err) MUST_CHECK;
/* Jobs that should be on a stream and may not be: queued / retry_wait due / lease run out, last
 * enqueued longer than base_ms ago, doubled each time but the first, and from the start again after
 * a claim (retry_wait just due: at once). Marks them enqueued. `all`: Redis was wiped, ignore the
 * backoff. */
int store_outbox(struct store *store, int limit, int64_t base_ms, bool all,
                 struct wakeup **ret_wakeups, size_t *ret_count, struct error *err) MUST_CHECK;

/* A dead job whose dead letter is not in Redis yet. */
struct store_dead_letter {
    struct wakeup wakeup;
    char error[256]; /* secret-free */
};
/* Takes up to `limit` of them for claim_ms, oldest first; store_dead_listed() ends it when they are
 * in Redis, and without it another reaper takes them again. *ret is on the heap. */
int store_dead_claim(struct store *store, int limit, int64_t claim_ms,
                     struct store_dead_letter **ret, size_t *ret_count,
                     struct error *err) MUST_CHECK;
int store_dead_listed(struct store *store, const struct store_dead_letter *letters, size_t count,
                      struct error *err) MUST_CHECK;
/* Marks every dead job as not listed, because Redis was wiped. */
int store_dead_relist(struct store *store, struct error *err) MUST_CHECK;

/* Running sandboxes whose provider_expires_at is nearer than horizon_ms and too early:
 * provider_expires_at < least(expires_at + grace_ms / 2, started_at + max_ms): inserts a timeout
 * job (origin lifetime) for those that can be extended, and a pause job (origin lifetime) for those
 * within margin_ms of their provider end (started_at + max_ms). Skips sandboxes with unfinished
 * jobs. */
int store_reap_lifetimes(struct store *store, const char *provider, int limit, int64_t grace_ms,
                         int64_t max_ms, int64_t margin_ms, int64_t horizon_ms,
                         struct wakeup **ret_wakeups, size_t *ret_count,
                         struct error *err) MUST_CHECK;

/* Tables that only grow. Each call deletes one small batch of rows older than age_ms, so that it
 * holds its locks for a short time. *ret_full = more such rows may exist. */
enum store_prunable {
    STORE_PRUNE_KEYS,      /* Idempotency-Keys, by their creation */
    STORE_PRUNE_TOKENS,    /* revoked tokens, by their own end */
    STORE_PRUNE_EVENTS,    /* events whose sandbox has no row */
    STORE_PRUNE_SANDBOXES, /* ended ones with jobs and events; their usage figures are kept */
    STORE_PRUNE_COMMANDS,  /* ended ones, by the end of their retention */
    STORE_PRUNE_COMMANDS_OF_ENDED, /* unfinished ones of ended sandboxes */
    STORE_PRUNABLE_COUNT
};
int store_prune(struct store *store, enum store_prunable what, int64_t age_ms, bool *ret_full,
                struct error *err) MUST_CHECK;

/* ---- reconcile (reaper asks, worker sweeps) ------------------------------------------------ */

/* Asks for a sweep of the provider unless one was asked for in the last interval_ms or is under
 * way: of several reapers one asks. A wake-up of op reconcile without a sandbox is a sweep's;
 * *ret_asked false = none is due. */
int store_sweep_ask(struct store *store, const char *provider, int64_t interval_ms,
                    struct wakeup *ret_wakeup, bool *ret_asked, struct error *err) MUST_CHECK;
/* Takes the sweep for lease_ms; ERR_NOT_FOUND when it is taken, done or not the newest. Its
 * provider goes to ret_provider. A sweep whose holder dies is not taken over: the next one does its
 * work. */
int store_sweep_claim(struct store *store, const char *sweep_id, const char *owner,
                      int64_t lease_ms, char ret_provider[PROVIDER_BYTES],
                      struct error *err) MUST_CHECK;
/* Lists the sweeps that no worker has claimed, for a worker that Redis cannot wake. *ret_ids is
 * a heap array. */
int store_sweeps_asked(struct store *store, int limit, char (**ret_ids)[UUID_BYTES],
                       size_t *ret_count, struct error *err) MUST_CHECK;
/* Ends the sweep. `error` NULL = the sweep compared every page. */
int store_sweep_end(struct store *store, const char *sweep_id, const char *error,
                    struct error *err) MUST_CHECK;

struct store_sweep_row {
    char sandbox_id[UUID_BYTES];
    char provider_sandbox_id[PROVIDER_ID_BYTES]; /* "" until created */
    enum sandbox_status status;
    bool busy;      /* has unfinished jobs */
    bool elsewhere; /* being created at another provider, and may yet come to this one */
    int64_t created_at_ms, missing_since_ms; /* missing: 0 = it is not */
    int64_t missing_ms;                      /* age of missing_since by the database's clock; -1 */
};
/*
 * Both prolong the sweep's lease to lease_ms from now; ERR_FENCED when it has run out. Rows of
 * deleted and failed sandboxes are not among them. *ret heap array.
 *
 * page: the rows that name one of these sandboxes of the provider, and those of the sandboxes that
 * these are tagged with, if they are the provider's or still being created anywhere.
 */
int store_sweep_page(struct store *store, const char *sweep_id, const char *provider,
                     int64_t lease_ms, const char *const *provider_ids,
                     const char *const *sandbox_ids, size_t count, struct store_sweep_row **ret,
                     size_t *ret_count, struct error *err) MUST_CHECK;
/* rows: the next `limit` of the provider's rows and of those still being created anywhere, newest
 * first. The cursor is zeroed at first; fewer than `limit` are the last. */
struct store_sweep_cursor {
    int64_t created_us; /* of the last row read */
    char sandbox_id[UUID_BYTES];
};
int store_sweep_rows(struct store *store, const char *sweep_id, const char *provider,
                     int64_t lease_ms, struct store_sweep_cursor *cursor, int limit,
                     struct store_sweep_row **ret, size_t *ret_count, struct error *err) MUST_CHECK;

struct store_sighting {
    const char *provider_sandbox_id;
    const char *finding; /* a word */
    const char *sandbox_id;
    /* results */
    int times;      /* complete sweeps in a row that found the same */
    int64_t age_ms; /* since the first of them */
    bool copy; /* its sandbox has come up at another provider: nobody will ever want this one */
    bool lost; /* its row has ended only because the provider did not know this very sandbox */
    int64_t ended_ms; /* since its row ended; -1 = it has none, or it has not ended */
    bool wanted; /* its row names it, or is being created here: by what happened since its page */
};
/* Notes what a complete sweep found, forgetting what it no longer finds. ERR_FENCED when the
 * sweep's lease has run out: its view is too old to act on, and nothing is noted. */
int store_sweep_note(struct store *store, const char *sweep_id, const char *provider,
                     struct store_sighting *items, size_t count, struct error *err) MUST_CHECK;
/* Reconcile jobs (origin reconcile) for those of the sandboxes that have no unfinished job and
 * still have that id at the provider. `evidence`: the name of each one's absence_evidence.
 * *ret_wakeups heap array. */
int store_sweep_check(struct store *store, const char *const *sandbox_ids,
                      const char *const *provider_ids, const char *const *evidence, size_t count,
                      struct wakeup **ret_wakeups, size_t *ret_count, struct error *err) MUST_CHECK;
/* Rows that ended only because their sandbox was believed lost, and whose sandbox has been seen:
 * each gets back the status in `states` (running, paused), with an event and a reconcile job. Of
 * two sweeps that see the same one, one gives it back. *ret_wakeups heap array, of those given. */
int store_sweep_give_back(struct store *store, const char *provider, const char *const *sandbox_ids,
                          const char *const *provider_ids, const char *const *states, size_t count,
                          const char *actor, struct wakeup **ret_wakeups, size_t *ret_count,
                          struct error *err) MUST_CHECK;
/* Sandboxes still creating whose counterpart has been seen: their create job is due at once, or
 * made anew when there is none, and will look before it sends. *ret_wakeups heap array. */
int store_sweep_adopt(struct store *store, const char *const *sandbox_ids, size_t count,
                      struct wakeup **ret_wakeups, size_t *ret_count, struct error *err) MUST_CHECK;
/* A line of history about an orphan that was killed, in its sandbox's history if there is such a
 * row. The sighting is forgotten: a list that lags must show it twice again before it counts. */
int store_sweep_killed(struct store *store, const char *provider, const char *provider_sandbox_id,
                       const char *sandbox_id, const char *reason, const char *actor,
                       struct error *err) MUST_CHECK;

struct store_stats {
    int64_t jobs_by_state[JOB_STATE_COUNT];
    int64_t sandboxes_by_status[SANDBOX_STATUS_COUNT]; /* above 1,000 estimated from a sample */
    int64_t oldest_queued_ms;                          /* age */
    int64_t missing;    /* sandboxes that their provider does not know at the moment */
    int64_t overdue_ms; /* since the oldest deadline on which nobody has acted; 0 = none */
};
int store_stats(struct store *store, struct store_stats *ret, struct error *err) MUST_CHECK;

/* Facts about PostgreSQL that `doctor` and the health checks report. */
struct store_facts {
    char version[64];
    int schema_version;
    int64_t wall_ms; /* its clock */
    int max_connections, connections;
    char synchronous_commit[16];
    bool fsync, in_recovery;
};
int store_facts_read(struct store *store, struct store_facts *ret, struct error *err) MUST_CHECK;

/* ---- operator ----------------------------------------------------------------------------- */
int store_jobs_list(struct store *store, int state /* or -1 */, int limit, struct job **ret,
                    size_t *ret_count, struct error *err) MUST_CHECK;
int store_job_get(struct store *store, const char *job_id, struct job *ret,
                  struct error *err) MUST_CHECK;
/* Repeats a dead or failed job as a new job with a new seq. */
int store_job_redrive(struct store *store, const char *job_id, const char *new_job_id,
                      struct wakeup *ret_wakeup, struct error *err) MUST_CHECK;

#endif
