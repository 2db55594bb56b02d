/* absence - see absence.h. */
#include "common/domain/absence.h"

#include <string.h>

static const char *const names[ABSENCE_EVIDENCE_COUNT] = {
    [ABSENCE_NO_LIST] = "none",
    [ABSENCE_UNPROVEN] = "unproven",
    [ABSENCE_PROVEN] = "proven",
};

const char *absence_evidence_name(enum absence_evidence evidence)
{
    return names[evidence];
}

int absence_evidence_parse(const char *name, enum absence_evidence *ret)
{
    for (int i = 0; i < ABSENCE_EVIDENCE_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *ret = (enum absence_evidence)i;
            return 0;
        }
    }
    return -1;
}

enum absence_verdict absence_judge(const struct absence_policy *policy, int64_t missing_ms,
                                   enum absence_evidence evidence)
{
    int64_t needed_ms = evidence == ABSENCE_PROVEN ? policy->absent_ms : policy->unproven_ms;

    if (missing_ms < 0) {
        return ABSENCE_LOOK_AGAIN;
    }
    return evidence != ABSENCE_NO_LIST && missing_ms >= needed_ms ? ABSENCE_LOST : ABSENCE_MISSING;
}
