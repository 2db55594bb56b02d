/*
 * handlers_command - run-cmd: whole answers, and output streamed as it comes.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "gateway/data/command_call.h"
#include "gateway/data/command_output.h"
#include "gateway/data/data_call.h"
#include "gateway/http/bounds.h"
#include "gateway/http/command_events.h"
#include "gateway/http/handlers.h"

/* One run-cmd, whole or streamed. */
struct command {
    struct request *caller;
    const char *sandbox_id;
    struct exec_request request; /* what a sandbox without our runner is asked */
    struct exec_result result;
    struct command_start start;
    struct command_call row;
    const char *input;            /* its stdin from the beginning; NULL = none */
    bool input_open;              /* more may follow */
    int64_t wait_ms;              /* for its end; INT64_MAX = to the end */
    const struct data_call *call; /* set while the command runs */
    bool base64;
    bool noted;                          /* the row says that it runs */
    bool paused;                         /* the sandbox was paused during the command */
    struct command_output all, out, err; /* whole */
    struct command_events events;        /* streamed */
    bool kill_if_gone;                   /* on_disconnect=kill */
    int64_t skipped_bytes;
};

typedef int (*command_output_fn)(void *arg, enum exec_stream stream, const void *data, size_t bytes,
                                 int64_t next);

static int on_output(void *arg, enum exec_stream stream, const void *data, size_t bytes,
                     int64_t next)
{
    struct command *command = arg;

    (void)next;
    command_output_add(&command->all, data, bytes);
    command_output_add(stream == EXEC_STDOUT ? &command->out : &command->err, data, bytes);
    return 0;
}

/* Does the caller want no command without itself, and has it gone? */
static bool is_abandoned(struct command *command)
{
    if (command->kill_if_gone && http_peer_gone(command->caller->http)) {
        command->events.gone = true;
    }
    return command->kill_if_gone && command->events.gone;
}

/* Ends the call at once when its sandbox is paused, or its caller has gone and wants the command to
 * end with itself. The runner in the sandbox still enforces the command's timeout. */
static int on_tick(void *arg)
{
    struct command *command = arg;

    if (!command->noted) {
        command->noted = true;
        command->row.row.state = COMMAND_RUNNING;
        command_call_note(command->caller, &command->row);
    }
    command->paused = data_call_paused(command->call, command->sandbox_id, false);
    return command->paused || is_abandoned(command);
}

/* ---- running it ---- */

/* A sandbox that cannot run our runner: the provider's own way, in which the output is gone when
 * the call ends. */
struct plain_run {
    struct command *command;
    command_output_fn output;
    int64_t next;
};

static int on_plain_output(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    struct plain_run *plain = arg;

    return plain->output(plain->command, stream, data, bytes, -1);
}

static int on_plain_tick(void *arg)
{
    struct plain_run *plain = arg;

    return plain->command->request.on_tick(plain->command);
}

static int run_plain(const struct data_call *call, struct command *command,
                     command_output_fn output, struct error *err)
{
    struct plain_run plain = {.command = command, .output = output};
    struct exec_request request = command->request;
    struct store_command *row = &command->row.row;
    int status;

    if (command->start.takes_stdin || command->start.rows > 0 || row->run_as[0] != '\0') {
        return error_set(err, ERR_NOT_IMPLEMENTED,
                         "this sandbox cannot run what stdin, tty and user need");
    }
    if (request.on_tick != NULL) {
        request.on_tick = on_plain_tick;
    }
    status = call->provider->ops->exec(call->provider, call->client, &call->target, &request,
                                       on_plain_output, &plain, &command->result, err);
    if (status == 0) {
        row->pid = command->result.pid;
        row->exit_code = command->result.exited ? command->result.exit_code : -1;
        row->state = command->result.timed_out ? COMMAND_TIMED_OUT
                     : command->result.exited  ? COMMAND_EXITED
                                               : COMMAND_RUNNING;
        row->background_processes = command->result.background_processes;
    }
    return status;
}

static void take_status(struct command *command)
{
    const struct command_status *status = &command->row.status;
    struct exec_result *result = &command->result;

    *result = (struct exec_result){.pid = status->pid,
                                   .started = true,
                                   .exited = status->phase != COMMAND_PHASE_RUNNING,
                                   .exit_code = status->exit_code,
                                   .background_processes = status->background_processes,
                                   .timed_out = status->phase == COMMAND_PHASE_TIMED_OUT,
                                   .left = status->left,
                                   .survivor_count = status->survivor_count};
    memcpy(result->survivors, status->survivors, sizeof(result->survivors));
    if (status->phase == COMMAND_PHASE_LOST) { /* killed with its runner, as far as is known */
        result->exit_code = 128 + SIGKILL;
    }
}

