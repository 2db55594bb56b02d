/* command_call - see command_call.h. */
#include "gateway/data/command_call.h"

#include <stdio.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/log.h"
#include "gateway/gateway.h"
#include "gateway/work/lifecycle.h"

static const enum command_state state_of[COMMAND_PHASE_COUNT] = {
    [COMMAND_PHASE_RUNNING] = COMMAND_RUNNING,     [COMMAND_PHASE_EXITED] = COMMAND_EXITED,
    [COMMAND_PHASE_TIMED_OUT] = COMMAND_TIMED_OUT, [COMMAND_PHASE_KILLED] = COMMAND_KILLED,
    [COMMAND_PHASE_LOST] = COMMAND_LOST,
};

int command_call_find(struct request *request, struct sandbox *ret_sandbox,
                      struct command_call *ret, struct error *err)
{
    *ret = (struct command_call){.begun = true};
    if (lifecycle_get(request, request->path_id, ret_sandbox, err) < 0) {
        return -1;
    }
    if (store_command_get(request->gateway->store, request->command_id, &ret->row, err) < 0 ||
        strcmp(ret->row.sandbox_id, request->path_id) != 0) {
        sandbox_done(ret_sandbox);
        return err->code == ERR_OK || err->code == ERR_NOT_FOUND
                   ? error_set(err, ERR_NOT_FOUND, "this sandbox has no such command")
                   : -1;
    }
    return 0;
}

int command_call_begin(struct request *request, struct command_call *call, struct error *err)
{
    struct store *store = request->gateway->store;
    struct store_command found;

    if (call->begun) { /* by the first try of this call */
        return 0;
    }
    if (store_command_begin(store, &call->row, request->gateway->config->commands_open, &call->made,
                            err) < 0) {
        return -1;
    }
    call->begun = true;
    if (call->made) {
        return 0;
    }
    if (store_command_get(store, call->row.id, &found, err) < 0) {
        return -1;
    }
    if (strcmp(found.sandbox_id, call->row.sandbox_id) != 0) {
        return error_set(err, ERR_CONFLICT, "command_id stands for a command of another sandbox");
    }
    if (strcmp(found.request_hash, call->row.request_hash) != 0) {
        return error_set(err, ERR_IDEMPOTENCY, "command_id stands for another request");
    }
    call->row = found;
    return 0;
}

struct sandbox_command command_call_target(const struct data_call *data,
                                           const struct store_command *row)
{
    return (struct sandbox_command){.provider = data->provider,
                                    .client = data->client,
                                    .target = &data->target,
                                    .id = row->id,
                                    .user = row->run_as};
}

void command_call_limits(const struct request *request, struct command_start *start)
{
    const struct gateway_config *config = request->gateway->config;

    start->output_bytes = config->command_kept_bytes;
    start->retention_s = config->command_retention_s;
    start->keep = (int)config->commands_kept;
}

static void take_status(struct command_call *call)
{
    const struct command_status *status = &call->status;
    struct store_command *row = &call->row;
    size_t used = 0;

    if (status->pid == 0 && status->phase == COMMAND_PHASE_RUNNING) {
        return; /* nothing was learnt */
    }
    call->seen = true;
    row->pid = status->pid > 0 ? status->pid : row->pid;
    if (status->left && status->phase == COMMAND_PHASE_RUNNING) {
        row->state = COMMAND_RUNNING;
        return;
    }
    row->state = state_of[status->phase];
    row->background_processes = status->background_processes;
    row->stdout_bytes = status->out_bytes;
    row->stderr_bytes = status->err_bytes;
    row->ran_ms = status->ran_ms;
    row->exit_code = status->phase == COMMAND_PHASE_RUNNING || status->phase == COMMAND_PHASE_LOST
                         ? -1
                         : status->exit_code;
    row->signal = status->signal > 0 ? status->signal : -1;
    for (int i = 0; i < status->survivor_count && used + 24 < sizeof(row->survivors); i++) {
        used += (size_t)snprintf(row->survivors + used, sizeof(row->survivors) - used, "%s%lld",
                                 used > 0 ? " " : "", (long long)status->survivors[i]);
    }
}

int command_call_run(const struct data_call *data, struct command_call *call,
                     const struct command_start *start, const struct command_follow *follow,
                     bool *ret_unusable, struct error *err)
{
    const struct sandbox_command command = command_call_target(data, &call->row);
    int rc = 0;

    *ret_unusable = !call->row.kept;
    if (call->row.kept) {
        rc = sandbox_command_run(&command, start, follow, &call->status, ret_unusable, err);
    }
    if (rc == 0 && *ret_unusable) {
        call->row.kept = false;
    } else {
        take_status(call);
    }
    return rc;
}

int command_call_follow(const struct data_call *data, struct command_call *call,
                        const struct command_follow *follow, struct error *err)
{
    const struct sandbox_command command = command_call_target(data, &call->row);
    int rc;

    if (!call->row.kept) {
        return error_set(err, ERR_NOT_FOUND, "the output of this command is not kept");
    }
    rc = sandbox_command_follow(&command, follow, &call->status, err);
    if (rc == 0) {
        take_status(call);
    }
    return rc;
}

void command_call_note(struct request *request, struct command_call *call)
{
    struct store *store = request->gateway->store;
    struct error err = ERROR_INIT;
    bool first;

    if (!call->begun || call->row.ended_at_ms > 0) {
        return;
    }
    if ((command_state_is_end(call->row.state)
             ? store_command_end(store, &call->row, request->gateway->config->command_retention_s,
                                 &first, &err)
             : store_command_see(store, &call->row, &err)) < 0) {
        log_error(LOG_WARN, "command.not_noted", &err);
    }
    if (command_state_is_end(call->row.state)) {
        call->row.ended_at_ms = clock_wall_ms();
    }
}

void command_call_give_up(struct request *request, struct command_call *call,
                          const struct error *why)
{
    struct error err = ERROR_INIT;

    if (!call->made || call->seen || why->code == ERR_PROVIDER || why->code == ERR_PROVIDER_DOWN) {
        return;
    }
    if (store_command_forget(request->gateway->store, call->row.id, &err) < 0) {
        log_error(LOG_WARN, "command.not_forgotten", &err);
    }
}
