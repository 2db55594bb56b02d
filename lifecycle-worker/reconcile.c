/* reconcile - see reconcile.h. */
#include "lifecycle-worker/reconcile.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/crashpoint.h"
#include "common/base/log.h"
#include "lifecycle-worker/call.h"
#include "lifecycle-worker/compare.h"
#include "lifecycle-worker/dependencies.h"
#include "lifecycle-worker/gates.h"
#include "lifecycle-worker/kill.h"
#include "lifecycle-worker/outgoing.h"

enum {
    LEASE_MARGIN_MS = 15000, /* of the lease, at most: time to act after the list */
    ROWS_AT_ONCE = 1000      /* rows read in one turn of the loop: about 10 ms */
};

/* `reason`: why the sweep has no result; NULL = it has one. */
static void end_sweep(struct worker *worker, const char *sweep_id, const char *provider,
                      const char *reason)
{
    struct error err = ERROR_INIT;
    struct gate *gate = gates_find(worker, provider);
    if (gate != NULL) {
        gate->counts.sweeps++;
        gate->counts.sweeps_failed += reason != NULL;
    }
    if (reason != NULL) {
        log_event(LOG_WARN, "reconcile.failed", LOG_S("provider", gates_label(worker, provider)),
                  LOG_S("error", reason));
    }
    if (store_sweep_end(worker->store, sweep_id, reason, &err) != 0) {
        dependencies_store_failed(worker, &err); /* its lease runs out */
    }
}

/* The lease of a sweep, from now. */
static int64_t sweep_lease_ms(const struct worker *worker)
{
    int64_t list_ms = worker->config->reconcile_sweep_ms;
    return list_ms + (list_ms < LEASE_MARGIN_MS ? list_ms : LEASE_MARGIN_MS);
}

/* ---- acting ------------------------------------------------------------------------------- */

struct sweep_result {
    size_t killed, checked, adopted, given_back, capped;
};

/* False when every slot is taken; the next sweep finds the orphan again. */
static bool begin_kill(struct worker *worker, const char *provider,
                       const struct compare_finding *orphan)
{
    if (inflight_room(&worker->inflight) == 0 ||
        inflight_has_kill(&worker->inflight, orphan->provider_sandbox_id)) {
        return false;
    }
    struct flight *flight = inflight_take(&worker->inflight, worker, FLIGHT_KILL);
    struct flight_kill *kill = &flight->kill;
    kill->orphan = true;
    str_copy(kill->sandbox_id, sizeof(kill->sandbox_id), orphan->sandbox_id);
    str_copy(kill->provider, sizeof(kill->provider), provider);
    str_copy(kill->provider_sandbox_id, sizeof(kill->provider_sandbox_id),
             orphan->provider_sandbox_id);
    log_event(LOG_WARN, "reconcile.orphan", LOG_S("provider", gates_label(worker, provider)),
              LOG_S("provider_sandbox_id", orphan->provider_sandbox_id),
              LOG_S("sandbox", orphan->sandbox_id));
    kill_begin(flight);
    return true;
}

static size_t allowance(const struct worker *worker, size_t of)
{
    size_t allowed = of * (size_t)worker->config->reconcile_max_percent / 100;
    return allowed > 0 ? allowed : 1;
}

/* The kills of one sweep: jobs need the other slots. */
static size_t kill_allowance(const struct worker *worker, size_t listed)
{
    size_t allowed = allowance(worker, listed);
    size_t slots = (size_t)worker->inflight.capacity / 4 + 1;
    return allowed < slots ? allowed : slots;
}

static void wake_all(struct worker *worker, struct wakeup *wakeups, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        outgoing_wake(worker, &wakeups[i]);
    }
    free(wakeups);
}

