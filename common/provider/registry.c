/*
 * registry - lists the backends, and opens those that are configured.
 *
 * Owns: the list of backends, the order of SANDBOX_PROVIDERS. Does not own: a backend's
 * configuration. Threads: const after open. Failure: ERR_CONFIG names the provider that cannot be
 * used.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/domain/providers.h"
#include "common/provider/provider.h"

/* each backend defines its operations */
#define X(id, name_env, env, seconds, help) extern const struct provider_ops id##_provider_ops;
#include "common/domain/providers.def"
#undef X

static const struct provider_ops *const backends[PROVIDER_KIND_COUNT] = {
#define X(id, name_env, env, seconds, help) [PROVIDER_KIND_##id] = &id##_provider_ops,
#include "common/domain/providers.def"
#undef X
};

struct provider_set {
    struct provider_labels labels;
    struct provider *items[PROVIDER_KIND_COUNT];
    size_t count;
};

static int add_provider(struct provider_set *set, const char *name, struct error *err)
{
    enum provider_kind kind;
    if (provider_kind_parse(name, &kind) != 0) {
        return error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS: there is no provider '%s'", name);
    }
    if (provider_set_find(set, name)) {
        return error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS names %s twice", name);
    }
    struct provider *provider = backends[kind]->open(err);
    if (!provider) {
        if (err->code == ERR_NOT_FOUND) {
            err->code = ERR_CONFIG;
            error_prefix(err, "provider %s is not configured", name);
        }
        return -1;
    }
    provider->label = set->labels.of[kind];
    set->items[set->count++] = provider;
    return 0;
}

struct provider_set *provider_set_open(const char *order, struct error *err)
{
    struct provider_set *set = xcalloc(1, sizeof(*set));
    char name[PROVIDER_BYTES];
    int found;
    if (provider_labels_load(&set->labels, err) != 0) {
        goto fail;
    }
    while ((found = provider_list_next(&order, name, sizeof(name))) > 0) {
        if (add_provider(set, name, err) != 0) {
            goto fail;
        }
    }
    if (found < 0) {
        error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS has a name that no provider has: too long");
        goto fail;
    }
    if (set->count == 0) {
        error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS names no provider");
        goto fail;
    }
    return set;
fail:
    provider_set_close(set);
    return NULL;
}

void provider_set_close(struct provider_set *set)
{
    if (!set) {
        return;
    }
    for (size_t i = 0; i < set->count; i++) {
        set->items[i]->ops->close(set->items[i]);
    }
    provider_labels_free(&set->labels);
    free(set);
}

size_t provider_set_count(const struct provider_set *set)
{
    return set->count;
}

int provider_set_share(const struct provider_set *set, int total)
{
    return set->count > 1 ? (total * 3 + 3) / 4 : total;
}

struct provider *provider_set_at(struct provider_set *set, size_t index)
{
    return index < set->count ? set->items[index] : NULL;
}

struct provider *provider_set_default(struct provider_set *set)
{
    return set->items[0];
}

struct provider *provider_set_find(struct provider_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++) {
        if (strcmp(set->items[i]->ops->name, name) == 0) {
            return set->items[i];
        }
    }
    return NULL;
}

void provider_config_help(FILE *out)
{
    for (int i = 0; i < PROVIDER_KIND_COUNT; i++) {
        config_print_help(backends[i]->config, backends[i]->config_count, out);
    }
    config_print_help(provider_lifetime_config, PROVIDER_KIND_COUNT, out);
    config_print_help(provider_label_config, PROVIDER_KIND_COUNT, out);
}
