/*
 * template_name - how a request names a template: `name`, `namespace/name`, each with or without
 * `:tag`, in any case, as E2B takes them.
 */
#ifndef SANDBOX_HOST_TEMPLATE_NAME_H
#define SANDBOX_HOST_TEMPLATE_NAME_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

enum { TEMPLATE_NAME_BYTES = 128 };
#define TEMPLATE_TAG "default" /* of a reference without a tag */

/* One or more of [a-z0-9_-], shorter than TEMPLATE_NAME_BYTES. */
bool template_name_valid(const char *text, size_t length);
/* The name in a reference: lower case, without namespace and tag. ERR_INVALID: it has none. */
int template_normalize(const char *reference, char out[TEMPLATE_NAME_BYTES],
                       struct error *err) MUST_CHECK;
/* The tag of a reference, or TEMPLATE_TAG. */
void template_name_tag(const char *reference, char out[TEMPLATE_NAME_BYTES]);

#endif