void reconcile_late_call(const struct flight *flight)
{
    struct worker *worker = flight->worker;
    const char *sandbox_id = flight_sandbox(flight)->id;
    const char *provider_id = flight_sandbox(flight)->provider_sandbox_id;
    const char *evidence = absence_evidence_name(ABSENCE_NO_LIST);
    struct wakeup *wakeups = NULL;
    size_t count = 0;
    struct error err = ERROR_INIT;
    if (!flight->sent || provider_id[0] == '\0') {
        return;
    }
    if (store_sweep_check(worker->store, &sandbox_id, &provider_id, &evidence, 1, &wakeups, &count,
                          &err) == 0) {
        wake_all(worker, wakeups, count);
    } else {
        dependencies_store_failed(worker, &err); /* the sweep sees it later */
    }
}

/* Sandboxes to act on: our id, the provider's id, and the evidence or state of each. */
struct targets {
    const char **sandboxes, **providers, **words;
    size_t count;
};

static void targets_add(struct targets *targets, const char *sandbox_id,
                        const char *provider_sandbox_id, const char *word)
{
    targets->sandboxes[targets->count] = sandbox_id;
    targets->providers[targets->count] = provider_sandbox_id;
    targets->words[targets->count++] = word;
}

static void add_check(struct targets *targets, const struct compare_finding *finding,
                      enum absence_evidence evidence)
{
    targets_add(targets, finding->sandbox_id, finding->provider_sandbox_id,
                absence_evidence_name(evidence));
}

static int give_back(struct worker *worker, const char *provider, const struct targets *returns,
                     struct sweep_result *result, struct error *err)
{
    struct wakeup *wakeups = NULL;
    if (store_sweep_give_back(worker->store, provider, returns->sandboxes, returns->providers,
                              returns->words, returns->count, worker->identity, &wakeups,
                              &result->given_back, err) != 0) {
        return -1;
    }
    CRASHPOINT(sweep_given_back);
    for (size_t i = 0; i < result->given_back; i++) {
        log_event(LOG_WARN, "reconcile.given_back",
                  LOG_S("provider", gates_label(worker, provider)),
                  LOG_S("sandbox", wakeups[i].sandbox_id));
    }
    gates_find(worker, provider)->counts.given_back += (int64_t)result->given_back;
    wake_all(worker, wakeups, result->given_back);
    return 0;
}

static int act_on_rows(struct worker *worker, const struct targets *checks,
                       const struct targets *adopts, struct sweep_result *result, struct error *err)
{
    struct wakeup *wakeups = NULL;
    if (checks->count > 0) {
        if (store_sweep_check(worker->store, checks->sandboxes, checks->providers, checks->words,
                              checks->count, &wakeups, &result->checked, err) != 0) {
            return -1;
        }
        CRASHPOINT(sweep_asked);
        wake_all(worker, wakeups, result->checked);
    }
    if (adopts->count > 0) {
        if (store_sweep_adopt(worker->store, adopts->sandboxes, adopts->count, &wakeups,
                              &result->adopted, err) != 0) {
            return -1;
        }
        wake_all(worker, wakeups, result->adopted);
    }
    return 0;
}

/* An orphan's grace counts from the moment its row ended, and without a row, or beside one that
 * lives, from the first sweep that saw it: how long the sandbox has run says nothing. */
static bool is_grace_over(const struct worker *worker, const struct store_sighting *sighting)
{
    int64_t age_ms = sighting->ended_ms >= 0 ? sighting->ended_ms : sighting->age_ms;
    return age_ms >= worker->config->reconcile_min_age_ms;
}

/* Looks for an absent row's sandbox: the first time to make the row missing, and then only when a
 * look that does not find it ends the row. */
static bool is_look_due(const struct worker *worker, const struct compare_finding *absent,
                        enum absence_evidence evidence)
{
    return absent->missing_since_ms == 0 ||
           absence_judge(&worker->absence, absent->missing_ms, evidence) == ABSENCE_LOST;
}

