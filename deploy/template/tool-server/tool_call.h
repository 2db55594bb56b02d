/*
 * tool_call - what a tool gets, and the answers that it makes of it.
 *
 * Owns: arguments with defaults, paths, the shape of an answer. Does not own: which tools there are
 * (tools.h). Threads: a call belongs to its thread.
 */
#ifndef TOOL_SERVER_TOOL_CALL_H
#define TOOL_SERVER_TOOL_CALL_H

#include <stdbool.h>
#include <stdint.h>

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

#endif
