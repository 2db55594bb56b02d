/*
 * api_build - builds of templates.
 */
#ifndef SANDBOX_HOST_API_BUILD_H
#define SANDBOX_HOST_API_BUILD_H

#include "deploy/sandbox-host/api/api_call.h"

/* Template builds: true when the call was one of theirs and is answered. `part` as api_template.c
 * cuts the path, without a version. */
bool api_build(struct call *call, const char *const *part, int count);
/* A PUT of a build's files brings no key but a token in its URL. */
bool api_upload_allowed(const struct call *call);

#endif
