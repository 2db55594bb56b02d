/*
 * clock - time in milliseconds, the only place that reads a clock.
 *
 * mono: CLOCK_BOOTTIME, for durations, leases and deadlines inside a process (it counts
 * suspended time, so a frozen holder sees its lease gone). wall: Unix epoch, for rows and
 * people, and may go backwards. Tests may offset both with clock_test_advance_ms(), and in a build
 * with CRASHPOINTS the environment's CLOCK_SHIFT_MS sets the wall clock wrong.
 * Threads: any. Failure: none.
 */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

int64_t clock_mono_ms(void);
int64_t clock_mono_us(void);
int64_t clock_wall_ms(void);
void clock_sleep_ms(int64_t ms); /* continues after EINTR */

/* Initializes a condition for clock_cond_until(), whose timeout does not depend on the wall clock.
 */
void clock_cond_init(pthread_cond_t *condition);
/* For pthread_cond_timedwait: `ms` from now (>= 0). */
struct timespec clock_cond_until(int64_t ms);

#define CLOCK_RFC3339_BYTES 25 /* "2026-01-02T03:04:05.678Z" + NUL */
/* Writes RFC 3339 UTC with milliseconds into out and returns out. */
const char *clock_format_rfc3339(int64_t wall_ms, char out[CLOCK_RFC3339_BYTES]);
/* Parses RFC 3339 (any offset, any fraction digits). Returns 0, or -1 if it is not one. */
int clock_parse_rfc3339(const char *text, int64_t *ret_wall_ms);

void clock_test_advance_ms(int64_t ms);

#endif
