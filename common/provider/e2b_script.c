/*
 * e2b_script - short scripts of ours through envd's process.Process/Start, as root.
 *
 * Owns: one Start whose output is kept. Does not own: what the script says; a user's commands
 * (e2b_exec.c), which have deadlines and process trees of their own. Threads: a client belongs to
 * its caller. Failure: -1 + err; a stream that broke off is never an output.
 *
 * envd's own file routes act as root, so the scripts that stand in for them do. Where there is no
 * root (an image without one), they run as the sandbox's user.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/provider/e2b.h"

enum {
    MESSAGE_MAX_BYTES = 4 * 1024 * 1024, /* envd sends chunks of 32 KiB; leave others room */
    ERROR_BODY_MAX_BYTES = 16 * 1024,
};

struct script_run {
    struct connect_stream stream;
    struct strbuf *output, errors;
    bool ended, too_large, broken;
    int exit_code; /* -1 = a signal */
    struct error *err;
};

static int keep(struct script_run *run, const cJSON *data, const char *field, struct strbuf *to)
{
    struct error *err = run->err;
    const char *text = json_text(data, field);
    if (decode_base64(to, text, strlen(text), err) == 0) {
        return 0;
    }
    if (to == run->output && to->overflow) {
        run->too_large = true;
    } else if (to == &run->errors) {
        return 0; /* what fits is enough */
    }
    return -1;
}

static int on_message(void *arg, const char *json, size_t bytes, struct error *err)
{
    struct script_run *run = arg;
    int rc = 0;
    cJSON *root = json_parse(json, bytes, err);
    if (!root) {
        err->code = ERR_PROVIDER;
        return -1;
    }
    const cJSON *event = cJSON_GetObjectItemCaseSensitive(root, "event");
    const cJSON *data = cJSON_GetObjectItemCaseSensitive(event, "data");
    const cJSON *end = cJSON_GetObjectItemCaseSensitive(event, "end");
    if (cJSON_IsObject(data)) {
        rc = keep(run, data, "stdout", run->output);
        if (rc == 0) {
            rc = keep(run, data, "stderr", &run->errors);
        }
    } else if (cJSON_IsObject(end)) {
        /* absent = 0 (proto3) */
        const cJSON *code = cJSON_GetObjectItemCaseSensitive(end, "exitCode");
        run->exit_code = cJSON_IsNumber(code) ? code->valueint : 0;
        run->ended = true;
    }
    cJSON_Delete(root);
    return rc;
}

static int on_bytes(void *arg, const void *data, size_t bytes)
{
    struct script_run *run = arg;
    if (connect_stream_feed(&run->stream, data, bytes, on_message, run, run->err) == 0) {
        return 0;
    }
    run->broken = true;
    return -1;
}

/* {"process":{"cmd":"/bin/sh","args":["-c",argv[0],"sh",argv[1] ...]},"stdin":false} in an
 * envelope */
static int put_start(const char *const *argv, struct http_request *request, struct error *err)
{
    struct strbuf json;
    cJSON *body = cJSON_CreateObject();
    cJSON *process = cJSON_AddObjectToObject(body, "process");
    cJSON_AddStringToObject(process, "cmd", "/bin/sh");
    cJSON *args = cJSON_AddArrayToObject(process, "args");
    cJSON_AddItemToArray(args, cJSON_CreateString("-c"));
    cJSON_AddItemToArray(args, cJSON_CreateString(argv[0]));
    cJSON_AddItemToArray(args, cJSON_CreateString("sh"));
    for (size_t i = 1; argv[i] != NULL; i++) {
        cJSON_AddItemToArray(args, cJSON_CreateString(argv[i]));
    }
    cJSON_AddFalseToObject(body, "stdin");
    strbuf_init(&json, request->body.max_bytes - 5);
    int rc = json_print(body, &json);
    if (rc == 0) {
        rc = connect_envelope_put(&request->body, json.data, json.length);
    }
    cJSON_Delete(body);
    strbuf_done(&json);
    return rc == 0 ? 0 : error_set(err, ERR_TOO_LARGE, "the script is too long");
}

/* *ret_refused: envd does not run it as this user; nothing was done. */
static int run_as(const struct e2b *e2b, struct http_client *client,
                  const struct provider_target *target, const char *user_header,
                  const char *const *argv, int64_t timeout_ms, struct strbuf *ret,
                  bool *ret_refused, struct error *err)
{
    struct http_request request;
    struct http_response response;
    struct script_run run = {.output = ret, .err = err};
    const struct http_stream stream = {.on_data = on_bytes, .arg = &run, .body_bytes = -1};
    int rc = -1;
    *ret_refused = false;
    connect_stream_init(&run.stream, MESSAGE_MAX_BYTES);
    strbuf_init(&run.errors, 4096);
    http_request_init(&request);
    if (e2b_envd_request(e2b, target, "POST", "/process.Process/Start", &request, err) != 0 ||
        put_start(argv, &request, err) != 0) {
        goto out;
    }
    strbuf_printf(&request.headers,
                  "Content-Type: application/connect+json\nConnect-Protocol-Version: 1\n"
                  "Connect-Timeout-Ms: %lld\n%s",
                  (long long)timeout_ms, user_header);
    request.has_body = true;
    request.once = true; /* it may change things: never sent twice */
    request.timeout_ms = timeout_ms + e2b->config.request_timeout_ms;
    request.max_response_bytes = ERROR_BODY_MAX_BYTES;
    http_client_stream(client, &request, &stream, &response);
    if (run.too_large) {
        error_set(err, ERR_TOO_LARGE, "the answer is larger than %zu bytes", ret->max_bytes);
    } else if (run.broken) {
        error_prefix(err, "script");
    } else if (run.stream.ended && run.stream.end.code != CONNECT_NONE) {
        *ret_refused = run.stream.end.code == CONNECT_UNAUTHENTICATED;
        e2b_rpc_error(e2b, target, &run.stream.end, "script", err);
        err->code = err->code == ERR_PROVIDER_DOWN ? ERR_PROVIDER_DOWN : ERR_PROVIDER;
    } else if (run.stream.ended && run.ended && run.exit_code == 0) {
        rc = 0;
    } else if (run.stream.ended) {
        char words[120];
        provider_clean_text(words, sizeof(words), run.errors.data, run.errors.length, NULL, 0);
        *ret_refused = run.exit_code == 126; /* the user could not be taken on */
        error_set(err, ERR_PROVIDER, "script: exit %d%s%s", run.exit_code, words[0] ? ": " : "",
                  words);
    } else if (e2b_envd_check(e2b, target, &response, "script", err) == 0) {
        error_set(err, ERR_PROVIDER_DOWN, "the script's stream broke off");
    } else if (err->code == ERR_FILE_NOT_FOUND || err->code == ERR_EXISTS ||
               err->code == ERR_INVALID) {
        err->code = ERR_PROVIDER; /* no file was asked for */
    }
out:
    http_request_done(&request);
    strbuf_done(&run.errors);
    connect_stream_done(&run.stream);
    return rc;
}

int e2b_run_script(struct provider *provider, struct http_client *client,
                   const struct provider_target *target, const char *const *argv,
                   int64_t timeout_ms, struct strbuf *ret, struct error *err)
{
    const struct e2b *e2b = (struct e2b *)provider;
    bool refused;
    int rc = run_as(e2b, client, target, E2B_ROOT_HEADER, argv, timeout_ms, ret, &refused, err);
    if (rc != 0 && refused) {
        strbuf_reset(ret);
        rc = run_as(e2b, client, target, E2B_USER_HEADER, argv, timeout_ms, ret, &refused, err);
    }
    return rc;
}