/* Starts it, gives it its input, and goes on to its end. */
static int run_kept(const struct data_call *call, struct command *command, command_output_fn output,
                    bool *ret_unusable, struct error *err)
{
    struct command_follow follow = {.wait_ms = command->request.background ? 0 : command->wait_ms,
                                    .max_bytes = INT64_MAX,
                                    .any_output = command->request.any_output,
                                    .on_output = output,
                                    .on_tick = command->request.on_tick,
                                    .arg = command};
    struct command_follow start = follow;
    int64_t accepted = 0;
    int status;

    if (command->input != NULL) {
        start.wait_ms = 0;
    }
    status = command_call_run(call, &command->row, &command->start, &start, ret_unusable, err);
    if (status == 0 && !*ret_unusable && command->input != NULL &&
        command->row.status.phase == COMMAND_PHASE_RUNNING && !command->row.status.left) {
        const struct sandbox_command target = command_call_target(call, &command->row.row);
        struct error ended = ERROR_INIT; /* before it read its input: that is its own affair */

        status = sandbox_command_input(&target, 0, command->input, strlen(command->input),
                                       !command->input_open, &accepted, &ended);
        if (status < 0 && ended.code != ERR_CONFLICT) {
            *err = ended;
            return -1;
        }
        follow.after = command->row.status.next;
        status = command_call_follow(call, &command->row, &follow, err);
    }
    if (status == 0 && !*ret_unusable) {
        take_status(command);
    }
    return status;
}

/* The caller may not go on, or wants no command without itself. */
static void kill_if_wanted(const struct data_call *call, struct command *command)
{
    const struct sandbox_command target = command_call_target(call, &command->row.row);
    struct error ignored = ERROR_INIT; /* it has ended, or its timeout will end it */

    if (command->row.row.kept && command->row.status.left &&
        ((command->kill_if_gone && command->events.gone) || http_client_over(call->client)) &&
        sandbox_command_kill(&target, &ignored) == 0) {
        command->row.row.state = COMMAND_KILLED;
        command->row.row.exit_code = 128 + SIGKILL;
        command->row.row.signal = SIGKILL;
    }
}

static int run_command(const struct data_call *call, void *arg, command_output_fn output,
                       struct error *err)
{
    struct command *command = arg;
    bool unusable = false;
    int status;

    if (command_call_begin(call->request, &command->row, err) < 0) {
        return -1;
    }
    command->call = call;
    status = run_kept(call, command, output, &unusable, err);
    if (status == 0 && unusable) {
        status = run_plain(call, command, output, err);
    }
    if (status < 0 && err->code == ERR_PROVIDER_DOWN && !command->request.background &&
        data_call_paused(call, command->sandbox_id, true)) {
        command->paused = true; /* the pause broke the connection */
        status = 0;
    }
    if (status == 0) {
        kill_if_wanted(call, command);
    }
    command->call = NULL;
    return status;
}

static int run_whole(const struct data_call *call, void *arg, struct error *err)
{
    return run_command(call, arg, on_output, err);
}

static bool still_runs(const struct command *command)
{
    return !command->paused && !command->result.exited && !command->result.timed_out;
}

static bool succeeded(const struct command *command)
{
    return !command->paused && command->result.exited && !command->result.timed_out &&
           command->result.exit_code == 0;
}

static const char *end_message(const struct command *command)
{
    const struct exec_result *result = &command->result;

    if (command->paused) {
        return "The sandbox was paused under the command";
    }
    if (command->row.row.state == COMMAND_KILLED) {
        return "Command was killed";
    }
    if (still_runs(command)) {
        return "Command still runs";
    }
    if (result->timed_out) {
        return result->survivor_count > 0
                   ? "Command timed out; not all of its processes could be killed"
                   : "Command timed out and was killed";
    }
    return succeeded(command) ? "Command executed successfully" : "Command failed";
}

