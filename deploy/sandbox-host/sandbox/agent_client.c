/* agent_client - see agent_client.h. */
#include "deploy/sandbox-host/sandbox/agent_client.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/isolation/spawn.h"
#include "deploy/sandbox-host/sandbox/template.h"

enum {
    REQUEST_MAX_BYTES = 1 << 20,
    STREAM_MAX_BYTES = 1 << 20,
    ENVELOPE_HEAD = 5,
    ENVELOPE_END = 2, /* flag of the last one */
    PROBE_MS = 50,
    READY_EVERY_MS = 200,
    TAIL_BYTES = 120, /* of a failed command's output, in its error */
    USER_BYTES = 128,
    UPLOAD_ANSWER_S = 60,
    CHUNK_SIZE_NEXT = -1,
    CHUNK_END_NEXT = -2,
};

/* ---- the request ---- */

static void put_body(struct strbuf *out, const struct agent_client_command *command)
{
    cJSON *tree = cJSON_CreateObject(), *process = cJSON_AddObjectToObject(tree, "process");
    cJSON *args = cJSON_CreateArray();
    struct strbuf json;
    unsigned char head[ENVELOPE_HEAD] = {0};

    cJSON_AddStringToObject(process, "cmd", "/bin/bash");
    cJSON_AddItemToArray(args, cJSON_CreateString("-l"));
    cJSON_AddItemToArray(args, cJSON_CreateString("-c"));
    cJSON_AddItemToArray(args, cJSON_CreateString(command->text));
    cJSON_AddItemToObject(process, "args", args);
    if (command->cwd != NULL) {
        cJSON_AddStringToObject(process, "cwd", command->cwd);
    }
    if (command->envs != NULL) {
        cJSON_AddItemToObject(process, "envs", cJSON_Duplicate(command->envs, true));
    }
    cJSON_AddStringToObject(tree, "tag", command->tag);
    cJSON_AddBoolToObject(tree, "stdin", false);
    strbuf_init(&json, REQUEST_MAX_BYTES);
    json_print(tree, &json);
    cJSON_Delete(tree);
    for (int i = 0; i < 4; i++) {
        head[1 + i] = (unsigned char)(json.length >> (24 - 8 * i));
    }
    strbuf_append(out, head, sizeof(head));
    strbuf_append(out, json.data, json.length);
    strbuf_done(&json);
}

static int send_whole(int fd, const struct strbuf *text, struct error *err)
{
    for (size_t sent = 0; sent < text->length;) {
        ssize_t n = send(fd, text->data + sent, text->length - sent, MSG_NOSIGNAL);

        if (n < 0) {
            return error_set_errno(err, ERR_INTERNAL, errno, "asking the agent");
        }
        sent += (size_t)n;
    }
    return 0;
}

/* Who asks, as the agent takes it: a user by the name of basic authentication. */
static void put_identity(struct strbuf *out, const char *token, const char *user)
{
    char name[USER_BYTES];

    if (token != NULL) {
        strbuf_printf(out, "X-Access-Token: %s\r\n", token);
    }
    if (user != NULL) {
        snprintf(name, sizeof(name), "%s:", user);
        strbuf_puts(out, "Authorization: Basic ");
        encode_base64(out, name, strlen(name));
        strbuf_puts(out, "\r\n");
    }
    strbuf_puts(out, "\r\n");
}

