/*
 * sandbox - the sandboxes of this host: their table, their lives, their ends.
 *
 * Owns: create, kill, pause, resume, timeouts, the thread that keeps deadlines. Does not own:
 * processes (spawn.h), freezing (cgroup.h), HTTP (api.h). Threads: all functions are safe from any
 * thread. A sandbox has one transition at a time; the table's lock is never held over one.
 */
#ifndef SANDBOX_HOST_SANDBOX_H
#define SANDBOX_HOST_SANDBOX_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/config.h"

enum box_state { BOX_STARTING, BOX_RUNNING, BOX_PAUSED, BOX_ENDING };

enum { BOX_ID_BYTES = 32, BOX_TEXT_BYTES = 128 };

struct box_options {
    const char *template_id;
    int64_t timeout_ms;
    bool auto_pause, auto_resume, secure;
    const cJSON *metadata, *envs; /* or NULL; copied */
};

/* A copy of what is known of one sandbox. */
struct box_view {
    char id[BOX_ID_BYTES];
    char template_id[BOX_TEXT_BYTES];
    char alias[BOX_TEXT_BYTES]; /* of the template, or "" */
    char token[BOX_TEXT_BYTES]; /* "" when not secure */
    enum box_state state;
    bool auto_pause, auto_resume;
    int64_t started_ms, end_ms; /* wall clock; of a paused one end_ms is when it was paused */
    cJSON *metadata;            /* owned by the view, or NULL */
};
void box_view_done(struct box_view *view);

int boxes_init(const struct host_config *config, struct error *err) MUST_CHECK;
/* Kills all; nothing is left. */
void boxes_done(void);

/* ERR_INVALID (timeout), ERR_NOT_FOUND (template), ERR_RATE_LIMITED (too many), ERR_INTERNAL. */
int box_create(const struct box_options *options, struct box_view *ret,
               struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND for an unknown, ending or starting one. */
int box_get(const char *id, struct box_view *ret, struct error *err) MUST_CHECK;
/* All that run or are paused, newest first: a heap array, box_view_done each, then free. */
void box_list(struct box_view **ret, size_t *ret_count);
int box_kill(const char *id, struct error *err) MUST_CHECK;
/* ERR_CONFLICT when it is paused already. */
int box_pause(const char *id, struct error *err) MUST_CHECK;
/* Resumes if paused and extends to timeout_ms from now (never shortens). *ret_resumed tells which.
 */
int box_connect(const char *id, int64_t timeout_ms, bool *ret_resumed, struct box_view *ret,
                struct error *err) MUST_CHECK;
/* End = now + timeout_ms, clamped to the longest life. ERR_NOT_FOUND also when paused.
 * `extend_only`: a shorter one is ignored. */
int box_set_timeout(const char *id, int64_t timeout_ms, bool extend_only,
                    struct error *err) MUST_CHECK;
/* Before traffic goes in: resumes a paused one that resumes by traffic. ERR_NOT_FOUND otherwise. */
int box_touch(const char *id, struct error *err) MUST_CHECK;

#endif
