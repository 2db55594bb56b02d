/*
 * tools - the list of tools and the calling of one.
 *
 * Owns: tools.def as JSON, finding a tool, checking its arguments. Does not own: what a
 * tool does (tool_*.c), the shape of its answer (tool_call.h), the wire (mcp.c, door.c).
 * Threads: const after tools_init(); a call belongs to its thread.
 * Failure: what goes wrong in a tool is an answer (isError) in words a model can act on.
 */
#ifndef TOOL_SERVER_TOOLS_H
#define TOOL_SERVER_TOOLS_H

#include "common/base/error.h"
#include "common/base/json.h"
#include "deploy/template/tool-server/tool_call.h"

/* Parses tools.def; ERR_INTERNAL names the tool whose text is not JSON. */
int tools_init(struct error *err) MUST_CHECK;
void tools_done(void);
/* The "tools" of tools/list; the caller's. */
cJSON *tools_list(void);
/* ERR_NOT_FOUND for an unknown name; else *ret is the answer or NULL (cancelled). */
int tools_call(const char *name, struct tool_call *call, cJSON **ret, struct error *err) MUST_CHECK;

#define X(name, handler, ...) cJSON *handler(const struct tool_call *call);
#include "deploy/template/tool-server/tools.def"
#undef X

#endif
