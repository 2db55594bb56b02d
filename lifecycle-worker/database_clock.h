/*
 * database_clock - the time by PostgreSQL's clock, estimated from the times in its answers.
 *
 * Every stored time is compared with this clock, never with the host's own. Threads: the worker's
 * one. Failure: before the first answer it is the host's clock.
 */
#ifndef WORKER_DATABASE_CLOCK_H
#define WORKER_DATABASE_CLOCK_H

#include <stdint.h>

struct database_clock {
    int64_t ahead_ms; /* of our monotonic clock */
    int64_t error_ms; /* half the round trip it was read in */
    int64_t read_ms;  /* monotonic; 0 = never */
};

/* The database's clock showed database_ms in the answer to a query sent at sent_ms (monotonic). */
void database_clock_update(struct database_clock *clock, int64_t database_ms, int64_t sent_ms);
int64_t database_clock_now_ms(const struct database_clock *clock);
/* The same, but at least at_ms. The database's clock has already shown at_ms, so an estimate
 * before it is wrong. */
int64_t database_clock_after_ms(const struct database_clock *clock, int64_t at_ms);

#endif
