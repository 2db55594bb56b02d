/*
 * compare - what a provider has against what our rows say: the findings of one sweep.
 *
 * Pure: two lists in, one out; no I/O, no clock. Does not own: how often a finding must be seen and
 * what is done about it (reconcile.c). Threads: none shared. Failure: none.
 */
#ifndef WORKER_COMPARE_H
#define WORKER_COMPARE_H

#include <stddef.h>

#include "common/domain/absence.h"
#include "common/provider/provider.h"
#include "common/store/store.h"

enum compare_kind {
    /* at the provider, and no row names it nor can a job still find it: to be killed */
    COMPARE_ORPHAN,
    /* at the provider, and its row's create does not know yet: to be adopted by that create */
    COMPARE_UNADOPTED,
    /* named by a row and not at the provider: to be asked for by its id */
    COMPARE_ABSENT,
    /* at the provider, and its row says missing: to be asked for by its id */
    COMPARE_FOUND,
    /* running here and paused there, or the other way round: to be asked for by its id */
    COMPARE_MISMATCH,
    COMPARE_KIND_COUNT
};
const char *compare_kind_name(enum compare_kind kind);

struct compare_finding {
    enum compare_kind kind;
    const struct provider_listed *listed; /* NULL for COMPARE_ABSENT */
    const struct store_sweep_row *row;    /* NULL for an orphan without a row */
};

/*
 * What a complete list says of an absent row. It is proof of the right account when it shows a
 * sandbox of ours that is older than the miss: a wrong key would show none, or only what was made
 * with it since. When 10 or more rows, and more than half of all, are absent, the list rather than
 * the fleet is wrong: then nothing proves it. `findings` are those of compare_sweep(),
 * `oldest_present_ms` its result.
 */
enum absence_evidence compare_evidence(const struct compare_finding *findings, size_t count,
                                       size_t row_count, int64_t oldest_present_ms,
                                       const struct store_sweep_row *row);

/*
 * Sorts both arrays in place and writes at most listed_count + row_count findings into `ret`, which
 * point into the arrays; a sandbox listed twice counts once. `rows` are those of
 * store_sweep_rows(), read after the list: what was made meanwhile is absent once, but an orphan
 * only if it is one. Rows with unfinished jobs are those jobs' affair. *ret_oldest_present_ms: when
 * the oldest row whose sandbox is listed was created; INT64_MAX = there is none.
 */
size_t compare_sweep(struct provider_listed *listed, size_t listed_count,
                     struct store_sweep_row *rows, size_t row_count, struct compare_finding *ret,
                     int64_t *ret_oldest_present_ms);

#endif
