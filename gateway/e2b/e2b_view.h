/*
 * e2b_view - how a sandbox looks to E2B's clients, and which sandboxes they see.
 *
 * Owns: the JSON of E2B's API, ids and times in its form. Does not own: the calls (e2b_*.c).
 * Threads: as request.h. Failure: the store's errors, ERR_SANDBOX_NOT_FOUND.
 */
#ifndef GATEWAY_E2B_VIEW_H
#define GATEWAY_E2B_VIEW_H

#include "gateway/http/request.h"

/* The sandbox of the path, if E2B's clients may see it: one that is being made or deleted, or whose
 * create failed, is not there for them. */
int e2b_get_visible(struct request *request, struct sandbox *ret, struct error *err) MUST_CHECK;

/* What create and connect answer; *ret is the caller's. */
int e2b_view_sandbox(struct request *request, const struct sandbox *sandbox, cJSON **ret,
                     struct error *err) MUST_CHECK;
/* An item of a list. `sizes`: the provider's own view of the sandbox, which tells its size; NULL =
 * not asked, and the sizes are 0. */
cJSON *e2b_view_listed(const struct request *request, const struct sandbox *sandbox,
                       const cJSON *sizes);
/* The same with what only GET /sandboxes/{sandboxID} tells. */
int e2b_view_detail(struct request *request, const struct sandbox *sandbox, const cJSON *sizes,
                    cJSON **ret, struct error *err) MUST_CHECK;
/* envd's version where the provider told none: the oldest that E2B's clients take. */
#define E2B_OLDEST_ENVD "0.1.0"

#endif