static int act(struct worker *worker, const char *provider, const struct compare *compare,
               const struct store_sighting *sightings, struct sweep_result *result,
               struct error *err)
{
    size_t kills = kill_allowance(worker, compare->listed);
    size_t losses = allowance(worker, compare->rows);
    size_t count = compare->count;
    const char **lists = xcalloc(9 * (count + 1), sizeof(*lists));
    struct targets checks = {lists, lists + count, lists + 2 * count, 0};
    struct targets adopts = {lists + 3 * count, lists + 4 * count, lists + 5 * count, 0};
    struct targets returns = {lists + 6 * count, lists + 7 * count, lists + 8 * count, 0};
    for (size_t i = 0; i < count; i++) {
        const struct compare_finding *finding = &compare->findings[i];
        bool sure = sightings[i].times >= worker->config->reconcile_confirm;
        enum absence_evidence evidence = ABSENCE_NO_LIST;
        switch (finding->kind) {
        case COMPARE_ORPHAN:
            if (sightings[i].wanted) { /* a job has taken it up since its page was read */
                break;
            }
            if (sightings[i].lost) { /* its row ended as lost, not on request: never killed */
                if (finding->state == PROVIDER_STATE_RUNNING ||
                    finding->state == PROVIDER_STATE_PAUSED) {
                    targets_add(&returns, finding->sandbox_id, finding->provider_sandbox_id,
                                sandbox_status_name(finding->state == PROVIDER_STATE_RUNNING
                                                        ? SANDBOX_RUNNING
                                                        : SANDBOX_PAUSED));
                }
                break;
            }
            /* a copy that a create left when it failed over unsettled: kill it at once */
            if (!sightings[i].copy && (!sure || !is_grace_over(worker, &sightings[i]))) {
                break;
            }
            if (result->killed < kills) {
                result->killed += begin_kill(worker, provider, finding);
            } else {
                result->capped++;
            }
            break;
        case COMPARE_ABSENT:
            evidence = compare_evidence(compare, finding);
            if (!sure || !is_look_due(worker, finding, evidence)) {
                break;
            }
            if (losses > 0) {
                losses--;
                add_check(&checks, finding, evidence);
            } else {
                result->capped++;
            }
            break;
        case COMPARE_FOUND:
            add_check(&checks, finding, ABSENCE_NO_LIST);
            break;
        case COMPARE_MISMATCH:
            if (sure) {
                add_check(&checks, finding, ABSENCE_NO_LIST);
            }
            break;
        case COMPARE_UNADOPTED: /* the create looks the sandbox up itself: waking it early does no
                                   harm */
            targets_add(&adopts, finding->sandbox_id, "", "");
            break;
        case COMPARE_KIND_COUNT:
            break;
        }
    }
    int status = returns.count > 0 ? give_back(worker, provider, &returns, result, err) : 0;
    if (status == 0) {
        status = act_on_rows(worker, &checks, &adopts, result, err);
    }
    free(lists);
    return status;
}

/* ---- judging ------------------------------------------------------------------------------ */

static int judge(struct worker *worker, const struct flight *flight, struct sweep_result *result,
                 struct error *err)
{
    const struct compare *compare = &flight->sweep.compare;
    const char *provider = flight->sweep.provider;
    struct store_sighting *sightings = xcalloc(compare->count + 1, sizeof(*sightings));
    int status = -1;
    for (size_t i = 0; i < compare->count; i++) {
        sightings[i].provider_sandbox_id = compare->findings[i].provider_sandbox_id;
        sightings[i].finding = compare_kind_name(compare->findings[i].kind);
        sightings[i].sandbox_id = compare->findings[i].sandbox_id;
    }
    if (store_sweep_note(worker->store, flight->sweep.id, provider, sightings, compare->count,
                         err) == 0) {
        CRASHPOINT(sweep_noted);
        status = act(worker, provider, compare, sightings, result, err);
    }
    free(sightings);
    return status;
}

