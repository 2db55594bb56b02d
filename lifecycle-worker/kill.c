/* kill - see kill.h. */
#include "lifecycle-worker/kill.h"

#include <stdio.h>

#include "common/base/clock.h"
#include "common/base/crashpoint.h"
#include "common/base/log.h"
#include "lifecycle-worker/call.h"
#include "lifecycle-worker/dependencies.h"
#include "lifecycle-worker/gates.h"

enum { TRIES_MAX = 6, RETRY_BASE_MS = 500 };

/* The orphan is gone: the event names it. */
static void record_orphan_killed(struct worker *worker, const struct flight_kill *kill)
{
    struct error err = ERROR_INIT;
    char reason[REASON_BYTES];
    CRASHPOINT(sweep_killed);
    gates_find(worker, kill->provider)->counts.orphans_killed++;
    snprintf(reason, sizeof(reason), "orphan %s at %s killed: sandbox %s does not name it",
             kill->provider_sandbox_id, kill->provider, kill->sandbox_id);
    log_event(LOG_WARN, "reconcile.orphan_killed",
              LOG_S("provider", gates_label(worker, kill->provider)),
              LOG_S("provider_sandbox_id", kill->provider_sandbox_id),
              LOG_S("sandbox", kill->sandbox_id));
    if (store_sweep_killed(worker->store, kill->provider, kill->provider_sandbox_id,
                           kill->sandbox_id, reason, worker->identity, &err) != 0) {
        dependencies_store_failed(worker, &err);
        log_error(LOG_ERROR, "reconcile.event_lost", &err);
    }
}

static void on_end(struct flight *flight, const struct provider_step *step, struct gate *gate)
{
    struct worker *worker = flight->worker;
    struct flight_kill *kill = &flight->kill;
    bool gone = step->verdict == PROVIDER_DONE;
    (void)gate;
    if (gone && kill->orphan) {
        record_orphan_killed(worker, kill);
    } else if (gone) {
        worker->counters.copies_killed++;
        log_event(LOG_WARN, "provider.copy_killed",
                  LOG_S("provider_sandbox_id", kill->provider_sandbox_id));
    } else if (++kill->tries < TRIES_MAX && !service_draining()) {
        flight->not_before_ms = clock_mono_ms() + ((int64_t)RETRY_BASE_MS << kill->tries);
        flight->phase = FLIGHT_WAITING;
        return;
    } else {
        log_event(LOG_ERROR, "provider.copy_left",
                  LOG_S("provider_sandbox_id", kill->provider_sandbox_id),
                  LOG_S("error", step->error));
    }
    inflight_release(&worker->inflight, flight);
}

void kill_begin(struct flight *flight)
{
    struct worker *worker = flight->worker;
    struct gate *gate = gates_find(worker, flight->kill.provider);
    int64_t blocked = gate_blocked_ms(gate, clock_mono_ms());
    if (blocked > 0) {
        flight->not_before_ms = clock_mono_ms() + blocked;
        flight->phase = FLIGHT_WAITING;
        return;
    }
    call_init(flight, PROVIDER_DELETE);
    flight->call.sandbox_id = flight->kill.sandbox_id;
    flight->call.job_id = flight->kill.job_id;
    flight->call.provider_sandbox_id = flight->kill.provider_sandbox_id;
    flight->call.template_id = "";
    flight->on_end = on_end;
    flight->gate_op = GATE_OP_KILL;
    flight->attempt_end_ms = clock_mono_ms() + worker->config->attempt_ms;
    call_begin(flight, gate);
}
