/*
 * openapi - documents every route, for programs (OpenAPI 3.1) and for people (a page).
 *
 * Owns: both texts, made from routes.def (which routes there are) and openapi.def (what they mean).
 * Does not own: the routes. Threads: const tables only. Failure: none; a handler without an entry
 * in openapi.def, or an entry without a handler, does not compile.
 */
#ifndef GATEWAY_OPENAPI_H
#define GATEWAY_OPENAPI_H

#include <stdbool.h>

#include "common/base/json.h"
#include "common/base/strbuf.h"
#include "gateway/config.h"

/* True when the call at this path of routes.def has a field or parameter of this name. */
bool openapi_takes(const char *method, const char *path, const char *name);
/* Returns the document, with the configured bounds; the caller deletes it. */
cJSON *openapi_json(const struct gateway_config *config);
/* Writes a page without scripts, fonts or other files. */
void openapi_html(struct strbuf *out);

#endif
