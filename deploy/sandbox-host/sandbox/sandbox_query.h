/*
 * sandbox_query - reads sandboxes: one, all, the log lines and the samples of one.
 *
 * Every answer is a copy. Threads: any.
 */
#ifndef SANDBOX_HOST_SANDBOX_QUERY_H
#define SANDBOX_HOST_SANDBOX_QUERY_H

#include <stddef.h>

#include "common/base/error.h"
#include "deploy/sandbox-host/sandbox/journal.h"
#include "deploy/sandbox-host/sandbox/meter.h"
#include "deploy/sandbox-host/sandbox/sandbox_view.h"

/* ERR_NOT_FOUND for an unknown, ending or starting one. */
int sandbox_get(const char *id, struct sandbox_view *ret, struct error *err) MUST_CHECK;
/* Every running or paused one, newest first: a heap array. Call sandbox_view_done() on each, then
 * free(). */
void sandbox_list(struct sandbox_view **ret, size_t *ret_count);
/* Release with journal_done(). */
int sandbox_journal(const char *id, struct journal *ret, struct error *err) MUST_CHECK;
/* Samples, oldest first; the last one is taken now if the sandbox runs. Release with free(). */
int sandbox_meter(const char *id, struct meter_sample **ret, size_t *ret_count,
                  struct error *err) MUST_CHECK;

#endif