/* Adds how the command ended; exit_code is null unless it ended by itself. */
static void add_end(cJSON *data, const struct command *command)
{
    const struct exec_result *result = &command->result;

    if (command->paused || result->timed_out || still_runs(command)) {
        cJSON_AddNullToObject(data, "exit_code");
    } else {
        cJSON_AddNumberToObject(data, "exit_code", result->exit_code);
    }
    cJSON_AddBoolToObject(data, "timed_out", !command->paused && result->timed_out);
    cJSON_AddBoolToObject(data, "paused", command->paused);
    cJSON_AddBoolToObject(data, "background_processes", result->background_processes);
    if (!command->paused && result->timed_out) {
        cJSON *survivors = cJSON_AddArrayToObject(data, "survivors");

        for (int i = 0; i < result->survivor_count; i++) {
            cJSON_AddItemToArray(survivors, cJSON_CreateNumber((double)result->survivors[i]));
        }
    }
}

static void add_outputs(cJSON *data, struct command *command)
{
    struct {
        const char *name;
        struct command_output *output;
    } outputs[] = {{"output", &command->all}, {"stdout", &command->out}, {"stderr", &command->err}};
    cJSON *omitted = cJSON_CreateObject();
    bool replaced = false;

    for (size_t i = 0; i < sizeof(outputs) / sizeof(outputs[0]); i++) {
        command_output_end(outputs[i].output);
        replaced |= command_output_put(outputs[i].output, data, outputs[i].name, command->base64);
        command_output_put_omitted(outputs[i].output, omitted, outputs[i].name);
    }
    cJSON_AddStringToObject(data, "output_encoding", command->base64 ? "base64" : "utf-8");
    cJSON_AddBoolToObject(data, "output_replaced", replaced);
    cJSON_AddBoolToObject(data, "truncated", omitted->child != NULL);
    if (omitted->child != NULL) {
        cJSON_AddItemToObject(data, "omitted", omitted);
    } else {
        cJSON_Delete(omitted);
    }
}

/* What every answer says of the command, streamed or whole. */
static void add_command(cJSON *data, const struct command *command)
{
    cJSON_AddStringToObject(data, "command_id", command->row.row.id);
    cJSON_AddStringToObject(
        data, "state",
        command_state_name(command->paused ? COMMAND_PAUSED : command->row.row.state));
    if (command->row.row.kept && !command->result.exited) {
        json_add_int64(data, "next_offset", command->row.status.next);
    }
}

static void respond_command(struct request *request, struct command *command, int64_t took_ms)
{
    bool background = command->request.background;
    cJSON *data = cJSON_CreateObject();

    cJSON_AddBoolToObject(data, "success", background || succeeded(command));
    if (background) {
        cJSON_AddStringToObject(data, "output", "");
        json_add_int64(data, "pid", command->result.pid);
    } else {
        add_outputs(data, command);
        add_end(data, command);
    }
    add_command(data, command);
    json_add_int64(data, "duration_ms", took_ms);
    cJSON_AddStringToObject(
        data, "message", background ? "Command started in the background" : end_message(command));
    respond_data(request, 200, data);
}

/* ---- what is asked ---- */

static int read_encoding(const cJSON *body, bool *ret_base64, struct error *err)
{
    const char *encoding;

    if (json_get_string(body, "output_encoding", 16, "utf-8", &encoding, err) < 0) {
        return -1;
    }
    *ret_base64 = strcmp(encoding, "base64") == 0;
    return *ret_base64 || strcmp(encoding, "utf-8") == 0
               ? 0
               : error_set(err, ERR_INVALID, "output_encoding must be utf-8 or base64");
}

/* The caller's id, or one of ours. */
static int read_id(const cJSON *body, char ret[UUID_BYTES], struct error *err)
{
    const char *text;

    if (json_get_string(body, "command_id", 64, NULL, &text, err) < 0) {
        return -1;
    }
    if (text == NULL) {
        id_uuid(ret);
        return 0;
    }
    if (!id_is_uuid(text)) {
        return error_set(err, ERR_INVALID, "command_id must be a UUID");
    }
    str_copy(ret, UUID_BYTES, text);
    id_lower(ret);
    return 0;
}

/* Of what is started. How long the answer waits, and its form, may differ in a later request. */
static void hash_request(const cJSON *body, char ret[SHA256_HEX_BYTES])
{
    static const char *const of_the_answer[] = {"command_id", "wait_seconds", "output_encoding"};
    cJSON *rest = cJSON_Duplicate(body, true);
    struct strbuf text;

    for (size_t i = 0; i < sizeof(of_the_answer) / sizeof(of_the_answer[0]); i++) {
        cJSON_DeleteItemFromObjectCaseSensitive(rest, of_the_answer[i]);
    }
    strbuf_init(&text, 16 * 1024 * 1024);
    json_print(rest, &text);
    sha256_hex(text.data, text.length, ret);
    strbuf_done(&text);
    cJSON_Delete(rest);
}