static void log_swept(const struct flight *flight, const struct sweep_result *result)
{
    const struct compare *compare = &flight->sweep.compare;
    bool quiet =
        result->killed + result->checked + result->adopted + result->given_back + result->capped ==
        0;
    log_event(quiet ? LOG_DEBUG : LOG_INFO, "reconcile.swept",
              LOG_S("provider", gates_label(flight->worker, flight->sweep.provider)),
              LOG_I("duration_ms", clock_mono_ms() - flight->began_ms),
              LOG_I("listed", (int64_t)compare->listed), LOG_I("rows", (int64_t)compare->rows),
              LOG_I("orphans", (int64_t)compare->found[COMPARE_ORPHAN]),
              LOG_I("unadopted", (int64_t)compare->found[COMPARE_UNADOPTED]),
              LOG_I("absent", (int64_t)compare->found[COMPARE_ABSENT]),
              LOG_I("mismatches", (int64_t)compare->found[COMPARE_MISMATCH]),
              LOG_I("kills", (int64_t)result->killed), LOG_I("checks", (int64_t)result->checked),
              LOG_I("adoptions", (int64_t)result->adopted),
              LOG_I("given_back", (int64_t)result->given_back));
    if (result->capped > 0) {
        log_event(LOG_ERROR, "reconcile.capped",
                  LOG_S("provider", gates_label(flight->worker, flight->sweep.provider)),
                  LOG_I("left_for_later", (int64_t)result->capped));
    }
}

/* Ends the sweep and its flight, which must have left the gate. `err` NULL = it has a result. */
static void end_flight(struct worker *worker, struct flight *flight, const struct error *err)
{
    if (err != NULL && (err->code == ERR_DATABASE_DOWN || err->code == ERR_OVERLOADED)) {
        dependencies_store_failed(worker, err);
    }
    end_sweep(worker, flight->sweep.id, flight->sweep.provider, err != NULL ? err->message : NULL);
    inflight_release(&worker->inflight, flight);
}

/* Compares at most PROVIDER_PAGE_ITEMS: a server without pages sends everything at once. */
static int take_items(struct worker *worker, struct flight *flight,
                      const struct provider_listed *items, size_t count, struct error *err)
{
    const char *ids[PROVIDER_PAGE_ITEMS], *boxes[PROVIDER_PAGE_ITEMS];
    struct store_sweep_row *rows = NULL;
    size_t row_count = 0;
    for (size_t i = 0; i < count; i++) {
        ids[i] = items[i].provider_sandbox_id;
        boxes[i] = items[i].sandbox_id;
    }
    if (store_sweep_page(worker->store, flight->sweep.id, flight->sweep.provider,
                         sweep_lease_ms(worker), ids, boxes, count, &rows, &row_count, err) != 0) {
        return -1;
    }
    if (compare_page(&flight->sweep.compare, items, count, rows, row_count)) {
        flight->attempt_end_ms = clock_mono_ms() + worker->config->reconcile_sweep_ms;
    }
    free(rows);
    return 0;
}

/* Compares the page that came with a step of the list, before the next is sent for. False: the
 * sweep has ended, because the database does not answer or the lease has run out. */
static bool on_page(struct flight *flight, const struct provider_step *step)
{
    struct worker *worker = flight->worker;
    const struct provider_call *call = &flight->call;
    struct error err = ERROR_INIT;
    if (step->verdict != PROVIDER_SEND && step->verdict != PROVIDER_DONE) {
        return true;
    }
    for (size_t at = 0; at < call->listed_count; at += PROVIDER_PAGE_ITEMS) {
        size_t left = call->listed_count - at;
        if (take_items(worker, flight, call->listed + at,
                       left < PROVIDER_PAGE_ITEMS ? left : PROVIDER_PAGE_ITEMS, &err) != 0) {
            call_leave_gate(flight, GATE_VERDICT_NONE);
            end_flight(worker, flight, &err);
            return false;
        }
    }
    return true;
}

void reconcile_rows(struct flight *flight)
{
    struct worker *worker = flight->worker;
    struct store_sweep_row *rows = NULL;
    size_t count = 0;
    struct sweep_result result = {0};
    struct error err = ERROR_INIT;
    if (store_sweep_rows(worker->store, flight->sweep.id, flight->sweep.provider,
                         sweep_lease_ms(worker), &flight->sweep.cursor, ROWS_AT_ONCE, &rows, &count,
                         &err) != 0) {
        end_flight(worker, flight, &err);
        return;
    }
    compare_rows(&flight->sweep.compare, rows, count);
    free(rows);
    if (count == ROWS_AT_ONCE) {
        flight->not_before_ms =
            clock_mono_ms(); /* the next batch in the next turn, after the jobs */
        flight->phase = FLIGHT_WAITING;
        return;
    }
    if (judge(worker, flight, &result, &err) != 0) {
        end_flight(worker, flight, &err);
        return;
    }
    log_swept(flight, &result);
    end_flight(worker, flight, NULL);
}

