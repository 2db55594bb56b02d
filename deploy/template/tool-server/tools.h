/*
 * tools - the list of tools and the calling of one.
 *
 * Owns: tools.def as JSON, finding a tool, checking its arguments, the shape of its answer. Does
 * not own: what a tool does (tool_*.c), the wire (mcp.c, door.c).
 * Threads: const after tools_init(); a call belongs to its thread.
 * Failure: what goes wrong in a tool is an answer (isError) in words a model can act on.
 */
#ifndef TOOL_SERVER_TOOLS_H
#define TOOL_SERVER_TOOLS_H

#include "common/base/error.h"
#include "common/base/json.h"
#include "common/base/strbuf.h"
#include "deploy/template/tool-server/config.h"
#include "deploy/template/tool-server/session.h"

struct tool_call {
    const struct tool_config *config;
    const cJSON *arguments; /* checked against the tool's schema */
    struct flight *flight;
    /* Called about once a second while a tool waits, with what is new to tell or NULL; false when
     * nobody listens any more. */
    bool (*waiting)(void *arg, const char *news);
    void *arg;
};

/* A tool's answer (CallToolResult). NULL: the call was cancelled, and nothing is to be said. */
typedef cJSON *(*tool_fn)(const struct tool_call *call);

/* Parses tools.def; ERR_INTERNAL names the tool whose text is not JSON. */
int tools_init(struct error *err) MUST_CHECK;
void tools_done(void);
/* The "tools" of tools/list; the caller's. */
cJSON *tools_list(void);
/* ERR_NOT_FOUND for an unknown name; else *ret is the answer or NULL (cancelled). */
int tools_call(const char *name, struct tool_call *call, cJSON **ret, struct error *err) MUST_CHECK;

/* ---- for the tools ---- */

/* Text, and the same as data (taken; or NULL). */
cJSON *tool_answer(const struct strbuf *text, cJSON *data);
cJSON *tool_failure(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Adds bytes as a JSON string; what is not text in them becomes U+FFFD. */
void tool_add_text(cJSON *object, const char *field, const char *bytes, size_t length);
/* Arguments with defaults. */
const char *tool_string(const struct tool_call *call, const char *name, const char *fallback);
int64_t tool_integer(const struct tool_call *call, const char *name, int64_t fallback);
bool tool_bool(const struct tool_call *call, const char *name);
/* Makes a path absolute. ERR_INVALID when it is too long. */
enum { TOOL_PATH_BYTES = 4096 };
int tool_path(const struct tool_call *call, const char *path, char ret[TOOL_PATH_BYTES],
              struct error *err) MUST_CHECK;

#define X(name, handler, ...) cJSON *handler(const struct tool_call *call);
#include "deploy/template/tool-server/tools.def"
#undef X

#endif
