/*
 * handlers_data - commands, files and ports: from the gateway to the provider directly.
 *
 * A sandbox that is not running is made to run first. When the provider's edge does not know a
 * sandbox that should run, its row is corrected through the queue and the call tried once more:
 * nothing ran yet.
 */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "gateway/handlers.h"
#include "gateway/lifecycle.h"
#include "gateway/views.h"

enum {
    COMMAND_MAX_BYTES = 262144,
    PATH_MAX_BYTES = 4096,
    ENVS_MAX = 128,
    ENV_NAME_BYTES = 128,
    ENV_VALUE_BYTES = 16384,
    URL_MAX_BYTES = 1024,
};

/* ---- a call into a running sandbox
 * ----------------------------------------------------------------- */

struct data_call {
    struct request *request;
    struct provider *provider;
    struct provider_target target;
    struct http_client *client;
};

/* What one handler does with a running sandbox; -1 with err. */
typedef int (*data_fn)(const struct data_call *call, void *arg, struct error *err);

static int call_once(struct request *request, const struct sandbox *sandbox, data_fn run, void *arg,
                     struct error *err)
{
    struct data_call call = {.request = request};
    int status;

    call.provider = view_provider(request, sandbox, err);
    call.target = view_target(sandbox);
    if (call.provider == NULL || activity_begin(request->gateway->activity, sandbox, err) < 0) {
        return -1;
    }
    call.client = client_pool_take(request->gateway->clients);
    status = run(&call, arg, err);
    client_pool_give(request->gateway->clients, call.client);
    activity_end(request->gateway->activity, sandbox->id);
    return status;
}

static int with_sandbox(struct request *request, const char *sandbox_id, data_fn run, void *arg,
                        struct error *err)
{
    struct sandbox sandbox;
    int status;

    if (lifecycle_get_running(request, sandbox_id, &sandbox, err) < 0) {
        return -1;
    }
    status = call_once(request, &sandbox, run, arg, err);
    sandbox_done(&sandbox);
    if (status == 0 || err->code != ERR_SANDBOX_NOT_FOUND) {
        return status;
    }
    /* gone or paused at the provider, which its edge does not tell apart */
    if (lifecycle_reconcile(request, sandbox_id, err) < 0 ||
        lifecycle_get_running(request, sandbox_id, &sandbox, err) < 0) {
        return -1;
    }
    status = call_once(request, &sandbox, run, arg, err);
    sandbox_done(&sandbox);
    if (status < 0 && err->code == ERR_SANDBOX_NOT_FOUND) {
        return error_set(err, ERR_PROVIDER,
                         "the provider lists the sandbox as running but does not reach it");
    }
    return status;
}

/* ---- run-cmd
 * ------------------------------------------------------------------------------------------ */

struct output {
    struct strbuf text;
    bool truncated;
};

struct command {
    struct exec_request request;
    struct output all, out, err;
    struct exec_result result;
};

/* Keeps what fits, cut at the limit; the command is drained to its end all the same. */
static void keep(struct output *output, const void *data, size_t bytes)
{
    size_t room = output->text.max_bytes - output->text.length;

    if (bytes > room) {
        output->truncated = true;
        bytes = room;
    }
    strbuf_append(&output->text, data, bytes);
}

static int on_output(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    struct command *command = arg;

    keep(&command->all, data, bytes);
    keep(stream == EXEC_STDOUT ? &command->out : &command->err, data, bytes);
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

static const char *command_message(const struct command *command, bool success)
{
    if (command->request.background) {
        return "Command started in the background";
    }
    if (command->result.timed_out) {
        return "Command timed out and was killed";
    }
    return success ? "Command executed successfully" : "Command failed";
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
        if (command->result.timed_out) {
            cJSON_AddNullToObject(data, "exit_code");
        } else {
            cJSON_AddNumberToObject(data, "exit_code", command->result.exit_code);
        }
        cJSON_AddBoolToObject(data, "timed_out", command->result.timed_out);
        cJSON_AddBoolToObject(data, "truncated",
                              command->all.truncated || command->out.truncated ||
                                  command->err.truncated);
    }
    json_add_int64(data, "duration_ms", took_ms);
    cJSON_AddStringToObject(data, "message", command_message(command, success));
    respond_data(request, 200, data);
}

