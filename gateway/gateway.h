/*
 * gateway - what the handlers of one process share.
 *
 * Owns: the parts, the order in which they start and stop. Does not own: what each of them does.
 * Threads: filled once before there are any, const afterwards but for the parts that lock
 * themselves. Failure: gateway_open() says which part could not start.
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "common/base/service.h"
#include "common/provider/http.h"
#include "common/provider/provider.h"
#include "common/store/store.h"
#include "gateway/auth/auth.h"
#include "gateway/config.h"
#include "gateway/data/client_pool.h"
#include "gateway/data/placement.h"
#include "gateway/work/activity.h"
#include "gateway/work/admission.h"
#include "gateway/work/audit.h"
#include "gateway/work/budget.h"
#include "gateway/work/enqueuer.h"
#include "gateway/work/fleet.h"
#include "gateway/work/provider_share.h"
#include "gateway/work/rates.h"
#include "gateway/work/readiness.h"
#include "gateway/work/upkeep.h"
#include "gateway/work/user_share.h"
#include "gateway/work/waiter.h"

struct gateway {
    const struct gateway_config *config;
    char name[SERVICE_NAME_BYTES]; /* our reply stream */
    struct store *store;
    struct queue_owner owner; /* of the Redis keys */
    struct auth *auth;
    struct provider_set *providers;
    struct placement *placement;
    struct waiters *waiters;
    struct enqueuer *enqueuer;
    struct activity *activity;
    struct client_pool *clients;
    struct upkeep *upkeep;
    struct readiness *readiness;
    struct admission admission;
    struct rates *rates;
    struct audit *audit;
    struct user_shares *users; /* what each holds of max_work and of buffers */
    struct fleet *fleet;
    struct budget buffers;
    int max_work; /* WORK calls served at once; the other threads stay free for the rest */
    _Atomic int working;
    struct provider_shares provider_shares; /* of max_work */
};

/* Builds all of it and starts its threads. After a failure, too, gateway_close() is due. */
int gateway_open(struct gateway *gateway, const struct gateway_config *config,
                 struct error *err) MUST_CHECK;
void gateway_close(struct gateway *gateway);

/* Tells the Redis connections which deployment this is, once PostgreSQL has said it. */
bool gateway_knows_owner(struct gateway *gateway);

/* As configured, for a subcommand of its own. */
struct store *gateway_store(const struct gateway_config *config);

#endif
