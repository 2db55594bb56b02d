/*
 * queue - the only door to Redis: wake-ups out and in, replies, holds, heartbeats.
 *
 * Owns: connections, RESP commands, reconnects. Does not own: truth (PostgreSQL does): losing,
 * doubling or reordering an entry costs latency only.
 * Threads: a struct queue / queue_reader / queue_reply_reader belongs to one thread at a time.
 * Failure: ERR_QUEUE_DOWN. On any error the context is freed and a fresh one is made by a later
 * call (redisReconnect loses the read timeout), at most one connect attempt per 250 ms; in between
 * calls fail at once. Every command is bounded by command_timeout_ms.
 * ERR_LIMIT: Redis is there and refused something: it is full, or a key is of another type. What
 * else the call had to do is done; the connection is kept.
 */
#ifndef QUEUE_QUEUE_H
#define QUEUE_QUEUE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/domain/types.h"

/*
 * Whose keys these are. Two deployments that share a prefix would take each other's wake-ups, so a
 * connection is refused (ERR_CONFIG) while the mark holds another deployment's id, and open ones
 * are dropped when one of them has seen it. Shared by the connections of a process; any thread.
 */
struct queue_owner {
    char deployment_id[UUID_BYTES];
    _Atomic bool known;   /* deployment_id is set, once; until then nothing is checked */
    _Atomic bool foreign; /* the mark was another's when last seen */
};
void queue_owner_set(struct queue_owner *owner, const char *deployment_id);

struct queue_options {
    const char *prefix;        /* of every key; NULL = "sandbox:" */
    struct queue_owner *owner; /* borrowed, outlives the connections; NULL = not checked */
    const char *host; /* REDIS_HOST, resolved afresh on each connect; "/path" = unix socket */
    int port;
    int database;
    const char *username; /* NULL or "" = none */
    const char *password;
    int connect_timeout_ms; /* 1000 */
    int command_timeout_ms; /* 2000 */
    int64_t max_age_ms;     /* of a connection; 0 = no limit */
};

/* ---- commands ----------------------------------------------------------------------------- */

struct queue;
struct queue *queue_new(const struct queue_options *options); /* never connects itself */
void queue_free(struct queue *queue);
int queue_ping(struct queue *queue, struct error *err) MUST_CHECK;

/* XADDs all, pipelined. All or an error (some may have been added: harmless). */
int queue_add(struct queue *queue, const struct wakeup *wakeups, size_t count,
              struct error *err) MUST_CHECK;

struct queue_entry {
    char id[32]; /* stream entry id */
    enum job_op op;
    struct wakeup wakeup; /* job_id "" when the entry is malformed: ack and forget */
};
struct queue_reply {
    char gateway[GATEWAY_NAME_BYTES];
    char job_id[UUID_BYTES];
    enum job_state state;
};
/* One pipeline: XADD of replies (MAXLEN ~, EXPIRE), XADD of wakeups, XACK+XDEL of entries. */
int queue_settle(struct queue *queue, const struct queue_entry *acks, size_t ack_count,
                 const struct queue_reply *replies, size_t reply_count,
                 const struct wakeup *wakeups, size_t wakeup_count, struct error *err) MUST_CHECK;
/* Adds a dead letter (job_id op sandbox_id error). `error` is secret-free. */
int queue_add_dead(struct queue *queue, const struct wakeup *wakeup, const char *error,
                   struct error *err) MUST_CHECK;
/* Sets *ret to true when the dead-letter stream exists, even if it is empty. */
int queue_dead_present(struct queue *queue, bool *ret, struct error *err) MUST_CHECK;

/* Creates all streams and the group at 0 where missing, and the mark with our id. *ret_was_wiped:
 * the mark was absent, so every unfinished job must be enqueued again. ERR_CONFIG: the mark is
 * another deployment's, and nothing was made. Needs the owner's id. */
int queue_prepare(struct queue *queue, bool *ret_was_wiped, struct error *err) MUST_CHECK;
/* Reads the mark without making it. ERR_CONFIG: the mark is another deployment's. */
int queue_mark_present(struct queue *queue, bool *ret, struct error *err) MUST_CHECK;
/* The prefix of every key, for log lines and error texts. */
const char *queue_prefix(const struct queue *queue);

/* Hold of a provider: set for ms (never shortens one) with a word why, and ms left (0 = none, and
 * the word is ""). */
enum { QUEUE_HOLD_BYTES = 32 };
int queue_hold_set(struct queue *queue, const char *provider, int64_t ms, const char *why,
                   struct error *err) MUST_CHECK;
int queue_hold_get(struct queue *queue, const char *provider, int64_t *ret_ms,
                   char ret_why[QUEUE_HOLD_BYTES], struct error *err) MUST_CHECK;

/* A token bucket that all gateways share. */
enum { QUEUE_RATE_KEY_BYTES = 65 };
struct queue_rate {
    char key[QUEUE_RATE_KEY_BYTES];
    int64_t per_second, burst;
    int64_t used;     /* tokens that this gateway took since the last call */
    int64_t ret_left; /* tokens left in the shared bucket; < 0 = gateways took too many */
};
/* Takes from every bucket with one command. */
int queue_rates(struct queue *queue, struct queue_rate *rates, size_t count,
                struct error *err) MUST_CHECK;

int queue_heartbeat(struct queue *queue, const char *consumer, int64_t ttl_ms,
                    const char *info_json, struct error *err) MUST_CHECK;
