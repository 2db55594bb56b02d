/*
 * provider_share - limits how many of the gateway's waiting calls one provider may hold.
 *
 * A provider that does not answer holds every calling thread until its timeout. With several
 * providers, one of them gets at most three quarters of these threads, so that calls to the others
 * still find one. Owns: the count of calls per provider (creates, and calls into sandboxes). Does
 * not own: waits for other lifecycle jobs, which are not counted. Threads: any; the counts are
 * atomic.
 */
#ifndef GATEWAY_PROVIDER_SHARE_H
#define GATEWAY_PROVIDER_SHARE_H

#include <stdbool.h>

#include "common/domain/providers.h"
#include "common/provider/provider.h"

struct provider_shares {
    int max; /* calls that one provider may hold at once */
    _Atomic int held[PROVIDER_KIND_COUNT];
};

/* max_work: calls that the whole gateway serves at once. */
void provider_shares_init(struct provider_shares *shares, const struct provider_set *providers,
                          int max_work);
/* Counts one call to a provider. False: the provider holds its maximum, and nothing was counted. A
 * name that is no provider is not limited. */
bool provider_share_take(struct provider_shares *shares, const char *provider);
/* Ends a call that provider_share_take() counted. */
void provider_share_give(struct provider_shares *shares, const char *provider);

#endif
