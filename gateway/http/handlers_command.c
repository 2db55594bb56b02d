/*
 * handlers_command - run-cmd: whole answers, and output streamed as it comes.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "gateway/data/command_output.h"
#include "gateway/data/data_call.h"
#include "gateway/http/bounds.h"
#include "gateway/http/handlers.h"

enum {
    EVENT_DATA_BYTES = 32768, /* most output in one event */
    EVENT_MAX_BYTES = 262144, /* largest event: each byte of text may be escaped */
    /* Silence after which a comment line is sent. A polled provider is read every 5 s, so the
       client gets a line at least every 10 s. */
    STREAM_KEEPALIVE_MS = 4500,
};

/* One run-cmd, whole or streamed. */
struct command {
    struct request *caller;
    const char *sandbox_id;
    struct exec_request request;
    struct exec_result result;
    const struct data_call *call; /* set while the command runs */
    bool base64;
    bool paused;                         /* the sandbox was paused during the command */
    struct command_output all, out, err; /* whole */
    bool begun, gone;                    /* streamed: the answer has begun; the client has gone */
    int64_t written_ms, skipped_bytes;
};

static int on_output(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    struct command *command = arg;

    command_output_add(&command->all, data, bytes);
    command_output_add(stream == EXEC_STDOUT ? &command->out : &command->err, data, bytes);
    return 0;
}

/* Ends the call at once when its sandbox is paused. The runner in the sandbox still enforces the
 * command's timeout. */
static int on_tick(void *arg)
{
    struct command *command = arg;

    command->paused = data_call_paused(command->call, command->sandbox_id, false);
    return command->paused;
}

static int run_command(const struct data_call *call, void *arg, exec_output_fn output,
                       struct error *err)
{
    struct command *command = arg;
    int status;

    command->call = call;
    status = call->provider->ops->exec(call->provider, call->client, &call->target,
                                       &command->request, output, command, &command->result, err);
    if (status < 0 && err->code == ERR_PROVIDER_DOWN && !command->request.background &&
        data_call_paused(call, command->sandbox_id, true)) {
        command->paused = true; /* the pause broke the connection */
        status = 0;
    }
    command->call = NULL;
    return status;
}

/* A background command with a timeout is work: the sandbox stays awake until it ends. One without
 * is a service, which does not count as activity. */
static int keep_awake(const struct data_call *call, const struct command *command,
                      struct error *err)
{
    return command->request.background && command->request.timeout_ms > 0
               ? store_sandbox_hold(call->request->gateway->store, command->sandbox_id,
                                    command->request.timeout_ms, err)
               : 0;
}

static int run_whole(const struct data_call *call, void *arg, struct error *err)
{
    return keep_awake(call, arg, err) < 0 ? -1 : run_command(call, arg, on_output, err);
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

    if (command->paused || result->timed_out) {
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
    json_add_int64(data, "duration_ms", took_ms);
    cJSON_AddStringToObject(
        data, "message", background ? "Command started in the background" : end_message(command));
    respond_data(request, 200, data);
}

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

static int read_command(struct request *request, char sandbox_id[UUID_BYTES],
                        struct command *command, struct error *err)
{
    const struct gateway_config *config = request->gateway->config;
    const cJSON *body = request->body, *timeout;
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
        read_encoding(body, &command->base64, err) < 0) {
        return -1;
    }
    if (command->request.cwd != NULL && command->request.cwd[0] == '\0') {
        command->request.cwd = NULL;
    }
    timeout = cJSON_GetObjectItemCaseSensitive(body, "timeout_seconds");
    if (command->request.background && (timeout == NULL || cJSON_IsNull(timeout))) {
        timeout_s = 0; /* a service */
    }
    command->request.timeout_ms = timeout_s * 1000;
    command->request.any_output = true;
    command->request.on_tick = on_tick;
    command->sandbox_id = sandbox_id;
    return 0;
}

/* ---- streamed
 * ----------------------------------------------------------------------------------------------
 */

static int begin_events(struct command *command)
{
    if (command->begun) {
        return 0;
    }
    command->begun = true;
    return respond_stream(command->caller, "text/event-stream",
                          "Cache-Control: no-store\r\nX-Accel-Buffering: no\r\n", -1);
}

