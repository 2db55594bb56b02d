/*
 * providers - which providers exist and what is true of each, without a backend: what a program
 * needs that calls none (the reaper), and the list the backends are registered from.
 *
 * Owns: providers.def, the syntax of SANDBOX_PROVIDERS. Does not own: calls (common/provider).
 * Pure data: no I/O, no state.
 */
#ifndef DOMAIN_PROVIDERS_H
#define DOMAIN_PROVIDERS_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/config.h"

enum provider_kind {
#define X(id, name_env, env, seconds, help) PROVIDER_KIND_##id,
#include "common/domain/providers.def"
#undef X
    PROVIDER_KIND_COUNT
};

const char *provider_kind_name(enum provider_kind kind);
/* -1: there is no such provider. */
int provider_kind_parse(const char *name, enum provider_kind *ret) MUST_CHECK;

/* Longest life of a sandbox at each provider. */
struct provider_lifetimes {
    int64_t max_s[PROVIDER_KIND_COUNT];
};
/* One entry a provider, in the order of enum provider_kind; the target is a provider_lifetimes. */
extern const struct config_entry provider_lifetime_config[PROVIDER_KIND_COUNT];

/* What operators call each provider, where it differs from its id: "local" for a sandbox-host that
 * is used as e2b. Rows, answers and SANDBOX_PROVIDERS keep the id. */
struct provider_labels {
    char *of[PROVIDER_KIND_COUNT];
};
/* One entry a provider, in the order of enum provider_kind; the target is a provider_labels. */
extern const struct config_entry provider_label_config[PROVIDER_KIND_COUNT];
/* Reads and checks all of them. ERR_CONFIG names the variable that is malformed or taken. */
int provider_labels_load(struct provider_labels *ret, struct error *err) MUST_CHECK;
void provider_labels_free(struct provider_labels *labels);

/*
 * The next name of a comma list: *cursor moves behind it, `name` gets it without the blanks around.
 * 1 = there is one, 0 = the end, -1 = it does not fit (no provider's name does not).
 */
int provider_list_next(const char **cursor, char *name, size_t size) MUST_CHECK;

#endif
