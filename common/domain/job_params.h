/*
 * job_params - the JSON in jobs.params and jobs.result, read and written in one place.
 *
 * create params:  {"envs":{..}?, "network":{..}?, "no_internet":true?, "timeout_ms":n,
 *                  "places":[{"provider":"..","template":".."},..]?}
 *   places: where the sandbox may be created, the first choice first; one or none = nowhere else.
 * timeout params: {"timeout_ms":n, "on_timeout":"pause|delete"?, "extend_provider":true?,
 *                  "only_extend":true?}
 *   extend_provider: a lifetime job that only moves the provider's own end.
 *   only_extend: a deadline that lies further away is kept.
 * resume params:  {"timeout_ms":n?, "on_timeout":"pause|delete"?}
 *   timeout_ms: the absolute deadline from the moment at which the sandbox runs again.
 * pause params:   {"reason":"..."?, "ends_deadline":true?}
 *   ends_deadline: an absolute deadline does not end the paused sandbox.
 * reconcile params: {"absent":"proven|unproven"?}
 *   absent: what the list that asks for this look says of the sandbox, see absence.h.
 */
#ifndef DOMAIN_JOB_PARAMS_H
#define DOMAIN_JOB_PARAMS_H

#include "common/base/error.h"
#include "common/base/json.h"
#include "common/domain/absence.h"
#include "common/domain/types.h"

/* A provider, and what it calls the template there; "" = its default. */
struct job_place {
    char provider[PROVIDER_BYTES];
    char template_id[TEMPLATE_BYTES];
};
enum { JOB_PLACES_MAX = 8 };

struct job_params {
    int64_t timeout_ms; /* 0 = not given */
    bool has_on_timeout;
    enum on_timeout on_timeout;
    bool extend_provider, only_extend, ends_deadline;
    char reason[REASON_BYTES];
    enum absence_evidence absent;
    cJSON *envs;      /* owned, or NULL */
    cJSON *network;   /* owned, or NULL: where the sandbox may go, in E2B's form */
    bool no_internet; /* it may go nowhere */
    struct job_place places[JOB_PLACES_MAX];
    int place_count;
};
/* Strict; text NULL or "" gives all defaults. ERR_INVALID names the field. */
int job_params_parse(const char *text, struct job_params *ret, struct error *err) MUST_CHECK;
/* Heap string, compact JSON; the caller frees. */
char *job_params_format(const struct job_params *params);
void job_params_done(struct job_params *params);

#endif
