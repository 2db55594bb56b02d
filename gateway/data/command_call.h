/*
 * command_call - a command of a sandbox as a call sees it: its row, and the command itself.
 *
 * Owns: beginning a row before the command is started, following the command, writing down what was
 * seen of it. Does not own: what is answered (handlers). Threads: the request's own. Failure: -1
 * with err. The sandbox is the truth: a row that was lost, or says less, is put right by the next
 * look.
 */
#ifndef GATEWAY_COMMAND_CALL_H
#define GATEWAY_COMMAND_CALL_H

#include "common/provider/sandbox_command.h"
#include "common/store/store_commands.h"
#include "gateway/data/data_call.h"

struct command_call {
    struct store_command row;
    struct command_status status; /* as last seen */
    bool begun;                   /* the row is there */
    bool made;                    /* by this call */
    bool seen;                    /* the command was seen to run, or to have ended */
};

/* The row of the path's command, of a sandbox that is the caller's. sandbox_done() frees
 * *ret_sandbox. ERR_NOT_FOUND. */
int command_call_find(struct request *request, struct sandbox *ret_sandbox,
                      struct command_call *ret, struct error *err) MUST_CHECK;
/* What the caller asked for, in `row`: adds the row, or finds the one of an earlier request.
 * ERR_IDEMPOTENCY: the id stands for another request. ERR_CONFLICT: it is not a command of this
 * sandbox. ERR_QUOTA. */
int command_call_begin(struct request *request, struct command_call *call,
                       struct error *err) MUST_CHECK;
/* Starts it unless it was started, and follows it. Where the sandbox cannot run our runner:
 * *ret_unusable, nothing was started, and the row says that its output is not kept. */
int command_call_run(const struct data_call *data, struct command_call *call,
                     const struct command_start *start, const struct command_follow *follow,
                     bool *ret_unusable, struct error *err) MUST_CHECK;
/* Follows one that has a row. ERR_NOT_FOUND: its output is not kept any more, or never was. */
int command_call_follow(const struct data_call *data, struct command_call *call,
                        const struct command_follow *follow, struct error *err) MUST_CHECK;
/* Writes down how it is. A failure is told to the log: the next look writes it again. */
void command_call_note(struct request *request, struct command_call *call);
/* The call failed: removes the row if nothing can have been started. */
void command_call_give_up(struct request *request, struct command_call *call,
                          const struct error *why);

/* What the gateway's configuration says of every command. */
void command_call_limits(const struct request *request, struct command_start *start);
struct sandbox_command command_call_target(const struct data_call *data,
                                           const struct store_command *row);

#endif
