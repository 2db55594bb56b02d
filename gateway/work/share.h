/*
 * share - how many of the threads that may wait are in creates at one provider, and in calls into
 * its sandboxes.
 *
 * A provider that answers nothing keeps each of these for as long as it may take. Where there are
 * several, one of them gets no more than three quarters of those threads, so that calls about the
 * others find one. Owns: the counts. Does not own: waits for other changes of a sandbox, which are
 * not counted. Threads: any; they are atomic.
 */
#ifndef GATEWAY_SHARE_H
#define GATEWAY_SHARE_H

#include <stdbool.h>

#include "common/domain/providers.h"
#include "common/provider/provider.h"

struct shares {
    int max; /* of one provider */
    _Atomic int held[PROVIDER_KIND_COUNT];
};

void shares_init(struct shares *shares, const struct provider_set *providers, int max_work);
/* A place for a call about a provider; false when it has all that it may have. One that does not
 * exist is not limited. */
bool share_take(struct shares *shares, const char *provider);
void share_give(struct shares *shares, const char *provider);

#endif
