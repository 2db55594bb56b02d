/*
 * handlers_command - run-cmd: whole answers, and output streamed as it comes.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "gateway/data_call.h"
#include "gateway/handlers.h"

enum {
    COMMAND_MAX_BYTES = 262144,
    ENVS_MAX = 128,
    ENV_NAME_BYTES = 128,
    ENV_VALUE_BYTES = 16384,
    REPLACEMENT_GROWTH = 3,    /* U+FFFD takes three bytes for one */
    OUTPUT_STEP_BYTES = 65536, /* the budget of all requests is asked for this much at once */
    EVENT_DATA_BYTES = 32768,  /* output in one event */
    EVENT_MAX_BYTES = 262144,  /* an event: each byte of text may be escaped */
    OUTPUT_COST = 6,           /* of a byte kept: here, in the tree, escaped in the answer */
};

struct output {
    struct strbuf text;
    size_t granted; /* bytes the budget has given */
    bool truncated;
};

struct command {
    struct request *caller;
    struct exec_request request;
    struct output all, out, err;
    struct exec_result result;
};

/* Asks the budget for what the next `bytes` need; false when it has no more. */
static bool grant(struct request *caller, struct output *output, size_t bytes)
{
    while (output->granted < output->text.length + bytes) {
        struct error full = ERROR_INIT; /* told as `truncated` */

        if (budget_take(&caller->gateway->buffers, &caller->buffers,
                        (int64_t)OUTPUT_STEP_BYTES * OUTPUT_COST, &full) < 0) {
            return false;
        }
        output->granted += OUTPUT_STEP_BYTES;
    }
    return true;
}

/* Keeps what fits, cut at the limit; the command is drained to its end all the same. */
static void keep(struct request *caller, struct output *output, const void *data, size_t bytes)
{
    size_t room = output->text.max_bytes - output->text.length;

    if (bytes > room) {
        output->truncated = true;
        bytes = room;
    }
    if (output->truncated && bytes == 0) {
        return;
    }
    if (!grant(caller, output, bytes)) {
        output->truncated = true;
        return;
    }
    strbuf_append(&output->text, data, bytes);
}

static int on_output(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    struct command *command = arg;

    keep(command->caller, &command->all, data, bytes);
    keep(command->caller, stream == EXEC_STDOUT ? &command->out : &command->err, data, bytes);
    return 0;
}

static int run_command(const struct data_call *call, void *arg, struct error *err)
{
    struct command *command = arg;

    return call->provider->ops->exec(call->provider, call->client, &call->target, &command->request,
                                     on_output, command, &command->result, err);
}

/* Adds bytes as a JSON string: what is not UTF-8 (or is NUL) becomes U+FFFD. */
static void add_output(cJSON *data, const char *field, const struct strbuf *bytes)
{
    struct strbuf text;

    strbuf_init(&text, bytes->length * UTF8_CLEAN_GROWTH + 1);
    (void)utf8_put_clean(&text, bytes->data, bytes->length);
    cJSON_AddStringToObject(data, field, text.data);
    strbuf_done(&text);
}

static const char *end_message(const struct exec_result *result, bool success)
{
    if (result->timed_out) {
        return "Command timed out and was killed";
    }
    return success ? "Command executed successfully" : "Command failed";
}

/* Null when it was killed at its time. */
static void add_exit_code(cJSON *data, const struct exec_result *result)
{
    if (result->timed_out) {
        cJSON_AddNullToObject(data, "exit_code");
    } else {
        cJSON_AddNumberToObject(data, "exit_code", result->exit_code);
    }
}

static void respond_command(struct request *request, const struct command *command, int64_t took_ms)
{
    bool background = command->request.background;
    bool success = background || (command->result.exited && !command->result.timed_out &&
                                  command->result.exit_code == 0);
    cJSON *data = cJSON_CreateObject();

    cJSON_AddBoolToObject(data, "success", success);
    add_output(data, "output", &command->all.text);
    if (background) {
        json_add_int64(data, "pid", command->result.pid);
    } else {
        add_output(data, "stdout", &command->out.text);
        add_output(data, "stderr", &command->err.text);
        add_exit_code(data, &command->result);
        cJSON_AddBoolToObject(data, "timed_out", command->result.timed_out);
        cJSON_AddBoolToObject(data, "truncated",
                              command->all.truncated || command->out.truncated ||
                                  command->err.truncated);
    }
    json_add_int64(data, "duration_ms", took_ms);
    cJSON_AddStringToObject(data, "message",
                            background ? "Command started in the background"
                                       : end_message(&command->result, success));
    respond_data(request, 200, data);
}

static int read_command(struct request *request, char sandbox_id[UUID_BYTES],
                        struct command *command, struct error *err)
{
    const struct gateway_config *config = request->gateway->config;
    const cJSON *body = request->body;
    int64_t timeout_s;

