/*
 * e2b_program - a program through envd's process.Process/Start, whose output is passed on as it
 * comes.
 *
 * Owns: one Start. Does not own: what the program says (sandbox_command.c). Threads: a client
 * belongs to its caller. Failure: -1 + err; a stream that broke off is never an end. envd leaves a
 * program alone whose stream ends early.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/provider/e2b.h"

enum {
    MESSAGE_MAX_BYTES = 4 * 1024 * 1024, /* envd sends chunks of 32 KiB; leave others room */
    ERROR_BODY_MAX_BYTES = 16 * 1024,
    KEEPALIVE_SECONDS = 50,
    IDLE_MS = 3 * KEEPALIVE_SECONDS * 1000, /* three keepalives missed: the stream is dead */
    USER_MAX_BYTES = 64,
};

struct program {
    const struct program_run *run;
    struct connect_stream stream;
    struct strbuf decoded;
    bool ended, left, broken;
    struct error *err;
};

static int on_message(void *arg, const char *json, size_t bytes, struct error *err)
{
    struct program *program = arg;
    cJSON *root = json_parse(json, bytes, err);
    int rc = 0;

    if (root == NULL) {
        err->code = ERR_PROVIDER;
        return -1;
    }
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(root, "event");
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(event, "data");
    const char *text = json_text(data, "stdout");

    program->ended |= cJSON_IsObject(cJSON_GetObjectItemCaseSensitive(event, "end"));
    if (cJSON_IsObject(data) && text[0] != '\0') {
        strbuf_reset(&program->decoded);
        rc = decode_base64(&program->decoded, text, strlen(text), err);
        if (rc == 0 && program->run->on_data(program->run->arg, program->decoded.data,
                                             program->decoded.length) != 0) {
            program->left = true;
            rc = -1;
        }
    }
    cJSON_Delete(root);
    return rc;
}

static int on_bytes(void *arg, const void *data, size_t bytes)
{
    struct program *program = arg;

    if (connect_stream_feed(&program->stream, data, bytes, on_message, program, program->err) ==
        0) {
        return 0;
    }
    program->broken = !program->left;
    return -1;
}

static int on_tick(void *arg)
{
    struct program *program = arg;

    program->left = program->run->on_tick != NULL && program->run->on_tick(program->run->arg) != 0;
    return program->left;
}

static int put_user(const char *user, struct http_request *request, struct error *err)
{
    char pair[USER_MAX_BYTES + 2];
    size_t length = strlen(user);

    if (length == 0) {
        strbuf_puts(&request->headers, E2B_USER_HEADER);
        return 0;
    }
    if (length > USER_MAX_BYTES) {
        return error_set(err, ERR_INVALID, "there is no such user");
    }
    memcpy(pair, user, length);
    pair[length] = ':';
    strbuf_puts(&request->headers, "Authorization: Basic ");
    encode_base64(&request->headers, pair, length + 1);
    strbuf_putc(&request->headers, '\n');
    return 0;
}

static int put_start(const struct program_run *run, struct http_request *request, struct error *err)
{
    cJSON *body = cJSON_CreateObject();
    cJSON *process = cJSON_AddObjectToObject(body, "process");
    struct strbuf json;
    int rc;

    cJSON_AddStringToObject(process, "cmd", "/bin/sh");
    cJSON *args = cJSON_AddArrayToObject(process, "args");
    cJSON_AddItemToArray(args, cJSON_CreateString("-c"));
    cJSON_AddItemToArray(args, cJSON_CreateString(run->argv[0]));
    cJSON_AddItemToArray(args, cJSON_CreateString("sh"));
    for (size_t i = 1; run->argv[i] != NULL; i++) {
        cJSON_AddItemToArray(args, cJSON_CreateString(run->argv[i]));
    }
    if (run->envs != NULL) {
        cJSON_AddItemToObject(process, "envs", cJSON_Duplicate(run->envs, 1));
    }
    cJSON_AddFalseToObject(body, "stdin"); /* before envd 0.3.0 it is open all the same */
    strbuf_init(&json, request->body.max_bytes - 5);
    rc = json_print(body, &json);
    if (rc == 0) {
        rc = connect_envelope_put(&request->body, json.data, json.length);
    }
    cJSON_Delete(body);
    strbuf_done(&json);
    return rc == 0 ? 0 : error_set(err, ERR_TOO_LARGE, "the command is too long");
}

static int take_end(const struct e2b *e2b, const struct provider_target *target,
                    const struct program *program, const struct http_response *response,
                    struct error *err)
{
    if (program->left) {
        return 0;
    }
    if (program->broken) {
        return error_prefix(err, "command stream");
    }
    if (program->stream.ended && program->stream.end.code == CONNECT_NONE && program->ended) {
        return 0;
    }
    if (program->stream.ended && program->stream.end.code != CONNECT_NONE) {
        e2b_rpc_error(e2b, target, &program->stream.end, "command", err);
        if (program->stream.end.code == CONNECT_UNAUTHENTICATED && program->run->user[0] != '\0') {
            error_set(err, ERR_INVALID, "user: the sandbox has no such user");
        } else if (err->code == ERR_FILE_NOT_FOUND) {
            err->code = ERR_PROVIDER; /* no file was asked for */
        }
        return -1;
    }
    if (e2b_envd_check(e2b, target, response, "command", err) == 0) {
        return error_set(err, ERR_PROVIDER_DOWN, "the command's stream broke off");
    }
    if (response->transport == HTTP_ANSWERED && response->status == 401 &&
        program->run->user[0] != '\0') {
        return error_set(err, ERR_INVALID, "user: the sandbox has no such user");
    }
    if (err->code == ERR_FILE_NOT_FOUND) {
        err->code = ERR_PROVIDER;
    }
    return -1;
}

int e2b_run_program(struct provider *provider, struct http_client *client,
                    const struct provider_target *target, const struct program_run *run,
                    struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    struct program program = {.run = run, .err = err};
    const struct http_stream stream = {.on_data = on_bytes,
                                       .on_tick = on_tick,
                                       .arg = &program,
                                       .body_bytes = -1,
                                       .idle_ms = IDLE_MS};
    struct http_request request;
    struct http_response response;
    int rc = -1;

    connect_stream_init(&program.stream, MESSAGE_MAX_BYTES);
    strbuf_init(&program.decoded, MESSAGE_MAX_BYTES);
    http_request_init(&request);
    if (e2b_envd_request(e2b, target, "POST", "/process.Process/Start", &request, err) == 0 &&
        put_start(run, &request, err) == 0 && put_user(run->user, &request, err) == 0) {
        strbuf_printf(&request.headers,
                      "Content-Type: application/connect+json\nConnect-Protocol-Version: 1\n"
                      "Keepalive-Ping-Interval: %d\n",
                      KEEPALIVE_SECONDS);
        request.has_body = true;
        request.once = true; /* what is sent twice, the program itself must know about */
        request.timeout_ms = run->wait_ms + e2b->config.request_timeout_ms;
        request.max_response_bytes = ERROR_BODY_MAX_BYTES;
        http_client_stream(client, &request, &stream, &response);
        rc = take_end(e2b, target, &program, &response, err);
    }
    http_request_done(&request);
    strbuf_done(&program.decoded);
    connect_stream_done(&program.stream);
    return rc;
}
