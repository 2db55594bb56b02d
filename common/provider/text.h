/*
 * text - what may stand in a URL, a header, a message; shared by all backends.
 *
 * Owns: checks of values that came from a provider or from the environment, secret-free texts, the
 * names of our tags at a provider. Does not own: what follows from a bad value.
 * Threads: no shared state. Failure: false; nothing here fails otherwise.
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

/* Characters that may stand in a host name label and in a path: what ids are made of. */
bool provider_is_id(const char *text);
/* Printable, no white space: fit for a header. */
bool provider_is_header_value(const char *text);
/* Cuts trailing slashes off; false unless it is a plain http(s) URL without query or user. */
bool provider_normalize_url(char *url);

/* Copies text for people: printable ASCII, bounded, with every secret replaced by ***. */
void provider_clean_text(char *out, size_t size, const char *text, size_t bytes,
                         const char *const *secrets, size_t secret_count);

#endif
