/* gateway - see gateway.h. */
#include "gateway/gateway.h"

#include <string.h>

#include "common/store/store_config.h"
#include "gateway/http/router.h"
#include "gateway/work/key_owner.h"

struct store *gateway_store(const struct gateway_config *config)
{
    struct store_options options =
        store_config_options(config->database_url, "sandbox-gateway", (int)config->database_pool);

    return store_new(&options);
}

static struct auth *open_auth(const struct gateway_config *config, struct store *store,
                              struct error *err)
{
    const struct auth_options options = {.algorithm = config->jwt_algorithm,
                                         .secret = config->jwt_secret,
                                         .public_key_file = config->jwt_public_key_file,
                                         .private_key_file = config->jwt_private_key_file,
                                         .issuer = config->jwt_issuer,
                                         .audience = config->jwt_audience,
                                         .admin_claim = config->jwt_admin_claim,
                                         .admin_values = config->jwt_admin_values,
                                         .token_ttl_s = (int)config->jwt_ttl_s,
                                         .login_max_parallel = (int)config->login_parallel,
                                         .login_user_max = (int)config->login_user_max,
                                         .login_address_max = (int)config->login_address_max,
                                         .key_address_max = (int)config->key_address_max,
                                         .login_window_s = (int)config->login_window_s,
                                         .login_delay_max_s = (int)config->login_delay_max_s};

    return auth_new(&options, store, err);
}

/* ERR_CONFIG: the Redis keys belong to another deployment. While PostgreSQL or Redis is away this
 * cannot be checked; upkeep.c repeats the check. */
static int check_owner(struct gateway *gateway, const struct queue_options *redis,
                       struct error *err)
{
    struct queue *queue = queue_new(redis);
    bool present;
    int status = key_owner_known(&gateway->owner, gateway->store)
                     ? queue_mark_present(queue, &present, err)
                     : 0;

    queue_free(queue);
    return status < 0 && err->code == ERR_CONFIG ? -1 : 0;
}

/* A user's part always has room for one file. */
static struct user_shares *open_user_shares(const struct gateway *gateway)
{
    const struct gateway_config *config = gateway->config;
    int64_t percent = config->user_share_percent;
    int64_t bytes = config->buffer_bytes / 100 * percent;
    int64_t file_bytes = budget_json_bytes(gateway_config_file_body(config));

    return user_shares_new((int)(gateway->max_work * percent / 100),
                           bytes > file_bytes ? bytes : file_bytes, (int)config->database_pool / 2);
}

/* At least one, however few threads there are. */
static int max_followers(const struct gateway *gateway)
{
    int max = (int)(gateway->max_work * gateway->config->event_follower_percent / 100);

    return max > 0 ? max : 1;
}

int gateway_open(struct gateway *gateway, const struct gateway_config *config, struct error *err)
{
    struct queue_options redis = queue_config_options(&config->redis, &gateway->owner);

    memset(gateway, 0, sizeof(*gateway));
    gateway->config = config;
    gateway->buffers.max_bytes = config->buffer_bytes;
    gateway->max_work = (int)(config->threads * config->work_percent / 100);
    gateway->users = open_user_shares(gateway);
    service_identity(gateway->name);
    router_init();
    gateway->store = gateway_store(config);
    gateway->sandbox_tokens = sandbox_tokens_new(gateway->store);
    gateway->sandbox_cache = sandbox_cache_new(gateway->store);
    gateway->port_cache = port_cache_new(gateway->store);
    gateway->activity = activity_new(gateway->store);
    gateway->clients = client_pool_new();
    gateway->fleet = fleet_new(&redis, gateway->store);
    gateway->readiness = readiness_new(&redis, gateway->store);
    if (http_global_init(err) < 0 || check_owner(gateway, &redis, err) < 0 ||
        (gateway->providers = provider_set_open(config->providers, err)) == NULL ||
        (gateway->placement = placement_open(config->templates, gateway->providers, err)) == NULL ||
        (gateway->auth = open_auth(config, gateway->store, err)) == NULL ||
        (gateway->enqueuer = enqueuer_start(&redis, err)) == NULL ||
        (gateway->waiters = waiters_start(&redis, gateway->store, gateway->name, err)) == NULL ||
        (gateway->event_watch = event_watch_start(gateway->store, max_followers(gateway), err)) ==
            NULL ||
        (gateway->audit = audit_start(gateway->store, config->audit_days, err)) == NULL ||
        (gateway->rates = rates_start(&redis, gateway->store, config->calls_per_second, err)) ==
            NULL ||
        (gateway->upkeep = upkeep_start(gateway, err)) == NULL) {
        return -1;
    }
    provider_shares_init(&gateway->provider_shares, gateway->providers, gateway->max_work);
    return 0;
}

void gateway_close(struct gateway *gateway)
{
    upkeep_stop(gateway->upkeep);
    rates_stop(gateway->rates);
    audit_stop(gateway->audit);
    user_shares_free(gateway->users);
    event_watch_stop(gateway->event_watch);
    waiters_stop(gateway->waiters);
    enqueuer_stop(gateway->enqueuer);
    auth_free(gateway->auth);
    placement_close(gateway->placement);
    provider_set_close(gateway->providers);
    readiness_free(gateway->readiness);
    fleet_free(gateway->fleet);
    client_pool_free(gateway->clients);
    activity_free(gateway->activity);
    sandbox_tokens_free(gateway->sandbox_tokens);
    sandbox_cache_free(gateway->sandbox_cache);
    port_cache_free(gateway->port_cache);
    store_free(gateway->store);
}
