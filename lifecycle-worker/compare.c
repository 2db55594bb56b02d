/*
 * compare - see compare.h.
 */
#include "lifecycle-worker/compare.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

enum { ABSENT_INCREDIBLE = 10 }; /* rows; see compare_evidence() */

const char *compare_kind_name(enum compare_kind kind)
{
    static const char *const names[COMPARE_KIND_COUNT] = {
        [COMPARE_ORPHAN] = "orphan", [COMPARE_UNADOPTED] = "unadopted", [COMPARE_ABSENT] = "absent",
        [COMPARE_FOUND] = "found",   [COMPARE_MISMATCH] = "mismatch",
    };
    return names[kind];
}

static int by_listed_id(const void *a, const void *b)
{
    return strcmp(((const struct provider_listed *)a)->provider_sandbox_id,
                  ((const struct provider_listed *)b)->provider_sandbox_id);
}

static int by_sandbox(const void *a, const void *b)
{
    return strcmp(((const struct store_sweep_row *)a)->sandbox_id,
                  ((const struct store_sweep_row *)b)->sandbox_id);
}

static int by_provider_id(const void *a, const void *b)
{
    return strcmp((*(struct store_sweep_row *const *)a)->provider_sandbox_id,
                  (*(struct store_sweep_row *const *)b)->provider_sandbox_id);
}

/* Whether the row has come to rest in a state that the provider's contradicts. */
static bool differs(enum sandbox_status status, enum provider_state state)
{
    switch (status) {
    case SANDBOX_RUNNING:
        return state == PROVIDER_STATE_PAUSED;
    case SANDBOX_PAUSED:
        return state == PROVIDER_STATE_RUNNING;
    case SANDBOX_PAUSING: /* no job is at it: it has stopped half way */
    case SANDBOX_RESUMING:
        return state == PROVIDER_STATE_PAUSED || state == PROVIDER_STATE_RUNNING;
    case SANDBOX_CREATING:
    case SANDBOX_DELETING: /* refused for good: an operator's matter */
    case SANDBOX_DELETED:
    case SANDBOX_FAILED:
    case SANDBOX_STATUS_COUNT:
        break;
    }
    return false;
}

/* Listed, and no row names it: whose is it? True when it is a finding. */
static bool unnamed(const struct store_sweep_row *owner, enum compare_kind *ret)
{
    if (owner == NULL || owner->provider_sandbox_id[0] != '\0') {
        *ret = COMPARE_ORPHAN; /* its sandbox is at its end, or became another one here */
        return true;
    }
    if (owner->elsewhere) {
        return false; /* what that create comes to decides */
    }
    if (owner->status == SANDBOX_CREATING) {
        *ret = COMPARE_UNADOPTED;
        return true;
    }
    return false; /* a delete that finds it by its tags, or was refused for good */
}

enum absence_evidence compare_evidence(const struct compare_finding *findings, size_t count,
                                       size_t row_count, int64_t oldest_present_ms,
                                       const struct store_sweep_row *row)
{
    size_t absent = 0;
    for (size_t i = 0; i < count; i++) {
        absent += findings[i].kind == COMPARE_ABSENT;
    }
    bool incredible = absent >= ABSENT_INCREDIBLE && absent > row_count / 2;
    return !incredible && oldest_present_ms < row->missing_since_ms ? ABSENCE_PROVEN
                                                                    : ABSENCE_UNPROVEN;
}

size_t compare_sweep(struct provider_listed *listed, size_t listed_count,
                     struct store_sweep_row *rows, size_t row_count, struct compare_finding *ret,
                     int64_t *ret_oldest_present_ms)
{
    *ret_oldest_present_ms = INT64_MAX;
    struct store_sweep_row **named = xcalloc(row_count + 1, sizeof(struct store_sweep_row *));
    size_t named_count = 0, found = 0, at = 0;
    if (listed_count > 0) {
        qsort(listed, listed_count, sizeof(*listed), by_listed_id);
    }
    if (row_count > 0) {
        qsort(rows, row_count, sizeof(*rows), by_sandbox);
    }
    for (size_t i = 0; i < row_count; i++) {
        if (rows[i].provider_sandbox_id[0] != '\0' && !rows[i].elsewhere) {
            named[named_count++] = &rows[i];
        }
    }
    if (named_count > 0) {
        qsort(named, named_count, sizeof(*named), by_provider_id);
    }
    for (size_t i = 0; i < listed_count; i++) {
        const struct provider_listed *item = &listed[i];
        if (i > 0 && by_listed_id(item - 1, item) == 0) {
            continue;
        }
        int order = 1;
        while (at < named_count &&
               (order = strcmp(named[at]->provider_sandbox_id, item->provider_sandbox_id)) < 0) {
            if (!named[at]->busy) {
                ret[found++] = (struct compare_finding){COMPARE_ABSENT, NULL, named[at]};
            }
            at++;
        }
        if (at < named_count && order == 0) {
            const struct store_sweep_row *row = named[at++];
            if (row->created_at_ms < *ret_oldest_present_ms) {
                *ret_oldest_present_ms = row->created_at_ms;
            }
            if (!row->busy && row->missing_since_ms > 0) {
                ret[found++] = (struct compare_finding){COMPARE_FOUND, item, row};
            } else if (!row->busy && differs(row->status, item->state)) {
                ret[found++] = (struct compare_finding){COMPARE_MISMATCH, item, row};
            }
            continue;
        }
        struct store_sweep_row key;
        str_copy(key.sandbox_id, sizeof(key.sandbox_id), item->sandbox_id);
        const struct store_sweep_row *owner =
            row_count == 0 ? NULL : bsearch(&key, rows, row_count, sizeof(*rows), by_sandbox);
        enum compare_kind kind;
        if (unnamed(owner, &kind)) {
            ret[found++] = (struct compare_finding){kind, item, owner};
        }
    }
    for (; at < named_count; at++) {
        if (!named[at]->busy) {
            ret[found++] = (struct compare_finding){COMPARE_ABSENT, NULL, named[at]};
        }
    }
    free(named);
    return found;
}
