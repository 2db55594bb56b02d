/* provider_share - see provider_share.h. */
#include "gateway/work/provider_share.h"

#include <stdatomic.h>

void provider_shares_init(struct provider_shares *shares, const struct provider_set *providers,
                          int max_work)
{
    shares->max = provider_set_share(providers, max_work);
}

static _Atomic int *held_by(struct provider_shares *shares, const char *provider)
{
    enum provider_kind kind;

    return provider_kind_parse(provider, &kind) == 0 ? &shares->held[kind] : NULL;
}

bool provider_share_take(struct provider_shares *shares, const char *provider)
{
    _Atomic int *held = held_by(shares, provider);

    if (held != NULL && atomic_fetch_add(held, 1) >= shares->max) {
        atomic_fetch_sub(held, 1);
        return false;
    }
    return true;
}

void provider_share_give(struct provider_shares *shares, const char *provider)
{
    _Atomic int *held = held_by(shares, provider);

    if (held != NULL) {
        atomic_fetch_sub(held, 1);
    }
}
