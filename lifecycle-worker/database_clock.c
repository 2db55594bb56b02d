/* database_clock - see database_clock.h. */
#include "lifecycle-worker/database_clock.h"

#include "common/base/clock.h"

enum {
    FRESH_MS = 30000, /* an estimate this old gives way to any newer one */
    WORSE_MS = 10     /* before, to one whose error is at most this much larger */
};

void database_clock_update(struct database_clock *clock, int64_t database_ms, int64_t sent_ms)
{
    int64_t now_ms = clock_mono_ms();
    int64_t error_ms = (now_ms - sent_ms) / 2;

    if (clock->read_ms != 0 && now_ms - clock->read_ms < FRESH_MS &&
        error_ms > clock->error_ms + WORSE_MS) {
        return;
    }
    *clock = (struct database_clock){
        .ahead_ms = database_ms - (sent_ms + error_ms), .error_ms = error_ms, .read_ms = now_ms};
}

int64_t database_clock_now_ms(const struct database_clock *clock)
{
    return clock->read_ms == 0 ? clock_wall_ms() : clock_mono_ms() + clock->ahead_ms;
}

int64_t database_clock_after_ms(const struct database_clock *clock, int64_t at_ms)
{
    int64_t now_ms = database_clock_now_ms(clock);

    return now_ms > at_ms ? now_ms : at_ms;
}
