/* work_place - see work_place.h. */
#include "gateway/work/work_place.h"

#include <stdatomic.h>

#include "common/base/service.h"
#include "gateway/http/request_state.h"
#include "gateway/http/router.h"

int work_place_open(struct request *request, struct error *err)
{
    struct request_state *state = request->state;
    struct user_shares *users = request->gateway->users;

    state->user = user_share_hold(users, request->principal.subject);
    state->buffers.user_bytes = &state->user->bytes;
    state->buffers.user_max_bytes = user_shares_max_bytes(users);
    if ((state->route->flags & WORK) == 0) {
        return 0;
    }
    if (user_share_enter(users, state->user, err) == 0) {
        state->user_working = true;
        return 0;
    }
    state->over_share = (state->route->flags & ASYNC) != 0;
    return state->over_share ? 0 : -1;
}

int work_place_enter(struct request *request, struct error *err)
{
    struct gateway *gateway = request->gateway;

    if (service_draining()) {
        return error_set(err, ERR_DRAINING, "this gateway is shutting down");
    }
    if (atomic_fetch_add(&gateway->working, 1) >= gateway->max_work) {
        atomic_fetch_sub(&gateway->working, 1);
        return error_set(err, ERR_OVERLOADED, "%d calls are being served, which is all at once",
                         gateway->max_work);
    }
    request->state->working = true;
    return 0;
}

int work_place_take(struct request *request, struct error *err)
{
    if (user_share_enter(request->gateway->users, request->state->user, err) < 0) {
        return -1;
    }
    request->state->user_working = true;
    return work_place_enter(request, err);
}

void work_place_leave(struct request *request)
{
    struct request_state *state = request->state;

    if (state->working) {
        atomic_fetch_sub(&request->gateway->working, 1);
    }
    budget_give(&request->gateway->buffers, &state->buffers, state->buffers.bytes);
    if (state->user_working) {
        user_share_leave(state->user);
    }
    if (state->user != NULL) {
        user_share_release(request->gateway->users, state->user);
    }
}
