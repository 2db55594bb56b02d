/* share - see share.h. */
#include "gateway/share.h"

#include <stdatomic.h>
#include <string.h>

void shares_init(struct shares *shares, struct provider_set *providers, int max_work)
{
    shares->providers = providers;
    shares->max = provider_set_count(providers) > 1 ? (max_work * 3 + 3) / 4 : max_work;
}

static _Atomic int *held_by(struct shares *shares, const char *provider)
{
    for (size_t i = 0; i < SHARE_PROVIDERS_MAX && i < provider_set_count(shares->providers); i++) {
        if (strcmp(provider_set_at(shares->providers, i)->ops->name, provider) == 0) {
            return &shares->held[i];
        }
    }
    return NULL;
}

bool share_take(struct shares *shares, const char *provider)
{
    _Atomic int *held = held_by(shares, provider);

    if (held != NULL && atomic_fetch_add(held, 1) >= shares->max) {
        atomic_fetch_sub(held, 1);
        return false;
    }
    return true;
}

void share_give(struct shares *shares, const char *provider)
{
    _Atomic int *held = held_by(shares, provider);

    if (held != NULL) {
        atomic_fetch_sub(held, 1);
    }
}
