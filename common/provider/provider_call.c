/* provider_call - the life of one call's state, and the clocks it lives by: see provider.h. */
#include <stdlib.h>
#include <string.h>

#include "common/provider/provider.h"

void provider_call_init(struct provider_call *call)
{
    memset(call, 0, sizeof(*call));
    strbuf_init(&call->page, sizeof(((struct http_response *)0)->next_token));
}

void provider_call_done(struct provider_call *call)
{
    strbuf_done(&call->page);
    free(call->listed);
}

/* A Date is cut to whole seconds, and the answer took time to arrive. */
enum { DATE_CUT_MS = 1000, DATE_LATE_MS = 2000 };

int64_t http_clock_ahead_ms(const struct http_response *response, int64_t now_ms)
{
    int64_t behind_ms = now_ms - response->date_ms;
    if (response->date_ms == 0 ||
        (behind_ms >= -DATE_CUT_MS && behind_ms <= DATE_CUT_MS + DATE_LATE_MS)) {
        return 0;
    }
    return response->date_ms + DATE_CUT_MS / 2 - now_ms;
}

void provider_call_tick(struct provider_call *call, int64_t now_ms,
                        const struct http_response *last)
{
    call->now_ms = now_ms;
    if (last && last->date_ms > 0) {
        call->clock_told = true;
        call->clock_ahead_ms = http_clock_ahead_ms(last, now_ms);
    }
}

int64_t provider_call_time(const struct provider_call *call, int64_t provider_ms)
{
    return provider_ms == 0 ? 0 : provider_ms - call->clock_ahead_ms;
}
