/*
 * registry - which providers exist, and which of them this process has opened.
 *
 * Owns: the list of backends, SANDBOX_PROVIDERS order. Does not own: a backend's configuration.
 * Threads: const after open. Failure: ERR_CONFIG names the provider that cannot be used.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/provider/daytona.h"
#include "common/provider/e2b.h"

static const struct provider_ops *const backends[] = {&e2b_provider_ops, &daytona_provider_ops};
enum { BACKEND_COUNT = sizeof(backends) / sizeof(backends[0]) };

struct provider_set {
    struct provider *items[BACKEND_COUNT];
    size_t count;
};

static const struct provider_ops *find_backend(const char *name, size_t length)
{
    for (size_t i = 0; i < BACKEND_COUNT; i++) {
        if (strlen(backends[i]->name) == length && memcmp(backends[i]->name, name, length) == 0)
            return backends[i];
    }
    return NULL;
}

static int add_provider(struct provider_set *set, const char *name, size_t length,
                        struct error *err)
{
    const struct provider_ops *ops = find_backend(name, length);
    if (!ops)
        return error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS: there is no provider '%.*s'",
                         (int)(length < 64 ? length : 64), name);
    if (provider_set_find(set, ops->name))
        return error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS names %s twice", ops->name);
    struct provider *provider = ops->open(err);
    if (!provider) {
        if (err->code == ERR_NOT_FOUND) {
            err->code = ERR_CONFIG;
            error_prefix(err, "provider %s is not configured", ops->name);
        }
        return -1;
    }
    set->items[set->count++] = provider;
    return 0;
}

struct provider_set *provider_set_open(const char *order, struct error *err)
{
    struct provider_set *set = xcalloc(1, sizeof(*set));
    for (const char *at = order; *at;) {
        size_t length = strcspn(at, ",");
        const char *name = at;
        size_t n = length;
        while (n > 0 && (*name == ' ' || *name == '\t')) {
            name++;
            n--;
        }
        while (n > 0 && (name[n - 1] == ' ' || name[n - 1] == '\t'))
            n--;
        if (n > 0 && add_provider(set, name, n, err) != 0) {
            provider_set_close(set);
            return NULL;
        }
        at += length;
        if (*at == ',')
            at++;
    }
    if (set->count == 0) {
        error_set(err, ERR_CONFIG, "SANDBOX_PROVIDERS names no provider");
        provider_set_close(set);
        return NULL;
    }
    return set;
}

void provider_set_close(struct provider_set *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++)
        set->items[i]->ops->close(set->items[i]);
    free(set);
}

struct provider *provider_set_default(struct provider_set *set)
{
    return set->items[0];
}

struct provider *provider_set_find(struct provider_set *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++) {
        if (strcmp(set->items[i]->ops->name, name) == 0)
            return set->items[i];
    }
    return NULL;
}
