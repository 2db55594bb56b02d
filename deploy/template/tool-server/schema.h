/*
 * schema - checks a tool's arguments against its inputSchema, so that what clients are told and
 * what is enforced are one text.
 *
 * Knows of JSON Schema what tools.def uses: type, enum, minimum, maximum, minLength, maxLength,
 * properties, required, additionalProperties (false or a schema). Threads: no shared state.
 * Failure: ERR_INVALID in words a model can act on: the argument's name and what it may be.
 */
#ifndef TOOL_SERVER_SCHEMA_H
#define TOOL_SERVER_SCHEMA_H

#include "common/base/error.h"
#include "common/base/json.h"

int schema_check(const cJSON *schema, const cJSON *value, struct error *err) MUST_CHECK;

#endif