static int read_user(const cJSON *body, char *out, size_t size, struct error *err)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_";
    static const char more[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789.-";
    const char *user;

    if (json_get_string(body, "user", COMMAND_USER_BYTES - 1, "", &user, err) < 0) {
        return -1;
    }
    if (user[0] != '\0' && (strchr(letters, user[0]) == NULL || user[strspn(user, more)] != '\0')) {
        return error_set(err, ERR_INVALID, "user is no name of a user");
    }
    str_copy(out, size, user);
    return 0;
}

/* stdin, user, tty and wait_seconds. */
static int read_extras(struct request *request, struct command *command, struct error *err)
{
    const cJSON *body = request->body;
    struct store_command *row = &command->row.row;
    int64_t wait_s, rows, columns;
    char on_disconnect[16];
    bool given;

    if (read_id(body, row->id, err) < 0 ||
        read_user(body, row->run_as, sizeof(row->run_as), err) < 0 ||
        json_get_int(body, "wait_seconds", 0, COMMAND_WAIT_MAX_S, -1, &wait_s, err) < 0 ||
        json_get_string(body, "stdin", COMMAND_INPUT_MAX_BYTES, NULL, &command->input, err) < 0 ||
        json_get_bool(body, "stdin_open", false, &command->input_open, err) < 0 ||
        json_get_bool(body, "tty", false, &row->tty, err) < 0 ||
        json_get_int(body, "rows", 1, COMMAND_TTY_MAX, 24, &rows, err) < 0 ||
        json_get_int(body, "columns", 1, COMMAND_TTY_MAX, 80, &columns, err) < 0 ||
        request_query(request, "on_disconnect", on_disconnect, sizeof(on_disconnect), &given, err) <
            0) {
        return -1;
    }
    if (given && strcmp(on_disconnect, "kill") != 0 && strcmp(on_disconnect, "continue") != 0) {
        return error_set(err, ERR_INVALID, "on_disconnect must be continue or kill");
    }
    command->kill_if_gone = given && strcmp(on_disconnect, "kill") == 0;
    command->wait_ms = wait_s < 0 ? INT64_MAX : wait_s * 1000;
    command->start.takes_stdin = command->input != NULL || command->input_open;
    command->start.rows = row->tty ? (int)rows : 0;
    command->start.columns = row->tty ? (int)columns : 0;
    return 0;
}

static int read_command(struct request *request, char sandbox_id[UUID_BYTES],
                        struct command *command, struct error *err)
{
    const struct gateway_config *config = request->gateway->config;
    const cJSON *body = request->body, *timeout;
    struct store_command *row = &command->row.row;
    int64_t timeout_s;

    if (request_sandbox_id(request, sandbox_id, err) < 0 ||
        json_get_string_req(body, "command", 1, COMMAND_MAX_BYTES, &command->request.command, err) <
            0 ||
        json_get_bool(body, "background", false, &command->request.background, err) < 0 ||
        json_get_int(body, "timeout_seconds", 1, config->command_timeout_max_s,
                     config->command_timeout_s, &timeout_s, err) < 0 ||
        json_get_string(body, "cwd", DATA_PATH_MAX_BYTES, NULL, &command->request.cwd, err) < 0 ||
        json_get_string_map(body, "envs", ENVS_MAX, ENV_NAME_BYTES, ENV_VALUE_BYTES,
                            &command->request.envs, err) < 0 ||
        read_encoding(body, &command->base64, err) < 0 || read_extras(request, command, err) < 0) {
        return -1;
    }
    if (command->request.cwd != NULL && command->request.cwd[0] == '\0') {
        command->request.cwd = NULL;
    }
    timeout = cJSON_GetObjectItemCaseSensitive(body, "timeout_seconds");
    if (command->request.background && (timeout == NULL || cJSON_IsNull(timeout))) {
        timeout_s = 0; /* a service: it is no activity */
    }
    command->request.timeout_ms = timeout_s * 1000;
    command->request.any_output = true;
    command->request.on_tick = on_tick;
    command->sandbox_id = sandbox_id;
    command->start.text = command->request.command;
    command->start.cwd = command->request.cwd;
    command->start.envs = command->request.envs;
    command->start.timeout_ms = command->request.timeout_ms;
    command_call_limits(request, &command->start);
    str_copy(row->sandbox_id, sizeof(row->sandbox_id), sandbox_id);
    str_copy(row->actor, sizeof(row->actor), request->principal.subject);
    hash_request(body, row->request_hash);
    row->background = command->request.background;
    row->timeout_ms = command->request.timeout_ms;
    row->kept = true;
    row->exit_code = row->signal = -1;
    command->events = (struct command_events){.caller = request, .command_id = row->id};
    return 0;
}

