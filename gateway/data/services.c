/* services - see services.h. */
#include "gateway/data/services.h"

#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "gateway/http/views.h"

enum {
    SERVICE_COUNT = 2,
    ASK_MS = 2000,
    LAST_ASK_MS = 20,
    PAUSE_FIRST_MS = 20,
    PAUSE_LAST_MS = 250
};

/* All services, by their names in SANDBOX_SERVICES and in the answer. */
static const struct service {
    const char *name, *path;
    size_t port; /* offset of the port, an int64_t, in the configuration */
} services[SERVICE_COUNT] = {
    {"mcp", "/health", offsetof(struct gateway_config, mcp_port)},
    {"vscode", "/healthz", offsetof(struct gateway_config, code_server_port)},
};

struct asked {
    const struct service *service; /* NULL = not expected in this sandbox */
    struct http_request request;
    const char *state;
};

static const char ready[] = "ready", starting[] = "starting", unavailable[] = "unavailable",
                  not_installed[] = "not installed";
/* deploy/template/tool-server/notice.c */
static const char not_installed_body[] = "{\"status\":\"not installed\"}";

/* `word` of length `length` in a comma list, or "*" in it. */
static bool listed(const char *list, const char *word, size_t length)
{
    for (const char *at = list; at != NULL && *at != '\0';) {
        const size_t item = strcspn(at, ",");

        if ((item == length && strncmp(at, word, length) == 0) || (item == 1 && *at == '*')) {
            return true;
        }
        at += item + (at[item] == ',');
    }
    return false;
}

int services_check(const struct gateway_config *config, struct error *err)
{
    for (const char *at = config->services; at != NULL && *at != '\0';) {
        const size_t length = strcspn(at, ",");
        bool known = false;

        for (int i = 0; i < SERVICE_COUNT; i++) {
            known = known || (strlen(services[i].name) == length &&
                              strncmp(at, services[i].name, length) == 0);
        }
        if (!known) {
            return error_set(err, ERR_CONFIG, "SANDBOX_SERVICES: %.*s is neither %s nor %s",
                             (int)(length < 40 ? length : 40), at, services[0].name,
                             services[1].name);
        }
        at += length + (at[length] == ',');
    }
    return 0;
}

static bool has_services(const struct gateway_config *config, struct provider *provider,
                         const char *template_id)
{
    const char *list = config->services_templates != NULL
                           ? config->services_templates
                           : provider->ops->default_template(provider);

    return listed(list, template_id, strlen(template_id));
}

/* Probes once. True when another probe cannot change the result. */
static bool ask(struct asked *asked, struct http_client *client, int64_t left_ms)
{
    struct http_response response;

    asked->request.timeout_ms = left_ms < ASK_MS ? left_ms : ASK_MS;
    http_client_perform(client, &asked->request, &response);
    if (response.transport != HTTP_ANSWERED) {
        asked->state = response.transport == HTTP_NOT_SENT ? unavailable : starting;
        return false;
    }
    if (response.status == 200) {
        asked->state = ready;
        return true;
    }
    if (response.status == 501 && response.body_bytes == sizeof(not_installed_body) - 1 &&
        memcmp(response.body, not_installed_body, response.body_bytes) == 0) {
        asked->state = not_installed;
        return true;
    }
    /* the provider's proxy wants a credential, or redirects to a login */
    if (response.status == 401 || response.status == 403 || response.status / 100 == 3) {
        asked->state = unavailable;
        return true;
    }
    asked->state = starting; /* the provider's own answer: nothing listens on the port */
    return false;
}

/* Probes all services until they answer or the time is over. */
static void await(struct asked asked[SERVICE_COUNT], struct http_client *client, int64_t wait_ms)
{
    const int64_t until_ms = clock_mono_ms() + wait_ms;
    bool decided[SERVICE_COUNT];
    int64_t pause_ms = PAUSE_FIRST_MS, left_ms = wait_ms > 0 ? wait_ms : ASK_MS;
    int open = 1;

    for (int i = 0; i < SERVICE_COUNT; i++) {
        decided[i] = asked[i].service == NULL || asked[i].state == unavailable;
    }
    while (open > 0) {
        open = 0;
        for (int i = 0; i < SERVICE_COUNT; i++) {
            if (!decided[i]) {
                decided[i] = ask(&asked[i], client, left_ms);
                open += !decided[i];
            }
        }
        left_ms = until_ms - clock_mono_ms();
        if (left_ms <= LAST_ASK_MS) {
            return;
        }
        if (open > 0) {
            /* probe once more at the deadline */
            int64_t this_ms = pause_ms < left_ms - LAST_ASK_MS ? pause_ms : left_ms - LAST_ASK_MS;

            clock_sleep_ms(this_ms);
            left_ms -= this_ms;
            pause_ms = pause_ms * 2 < PAUSE_LAST_MS ? pause_ms * 2 : PAUSE_LAST_MS;
        }
    }
}

cJSON *services_await(const struct request *request, const struct sandbox *sandbox)
{
    const struct gateway_config *config = request->gateway->config;
    struct error err = ERROR_INIT;
    struct provider *provider = view_provider(request, sandbox, &err);
    const struct provider_target target = view_target(sandbox);
    struct asked asked[SERVICE_COUNT];
    const int64_t start_ms = clock_mono_ms();
    struct http_client *client;
    cJSON *answer;

    if (config->services == NULL || provider == NULL ||
        !has_services(config, provider, sandbox->template_id)) {
        return NULL;
    }
    client = client_pool_take(request->gateway->clients);
    for (int i = 0; i < SERVICE_COUNT; i++) {
        const struct service *service = &services[i];
        int64_t port;

        memcpy(&port, (const char *)config + service->port, sizeof(port));
        asked[i] = (struct asked){.state = starting};
        http_request_init(&asked[i].request);
        if (!listed(config->services, service->name, strlen(service->name))) {
            continue;
        }
        asked[i].service = service;
        if (provider->ops->port_request(provider, client, &target, (int)port, service->path,
                                        &asked[i].request, &err) < 0) {
            asked[i].state = unavailable;
        }
    }
    await(asked, client, config->services_wait_ms);
    client_pool_give(request->gateway->clients, client);
    answer = cJSON_CreateObject();
    for (int i = 0; i < SERVICE_COUNT; i++) {
        if (asked[i].service != NULL) {
            cJSON_AddStringToObject(answer, asked[i].service->name, asked[i].state);
            log_event(
                asked[i].state == ready || asked[i].state == not_installed ? LOG_DEBUG : LOG_WARN,
                "sandbox.service", LOG_S("service", asked[i].service->name),
                LOG_S("state", asked[i].state), LOG_I("waited_ms", clock_mono_ms() - start_ms));
        }
        http_request_done(&asked[i].request);
    }
    return answer;
}
