/*
 * text - checks of values for URLs, headers and messages, shared by all backends.
 *
 * Owns: checks of values from a provider or the environment, texts without secrets, the names of
 * our tags at a provider. Does not own: what happens on a bad value. Threads: no shared state.
 * Failure: false.
 */
#ifndef PROVIDER_TEXT_H
#define PROVIDER_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Metadata (E2B) or labels (Daytona) that mark a sandbox as ours; a user's metadata cannot set
 * them. */
#define PROVIDER_TAG_DEPLOYMENT "sandbox_deployment"
#define PROVIDER_TAG_SANDBOX    "sandbox_id"
#define PROVIDER_TAG_JOB        "sandbox_job"
bool provider_is_tag(const char *name);

/* True when all characters are valid in a host name label and in a path, as an id's must be. */
bool provider_is_id(const char *text);
/* True for printable text without white space, which is safe in a header. */
bool provider_is_header_value(const char *text);
/* Removes trailing slashes. False: not a plain http(s) URL without query and user. */
bool provider_normalize_url(char *url);

/* Copies text for people: printable ASCII, bounded, with every secret replaced by ***. */
void provider_clean_text(char *out, size_t size, const char *text, size_t bytes,
                         const char *const *secrets, size_t secret_count);

#endif
