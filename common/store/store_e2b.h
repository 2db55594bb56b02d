/*
 * store_e2b - what E2B's API at the gateway asks beside the contract's calls: its list, and the key
 * of the tokens that are given out for sandboxes.
 *
 * Threads and failure: as store.h.
 */
#ifndef STORE_STORE_E2B_H
#define STORE_STORE_E2B_H

#include "common/store/store.h"

enum { STORE_TOKEN_KEY_BYTES = 65 };

struct store_e2b_filter {
    const char *owner;
    bool running, paused; /* `paused` matches pausing and resuming, too */
    bool oldest_first;
    const char *metadata_json;  /* object of strings; a sandbox must have all of them; NULL = any */
    const char *templates_json; /* array of ids; a sandbox must have one of them; NULL = any */
    int64_t started_since_ms;   /* 0 = any time */
    int limit;
    int64_t after_created_us; /* the last item of the page before; 0 = first page */
    const char *after_id;
};
/* Lists sandboxes in order of creation. *ret is a heap array: sandbox_done() each, then free.
 * *ret_next_us > 0 = more items follow the last one. */
int store_e2b_list(struct store *store, const struct store_e2b_filter *filter, struct sandbox **ret,
                   size_t *ret_count, int64_t *ret_next_us, struct error *err) MUST_CHECK;
/* Counts the running sandboxes that match the filter, on all pages. */
int store_e2b_count_running(struct store *store, const struct store_e2b_filter *filter,
                            int64_t *ret, struct error *err) MUST_CHECK;

/* Ids of the newest sandboxes of all owners, at most `max`. */
int store_newest_ids(struct store *store, int max, char (*ret)[UUID_BYTES], size_t *ret_count,
                     struct error *err) MUST_CHECK;
/* Reads the secret that a migration made for this deployment; sandbox tokens derive from it. */
int store_sandbox_token_key(struct store *store, char ret[STORE_TOKEN_KEY_BYTES],
                            struct error *err) MUST_CHECK;

#endif
