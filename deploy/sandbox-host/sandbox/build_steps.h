/*
 * build_steps - the work of one build, step by step, and the build that build.c lists.
 */
#ifndef SANDBOX_HOST_BUILD_STEPS_H
#define SANDBOX_HOST_BUILD_STEPS_H

#include <stdbool.h>

#include "deploy/sandbox-host/sandbox/build.h"

enum { BUILD_LOG_LINES = 10000, BUILD_LINE_BYTES = 4096, BUILD_STEP_BYTES = 16 };
enum build_status { BUILD_NEW, BUILD_WAITING, BUILD_RUNNING, BUILD_READY, BUILD_FAILED };

struct build;
/* How the steps tell the list of builds how far they are. */
struct build_reporter {
    void (*log)(struct build *build, const char *level, const char *text, size_t length);
    void (*set_step)(struct build *build, const char *step);
    bool (*is_stopping)(void);
};

/* status, step, reason and logs are guarded by build.c's lock; the rest is the build's thread's. */
struct build {
    const struct build_reporter *reporter;
    char id[SAVED_ID_BYTES], build_id[UUID_BYTES], image[SAVED_PATH_BYTES];
    char name[TEMPLATE_NAME_BYTES];
    cJSON *tags;
    cJSON *body; /* as it was started with */
    enum build_status status;
    char step[BUILD_STEP_BYTES]; /* "base", the number of a step from 1 on, or "finalize" */
    char reason[ERROR_MESSAGE_BYTES];
    cJSON *logs;
    /* as the steps so far left them */
    cJSON *envs;
    char *user, *workdir; /* NULL = user, and the home */
    struct build *next;
};

/* Whether the host can do what is asked for. ERR_INVALID names what it cannot. */
int build_check(const cJSON *body, struct error *err) MUST_CHECK;
/* Does all of it. */
int build_run(struct build *build, const struct host_config *config, struct error *err) MUST_CHECK;

#endif