int agent_client_open(struct agent_client_run *run, const char *id, const char *token,
                      const struct agent_client_command *command, struct error *err)
{
    struct strbuf body, request;
    int status;

    *run = (struct agent_client_run){.fd = -1, .chunk_left = CHUNK_SIZE_NEXT, .exit_code = -1};
    strbuf_init(&run->raw, STREAM_MAX_BYTES);
    strbuf_init(&run->stream, STREAM_MAX_BYTES);
    strbuf_init(&run->output, AGENT_CLIENT_OUTPUT_BYTES);
    run->fd = spawn_connect(id, SPAWN_ENVD_PORT, err);
    if (run->fd < 0) {
        agent_client_close(run);
        return -1;
    }
    strbuf_init(&body, REQUEST_MAX_BYTES);
    strbuf_init(&request, REQUEST_MAX_BYTES + 4096);
    put_body(&body, command);
    strbuf_printf(&request,
                  "POST /process.Process/Start HTTP/1.1\r\nHost: localhost\r\n"
                  "Content-Type: application/connect+json\r\nConnect-Protocol-Version: 1\r\n"
                  "Connection: close\r\nContent-Length: %zu\r\n",
                  body.length);
    put_identity(&request, token, command->user);
    strbuf_append(&request, body.data, body.length);
    status = body.overflow || request.overflow
                 ? error_set(err, ERR_TOO_LARGE, "the command is too long")
                 : send_whole(run->fd, &request, err);
    strbuf_done(&body);
    strbuf_done(&request);
    if (status < 0) {
        agent_client_close(run);
    }
    return status;
}

static int send_file(int fd, int file, off_t bytes, struct error *err)
{
    while (bytes > 0) {
        ssize_t n = sendfile(fd, file, NULL, (size_t)bytes);

        if (n <= 0) {
            return error_set_errno(err, ERR_INTERNAL, n < 0 ? errno : EIO, "sending a file");
        }
        bytes -= n;
    }
    return 0;
}

int agent_client_upload(const char *id, const char *token, const char *file, const char *path,
                        struct error *err)
{
    struct timeval patience = {.tv_sec = UPLOAD_ANSWER_S};
    int from = open(file, O_RDONLY | O_CLOEXEC), fd = -1, status = -1;
    struct strbuf request;
    struct stat size;
    char answer[32] = "";

    strbuf_init(&request, 4096);
    if (from < 0 || fstat(from, &size) < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "%s", file);
        goto out;
    }
    fd = spawn_connect(id, SPAWN_ENVD_PORT, err);
    if (fd < 0) {
        goto out;
    }
    strbuf_printf(&request,
                  "POST /files?path=%s HTTP/1.1\r\nHost: localhost\r\n"
                  "Content-Type: application/octet-stream\r\nConnection: close\r\n"
                  "Content-Length: %lld\r\n",
                  path, (long long)size.st_size);
    put_identity(&request, token, NULL);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (send_whole(fd, &request, err) < 0 || send_file(fd, from, size.st_size, err) < 0) {
        goto out;
    }
    if (recv(fd, answer, 12, MSG_WAITALL) == 12 && strcmp(answer + 9, "200") == 0) {
        status = 0;
    } else {
        error_set(err, ERR_INTERNAL, "the agent did not take the file (%.12s)", answer);
    }
