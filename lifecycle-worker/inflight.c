/* inflight - see inflight.h. */
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

struct flight *inflight_take(struct inflight *table, struct worker *worker, enum flight_kind kind)
{
    for (int i = 0; i < table->capacity; i++) {
        struct flight *flight = &table->flights[i];
        if (flight->phase == FLIGHT_FREE) {
            memset(flight, 0, sizeof(*flight));
            flight->worker = worker;
            flight->kind = kind;
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
    flight_free(flight);
    table->used--;
}

struct flight *inflight_find(const struct inflight *table, const char *job_id)
{
    for (int i = 0; i < table->capacity; i++) {
        struct flight *flight = &table->flights[i];
        if (flight->phase != FLIGHT_FREE && flight->kind == FLIGHT_JOB &&
            strcmp(flight_job(flight)->id, job_id) == 0) {
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

int inflight_count_kind(const struct inflight *table, enum flight_kind kind)
{
    int count = 0;
    for (int i = 0; i < table->capacity; i++) {
        const struct flight *flight = &table->flights[i];
        count += flight->phase != FLIGHT_FREE && flight->kind == kind;
    }
    return count;
}

bool inflight_has_kill(const struct inflight *table, const char *provider_sandbox_id)
{
    for (int i = 0; i < table->capacity; i++) {
        const struct flight *flight = &table->flights[i];
        if (flight->phase != FLIGHT_FREE && flight->kind == FLIGHT_KILL &&
            strcmp(flight->kill.provider_sandbox_id, provider_sandbox_id) == 0) {
            return true;
        }
    }
    return false;
}