int queue_heartbeat_remove(struct queue *queue, const char *consumer, struct error *err) MUST_CHECK;
/* Heartbeats of reapers. Their keys differ, so that no reaper counts as a worker. */
int queue_reaper_heartbeat(struct queue *queue, const char *name, int64_t ttl_ms,
                           const char *info_json, struct error *err) MUST_CHECK;
int queue_reaper_heartbeat_remove(struct queue *queue, const char *name,
                                  struct error *err) MUST_CHECK;
/* Number of live workers (SCAN, not KEYS). */
int queue_workers_alive(struct queue *queue, int *ret, struct error *err) MUST_CHECK;
enum queue_role { QUEUE_ROLE_WORKER, QUEUE_ROLE_REAPER };
/* Number of processes of that role whose heartbeat lives; `host` NULL = anywhere, else on that host
 * (the first part of service_identity()). */
int queue_alive(struct queue *queue, enum queue_role role, const char *host, int *ret,
                struct error *err) MUST_CHECK;
/* The heartbeat of one live process. */
struct queue_beat {
    char name[160];  /* service_identity() */
    char *info_json; /* heap */
};
/* *ret is a heap array: queue_beats_free(). */
int queue_beats_read(struct queue *queue, enum queue_role role, struct queue_beat **ret,
                     size_t *ret_count, struct error *err) MUST_CHECK;
void queue_beats_free(struct queue_beat *beats, size_t count);
/* For the health check of a container: 0 when a process of that role on this host beats.
 * ERR_NOT_FOUND, ERR_QUEUE_DOWN. */
int queue_health(const struct queue_options *options, enum queue_role role,
                 struct error *err) MUST_CHECK;

/* Facts about Redis that `doctor` and the health checks report. A text is "" when Redis did not
 * send it. */
struct queue_facts {
    char version[32];
    char role[16];             /* "master", "slave" */
    char maxmemory_policy[32]; /* anything but "noeviction" may lose wake-ups */
    bool aof;
    int64_t used_memory_bytes, maxmemory_bytes; /* 0 = no limit */
    int64_t wall_ms;                            /* its clock */
    int64_t dead_letters;
};
/* Describes why parts of Redis do not work: it takes no more writes, or a key of ours has
 * another type. "" = everything works. */
enum { QUEUE_CONDITION_BYTES = 256 };
int queue_condition(struct queue *queue, char ret[QUEUE_CONDITION_BYTES],
                    struct error *err) MUST_CHECK;
int queue_facts_read(struct queue *queue, struct queue_facts *ret, struct error *err) MUST_CHECK;
/* Entries waiting on all work streams (XLEN summed), and entries pending. */
int queue_depth(struct queue *queue, int64_t *ret_length, int64_t *ret_pending,
                struct error *err) MUST_CHECK;

/* Entries pending longer than min_idle_ms anywhere, taken over to `consumer` (XAUTOCLAIM, cursor
 * looped, at most `max`). Entries deleted meanwhile are dropped. */
int queue_autoclaim(struct queue *queue, const char *consumer, int64_t min_idle_ms,
                    struct queue_entry *ret, size_t max, size_t *ret_count,
                    struct error *err) MUST_CHECK;
/* Removes consumers of the group that have nothing pending and idle > idle_ms (atomically checked).
 */
int queue_consumers_prune(struct queue *queue, int64_t idle_ms, struct error *err) MUST_CHECK;

/* ---- parked reader (worker's event loop) --------------------------------------------------- */

/*
 * One read over all work streams, parked on a connection of its own, so that an event loop can poll
 * its fd. Usage: when there is room and none is parked: queue_reader_park(max). When fd is readable
 * or block_ms + 3000 ms have passed: queue_reader_take().
 * After each connect the pending entries of this consumer (id 0) are read first. Then what is there
 * (answered at once, at most `max` of all streams together), and when that is no more, an
 * XREADGROUP that blocks until something comes. To the latter Redis may give one entry of each
 * stream whatever `max` was, if several streams get one between the two: rare, and the caller's to
 * give back.
 */
struct queue_reader;
struct queue_reader *queue_reader_new(const struct queue_options *options, const char *consumer,
                                      int block_ms /* <= 2000 */);
void queue_reader_free(struct queue_reader *reader);
/* Sends the command. */
int queue_reader_park(struct queue_reader *reader, int max, struct error *err) MUST_CHECK;
bool queue_reader_parked(const struct queue_reader *reader);
int queue_reader_fd(const struct queue_reader *reader); /* -1 when not connected */
/* Reads what has arrived into ret, of `max` elements: those parked for, or JOB_OP_COUNT if that is
 * more. *ret_done: the parked command has answered (perhaps with 0 entries), park again. NOGROUP
 * and UNBLOCKED are ERR_NOT_FOUND: call queue_prepare(). */
int queue_reader_take(struct queue_reader *reader, struct queue_entry *ret, size_t max,
                      size_t *ret_count, bool *ret_done, struct error *err) MUST_CHECK;
/* The stream that the reader cannot read, and why; NULL = none. The reader leaves it out and
 * retries it after every block time. */
const char *queue_reader_fault(const struct queue_reader *reader);

/* ---- replies (gateway's dispatcher thread) -------------------------------------------------- */

struct queue_reply_reader;
struct queue_reply_reader *queue_reply_reader_new(const struct queue_options *options,
                                                  const char *gateway);
void queue_reply_reader_free(struct queue_reply_reader *reader);
/* Blocks at most block_ms (<= 2000); resumes from the last id read over reconnects. */
int queue_reply_read(struct queue_reply_reader *reader, int block_ms, struct queue_reply *ret,
                     size_t max, size_t *ret_count, struct error *err) MUST_CHECK;

#endif
