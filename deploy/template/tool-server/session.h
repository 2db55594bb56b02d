/*
 * session - who has initialised, and which of their calls are under way.
 *
 * Owns: session ids, the revision each has agreed on, cancelling. Does not own: what a call does.
 * Threads: all functions are safe from any thread. Failure: none; when the table is full the
 * session unused longest ends, and its client, answered 404, initialises anew as MCP says.
 */
#ifndef TOOL_SERVER_SESSION_H
#define TOOL_SERVER_SESSION_H

#include <stdbool.h>

#include "common/base/json.h"
#include "deploy/template/tool-server/command.h"

enum { SESSION_ID_BYTES = 33 };

struct sessions;
struct sessions *sessions_new(int max);
void sessions_free(struct sessions *sessions);

/* `version` is kept, not copied. */
void session_begin(struct sessions *sessions, const char *version, char ret_id[SESSION_ID_BYTES]);
/* The revision of a known session, which counts as used now; NULL for an unknown one. */
const char *session_version(struct sessions *sessions, const char *id);
/* False for an unknown one. Its calls under way are cancelled. */
bool session_end(struct sessions *sessions, const char *id);

/* A call under way, on its thread's stack. */
struct flight {
    struct sessions *sessions;
    char session[SESSION_ID_BYTES];
    const cJSON *id; /* of the request */
    bool cancelled;
    struct command *command; /* it waits for; NULL */
    struct flight *next;
};
/* `session` "" = none: such a call can be cancelled by no one. */
void flight_begin(struct flight *flight, struct sessions *sessions, const char *session,
                  const cJSON *id);
void flight_end(struct flight *flight);
/* While set, cancelling kills it. False, and nothing set, when cancelled already. */
bool flight_await(struct flight *flight, struct command *command /* or NULL */);
bool flight_cancelled(struct flight *flight);
/* notifications/cancelled: of this session the request with this id, if it is under way. */
void flights_cancel(struct sessions *sessions, const char *session, const cJSON *id);

#endif