    if (request_sandbox_id(request, sandbox_id, err) < 0 ||
        json_get_string_req(body, "command", 1, COMMAND_MAX_BYTES, &command->request.command, err) <
            0 ||
        json_get_bool(body, "background", false, &command->request.background, err) < 0 ||
        json_get_int(body, "timeout_seconds", 1, config->command_timeout_max_s,
                     config->command_timeout_s, &timeout_s, err) < 0 ||
        json_get_string(body, "cwd", DATA_PATH_MAX_BYTES, NULL, &command->request.cwd, err) < 0 ||
        json_get_string_map(body, "envs", ENVS_MAX, ENV_NAME_BYTES, ENV_VALUE_BYTES,
                            &command->request.envs, err) < 0) {
        return -1;
    }
    if (command->request.cwd != NULL && command->request.cwd[0] == '\0') {
        command->request.cwd = NULL;
    }
    command->request.timeout_ms = command->request.background ? 0 : timeout_s * 1000;
    return 0;
}

/* ---- streamed
 * ----------------------------------------------------------------------------------------------
 */

struct streamed {
    struct request *caller;
    struct exec_request request;
    struct exec_result result;
    bool begun;
};

static int begin_events(struct streamed *streamed)
{
    if (streamed->begun) {
        return 0;
    }
    streamed->begun = true;
    return respond_stream(streamed->caller, "text/event-stream",
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
    caller->sent_bytes += event.length;
    strbuf_done(&event);
    return status;
}

/* Text where the bytes are text, else base64: an event loses none of them. */
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

/* A client that is gone, or reads too slowly, ends the command. */
static int on_streamed(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    struct streamed *streamed = arg;
    const char *name = stream == EXEC_STDOUT ? "stdout" : "stderr", *next = data;

    if (begin_events(streamed) < 0) {
        return -1;
    }
    while (bytes > 0) {
        size_t piece = bytes;

        if (bytes > EVENT_DATA_BYTES) {
            /* not in the middle of a character, if these are characters */
            piece = utf8_valid_prefix(next, EVENT_DATA_BYTES);
            piece = piece > EVENT_DATA_BYTES / 2 ? piece : EVENT_DATA_BYTES;
        }
        if (put_event(streamed->caller, name, output_json(next, piece)) < 0) {
            return -1;
        }
        next += piece;
        bytes -= piece;
    }
    return 0;
}

static int run_streamed(const struct data_call *call, void *arg, struct error *err)
{
    struct streamed *streamed = arg;

    return call->provider->ops->exec(call->provider, call->client, &call->target,
                                     &streamed->request, on_streamed, streamed, &streamed->result,
                                     err);
}

static cJSON *exit_json(const struct exec_result *result, int64_t took_ms)
{
    bool success = result->exited && !result->timed_out && result->exit_code == 0;
    cJSON *data = cJSON_CreateObject();

    cJSON_AddBoolToObject(data, "success", success);
    add_exit_code(data, result);
    cJSON_AddBoolToObject(data, "timed_out", result->timed_out);
    json_add_int64(data, "duration_ms", took_ms);
    cJSON_AddStringToObject(data, "message", end_message(result, success));
    return data;
}

/* Output as it comes, then exactly one `exit`, or one `error` when its end was not learnt. */
static void stream_command(struct request *request, const char *sandbox_id,
                           const struct exec_request *asked)
{
    struct streamed streamed = {.caller = request, .request = *asked};
    struct error err = ERROR_INIT;
    int64_t start_ms = clock_mono_ms();
    int status = data_call_run(request, sandbox_id, run_streamed, &streamed, &err);

    if (status < 0 && !streamed.begun) {
        respond_error(request, &err, 0);
        return;
    }
    if (begin_events(&streamed) < 0) {
        return;
    }
    if (status < 0) {
        (void)put_event(request, "error", request_error_json(request, &err));
    } else if (streamed.result.exited || streamed.result.timed_out) {
        (void)put_event(request, "exit", exit_json(&streamed.result, clock_mono_ms() - start_ms));
    } else {
        return; /* stopped because the client is gone: its stream just ends */
    }
    (void)http_stream_end(request->http);
}

static bool wants_events(const struct request *request)
{
    const char *accept = http_header(request->http, "Accept");

    return accept != NULL && strcasestr(accept, "text/event-stream") != NULL;
}

void handle_run_cmd(struct request *request)
{
    size_t max = (size_t)request->gateway->config->command_output_bytes;
    struct error err = ERROR_INIT;
    struct command command = {.caller = request};
    char sandbox_id[UUID_BYTES];
    int64_t start_ms = clock_mono_ms();

    strbuf_init(&command.all.text, max);
    strbuf_init(&command.out.text, max);
    strbuf_init(&command.err.text, max);
    if (read_command(request, sandbox_id, &command, &err) == 0 && !command.request.background &&
        wants_events(request) && request->idempotency.key[0] != '\0') {
        error_set(&err, ERR_INVALID,
                  "Idempotency-Key: the output of a streamed command is not kept");
    }
    if (err.code == ERR_OK && !command.request.background && wants_events(request)) {
        stream_command(request, sandbox_id, &command.request);
    } else if (err.code != ERR_OK ||
               data_call_run(request, sandbox_id, run_command, &command, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_command(request, &command, clock_mono_ms() - start_ms);
    }
    strbuf_done(&command.all.text);
    strbuf_done(&command.out.text);
    strbuf_done(&command.err.text);
}
