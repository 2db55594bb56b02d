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

void compare_done(struct compare *compare)
{
    idset_done(&compare->listed_ids);
    free(compare->findings);
    *compare = (struct compare){0};
}

static void add_finding(struct compare *compare, enum compare_kind kind,
                        const char *provider_sandbox_id, const char *sandbox_id,
                        enum provider_state state, const struct store_sweep_row *row)
{
    if (compare->found[kind]++ >= COMPARE_KEPT_MAX) {
        return;
    }
    if (compare->count == compare->capacity) {
        compare->capacity = compare->capacity == 0 ? 64 : 2 * compare->capacity;
        compare->findings =
            xrealloc(compare->findings, compare->capacity * sizeof(*compare->findings));
    }
    struct compare_finding *finding = &compare->findings[compare->count++];
    *finding = (struct compare_finding){.kind = kind, .state = state};
    str_copy(finding->provider_sandbox_id, sizeof(finding->provider_sandbox_id),
             provider_sandbox_id);
    str_copy(finding->sandbox_id, sizeof(finding->sandbox_id), sandbox_id);
    if (row != NULL) {
        finding->missing_since_ms = row->missing_since_ms;
        finding->missing_ms = row->missing_ms;
    }
}

/* True when the status contradicts the state at the provider, and no job is changing it. */
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

/* True when the row names a sandbox at this provider. */
static bool names_one(const struct store_sweep_row *row)
{
    return row->provider_sandbox_id[0] != '\0' && !row->elsewhere;
}

static void compare_named(struct compare *compare, const struct provider_listed *item,
                          const struct store_sweep_row *row)
{
    if (compare->oldest_present_ms == 0 || row->created_at_ms < compare->oldest_present_ms) {
        compare->oldest_present_ms = row->created_at_ms;
    }
    if (!row->busy && row->missing_since_ms > 0) {
        add_finding(compare, COMPARE_FOUND, row->provider_sandbox_id, row->sandbox_id, item->state,
                    row);
    } else if (!row->busy && differs(row->status, item->state)) {
        add_finding(compare, COMPARE_MISMATCH, row->provider_sandbox_id, row->sandbox_id,
                    item->state, row);
    }
}

static void compare_item(struct compare *compare, const struct provider_listed *item,
                         const struct store_sweep_row *rows, size_t row_count)
{
    const struct store_sweep_row *owner = NULL;
    for (size_t i = 0; i < row_count; i++) {
        if (names_one(&rows[i]) &&
            strcmp(rows[i].provider_sandbox_id, item->provider_sandbox_id) == 0) {
            compare_named(compare, item, &rows[i]);
            return;
        }
        if (strcmp(rows[i].sandbox_id, item->sandbox_id) == 0) {
            owner = &rows[i];
        }
    }
    enum compare_kind kind;
    if (unnamed(owner, &kind)) {
        add_finding(compare, kind, item->provider_sandbox_id, item->sandbox_id, item->state, owner);
    }
}

bool compare_page(struct compare *compare, const struct provider_listed *listed,
                  size_t listed_count, const struct store_sweep_row *rows, size_t row_count)
{
    const size_t before = compare->listed;
    for (size_t i = 0; i < listed_count; i++) {
        if (idset_add(&compare->listed_ids, listed[i].provider_sandbox_id)) {
            compare->listed++;
            compare_item(compare, &listed[i], rows, row_count);
        }
    }
    return compare->listed > before;
}

void compare_rows(struct compare *compare, const struct store_sweep_row *rows, size_t row_count)
{
    compare->rows += row_count;
    for (size_t i = 0; i < row_count; i++) {
        if (names_one(&rows[i]) && !rows[i].busy &&
            !idset_has(&compare->listed_ids, rows[i].provider_sandbox_id)) {
            add_finding(compare, COMPARE_ABSENT, rows[i].provider_sandbox_id, rows[i].sandbox_id,
                        PROVIDER_STATE_ABSENT, &rows[i]);
        }
    }
}

enum absence_evidence compare_evidence(const struct compare *compare,
                                       const struct compare_finding *absent)
{
    const size_t gone = compare->found[COMPARE_ABSENT];
    const bool incredible = gone >= ABSENT_INCREDIBLE && gone > compare->rows / 2;
    const bool older =
        compare->oldest_present_ms > 0 && compare->oldest_present_ms < absent->missing_since_ms;
    return !incredible && older ? ABSENCE_PROVEN : ABSENCE_UNPROVEN;
}