static int read_path(const cJSON *body, const char *field, const char **ret, struct error *err)
{
    return json_get_string_req(body, field, 1, PATH_MAX_BYTES, ret, err);
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
        json_get_string(body, "cwd", PATH_MAX_BYTES, NULL, &command->request.cwd, err) < 0 ||
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

void handle_run_cmd(struct request *request)
{
    size_t max = (size_t)request->gateway->config->command_output_bytes;
    struct error err = ERROR_INIT;
    struct command command = {.request = {.command = NULL}};
    char sandbox_id[UUID_BYTES];
    int64_t start_ms = clock_mono_ms();

    strbuf_init(&command.all.text, max);
    strbuf_init(&command.out.text, max);
    strbuf_init(&command.err.text, max);
    if (read_command(request, sandbox_id, &command, &err) < 0 ||
        with_sandbox(request, sandbox_id, run_command, &command, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_command(request, &command, clock_mono_ms() - start_ms);
    }
    strbuf_done(&command.all.text);
    strbuf_done(&command.out.text);
    strbuf_done(&command.err.text);
}

/* ---- files
 * ---------------------------------------------------------------------------------------------- */

struct file {
    const char *path;
    struct strbuf content;
    size_t sent;
};

static long next_bytes(void *arg, void *buf, size_t bytes)
{
    struct file *file = arg;
    size_t left = file->content.length - file->sent;
    size_t now = bytes < left ? bytes : left;

    memcpy(buf, file->content.data + file->sent, now);
    file->sent += now;
    return (long)now;
}

static int write_file(const struct data_call *call, void *arg, struct error *err)
{
    struct file *file = arg;

    file->sent = 0;
    return call->provider->ops->file_write(call->provider, call->client, &call->target, file->path,
                                           next_bytes, file, (int64_t)file->content.length, err);
}

/* The content of the body's `content`, decoded. */
static int read_content(struct request *request, struct strbuf *ret, struct error *err)
{
    const char *content, *encoding;
    size_t max = ret->max_bytes;

    if (json_get_string_req(request->body, "content", 0, SIZE_MAX, &content, err) < 0 ||
        json_get_string(request->body, "encoding", 16, "utf-8", &encoding, err) < 0) {
        return -1;
    }
    if (strcmp(encoding, "utf-8") == 0) {
        return strbuf_puts(ret, content) < 0
                   ? error_set(err, ERR_TOO_LARGE, "content is larger than %zu bytes", max)
                   : 0;
    }
    if (strcmp(encoding, "base64") != 0) {
        return error_set(err, ERR_INVALID, "encoding must be utf-8 or base64");
    }
    if (decode_base64(ret, content, strlen(content), err) < 0) {
        return err->code == ERR_TOO_LARGE
                   ? error_set(err, ERR_TOO_LARGE, "content is larger than %zu bytes", max)
                   : error_set(err, ERR_INVALID, "content is not valid base64");
    }
    return 0;
}

void handle_write_file(struct request *request)
{
    struct error err = ERROR_INIT;
    struct file file = {.path = NULL};
    char sandbox_id[UUID_BYTES];
    cJSON *data;

    strbuf_init(&file.content, (size_t)request->gateway->config->max_file_bytes);
    if (request_sandbox_id(request, sandbox_id, &err) < 0 ||
        read_path(request->body, "file_path", &file.path, &err) < 0 ||
        read_content(request, &file.content, &err) < 0 ||
        with_sandbox(request, sandbox_id, write_file, &file, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        data = cJSON_CreateObject();
        cJSON_AddTrueToObject(data, "success");
        cJSON_AddStringToObject(data, "message", "File written successfully");
        json_add_int64(data, "bytes", (int64_t)file.content.length);
        respond_data(request, 200, data);
    }
    strbuf_done(&file.content);
}

static int keep_bytes(void *arg, const void *data, size_t bytes)
{
    struct file *file = arg;

    return strbuf_append(&file->content, data, bytes);
}

static int read_file(const struct data_call *call, void *arg, struct error *err)
{
    struct file *file = arg;
    int64_t bytes = 0;

    strbuf_reset(&file->content);
    if (call->provider->ops->stat_file(call->provider, call->client, &call->target, file->path,
                                       &bytes, err) < 0) {
        return -1;
    }
    if (bytes > (int64_t)file->content.max_bytes) {
        return error_set(err, ERR_TOO_LARGE,
                         "the file has %lld bytes, at most %zu can be read here", (long long)bytes,
                         file->content.max_bytes);
    }
    if (call->provider->ops->file_read(call->provider, call->client, &call->target, file->path,
                                       keep_bytes, file, err) < 0) {
        return -1;
    }
    return file->content.overflow
               ? error_set(err, ERR_TOO_LARGE, "the file has more than %zu bytes",
                           file->content.max_bytes)
               : 0;
}

void handle_read_file(struct request *request)
{
    struct error err = ERROR_INIT;
    struct file file = {.path = NULL};
    char sandbox_id[UUID_BYTES];
    cJSON *data;

    strbuf_init(&file.content, (size_t)request->gateway->config->max_file_bytes);
    if (request_sandbox_id(request, sandbox_id, &err) < 0 ||
        read_path(request->body, "file_path", &file.path, &err) < 0 ||
        with_sandbox(request, sandbox_id, read_file, &file, &err) < 0) {
        respond_error(request, &err, 0);
        strbuf_done(&file.content);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    /* a JSON string cannot hold a NUL here, though UTF-8 can */
    if (strlen(file.content.data) == file.content.length &&
        utf8_is_valid(file.content.data, file.content.length)) {
        cJSON_AddStringToObject(data, "content", file.content.data);
        cJSON_AddStringToObject(data, "encoding", "utf-8");
    } else {
        struct strbuf encoded;

        strbuf_init(&encoded, file.content.length / 3 * 4 + 8);
        encode_base64(&encoded, file.content.data, file.content.length);
        cJSON_AddStringToObject(data, "content", encoded.data);
        cJSON_AddStringToObject(data, "encoding", "base64");
        strbuf_done(&encoded);
    }
    respond_data(request, 200, data);
    strbuf_done(&file.content);
}

/* ---- directories and ports
 * -------------------------------------------------------------------------------- */

struct directory {
    char path[PATH_MAX_BYTES + 1];
    bool exist_ok;
};

static int make_directory(const struct data_call *call, void *arg, struct error *err)
{
    const struct directory *directory = arg;
    struct error stat_err = ERROR_INIT;
    int64_t bytes;

    if (call->provider->ops->make_dir(call->provider, call->client, &call->target, directory->path,
                                      err) == 0) {
        return 0;
    }
    if (err->code != ERR_EXISTS || !directory->exist_ok) {
        return -1;
    }
    /* only a directory that exists is fine */
    return call->provider->ops->stat_file(call->provider, call->client, &call->target,
                                          directory->path, &bytes, &stat_err) < 0 &&
                   stat_err.code == ERR_IS_DIRECTORY
               ? 0
               : -1;
}

/* Taken from a body or from query parameters. */
static int read_directory(struct request *request, char sandbox_id[UUID_BYTES],
                          struct directory *directory, struct error *err)
{
    char flag[8] = "";
    const char *text;
    int found;

    directory->exist_ok = true;
    if (request->body != NULL) {
        if (request_sandbox_id(request, sandbox_id, err) < 0 ||
            read_path(request->body, "directory_path", &text, err) < 0 ||
            json_get_bool(request->body, "exist_ok", true, &directory->exist_ok, err) < 0) {
            return -1;
        }
        str_copy(directory->path, sizeof(directory->path), text);
        return 0;
    }
    found = http_query_param(request->http, "sandbox_id", sandbox_id, UUID_BYTES);
    if (found != 1 || !id_is_uuid(sandbox_id)) {
        return error_set(err, ERR_INVALID,
                         found == 0 ? "sandbox_id is required" : "sandbox_id must be a UUID");
    }
    id_lower(sandbox_id);
    found =
        http_query_param(request->http, "directory_path", directory->path, sizeof(directory->path));
    if (found != 1 || directory->path[0] == '\0') {
        return error_set(err, ERR_INVALID,
                         found < 0 ? "directory_path is malformed or too long"
                                   : "directory_path is required");
    }
    found = http_query_param(request->http, "exist_ok", flag, sizeof(flag));
    directory->exist_ok = found == 0 || strcmp(flag, "true") == 0 || strcmp(flag, "1") == 0;
    if (!directory->exist_ok && strcmp(flag, "false") != 0 && strcmp(flag, "0") != 0) {
        return error_set(err, ERR_INVALID, "exist_ok must be true or false");
    }
    return 0;
}

void handle_create_directory(struct request *request)
{
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    struct directory directory;
    cJSON *data;

    if (read_directory(request, sandbox_id, &directory, &err) < 0 ||
        with_sandbox(request, sandbox_id, make_directory, &directory, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "message", "Directory created");
    respond_data(request, 200, data);
}

void handle_expose_port(struct request *request)
{
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    struct sandbox sandbox;
    struct strbuf url;
    int64_t port;
    cJSON *data;

    if (request_sandbox_id(request, sandbox_id, &err) < 0 ||
        json_get_int_req(request->body, "port", 1, 65535, &port, &err) < 0 ||
        lifecycle_get_running(request, sandbox_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    strbuf_init(&url, URL_MAX_BYTES);
    if (view_port_url(request, &sandbox, (int)port, &url, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        data = cJSON_CreateObject();
        cJSON_AddTrueToObject(data, "success");
        cJSON_AddStringToObject(data, "url", url.data);
        cJSON_AddStringToObject(data, "message", "Port exposed");
        respond_data(request, 200, data);
    }
    strbuf_done(&url);
    sandbox_done(&sandbox);
}
