/* network_rules - see network_rules.h. */
#include "gateway/data/network_rules.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/cidr.h"

enum { RULE_MAX_BYTES = 253, LABEL_MAX_BYTES = 63 }; /* of a host name, RFC 1035 */

static bool is_ipv6_network(const char *text)
{
    const char *slash = strchr(text, '/');
    const size_t length = slash != NULL ? (size_t)(slash - text) : strlen(text);
    char address[INET6_ADDRSTRLEN];
    struct in6_addr parsed;

    if (length >= sizeof(address)) {
        return false;
    }
    memcpy(address, text, length);
    address[length] = '\0';
    if (inet_pton(AF_INET6, address, &parsed) != 1) {
        return false;
    }
    return slash == NULL ||
           (strspn(slash + 1, "0123456789") == strlen(slash + 1) && slash[1] != '\0' &&
            strlen(slash + 1) <= 3 && strtol(slash + 1, NULL, 10) <= 128);
}

static bool is_network(const char *text)
{
    struct cidr ignored;

    return cidr_parse(text, strlen(text), &ignored) || is_ipv6_network(text);
}

/* "example.com" or "*.example.com". The last label has a letter, so no misspelt address is one. */
static bool is_domain(const char *text)
{
    const char *at = strncmp(text, "*.", 2) == 0 ? text + 2 : text;

    if (strlen(text) > RULE_MAX_BYTES || strchr(at, '.') == NULL) {
        return false;
    }
    for (;;) {
        const size_t length =
            strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");

        if (length == 0 || length > LABEL_MAX_BYTES || at[0] == '-' || at[length - 1] == '-') {
            return false;
        }
        if (at[length] == '\0') {
            return strspn(at, "0123456789") < length;
        }
        if (at[length] != '.') {
            return false;
        }
        at += length + 1;
    }
}

/* Adds the list to `network` as `target`. An absent and an empty list say nothing. */
static int read_list(const cJSON *rules, const char *field, bool domains, cJSON *network,
                     const char *target, struct error *err)
{
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(rules, field), *item;

    if (list == NULL || cJSON_IsNull(list)) {
        return 0;
    }
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > NETWORK_RULES_MAX) {
        return error_set(err, ERR_INVALID, "network.%s must be an array of at most %d strings",
                         field, NETWORK_RULES_MAX);
    }
    cJSON_ArrayForEach(item, list)
    {
        const char *text = cJSON_GetStringValue(item);

        if (text == NULL || (!is_network(text) && !(domains && is_domain(text)))) {
            return error_set(err, ERR_INVALID, "network.%s[%d] must be an address%s", field,
                             cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(network, target)),
                             domains ? ", a network or a domain name" : " or a network");
        }
        if (cJSON_GetObjectItemCaseSensitive(network, target) == NULL) {
            cJSON_AddArrayToObject(network, target);
        }
        cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(network, target),
                             cJSON_CreateString(text));
    }
    return 0;
}

int network_rules_read(const cJSON *body, struct job_params *params, struct error *err)
{
    static const char *const known[] = {"allow_internet", "allow_out", "deny_out"};
    const cJSON *rules = cJSON_GetObjectItemCaseSensitive(body, "network"), *field;
    bool internet;
    cJSON *network;

    if (rules == NULL || cJSON_IsNull(rules)) {
        return 0;
    }
    if (!cJSON_IsObject(rules)) {
        return error_set(err, ERR_INVALID, "network must be an object");
    }
    cJSON_ArrayForEach(field, rules)
    {
        size_t i = 0;

        while (i < sizeof(known) / sizeof(known[0]) && strcmp(field->string, known[i]) != 0) {
            i++;
        }
        /* a misspelt rule that is ignored leaves a way out open */
        if (i == sizeof(known) / sizeof(known[0])) {
            return error_set(err, ERR_INVALID,
                             "network has only allow_internet, allow_out and deny_out");
        }
    }
    network = cJSON_CreateObject();
    if (json_get_bool(rules, "allow_internet", true, &internet, err) < 0) {
        cJSON_Delete(network);
        return error_prefix(err, "network");
    }
    if (read_list(rules, "allow_out", true, network, "allowOut", err) < 0 ||
        read_list(rules, "deny_out", false, network, "denyOut", err) < 0) {
        cJSON_Delete(network);
        return -1;
    }
    if (internet && cJSON_GetObjectItemCaseSensitive(network, "allowOut") != NULL &&
        cJSON_GetObjectItemCaseSensitive(network, "denyOut") == NULL) {
        cJSON_Delete(network);
        return error_set(err, ERR_INVALID,
                         "network.allow_out needs allow_internet false or deny_out: without them "
                         "everything is allowed");
    }
    params->no_internet = !internet;
    if (network->child == NULL) {
        cJSON_Delete(network);
    } else {
        params->network = network;
    }
    return 0;
}

int network_rules_place(struct provider_set *providers, struct job_params *params,
                        struct error *err)
{
    struct error first = ERROR_INIT;
    int kept = 0;

    if (params->network == NULL && !params->no_internet) {
        return 0;
    }
    for (int i = 0; i < params->place_count; i++) {
        const struct provider *provider = provider_set_find(providers, params->places[i].provider);
        struct error why = ERROR_INIT;

        if (provider == NULL) {
            error_set(&why, ERR_UNSUPPORTED, "network: provider %s is not configured here",
                      params->places[i].provider);
        } else if (provider->ops->network_check(params->network, params->no_internet, &why) == 0) {
            params->places[kept++] = params->places[i];
            continue;
        }
        first = first.code == ERR_OK ? why : first;
    }
    if (kept == 0) {
        *err = first;
        return -1;
    }
    params->place_count = kept;
    return 0;
}