/* Takes `data`. */
static int put_event(struct request *caller, const char *name, cJSON *data)
{
    struct strbuf event;
    int status;

    strbuf_init(&event, EVENT_MAX_BYTES);
    strbuf_printf(&event, "event: %s\ndata: ", name);
    json_print(data, &event);
    strbuf_puts(&event, "\n\n");
    cJSON_Delete(data);
    status = http_stream_write(caller->http, event.data, event.length);
    request_count_sent(caller, event.length);
    strbuf_done(&event);
    return status;
}

/* Returns text for valid UTF-8, else base64, so that an event loses no byte. */
static cJSON *output_json(const char *bytes, size_t length)
{
    cJSON *data = cJSON_CreateObject();
    struct strbuf text;

    strbuf_init(&text, length / 3 * 4 + 8);
    if (memchr(bytes, '\0', length) == NULL && utf8_is_valid(bytes, length)) {
        strbuf_append(&text, bytes, length);
        cJSON_AddStringToObject(data, "text", text.data);
    } else {
        encode_base64(&text, bytes, length);
        cJSON_AddStringToObject(data, "base64", text.data);
    }
    strbuf_done(&text);
    return data;
}

static int put_output(struct command *command, const char *name, const char *data, size_t bytes)
{
    while (bytes > 0) {
        size_t piece = bytes;

        if (bytes > EVENT_DATA_BYTES) {
            /* do not cut inside a UTF-8 character */
            piece = utf8_valid_prefix(data, EVENT_DATA_BYTES);
            piece = piece > EVENT_DATA_BYTES / 2 ? piece : EVENT_DATA_BYTES;
        }
        if (put_event(command->caller, name, output_json(data, piece)) < 0) {
            return -1;
        }
        data += piece;
        bytes -= piece;
    }
    return 0;
}

/* A client that has gone, or reads too slowly, does not end the command; neither does one that
 * waits for a whole answer. The remaining output is dropped. */
static int on_streamed(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    struct command *command = arg;

    if (data == NULL) {
        command->skipped_bytes += (int64_t)bytes;
        return 0;
    }
    command->gone =
        command->gone || begin_events(command) < 0 ||
        put_output(command, stream == EXEC_STDOUT ? "stdout" : "stderr", data, bytes) < 0;
    command->written_ms = clock_mono_ms();
    return 0;
}

/* Sends a comment line, so that no proxy takes a silent stream for a dead one. */
static int on_streamed_tick(void *arg)
{
    static const char comment[] = ": keep-alive\n\n";
    struct command *command = arg;

    if (!command->gone && clock_mono_ms() - command->written_ms >= STREAM_KEEPALIVE_MS) {
        command->gone = begin_events(command) < 0 ||
                        http_stream_write(command->caller->http, comment, sizeof(comment) - 1) < 0;
        request_count_sent(command->caller, sizeof(comment) - 1);
        command->written_ms = clock_mono_ms();
    }
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
    cJSON_AddBoolToObject(data, "truncated", command->skipped_bytes > 0);
    if (command->skipped_bytes > 0) {
        json_add_int64(data, "omitted_bytes", command->skipped_bytes);
    }
    json_add_int64(data, "duration_ms", took_ms);
    cJSON_AddStringToObject(data, "message", end_message(command));
    return data;
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
    command->written_ms = start_ms;
    status = data_call_run(request, command->sandbox_id, run_streamed, command, &err);
    if (status < 0 && !command->begun) {
        respond_error(request, &err, 0);
        return;
    }
    if (command->gone || begin_events(command) < 0) {
        return; /* end the stream without an event */
    }
    if (status < 0) {
        (void)put_event(request, "error", request_error_json(request, &err));
    } else {
        (void)put_event(request, "exit", exit_json(command, clock_mono_ms() - start_ms));
    }
    (void)http_stream_end(request->http);
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

    command_output_init(&command->all, request);
    command_output_init(&command->out, request);
    command_output_init(&command->err, request);
    if (data_call_run(request, command->sandbox_id, run_whole, command, &err) < 0) {
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
