/*
 * gateway - the parts that all handlers of one process share.
 *
 * Owns: the parts, the order in which they start and stop. Does not own: what each of them does.
 * Threads: filled before there are any; const afterwards, except for parts with locks of their own.
 * Failure: gateway_open() says which part could not start.
 */
#ifndef GATEWAY_GATEWAY_H
#define GATEWAY_GATEWAY_H

#include "common/base/service.h"
#include "common/provider/http.h"
#include "common/provider/provider.h"
#include "common/store/store.h"
#include "gateway/auth/auth.h"
#include "gateway/auth/sandbox_token.h"
#include "gateway/config.h"
#include "gateway/data/client_pool.h"
#include "gateway/data/placement.h"
#include "gateway/work/activity.h"
#include "gateway/work/admission.h"
#include "gateway/work/audit.h"
#include "gateway/work/budget.h"
#include "gateway/work/enqueuer.h"
#include "gateway/work/event_watch.h"
#include "gateway/work/fleet.h"
#include "gateway/work/port_cache.h"
#include "gateway/work/provider_share.h"
#include "gateway/work/rates.h"
#include "gateway/work/readiness.h"
#include "gateway/work/sandbox_cache.h"
#include "gateway/work/upkeep.h"
#include "gateway/work/user_share.h"
#include "gateway/work/waiter.h"

enum { GATEWAY_DOMAIN_BYTES = 256 };

struct gateway {
    const struct gateway_config *config;
    char name[SERVICE_NAME_BYTES]; /* name of our reply stream */
    struct store *store;
    struct queue_owner owner; /* deployment that owns the Redis keys */
    struct auth *auth;
    struct sandbox_tokens *sandbox_tokens;
    struct sandbox_cache *sandbox_cache;
    struct port_cache *port_cache;
    bool own_ports;                            /* URLs for ports are ours, not the provider's */
    char sandbox_domain[GATEWAY_DOMAIN_BYTES]; /* of sandbox traffic; "" = not served */
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
    struct event_watch *event_watch;
    struct user_shares *users; /* each user's part of max_work and of buffers */
    struct fleet *fleet;
    struct budget buffers;
    int max_work; /* WORK calls served at once; the other threads stay free for other calls */
    _Atomic int working;
    struct provider_shares provider_shares; /* parts of max_work */
};

/* Builds all parts and starts their threads. Call gateway_close() after a failure, too. */
int gateway_open(struct gateway *gateway, const struct gateway_config *config,
                 struct error *err) MUST_CHECK;
void gateway_close(struct gateway *gateway);

/* Opens a store as configured, for a subcommand. */
struct store *gateway_store(const struct gateway_config *config);

#endif
