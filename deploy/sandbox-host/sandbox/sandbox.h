/*
 * sandbox - what changes a sandbox: create, kill, pause, resume, timeout, network, admission of
 * traffic.
 *
 * Does not own: the table (sandbox_table.h), deadlines (deadlines.h), what survives a restart
 * (record.h), processes (spawn.h), freezing (cgroup.h), HTTP (api.h). Threads: any. A sandbox has
 * one transition at a time; the table's lock is never held over one.
 */
#ifndef SANDBOX_HOST_SANDBOX_H
#define SANDBOX_HOST_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/proxy/route.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/sandbox/sandbox_view.h"

struct sandbox_options {
    const char *template_id;
    int64_t timeout_ms;
    bool auto_pause, auto_resume, secure;
    bool auto_pause_drops; /* an automatic pause keeps only the disk */
    bool private_traffic;  /* network.allowPublicTraffic is false */
    bool internal;         /* made for a build: no list shows it, the next host does not adopt it */
    const char *disk;      /* image to start from, or NULL = the template's, or a new one */
    const char *base_id;   /* template to use when template_id no longer exists, or NULL */
    enum sandbox_internet internet;
    const cJSON *metadata, *envs, *network; /* or NULL; copied */
};

/* ERR_INVALID (timeout, network), ERR_NOT_FOUND (template), ERR_RATE_LIMITED (too many),
 * ERR_OVERLOADED (no room on the disk), ERR_INTERNAL. */
int sandbox_create(const struct sandbox_options *options, struct sandbox_view *ret,
                   struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND. */
int sandbox_kill(const char *id, struct error *err) MUST_CHECK;
/* Freezes the sandbox, or ends its processes and keeps its disk when `keeps_memory` is false.
 * ERR_CONFLICT when it is paused already; ERR_INVALID where disks are not kept. */
int sandbox_pause(const char *id, bool keeps_memory, struct error *err) MUST_CHECK;
/* Resumes if paused and extends to timeout_ms from now (never shortens). *ret_resumed tells which.
 */
int sandbox_connect(const char *id, int64_t timeout_ms, bool *ret_resumed, struct sandbox_view *ret,
                    struct error *err) MUST_CHECK;
/* End = now + timeout_ms, clamped to the longest life. ERR_NOT_FOUND also when paused.
 * `extend_only`: a shorter one is ignored. */
int sandbox_set_timeout(const char *id, int64_t timeout_ms, bool extend_only,
                        struct error *err) MUST_CHECK;
/* Replaces the networks that a running sandbox can reach: `network` has allowOut and denyOut, or is
 * NULL. The other fields of its create stay. ERR_INVALID; ERR_NOT_FOUND also when paused. */
int sandbox_set_network(const char *id, enum sandbox_internet internet, const cJSON *network,
                        struct error *err) MUST_CHECK;
/* Call it before relaying traffic to a port. Checks the tokens of the request (NULL = none) and
 * resumes a paused sandbox that resumes on traffic. ret_host: the Host header for the server in the
 * sandbox, "" = the client's. ERR_NOT_FOUND: no such sandbox, or traffic does not resume it;
 * ERR_TOKEN_MISSING; ERR_TOKEN_SIGNATURE (a wrong token). Without `may_resume` a sandbox that would
 * have to be resumed is ERR_CONFLICT, and the call does not block. */
int sandbox_admit(const char *id, int port, const char *access_token, const char *traffic_token,
                  bool may_resume, char ret_host[ROUTE_MASK_BYTES], struct error *err) MUST_CHECK;

/* ---- for the files of this folder ---- */

struct sandbox;

/* Once, before any other function. */
void sandbox_init(const struct host_config *config);
/* With the transition lock held. */
int sandbox_pause_locked(struct sandbox *sandbox, bool keeps_memory, struct error *err) MUST_CHECK;
/* With the transition lock held. Kills the sandbox; cleaner_end() then waits for its processes and
 * removes it from the table. */
void sandbox_end_locked(struct sandbox *sandbox, const char *why);

#endif
