/*
 * daytona_program - a program through the toolbox's process/execute.
 *
 * Owns: the request, the text of its answer. Does not own: what the program says
 * (sandbox_command.c). Threads: a client belongs to its caller. Failure: -1 + err.
 *
 * The daemon feeds its command to a shell's stdin, merges both outputs and makes text of them.
 * Another user than the image's own is reached through sudo, where the image has it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/provider/daytona.h"
#include "common/provider/exec_script.h"

enum {
    SPARE_MS = 15 * 1000, /* for the request itself, beside what the program waits */
    ANSWER_MAX_BYTES = 8 * 1024 * 1024,
};

static void put_environment(const struct program_run *run, bool exported, struct strbuf *out)
{
    for (const cJSON *item = run->envs != NULL ? run->envs->child : NULL; item != NULL;
         item = item->next) {
        if (!cJSON_IsString(item)) {
            continue;
        }
        strbuf_printf(out, "%s%s=", exported ? "export " : "", item->string);
        exec_script_quote(out, item->valuestring);
        strbuf_putc(out, exported ? '\n' : ' ');
    }
}

static void put_line(const struct program_run *run, struct strbuf *out)
{
    if (run->user[0] != '\0') {
        strbuf_puts(out, "exec sudo -n -H -u ");
        exec_script_quote(out, run->user);
        strbuf_puts(out, " -- env ");
        put_environment(run, false, out);
    } else {
        put_environment(run, true, out);
        strbuf_puts(out, "exec ");
    }
    strbuf_puts(out, "/bin/sh -c ");
    exec_script_quote(out, run->argv[0]);
    strbuf_puts(out, " sh");
    for (size_t i = 1; run->argv[i] != NULL; i++) {
        strbuf_putc(out, ' ');
        exec_script_quote(out, run->argv[i]);
    }
    strbuf_puts(out, " </dev/null\n");
}

static int put_body(const struct program_run *run, struct http_request *request, struct error *err)
{
    struct strbuf command;
    cJSON *body = cJSON_CreateObject();
    bool fits;

    strbuf_init(&command, request->body.max_bytes / 2);
    put_line(run, &command);
    cJSON_AddStringToObject(body, "command", command.data);
    json_add_int64(body, "timeout", (run->wait_ms + SPARE_MS) / 1000 + 1);
    json_print(body, &request->body);
    cJSON_Delete(body);
    fits = !command.overflow && !request->body.overflow;
    strbuf_done(&command);
    return fits ? 0 : error_set(err, ERR_TOO_LARGE, "the command is too long");
}

static int take_answer(const struct program_run *run, const struct http_response *response,
                       struct error *err)
{
    struct error parse = ERROR_INIT;
    cJSON *answer = json_parse(response->body, response->body_bytes, &parse);
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(answer, "result");
    int rc = 0;

    if (!cJSON_IsString(result)) {
        rc = error_set(err, ERR_PROVIDER, "command: unusable answer");
    } else if (run->user[0] != '\0' && strncmp(result->valuestring, "sudo: ", 6) == 0) {
        rc = error_set(err, ERR_INVALID, "user: the sandbox cannot run commands as this user");
    } else {
        (void)run->on_data(run->arg, result->valuestring, strlen(result->valuestring));
    }
    cJSON_Delete(answer);
    return rc;
}

int daytona_run_program(struct provider *provider, struct http_client *client,
                        const struct provider_target *target, const struct program_run *run,
                        struct error *err)
{
    const struct daytona *daytona = (struct daytona *)provider;
    struct http_request request;
    struct http_response response;
    int rc = -1;

    http_request_init(&request);
    if (daytona_toolbox_request(daytona, target, "POST", "/process/execute", &request, err) == 0 &&
        put_body(run, &request, err) == 0) {
        strbuf_puts(&request.headers, "Content-Type: application/json\n");
        request.has_body = true;
        request.once = true;
        request.timeout_ms = run->wait_ms + 2 * SPARE_MS;
        request.max_response_bytes = ANSWER_MAX_BYTES;
        http_client_perform(client, &request, &response);
        rc = daytona_toolbox_check(daytona, &response, "command", err);
        rc = rc == 0 ? take_answer(run, &response, err) : -1;
    }
    http_request_done(&request);
    return rc;
}
