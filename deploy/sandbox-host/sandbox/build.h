/*
 * build - templates made by steps, as E2B's template API (v2 builds) and SDKs ask for them.
 *
 * A build runs in a sandbox of its own over the template it starts from: RUN, COPY, ENV, WORKDIR
 * and USER, then the start and ready command. Its disk becomes a saved template (saved.h). Steps
 * are not cached: each build runs all of them. Builds are known until the host ends; their
 * templates stay. Owns: the list of builds, their logs, uploaded archives. Threads: any; each build
 * has one of its own. Failure: of a call -1 with the reason; of a build its status, with the step
 * that failed.
 */
#ifndef SANDBOX_HOST_BUILD_H
#define SANDBOX_HOST_BUILD_H

#include "common/base/error.h"
#include "common/base/id.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/sandbox/saved.h"

int builds_init(const struct host_config *config, struct error *err) MUST_CHECK;
/* Ends all, once their sandboxes have ended. */
void builds_done(void);

/* A build of a template `name` that is not started yet. `tags`: or NULL. ERR_RATE_LIMITED. */
int build_new(const char *name, const cJSON *tags, char template_id[SAVED_ID_BYTES],
              char build_id[UUID_BYTES], struct error *err) MUST_CHECK;
/* Starts it with E2B's TemplateBuildStartV2. ERR_NOT_FOUND, ERR_CONFLICT, ERR_INVALID. */
int build_start(const char *template_id, const char *build_id, const cJSON *body,
                struct error *err) MUST_CHECK;
/* E2B's TemplateBuildInfo, with log entries from number `offset` on. NULL: ERR_NOT_FOUND. */
cJSON *build_info(const char *template_id, const char *build_id, int64_t offset, int64_t limit,
                  struct error *err);

#endif
