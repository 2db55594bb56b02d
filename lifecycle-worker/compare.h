/*
 * compare - what a provider has against what our rows say: the findings of one sweep.
 *
 * Takes the provider's list page by page, and then our rows batch by batch, so that neither is ever
 * held whole: of what was listed 16 bytes an id are kept, and of each kind COMPARE_KEPT_MAX
 * findings. Pure: no I/O, no clock. Does not own: how often a finding must be seen and what is done
 * about it (reconcile.c). Threads: none shared. Failure: none.
 */
#ifndef WORKER_COMPARE_H
#define WORKER_COMPARE_H

#include <stddef.h>

#include "common/base/idset.h"
#include "common/domain/absence.h"
#include "common/provider/provider.h"
#include "common/store/store.h"

enum compare_kind {
    /* listed, and neither a row nor an open job can claim it: kill */
    COMPARE_ORPHAN,
    /* listed, and the create of its row does not know it yet: that create adopts it */
    COMPARE_UNADOPTED,
    /* named by a row and not listed: query it by its id */
    COMPARE_ABSENT,
    /* listed, and its row is marked missing: query it by its id */
    COMPARE_FOUND,
    /* running in one and paused in the other: query it by its id */
    COMPARE_MISMATCH,
    COMPARE_KIND_COUNT
};
const char *compare_kind_name(enum compare_kind kind);

enum { COMPARE_KEPT_MAX = 5000 }; /* findings of a kind; those beyond wait for a later sweep */

struct compare_finding {
    enum compare_kind kind;
    char provider_sandbox_id[PROVIDER_ID_BYTES];
    char sandbox_id[UUID_BYTES];
    enum provider_state state;            /* as listed; ABSENT for COMPARE_ABSENT */
    int64_t missing_since_ms, missing_ms; /* of the row, as in store_sweep_row */
};

/* A running sweep; the caller zeroes it first. */
struct compare {
    struct idset listed_ids;
    struct compare_finding *findings; /* owned */
    size_t count, capacity;
    size_t listed, rows;              /* a sandbox that was listed twice counts once */
    size_t found[COMPARE_KIND_COUNT]; /* those that were not kept, too */
    /* When the oldest row whose sandbox is listed was created; 0 = none is listed. */
    int64_t oldest_present_ms;
};
void compare_done(struct compare *compare);

/* One page, and the rows of store_sweep_page() for it, read after it. False: it holds no sandbox
 * that an earlier one did not. Rows with unfinished jobs are those jobs' affair. */
bool compare_page(struct compare *compare, const struct provider_listed *listed,
                  size_t listed_count, const struct store_sweep_row *rows, size_t row_count);
/* Some of our rows, read after the last page: what was made meanwhile is absent once. */
void compare_rows(struct compare *compare, const struct store_sweep_row *rows, size_t row_count);

/*
 * What a complete list says of an absent row. It is proof of the right account when it shows a
 * sandbox of ours that is older than the miss: a wrong key would show none, or only what was made
 * with it since. When 10 or more rows, and more than half of all, are absent, the list rather than
 * the fleet is wrong: then nothing proves it.
 */
enum absence_evidence compare_evidence(const struct compare *compare,
                                       const struct compare_finding *absent);

#endif