/* ---- streamed
 * ----------------------------------------------------------------------------------------------
 */

/* A client that has gone, or reads too slowly, does not end the command unless it asked for that.
 * The remaining output is dropped. */
static int on_streamed(void *arg, enum exec_stream stream, const void *data, size_t bytes,
                       int64_t next)
{
    struct command *command = arg;

    if (data == NULL) {
        command->skipped_bytes += (int64_t)bytes;
        return 0;
    }
    command_events_output(&command->events, stream, data, bytes, next);
    return command->kill_if_gone && command->events.gone;
}

static int on_streamed_tick(void *arg)
{
    struct command *command = arg;

    command_events_tick(&command->events);
    return on_tick(arg);
}

static int run_streamed(const struct data_call *call, void *arg, struct error *err)
{
    return run_command(call, arg, on_streamed, err);
}

static cJSON *exit_json(const struct command *command, int64_t took_ms)
{
    cJSON *data = cJSON_CreateObject();

    cJSON_AddBoolToObject(data, "success", succeeded(command));
    add_end(data, command);
    add_command(data, command);
    cJSON_AddBoolToObject(data, "truncated", command->skipped_bytes > 0);
    if (command->skipped_bytes > 0) {
        json_add_int64(data, "omitted_bytes", command->skipped_bytes);
    }
    json_add_int64(data, "duration_ms", took_ms);
    cJSON_AddStringToObject(data, "message", end_message(command));
    return data;
}

/* The call is over; the command need not be. */
static void end_row(struct request *request, struct command *command, int status,
                    const struct error *err)
{
    if (status < 0 && !command->row.seen) {
        command_call_give_up(request, &command->row, err);
    } else {
        command_call_note(request, &command->row);
    }
}

/* Streams output events, then exactly one `exit` event, or one `error` event when the end is
 * unknown. */
static void stream_command(struct request *request, struct command *command)
{
    struct error err = ERROR_INIT;
    int64_t start_ms = clock_mono_ms();
    int status;

    command->request.any_output = false;
    command->request.on_tick = on_streamed_tick;
    command->events.written_ms = start_ms;
    status = data_call_run(request, command->sandbox_id, run_streamed, command, &err);
    end_row(request, command, status, &err);
    if (status < 0 && !command->events.begun) {
        respond_error(request, &err, 0);
        return;
    }
    if (command_events_begin(&command->events) < 0) {
        return; /* end the stream without an event */
    }
    if (status < 0) {
        command_events_put(&command->events, "error", -1, request_error_json(request, &err));
    } else {
        command_events_put(&command->events, "exit", command->row.status.next,
                           exit_json(command, clock_mono_ms() - start_ms));
    }
    command_events_end(&command->events);
}

static bool wants_events(const struct request *request)
{
    const char *accept = http_header(request->http, "Accept");

    return accept != NULL && strcasestr(accept, "text/event-stream") != NULL;
}

static void answer_whole(struct request *request, struct command *command)
{
    struct error err = ERROR_INIT;
    int64_t start_ms = clock_mono_ms();
    int status;

    command_output_init(&command->all, request);
    command_output_init(&command->out, request);
    command_output_init(&command->err, request);
    status = data_call_run(request, command->sandbox_id, run_whole, command, &err);
    end_row(request, command, status, &err);
    if (status < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_command(request, command, clock_mono_ms() - start_ms);
    }
    command_output_done(&command->all);
    command_output_done(&command->out);
    command_output_done(&command->err);
}

void handle_run_cmd(struct request *request)
{
    struct error err = ERROR_INIT;
    struct command command = {.caller = request};
    char sandbox_id[UUID_BYTES];
    bool streams = wants_events(request);

    if (read_command(request, sandbox_id, &command, &err) == 0 && streams &&
        !command.request.background && request_is_keyed(request)) {
        error_set(&err, ERR_INVALID,
                  "Idempotency-Key: the output of a streamed command is not kept");
    }
    if (err.code != ERR_OK) {
        respond_error(request, &err, 0);
    } else if (streams && !command.request.background) {
        stream_command(request, &command);
    } else {
        answer_whole(request, &command);
    }
}
