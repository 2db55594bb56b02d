/*
 * placement - at which provider a new sandbox is to be, where else it may go, and what its template
 * is called at each of them.
 *
 * Owns: SANDBOX_TEMPLATES, the choice at the time a create is accepted. Does not own: the change of
 * that choice later (the worker's failover).
 * Threads: const after placement_open. Failure: ERR_CONFIG names what is wrong at start,
 * ERR_INVALID the field of the request.
 */
#ifndef GATEWAY_PLACEMENT_H
#define GATEWAY_PLACEMENT_H

#include "common/base/error.h"
#include "common/domain/job_params.h"
#include "common/provider/provider.h"

struct placement;

/* `templates` is the text of SANDBOX_TEMPLATES, or NULL; `providers` must outlive the result. */
struct placement *placement_open(const char *templates, struct provider_set *providers,
                                 struct error *err) MUST_CHECK;
void placement_close(struct placement *placement); /* NULL-safe */

/*
 * Fills params->places, best first; there is at least one. `template_id` "" = each provider's
 * default; a name of SANDBOX_TEMPLATES = what it says, and only where it says something; any other
 * is a provider's own name for it, meant for the first provider alone. `pinned` NULL = any.
 */
int placement_choose(const struct placement *placement, const char *template_id, const char *pinned,
                     struct job_params *params, struct error *err) MUST_CHECK;

#endif
