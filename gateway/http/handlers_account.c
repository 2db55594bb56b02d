/* handlers_account - a caller's limits, and how much of them is used. */
#include "common/store/store_limits.h"
#include "gateway/http/handlers.h"

/* Adds {limit, used} to `data`; limit null = no limit. */
static void add_limit(cJSON *data, const char *name, int64_t limit, int64_t used)
{
    cJSON *item = cJSON_AddObjectToObject(data, name);

    if (limit > 0) {
        json_add_int64(item, "limit", limit);
    } else {
        cJSON_AddNullToObject(item, "limit");
    }
    json_add_int64(item, "used", used);
}

void handle_limits(struct request *request)
{
    const struct gateway_config *config = request->gateway->config;
    const int64_t defaults[USER_LIMIT_COUNT] = {
        [LIMIT_SANDBOXES] = config->max_sandboxes,
        [LIMIT_PAUSED] = config->max_paused,
        [LIMIT_CREATES] = config->creates_per_minute,
    };
    int64_t limits[USER_LIMIT_COUNT];
    struct error err = ERROR_INIT;
    struct store_use use;
    struct rate_state rate;
    cJSON *data;

    if (store_limits_get(request->gateway->store, request->principal.subject, limits, &err) < 0 ||
        store_use_get(request->gateway->store, request->principal.subject, &use, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    for (int i = 0; i < USER_LIMIT_COUNT; i++) {
        limits[i] = limits[i] == STORE_LIMIT_DEFAULT ? defaults[i] : limits[i];
    }
    rates_look(request->gateway->rates, request->principal.subject, &rate);
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    add_limit(data, user_limit_name(LIMIT_SANDBOXES), limits[LIMIT_SANDBOXES], use.alive);
    add_limit(data, user_limit_name(LIMIT_PAUSED), limits[LIMIT_PAUSED], use.paused);
    add_limit(data, user_limit_name(LIMIT_CREATES), limits[LIMIT_CREATES],
              use.created_within_minute);
    add_limit(data, user_limit_name(LIMIT_CALLS), rate.per_second,
              rate.per_second > 0 ? rate.burst - rate.left : 0);
    respond_data(request, 200, data);
}
