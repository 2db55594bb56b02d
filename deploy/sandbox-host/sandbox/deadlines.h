/*
 * deadlines - the thread that ends or pauses sandboxes whose time is up or whose processes died.
 *
 * Owns: doing it within a tick; regular samples of what sandboxes use, for the metrics and for the
 * sandboxes themselves. A hundred deadlines at once are kept as well as one: this thread kills, the
 * cleaner (cleaner.h) waits.
 */
#ifndef SANDBOX_HOST_DEADLINES_H
#define SANDBOX_HOST_DEADLINES_H

#include "common/base/error.h"

int deadlines_start(struct error *err) MUST_CHECK;
void deadlines_stop(void);

#endif