out:
    strbuf_done(&request);
    if (from >= 0) {
        close(from);
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

void agent_client_close(struct agent_client_run *run)
{
    if (run->fd >= 0) {
        close(run->fd);
        run->fd = -1;
    }
    strbuf_done(&run->raw);
    strbuf_done(&run->stream);
    strbuf_done(&run->output);
}

/* ---- the answer ---- */

/* 1 = the head is whole and says 200, 0 = more to come. */
static int take_head(struct agent_client_run *run, struct error *err)
{
    const char *end = strstr(run->raw.data, "\r\n\r\n");

    if (end == NULL) {
        return 0;
    }
    if (strncmp(run->raw.data, "HTTP/1.1 200", 12) != 0) {
        return error_set(err, ERR_INTERNAL, "the agent answered %.32s", run->raw.data);
    }
    strbuf_consume(&run->raw, (size_t)(end + 4 - run->raw.data));
    run->head_done = true;
    return 1;
}

/* Moves whole pieces of chunked coding from raw to stream. */
static int take_chunks(struct agent_client_run *run, struct error *err)
{
    while (run->raw.length > 0) {
        if (run->chunk_left == CHUNK_END_NEXT) {
            if (run->raw.length < 2) {
                return 0;
            }
            strbuf_consume(&run->raw, 2);
            run->chunk_left = CHUNK_SIZE_NEXT;
        } else if (run->chunk_left == CHUNK_SIZE_NEXT) {
            char *end, *line_end = strstr(run->raw.data, "\r\n");

            if (line_end == NULL) {
                return 0;
            }
            run->chunk_left = strtoll(run->raw.data, &end, 16);
            if (end == run->raw.data || run->chunk_left < 0) {
                return error_set(err, ERR_INTERNAL, "the agent's answer is not chunked");
            }
            strbuf_consume(&run->raw, (size_t)(line_end + 2 - run->raw.data));
        } else {
            size_t n = run->raw.length < (size_t)run->chunk_left ? run->raw.length
                                                                 : (size_t)run->chunk_left;
            if (strbuf_append(&run->stream, run->raw.data, n) < 0) {
                return error_set(err, ERR_INTERNAL, "the agent's answer is too large");
            }
            strbuf_consume(&run->raw, n);
            run->chunk_left -= (int64_t)n;
            if (run->chunk_left == 0) {
                run->chunk_left = CHUNK_END_NEXT;
            }
        }
    }
    return 0;
}

static void keep_output(struct agent_client_run *run, const cJSON *data)
{
    static const char *const names[] = {"stdout", "stderr"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const cJSON *text = cJSON_GetObjectItemCaseSensitive(data, names[i]);
        struct error full = ERROR_INIT; /* what does not fit is not kept */

        if (cJSON_IsString(text)) {
            (void)!decode_base64(&run->output, text->valuestring, strlen(text->valuestring), &full);
        }
    }
}

static int take_event(struct agent_client_run *run, int flags, const char *text, size_t length,
                      struct error *err)
{
    cJSON *tree = json_parse(text, length, err);
    const cJSON *event, *end, *failure;
    int status = 0;

    if (tree == NULL) {
        return -1;
    }
    event = cJSON_GetObjectItemCaseSensitive(tree, "event");
    end = cJSON_GetObjectItemCaseSensitive(event, "end");
    failure = cJSON_GetObjectItemCaseSensitive(tree, "error");
    keep_output(run, cJSON_GetObjectItemCaseSensitive(event, "data"));
    if (end != NULL) {
        const cJSON *code = cJSON_GetObjectItemCaseSensitive(end, "exitCode");

        run->ended = true;
        run->exit_code = cJSON_IsNumber(code) ? code->valueint : 0;
    } else if ((flags & ENVELOPE_END) != 0 && failure != NULL) {
        const cJSON *message = cJSON_GetObjectItemCaseSensitive(failure, "message");

        status = error_set(err, ERR_INTERNAL, "%.200s",
                           cJSON_IsString(message) ? message->valuestring : "the agent failed");
    }
    cJSON_Delete(tree);
    return status;
}

static int take_events(struct agent_client_run *run, struct error *err)
{
    while (run->stream.length >= ENVELOPE_HEAD) {
        const unsigned char *head = (const unsigned char *)run->stream.data;
        size_t length =
            (size_t)head[1] << 24 | (size_t)head[2] << 16 | (size_t)head[3] << 8 | (size_t)head[4];

        if (length > STREAM_MAX_BYTES - ENVELOPE_HEAD) {
            return error_set(err, ERR_INTERNAL, "the agent's message is too large");
        }
        if (run->stream.length < ENVELOPE_HEAD + length) {
            return 0;
        }
        if (take_event(run, head[0], run->stream.data + ENVELOPE_HEAD, length, err) < 0) {
            return -1;
        }
        strbuf_consume(&run->stream, ENVELOPE_HEAD + length);
    }
    return 0;
}

int agent_client_wait(struct agent_client_run *run, int64_t timeout_ms, struct error *err)
{
    int64_t until_ms = clock_mono_ms() + timeout_ms;
    char buffer[16384];

    while (!run->ended) {
        struct pollfd readable = {.fd = run->fd, .events = POLLIN};
        int64_t left_ms = until_ms - clock_mono_ms();
        ssize_t n;

        if (poll(&readable, 1, left_ms > 0 ? (int)left_ms : 0) <= 0) {
            return 0;
        }
        n = recv(run->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
            continue;
        }
        if (n <= 0) {
            return error_set(err, ERR_INTERNAL, "the agent went away");
        }
        if (strbuf_append(&run->raw, buffer, (size_t)n) < 0) {
            return error_set(err, ERR_INTERNAL, "the agent's answer is too large");
        }
        if (!run->head_done && take_head(run, err) <= 0) {
            if (err->code != ERR_OK) {
                return -1;
            }
            continue;
        }
        if (take_chunks(run, err) < 0 || take_events(run, err) < 0) {
            return -1;
        }
    }
    return 1;
}

/* ---- readiness ---- */

/* Exit status of one run of the ready command; its own time limit is what is left. */
static int probe_command(const char *id, const char *token, const char *command, int64_t left_ms,
                         bool *ret_ready, struct error *err)
{
    struct agent_client_run run;
    int status;

    const struct agent_client_command ready = {.text = command, .tag = "ready-command"};

    if (agent_client_open(&run, id, token, &ready, err) < 0) {
        return -1;
    }
    status = agent_client_wait(&run, left_ms, err);
    *ret_ready = status == 1 && run.exit_code == 0;
    agent_client_close(&run);
    return status < 0 ? -1 : 0;
}

static int probe(const char *id, const char *token, const struct template *template,
                 int64_t left_ms, bool *ret_ready, struct error *err)
{
    *ret_ready = true;
    if (template->ready_port != 0) {
        struct error closed = ERROR_INIT; /* not yet */
        int fd = spawn_connect(id, template->ready_port, &closed);

        *ret_ready = fd >= 0;
        if (fd >= 0) {
            close(fd);
        }
    }
    if (*ret_ready && template->ready_command != NULL) {
        return probe_command(id, token, template->ready_command, left_ms, ret_ready, err);
    }
    return 0;
}

static int start_failed(const struct agent_client_run *run, struct error *err)
{
    size_t length = run->output.length, from = length > TAIL_BYTES ? length - TAIL_BYTES : 0;
    char tail[TAIL_BYTES + 1];

    memcpy(tail, run->output.data + from, length - from);
    tail[length - from] = '\0';
    for (char *c = tail; *c != '\0'; c++) {
        if (!isprint((unsigned char)*c)) {
            *c = ' ';
        }
    }
    return error_set(err, ERR_INTERNAL, "the template's start command ended with status %d: %s",
                     run->exit_code, tail);
}

/* Until ready, reading the start command's output between the probes (run NULL: there is none). */
static int wait_ready(const char *id, const char *token, const struct template *template,
                      struct agent_client_run *run, struct error *err)
{
    int64_t until_ms = clock_mono_ms() + template->ready_timeout_ms;
    int64_t every_ms = template->ready_command != NULL ? READY_EVERY_MS : PROBE_MS;

    for (;;) {
        int64_t left_ms = until_ms - clock_mono_ms();
        bool ready;
        int status = 0;

        if (left_ms <= 0) {
            return error_set(err, ERR_TIMEOUT, "template '%s' was not ready within %lld ms",
                             template->id, (long long)template->ready_timeout_ms);
        }
        if (run != NULL && !run->ended) {
            status = agent_client_wait(run, 0, err);
        }
        if (status < 0 || probe(id, token, template, left_ms, &ready, err) < 0) {
            return -1;
        }
        if (run != NULL && run->ended && run->exit_code != 0) {
            return start_failed(run, err);
        }
        if (ready) {
            return 0;
        }
        if (run != NULL && !run->ended) {
            if (agent_client_wait(run, every_ms, err) < 0) {
                return -1;
            }
        } else {
            clock_sleep_ms(every_ms);
        }
    }
}

int agent_client_bring_up(const char *id, const char *token, const struct template *template,
                          struct strbuf *output, struct error *err)
{
    struct agent_client_run run;
    int status;

    if (template->start_command == NULL) {
        return wait_ready(id, token, template, NULL, err);
    }
    const struct agent_client_command start = {.text = template->start_command,
                                               .tag = "start-command"};

    if (agent_client_open(&run, id, token, &start, err) < 0) {
        return -1;
    }
    status = wait_ready(id, token, template, &run, err);
    strbuf_append(output, run.output.data, run.output.length);
    agent_client_close(&run);
    return status;
}
