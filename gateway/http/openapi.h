/*
 * openapi - what every route takes and gives, for programs (OpenAPI 3.1) and for people (a page).
 *
 * Owns: both texts, made from routes.def (what is served, and how) and openapi.def (what that
 * means). Does not own: the routes. Threads: const tables only. Failure: none; a handler that
 * openapi.def does not know, or knows and no route has, does not compile.
 */
#ifndef GATEWAY_OPENAPI_H
#define GATEWAY_OPENAPI_H

#include <stdbool.h>

#include "common/base/json.h"
#include "common/base/strbuf.h"
#include "gateway/config.h"

/* Whether the call at this path of routes.def takes a field or parameter of that name. */
bool openapi_takes(const char *method, const char *path, const char *name);
/* The document, with the bounds that are configured; the caller deletes. */
cJSON *openapi_json(const struct gateway_config *config);
/* A page that needs nothing from anywhere: no script, no font, no other file. */
void openapi_html(struct strbuf *out);

#endif
