/*
 * inflight - see inflight.h.
 */
#include "lifecycle-worker/inflight.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

void inflight_init(struct inflight *table, int capacity)
{
    table->flights = xcalloc((size_t)capacity, sizeof(*table->flights));
    table->capacity = capacity;
    table->used = 0;
}

void inflight_done(struct inflight *table)
{
    for (int i = 0; i < table->capacity; i++) {
        if (table->flights[i].phase != FLIGHT_FREE) {
            inflight_release(table, &table->flights[i]);
        }
    }
    free(table->flights);
    memset(table, 0, sizeof(*table));
}

int inflight_room(const struct inflight *table)
{
    return table->capacity - table->used;
}

struct flight *inflight_take(struct inflight *table, struct worker *worker)
{
    for (int i = 0; i < table->capacity; i++) {
        struct flight *flight = &table->flights[i];
        if (flight->phase == FLIGHT_FREE) {
            memset(flight, 0, sizeof(*flight));
            flight->worker = worker;
            flight->phase = FLIGHT_FINISHED; /* until a call begins */
            table->used++;
            return flight;
        }
    }
    abort(); /* the caller asked inflight_room() first */
}

void inflight_release(struct inflight *table, struct flight *flight)
{
    if (flight == NULL) {
        return;
    }
    if (flight->call_active) {
        provider_call_done(&flight->call);
    }
    if (flight->has_held) {
        http_request_done(&flight->held);
    }
    job_params_done(&flight->params);
    job_done(&flight->claimed.job);
    sandbox_done(&flight->claimed.sandbox);
    compare_done(&flight->compare);
    free(flight->result_json);
    memset(flight, 0, sizeof(*flight));
    table->used--;
}

struct flight *inflight_find(const struct inflight *table, const char *job_id)
{
    for (int i = 0; i < table->capacity; i++) {
        struct flight *flight = &table->flights[i];
        if (flight->phase != FLIGHT_FREE && flight->kind == FLIGHT_JOB &&
            strcmp(flight->claimed.job.id, job_id) == 0) {
            return flight;
        }
    }
    return NULL;
}

int inflight_count(const struct inflight *table, enum flight_phase phase)
{
    int count = 0;
    for (int i = 0; i < table->capacity; i++) {
        count += table->flights[i].phase == phase;
    }
    return count;
}
