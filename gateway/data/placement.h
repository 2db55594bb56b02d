/*
 * placement - chooses the provider of a new sandbox, its alternatives, and the template's name at
 * each.
 *
 * Owns: SANDBOX_TEMPLATES, the choice when a create is accepted. Does not own: later changes of
 * that choice (the worker's failover). Threads: const after placement_open(). Failure: ERR_CONFIG
 * names the faulty setting at start, ERR_INVALID the faulty field of a request.
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

/* Fills params->places with at least one place, best first. template_id "": each provider's
 * default. A name of SANDBOX_TEMPLATES: its providers only. Any other name: the first provider's
 * own template. pinned NULL = any provider. */
int placement_choose(const struct placement *placement, const char *template_id, const char *pinned,
                     struct job_params *params, struct error *err) MUST_CHECK;
/* The i-th name of SANDBOX_TEMPLATES, NULL behind the last. */
const char *placement_name(const struct placement *placement, size_t index);
/* The name of SANDBOX_TEMPLATES for what that provider calls `template_id`; NULL = it has none. */
const char *placement_name_of(const struct placement *placement, const char *provider_name,
                              const char *template_id);
/* Adds what the providers call that template, as placement_choose() reads it. */
void placement_add_ids(const struct placement *placement, const char *template_id, cJSON *array);

#endif
