/*
 * network_rules - where a sandbox may go: `network` of a create, and which providers keep it.
 *
 * Owns: reading {allow_internet, allow_out, deny_out} into E2B's form, which the worker gives to
 * the provider. Does not own: how a provider keeps it (provider_ops.network_check). Threads: none.
 * Failure: ERR_INVALID names the field, ERR_UNSUPPORTED says what the provider cannot keep.
 */
#ifndef GATEWAY_NETWORK_RULES_H
#define GATEWAY_NETWORK_RULES_H

#include "common/domain/job_params.h"
#include "common/provider/provider.h"

enum { NETWORK_RULES_MAX = 64 }; /* entries of allow_out and of deny_out */

/* Sets params->network and params->no_internet from body.network; neither when it is not there. */
int network_rules_read(const cJSON *body, struct job_params *params, struct error *err) MUST_CHECK;
/* Removes the places whose provider cannot keep the rules of `params`, so that a failover keeps
 * them, too. ERR_UNSUPPORTED with the reason of the first one when no place is left. */
int network_rules_place(struct provider_set *providers, struct job_params *params,
                        struct error *err) MUST_CHECK;

#endif
