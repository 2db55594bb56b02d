/*
 * sandbox - the sandboxes of this host: their lives and their ends.
 *
 * Owns: create, kill, pause, resume, timeouts, who may come in. Does not own: the table
 * (sandbox_table.h), deadlines (deadlines.h), what survives a restart (record.h), processes
 * (spawn.h), freezing (cgroup.h), HTTP (api.h). Threads: all functions are safe from any thread. A
 * sandbox has one transition at a time; the table's lock is never held over one.
 */
#ifndef SANDBOX_HOST_SANDBOX_H
#define SANDBOX_HOST_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/json.h"
#include "common/proxy/route.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/sandbox/journal.h"
#include "deploy/sandbox-host/sandbox/meter.h"

enum sandbox_state { SANDBOX_STARTING, SANDBOX_RUNNING, SANDBOX_PAUSED, SANDBOX_ENDING };
enum sandbox_internet { SANDBOX_INTERNET_UNSET, SANDBOX_INTERNET_YES, SANDBOX_INTERNET_NO };

enum { SANDBOX_ID_BYTES = 32, SANDBOX_TEXT_BYTES = 128 };

struct sandbox_options {
    const char *template_id;
    int64_t timeout_ms;
    bool auto_pause, auto_resume, secure;
    bool auto_pause_drops; /* an automatic pause keeps the disk alone */
    bool private_traffic;  /* network.allowPublicTraffic is false */
    bool internal;         /* the host's own, for a build: in no list, and not of the next host */
    const char *disk;      /* image to start from, or NULL = the template's, or a new one */
    const char *base_id;   /* template to take where template_id is there no more, or NULL */
    enum sandbox_internet internet;
    const cJSON *metadata, *envs, *network; /* or NULL; copied */
};

/* A copy of what is known of one sandbox. */
struct sandbox_view {
    char id[SANDBOX_ID_BYTES];
    char template_id[SANDBOX_TEXT_BYTES];
    char base_id[SANDBOX_TEXT_BYTES];       /* the template whose system lies below its own layer */
    char alias[SANDBOX_TEXT_BYTES];         /* of the template, or "" */
    char token[SANDBOX_TEXT_BYTES];         /* for the agent; "" when not secure */
    char traffic_token[SANDBOX_TEXT_BYTES]; /* for every other port; "" when they are public */
    enum sandbox_state state;
    enum sandbox_internet internet;
    bool auto_pause, auto_resume;
    bool auto_pause_drops; /* an automatic pause keeps the disk alone */
    bool cold;             /* paused without memory: its processes are gone, its disk is there */
    bool explicit_resume;  /* traffic does not resume it */
    bool internal;         /* the host's own, for a build */
    int64_t started_ms, end_ms; /* wall clock; of a paused one end_ms is when it was paused */
    cJSON *metadata;            /* owned by the view, or NULL */
    cJSON *network;             /* as it was asked for; likewise */
    cJSON *envs;                /* of its commands, as its create said; likewise */
};
void sandbox_view_done(struct sandbox_view *view);

/* ERR_INVALID (timeout, network), ERR_NOT_FOUND (template), ERR_RATE_LIMITED (too many),
 * ERR_OVERLOADED (no room on the disk), ERR_INTERNAL. */
int sandbox_create(const struct sandbox_options *options, struct sandbox_view *ret,
                   struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND for an unknown, ending or starting one. */
int sandbox_get(const char *id, struct sandbox_view *ret, struct error *err) MUST_CHECK;
/* All that run or are paused, newest first: a heap array, sandbox_view_done each, then free. */
void sandbox_list(struct sandbox_view **ret, size_t *ret_count);
int sandbox_kill(const char *id, struct error *err) MUST_CHECK;
/* Whether disks can outlive processes here: pauses without memory, snapshots, forks. */
bool sandbox_keeps_disks(void);
/* Frozen, or with `keeps_memory` false as its disk alone. ERR_CONFLICT when it is paused already;
 * ERR_INVALID where disks are not kept. */
int sandbox_pause(const char *id, bool keeps_memory, struct error *err) MUST_CHECK;
/* Copies its disk, as it is now, to a new file; what it is made of goes to *ret. A running one
 * stands still meanwhile. ERR_NOT_FOUND; ERR_INVALID where disks are not kept. */
int sandbox_copy_disk(const char *id, const char *to, struct sandbox_view *ret,
                      struct error *err) MUST_CHECK;
/* Resumes if paused and extends to timeout_ms from now (never shortens). *ret_resumed tells which.
 */
int sandbox_connect(const char *id, int64_t timeout_ms, bool *ret_resumed, struct sandbox_view *ret,
                    struct error *err) MUST_CHECK;
/* End = now + timeout_ms, clamped to the longest life. ERR_NOT_FOUND also when paused.
 * `extend_only`: a shorter one is ignored. */
int sandbox_set_timeout(const char *id, int64_t timeout_ms, bool extend_only,
                        struct error *err) MUST_CHECK;
/* Replaces where a running one may go: `network` has allowOut and denyOut, or is NULL; the rest of
 * what its create said stays. ERR_INVALID; ERR_NOT_FOUND also when paused. */
int sandbox_set_network(const char *id, enum sandbox_internet internet, const cJSON *network,
                        struct error *err) MUST_CHECK;
/* Before traffic goes to a port: checks the tokens it brings (NULL = none) and resumes a paused one
 * that resumes by traffic. ret_host: what the server there is to be told as Host, "" = what the
 * client said. ERR_NOT_FOUND: not there, or paused for good; ERR_TOKEN_MISSING, ERR_TOKEN_SIGNATURE
 * (a wrong one). Without `may_resume` one that would have to be resumed first is ERR_CONFLICT, and
 * the call does not wait. */
int sandbox_admit(const char *id, int port, const char *access_token, const char *traffic_token,
                  bool may_resume, char ret_host[ROUTE_MASK_BYTES], struct error *err) MUST_CHECK;
/* Copies; done with journal_done() and free(). */
int sandbox_journal(const char *id, struct journal *ret, struct error *err) MUST_CHECK;
/* Samples from the oldest on, the last of them taken now where it runs. */
int sandbox_meter(const char *id, struct meter_sample **ret, size_t *ret_count,
                  struct error *err) MUST_CHECK;

#endif
