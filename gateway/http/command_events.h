/*
 * command_events - output of a command as server-sent events.
 *
 * Owns: the form of the events, their ids, the comments in between. Does not own: where the output
 * comes from. Threads: the request's own. Failure: `gone` once the client has gone, or reads too
 * slowly; what comes then is dropped.
 *
 * An event's id is the offset behind its output, at which a client that lost the stream goes on.
 */
#ifndef GATEWAY_COMMAND_EVENTS_H
#define GATEWAY_COMMAND_EVENTS_H

#include "common/base/json.h"
#include "common/provider/provider.h"
#include "gateway/http/request.h"

struct command_events {
    struct request *caller;
    const char *command_id;
    bool begun, gone;
    int64_t written_ms;
};
/* The head of the answer, once. */
int command_events_begin(struct command_events *events);
/* One event; next < 0: it has no id. Takes `data`. */
void command_events_put(struct command_events *events, const char *name, int64_t next, cJSON *data);
/* Output that ends at the offset `next`, in as many events as it takes. */
void command_events_output(struct command_events *events, enum exec_stream stream, const char *data,
                           size_t bytes, int64_t next);
/* About every second: a comment line after a silence, so that no proxy takes the stream for a dead
 * one. */
void command_events_tick(struct command_events *events);
void command_events_end(struct command_events *events);

#endif
