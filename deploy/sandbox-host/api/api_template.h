/*
 * api_template - templates, snapshots and forks.
 */
#ifndef SANDBOX_HOST_API_TEMPLATE_H
#define SANDBOX_HOST_API_TEMPLATE_H

#include "deploy/sandbox-host/api/api_call.h"

void api_snapshot(struct call *call); /* POST /sandboxes/{id}/snapshots */
void api_fork(struct call *call);     /* POST /sandboxes/{id}/fork */
/* Whether the path is of templates or snapshots, which the next one answers whole. */
bool api_is_template_path(const char *path);
void api_templates(struct call *call);

#endif
