/*
 * store_usage - the usage ledger: how long sandboxes ran and were paused.
 *
 * Threads and failure: as store.h.
 */
#ifndef STORE_STORE_USAGE_H
#define STORE_STORE_USAGE_H

#include "common/store/store.h"

enum store_usage_group {
    USAGE_BY_DAY = 1 << 0, /* UTC */
    USAGE_BY_PROVIDER = 1 << 1,
    USAGE_BY_TEMPLATE = 1 << 2,
    USAGE_BY_LABEL = 1 << 3,
    USAGE_BY_OWNER = 1 << 4
};

struct store_usage_ask {
    const char *owner;       /* NULL = all */
    const char *from, *to;   /* days as YYYY-MM-DD; `to` itself does not count */
    unsigned groups;         /* enum store_usage_group */
    const char *prices_json; /* price per second; keys: provider, provider.paused; "{}" = none */
    int limit;
};

/* One row of the answer. A field that `groups` does not select is "". */
struct store_usage {
    char day[16], provider[PROVIDER_BYTES], template_id[TEMPLATE_BYTES], label[LABEL_BYTES];
    char owner[OWNER_BYTES];
    int64_t running_ms, paused_ms;
    char cost[48]; /* decimal, six places */
};
/* Sums the ledger by `groups`, in that order, at most `limit` rows. *ret is a heap array. */
int store_usage(struct store *store, const struct store_usage_ask *ask, struct store_usage **ret,
                size_t *ret_count, struct error *err) MUST_CHECK;

#endif