/* The list has come to its end, or broke off: goes on to our rows, or ends the sweep. */
static void on_listed(struct flight *flight, const struct provider_step *step, struct gate *gate)
{
    struct worker *worker = flight->worker;
    (void)gate;
    if (step->verdict == PROVIDER_DONE) {
        CRASHPOINT(sweep_listed);
        reconcile_rows(flight);
        return;
    }
    struct error err = ERROR_INIT;
    struct retry_decision decision =
        retry_decide(&worker->policy, JOB_RECONCILE, step->outcome, 1, 1, step->retry_after_ms, 0);
    if (decision.hold_ms > 0) {
        gates_hold(worker, flight->sweep.provider, decision.hold_ms, step->outcome);
    }
    error_set(&err, ERR_PROVIDER, "%s", step->error);
    end_flight(worker, flight, &err);
}

/* ---- begin and end ------------------------------------------------------------------------ */

static void begin_sweep(struct worker *worker, const char *sweep_id, struct gate *gate)
{
    struct flight *flight = inflight_take(&worker->inflight, worker, FLIGHT_SWEEP);
    str_copy(flight->sweep.id, sizeof(flight->sweep.id), sweep_id);
    str_copy(flight->sweep.provider, sizeof(flight->sweep.provider), gate->name);
    flight->began_ms = clock_mono_ms();
    flight->attempt_end_ms = flight->began_ms + worker->config->reconcile_sweep_ms;
    call_init(flight, PROVIDER_LIST);
    flight->gate_op = GATE_OP_SWEEP;
    flight->on_step = on_page;
    flight->on_end = on_listed;
    call_begin(flight, gate);
}

static void take_sweep(struct worker *worker, const char *sweep_id)
{
    struct error err = ERROR_INIT;
    char provider[PROVIDER_BYTES];
    if (store_sweep_claim(worker->store, sweep_id, worker->identity, sweep_lease_ms(worker),
                          provider, &err) != 0) {
        if (err.code != ERR_NOT_FOUND) {
            dependencies_store_failed(worker, &err);
        }
        return;
    }
    struct gate *gate = gates_find(worker, provider);
    if (gate == NULL) {
        end_sweep(worker, sweep_id, provider, "the provider is not configured on this worker");
    } else if (gate_blocked_ms(gate, clock_mono_ms()) > 0 ||
               inflight_room(&worker->inflight) == 0) {
        end_sweep(worker, sweep_id, provider, "no call to the provider is possible now");
    } else {
        begin_sweep(worker, sweep_id, gate);
    }
}

bool reconcile_take(struct worker *worker, const struct queue_entry *entry)
{
    if (entry->wakeup.op != JOB_RECONCILE || entry->wakeup.sandbox_id[0] != '\0' ||
        entry->wakeup.job_id[0] == '\0' || entry->id[0] == '\0') {
        return false;
    }
    outgoing_ack(worker, entry);
    take_sweep(worker, entry->wakeup.job_id);
    return true;
}

void reconcile_poll(struct worker *worker)
{
    char(*ids)[UUID_BYTES] = NULL;
    size_t count = 0;
    struct error err = ERROR_INIT;
    if (store_sweeps_asked(worker->store, PROVIDER_KIND_COUNT, &ids, &count, &err) != 0) {
        dependencies_store_failed(worker, &err);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        take_sweep(worker, ids[i]);
    }
    free(ids);
}

void reconcile_abandon(struct flight *flight)
{
    struct worker *worker = flight->worker;
    call_leave_gate(flight, GATE_VERDICT_NONE);
    end_sweep(worker, flight->sweep.id, flight->sweep.provider, "the worker stopped in the middle");
    inflight_release(&worker->inflight, flight);
}
