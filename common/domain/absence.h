/*
 * absence - when a sandbox that its provider does not know is believed to be lost.
 *
 * Pure; times are arguments. A provider's not-found may be wrong: a node is out of reach, the key
 * is another team's, the URL another server's. So one answer makes a row missing and no more; it is
 * lost after two looks far enough apart, when the list does not show it either, and when something
 * proves that list and looks are answered by the right account.
 */
#ifndef DOMAIN_ABSENCE_H
#define DOMAIN_ABSENCE_H

#include <stdint.h>

/* What the newest complete list of the provider says of a sandbox that a look did not find. */
enum absence_evidence {
    ABSENCE_NO_LIST,  /* nothing: no list was compared, or it shows the sandbox */
    ABSENCE_UNPROVEN, /* not in the list, and nothing proves that the list is that of our account */
    ABSENCE_PROVEN,   /* not in the list, which holds sandboxes of ours that are older than the miss
                       */
    ABSENCE_EVIDENCE_COUNT
};
const char *absence_evidence_name(enum absence_evidence evidence); /* none, unproven, proven */
int absence_evidence_parse(const char *name, enum absence_evidence *ret);

struct absence_policy {
    int64_t absent_ms;   /* least time between the first look and the one that ends the row */
    int64_t unproven_ms; /* the same without proof */
};

enum absence_verdict {
    ABSENCE_LOOK_AGAIN, /* the first not-found: missing, and to be looked for again in a moment */
    ABSENCE_MISSING,    /* not found again: stays missing */
    ABSENCE_LOST, /* believed: the row ends, and is given back should the sandbox be seen again */
};

/* `missing_ms`: since the first look that did not find it; < 0 = this look is the first. */
enum absence_verdict absence_judge(const struct absence_policy *policy, int64_t missing_ms,
                                   enum absence_evidence evidence);

#endif
