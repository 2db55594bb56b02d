/*
 * E2B's data plane against a scripted envd: requests byte for byte, every kind of stream end, every
 * error; and against one that really runs commands, for the death of whole process trees.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/provider/e2b.h"
#include "common/provider/exec_script.h"
#include "tests/integration/mini_server.h"

#define TOKEN "tok-secret-123"

static struct mini_server server;
static struct http_client *client;
static struct provider *provider;
static struct provider_target target;
static struct error err;

/* the next answer */
static int script_status;
static const char *script_headers;
static const void *script_body;
static size_t script_bytes;
static bool script_close; /* no Content-Length, the connection ends the body */
static bool script_split; /* one byte at a time */
static bool run_commands; /* Start is executed instead */

/* what was asked last (the first request of an operation, not the clean-up after it) */
static char seen_line[1024], seen_head[MINI_HEAD_BYTES];
static char seen_body[65536];
static size_t seen_bytes;
static atomic_int seen_count;

/* ---- an envd that runs what it is told --------------------------------------------------------
 */

static bool send_event(int fd, const char *json)
{
    struct strbuf out;
    strbuf_init(&out, 1 << 20);
    connect_envelope_put(&out, json, strlen(json));
    char head[32];
    int n = snprintf(head, sizeof(head), "%zx\r\n", out.length);
    strbuf_puts(&out, "\r\n");
    bool ok = send(fd, head, (size_t)n, MSG_NOSIGNAL) == n &&
              send(fd, out.data, out.length, MSG_NOSIGNAL) == (ssize_t)out.length;
    strbuf_done(&out);
    return ok;
}

static pid_t spawn(const cJSON *process, int pipes[2][2])
{
    char *argv[32] = {0};
    int argc = 0;
    const cJSON *args = cJSON_GetObjectItemCaseSensitive(process, "args");
    argv[argc++] = cJSON_GetObjectItemCaseSensitive(process, "cmd")->valuestring;
    for (const cJSON *a = args ? args->child : NULL; a && argc < 31; a = a->next)
        argv[argc++] = a->valuestring;
    char *envp[64] = {"PATH=/usr/bin:/bin", "HOME=/tmp"};
    int envc = 2;
    const cJSON *envs = cJSON_GetObjectItemCaseSensitive(process, "envs");
    for (const cJSON *e = envs ? envs->child : NULL; e && envc < 63; e = e->next) {
        char *text = malloc(4096);
        snprintf(text, 4096, "%s=%s", e->string, e->valuestring);
        envp[envc++] = text;
    }
    assert_int_equal(pipe2(pipes[0], 02000000), 0); /* O_CLOEXEC */
    assert_int_equal(pipe2(pipes[1], 02000000), 0);
    pid_t pid = fork();
    if (pid == 0) {
        setpgid(0, 0);
        dup2(pipes[0][1], 1);
        dup2(pipes[1][1], 2);
        execve(argv[0], argv, envp);
        _exit(127);
    }
    for (int i = 2; i < envc; i++)
        free(envp[i]);
    close(pipes[0][1]);
    close(pipes[1][1]);
    return pid;
}

static void execute(struct mini_request *r)
{
    int pipes[2][2];
    char text[65536];
    bool attached = true;
    cJSON *root = json_parse(r->body + 5, r->body_bytes - 5, &err);
    pid_t pid = spawn(cJSON_GetObjectItemCaseSensitive(root, "process"), pipes);
    cJSON_Delete(root);
    mini_puts(r->fd, "HTTP/1.1 200 OK\r\nContent-Type: application/connect+json\r\n"
                     "Transfer-Encoding: chunked\r\n\r\n");
    snprintf(text, sizeof(text), "{\"event\":{\"start\":{\"pid\":%d}}}", (int)pid);
    attached = send_event(r->fd, text);
    struct pollfd fds[2] = {{pipes[0][0], POLLIN, 0}, {pipes[1][0], POLLIN, 0}};
    while (fds[0].fd >= 0 || fds[1].fd >= 0) {
        poll(fds, 2, -1);
        for (int i = 0; i < 2; i++) {
            char raw[16384];
            if (fds[i].fd < 0 || !fds[i].revents)
                continue;
            ssize_t n = read(fds[i].fd, raw, sizeof(raw));
            if (n <= 0) {
                close(fds[i].fd);
                fds[i].fd = -1;
                continue;
            }
            struct strbuf b64;
            strbuf_init(&b64, 60000);
            encode_base64(&b64, raw, (size_t)n);
            snprintf(text, sizeof(text), "{\"event\":{\"data\":{\"%s\":\"%s\"}}}",
                     i == 0 ? "stdout" : "stderr", b64.data);
            strbuf_done(&b64);
            attached = attached && send_event(r->fd, text); /* detached: drained all the same */
        }
    }
    int status = 0;
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status))
        snprintf(text, sizeof(text),
                 "{\"event\":{\"end\":{\"exitCode\":-1,\"status\":\"signal: killed\"}}}");
    else if (WEXITSTATUS(status) == 0)
        snprintf(text, sizeof(text), "{\"event\":{\"end\":{\"exited\":true}}}");
    else
        snprintf(text, sizeof(text), "{\"event\":{\"end\":{\"exitCode\":%d,\"exited\":true}}}",
                 WEXITSTATUS(status));
    if (attached && send_event(r->fd, text))
        mini_puts(r->fd, "7\r\n\x02");
    mini_write(r->fd, "\0\0\0\x02{}\r\n0\r\n\r\n", 13);
}

static enum mini_after handle(struct mini_server *s, struct mini_request *r)
{
    (void)s;
    if (atomic_fetch_add(&seen_count, 1) == 0) {
        snprintf(seen_line, sizeof(seen_line), "%.*s", (int)strcspn(r->head, "\r"), r->head);
        memcpy(seen_head, r->head, sizeof(seen_head));
        seen_bytes = r->body_bytes < sizeof(seen_body) ? r->body_bytes : sizeof(seen_body);
        memcpy(seen_body, r->body, seen_bytes);
    } else if (!run_commands) {
        mini_answer(r->fd, 502, "", "{\"message\":\"The sandbox was not found\",\"code\":502}",
                    sizeof("{\"message\":\"The sandbox was not found\",\"code\":502}") - 1);
        return MINI_CLOSE;
    }
    if (run_commands && strncmp(r->head, "POST /process.Process/Start ", 28) == 0) {
        execute(r);
        return MINI_CLOSE;
    }
    if (run_commands) {
        static const char gone[] = "{\"code\":\"not_found\",\"message\":\"no such process\"}";
        mini_answer(r->fd, 404, "", gone, sizeof(gone) - 1);
        return MINI_KEEP;
    }
    if (script_close) {
        mini_puts(r->fd, "HTTP/1.1 200 OK\r\nContent-Type: application/connect+json\r\n"
                         "Connection: close\r\n\r\n");
        mini_write(r->fd, script_body, script_bytes);
        return MINI_CLOSE;
    }
    if (script_split) {
        char head[200];
        int n = snprintf(head, sizeof(head), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n",
                         script_bytes);
        mini_write(r->fd, head, (size_t)n);
        for (size_t i = 0; i < script_bytes; i++)
            mini_write(r->fd, (const char *)script_body + i, 1);
        return MINI_KEEP;
    }
    mini_answer(r->fd, script_status, script_headers, script_body, script_bytes);
    return MINI_KEEP;
}

static int setup(void **state)
{
    char url[64];
    (void)state;
    mini_start(&server, handle, NULL);
    snprintf(url, sizeof(url), "http://127.0.0.1:%d", server.port);
    setenv("E2B_API_KEY", "e2b_0123456789", 1);
    setenv("E2B_API_URL", url, 1);
    setenv("E2B_SANDBOX_URL", url, 1);
    setenv("E2B_REQUEST_TIMEOUT_MS", "3000", 1);
    provider = e2b_provider_ops.open(&err);
    assert_non_null(provider);
    client = http_client_new();
    target = (struct provider_target){
        .provider_sandbox_id = "iabc123", .domain = "", .access_token = TOKEN, .traffic_token = ""};
    script_headers = "";
    script_close = script_split = run_commands = false;
    atomic_store(&seen_count, 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    http_client_free(client);
    provider->ops->close(provider);
    mini_stop(&server);
    return 0;
}

static void script(int status, const void *body, size_t bytes)
{
    script_status = status;
    script_body = body;
    script_bytes = bytes;
    atomic_store(&seen_count, 0);
    err = (struct error)ERROR_INIT;
}
#define SCRIPT(status, text) script(status, text, sizeof(text) - 1)

static void expect_header(const char *line)
{
    char full[200];
    snprintf(full, sizeof(full), "\r\n%s\r\n", line);
    if (!strcasestr(seen_head, full))
        fail_msg("no header '%s' in %s", line, seen_head);
}

static void expect_routing(void)
{
    expect_header("E2b-Sandbox-Id: iabc123");
    expect_header("E2b-Sandbox-Port: 49983");
    expect_header("X-Access-Token: " TOKEN);
}

/* ---- exec, scripted ---------------------------------------------------------------------------
 */

struct output {
    char text[2][65536];
    size_t bytes[2];
    int stop_after; /* calls; 0 = never */
    int calls;
};
static struct output output;

static int on_output(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    struct output *o = arg;
    if (o->bytes[stream] + bytes < sizeof(o->text[stream])) {
        memcpy(o->text[stream] + o->bytes[stream], data, bytes);
        o->bytes[stream] += bytes;
    }
    return ++o->calls == o->stop_after;
}

static struct exec_result result;

static int exec(const char *command, int64_t timeout_ms, bool background)
{
    const struct exec_request request = {
        .command = command, .timeout_ms = timeout_ms, .background = background};
    memset(&output, 0, sizeof(output));
    return provider->ops->exec(provider, client, &target, &request, on_output, &output, &result,
                               &err);
}

/* A stream of envelopes; each text is its flags ('0' message, '2' end) and its JSON. */
static void script_stream(const char *texts, ...)
{
    /* a place of its own for each script: the server may still hold the one before */
    static char places[64][4096];
    static size_t used;
    char *bytes;
    size_t n = 0;
    va_list args;
    assert_true(used < sizeof(places) / sizeof(places[0]));
    bytes = places[used++];
    va_start(args, texts);
    for (const char *text = texts; text; text = va_arg(args, const char *)) {
        size_t length = strlen(text + 1);
        assert_true(n + 5 + length < sizeof(places[0]) && length < 65536);
        memcpy(bytes + n, "\0\0\0", 3);
        bytes[n] = (char)(text[0] - '0');
        bytes[n + 3] = (char)(length >> 8);
        bytes[n + 4] = (char)(length & 0xff);
        memcpy(bytes + n + 5, text + 1, length);
        n += 5 + length;
    }
    va_end(args);
    script(200, bytes, n);
}
#define START      "0{\"event\":{\"start\":{\"pid\":42}}}"
#define HI         "0{\"event\":{\"data\":{\"stdout\":\"aGkK\"}}}"
#define END(inner) "0{\"event\":{\"end\":{" inner "}}}"
#define END_0      END("\"exited\":true,\"status\":\"exit status 0\"")
#define EOS        "2{}"

static void test_exec_request(void **state)
{
    (void)state;
    static const char env_text[] = "{\"A\":\"b c\",\"SANDBOX_EXEC_ID\":\"forged\"}";
    script_stream(START, HI, END_0, EOS, NULL);
    cJSON *envs = json_parse(env_text, strlen(env_text), &err);
    const struct exec_request request = {
        .command = "echo hi", .cwd = "/tmp", .envs = envs, .timeout_ms = 60000};
    memset(&output, 0, sizeof(output));
    assert_int_equal(
        provider->ops->exec(provider, client, &target, &request, on_output, &output, &result, &err),
        0);
    cJSON_Delete(envs);
    assert_string_equal(seen_line, "POST /process.Process/Start HTTP/1.1");
    expect_routing();
    expect_header("Content-Type: application/connect+json");
    expect_header("Connect-Protocol-Version: 1");
    expect_header("Keepalive-Ping-Interval: 50");
    /* envd's own deadline would end what a command leaves in the background */
    assert_null(strcasestr(seen_head, "Connect-Timeout-Ms"));
    expect_header("Authorization: Basic dXNlcjo=");
    assert_null(strcasestr(seen_head, "Accept-Encoding"));
    /* one envelope; the unique id is the only part that varies */
    assert_int_equal(seen_body[0], 0);
    assert_int_equal((unsigned char)seen_body[4] + 256 * (unsigned char)seen_body[3],
                     seen_bytes - 5);
    cJSON *body = json_parse(seen_body + 5, seen_bytes - 5, &err);
    assert_non_null(body);
    cJSON *process = cJSON_GetObjectItemCaseSensitive(body, "process");
    cJSON *env = cJSON_GetObjectItemCaseSensitive(process, "envs");
    cJSON *id = cJSON_DetachItemFromObjectCaseSensitive(env, "SANDBOX_EXEC_ID");
    assert_true(id_is_uuid(id->valuestring));
    cJSON_Delete(id);
    static const char *const args[] = {"-c",
                                       provider_script_boot,
                                       "sh",
                                       provider_script_runner,
                                       "6000",
                                       "/tmp",
                                       provider_script_kill,
                                       "/bin/bash",
                                       "-l",
                                       "-c",
                                       "echo hi"};
    const cJSON *sent = cJSON_GetObjectItemCaseSensitive(process, "args");
    assert_int_equal(cJSON_GetArraySize(sent), sizeof(args) / sizeof(args[0]));
    for (int i = 0; i < cJSON_GetArraySize(sent); i++)
        assert_string_equal(cJSON_GetArrayItem(sent, i)->valuestring, args[i]);
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(process, "cmd")->valuestring, "/bin/sh");
    assert_null(cJSON_GetObjectItemCaseSensitive(process, "cwd")); /* the runner enters it */
    assert_string_equal(cJSON_GetObjectItemCaseSensitive(env, "A")->valuestring, "b c");
    assert_int_equal(cJSON_GetArraySize(env), 1);
    assert_true(cJSON_IsFalse(cJSON_GetObjectItemCaseSensitive(body, "stdin")));
    cJSON_Delete(body);
    assert_int_equal(result.pid, 42);
    assert_true(result.started && result.exited && !result.timed_out);
    assert_int_equal(result.exit_code, 0);
    assert_string_equal(output.text[EXEC_STDOUT], "hi\n");
}

static void test_exec_ends(void **state)
{
    (void)state;
    static const struct {
        const char *end;
        int exit_code;
    } cases[] = {
        {END("\"exitCode\":7,\"exited\":true,\"status\":\"exit status 7\",\"error\":\"x\""), 7},
        {END("\"exitCode\":0"), 0},
        {END(""), 0},
        {END("\"exitCode\":255,\"exited\":true"), 255},
        {END("\"exitCode\":-1,\"status\":\"signal: killed\",\"error\":\"signal: killed\""), 137},
        {END("\"exitCode\":-1,\"status\":\"signal: aborted (core dumped)\""), 134},
        {END("\"exitCode\":-1,\"status\":\"signal: terminated\""), 143},
        {END("\"exitCode\":-1,\"status\":\"signal: signal 40\""), 168},
        {END("\"exitCode\":-1"), 128},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        script_stream(START, HI, cases[i].end, EOS, "7bytes after the end", NULL);
        assert_int_equal(exec("x", 5000, false), 0);
        assert_int_equal(result.exit_code, cases[i].exit_code);
        assert_true(result.exited);
        assert_false(result.timed_out);
        assert_string_equal(output.text[EXEC_STDOUT], "hi\n");
    }
    /* unknown events, keepalives and empty messages are skipped; bytes stay bytes, however split */
    script_stream(START, "0{\"event\":{\"keepalive\":{}}}", "0", "0{}", "0{\"event\":{\"new\":1}}",
                  "0{\"event\":{\"data\":{\"stderr\":\"4gA=\"}}}",
                  "0{ \"event\" : {\"data\":{\"stdout\":\"gqw=\"}}}", END_0, EOS, NULL);
    script_split = true;
    assert_int_equal(exec("x", 5000, false), 0);
    assert_int_equal(output.bytes[EXEC_STDERR], 2);
    assert_memory_equal(output.text[EXEC_STDERR], "\xe2\x00", 2);
    assert_int_equal(output.bytes[EXEC_STDOUT], 2);
    assert_memory_equal(output.text[EXEC_STDOUT], "\x82\xac", 2);
}

static void expect_exec_error(enum error_code code, bool cleaned_up)
{
    assert_int_equal(exec("x", 5000, false), -1);
    assert_string_equal(error_code_name(err.code), error_code_name(code));
    assert_string_not_equal(err.message, "");
    assert_int_equal(atomic_load(&seen_count) > 1, cleaned_up);
}

static void test_exec_failures(void **state)
{
    (void)state;
    /* nothing was started: nothing to kill */
    script_stream("2{\"error\":{\"code\":\"invalid_argument\",\"message\":\"cwd '/x' is not\"}}",
                  NULL);
    expect_exec_error(ERR_INVALID, false);
    script_stream("2{\"error\":{\"code\":\"unauthenticated\",\"message\":\"no such user\"}}", NULL);
    expect_exec_error(ERR_PROVIDER, false);
    script_stream("2{\"error\":{\"code\":\"unavailable\"}}", NULL);
    expect_exec_error(ERR_PROVIDER_DOWN, false);
    script_stream(START, EOS, NULL);
    expect_exec_error(ERR_PROVIDER, true);
    script_stream(START, END_0, "2{\"error\":{\"code\":\"data_loss\"}}", NULL);
    expect_exec_error(ERR_PROVIDER, true);
    script_stream(START, "0{\"event\":{\"data\":{\"stdout\":\"not base64\"}}}", EOS, NULL);
    expect_exec_error(ERR_PROVIDER, true);
    script_stream(START, END("\"exitCode\":\"7\""), EOS, NULL);
    expect_exec_error(ERR_PROVIDER, true);
    script_stream(START, "0{]", NULL);
    expect_exec_error(ERR_PROVIDER, true);
    script_stream(START, "1{}", NULL);
    expect_exec_error(ERR_PROVIDER, true);
    SCRIPT(200, "<html>hello</html>");
    expect_exec_error(ERR_PROVIDER, true);
    /* the end of the bytes is not the end of the stream, result or not */
    script_close = true;
    script_stream(START, HI, NULL);
    expect_exec_error(ERR_PROVIDER_DOWN, true);
    script_stream(START, END_0, NULL);
    expect_exec_error(ERR_PROVIDER_DOWN, true);
    script_stream(START, HI, NULL);
    script_bytes -= 3;
    expect_exec_error(ERR_PROVIDER_DOWN, true);
    SCRIPT(200, "");
    expect_exec_error(ERR_PROVIDER_DOWN, true);
}

/* envd's own deadline, behind ours, ends the stream without an end event. */
static void test_exec_server_deadline(void **state)
{
    (void)state;
    run_commands = false;
    script_stream(START, HI,
                  "2{\"error\":{\"code\":\"deadline_exceeded\",\"message\":\"context\"}}", NULL);
    /* the scripted edge answers the kill with "not found": the promise cannot be kept, and says so
     */
    expect_exec_error(ERR_PROVIDER_DOWN, true);
    assert_non_null(strstr(err.message, "went away"));
}

static int on_any(void *arg, const void *data, size_t bytes)
{
    (void)arg;
    (void)data;
    (void)bytes;
    return 0;
}

static void test_edge_answers(void **state)
{
    (void)state;
    SCRIPT(502, "{\"sandboxId\":\"iabc123\",\"message\":\"The sandbox was not "
                "found\",\"code\":502}");
    assert_int_equal(exec("x", 1000, false), -1);
    assert_int_equal(err.code, ERR_SANDBOX_NOT_FOUND);
    assert_int_equal(atomic_load(&seen_count), 1);
    SCRIPT(502, "{\"sandboxId\":\"iabc123\",\"message\":\"The sandbox is running but port is not "
                "open\",\"port\":49983,\"code\":502}");
    assert_int_equal(exec("x", 1000, false), -1);
    assert_int_equal(err.code, ERR_PROVIDER_DOWN);
    SCRIPT(502, "Failed to route request to sandbox");
    assert_int_equal(exec("x", 1000, false), -1);
    assert_int_equal(err.code, ERR_PROVIDER_DOWN);
    SCRIPT(401, "{\"code\":401,\"message\":\"token " TOKEN " is wrong\"}");
    assert_int_equal(exec("x", 1000, false), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
    assert_null(strstr(err.message, TOKEN));
    assert_non_null(strstr(err.message, "HTTP 401: token *** is wrong"));
    static const struct {
        int status;
        enum error_code code;
    } cases[] = {{403, ERR_PROVIDER_DOWN}, {404, ERR_PROVIDER_DOWN}, {409, ERR_PROVIDER_DOWN},
                 {302, ERR_PROVIDER_DOWN}, {415, ERR_PROVIDER},      {429, ERR_PROVIDER_DOWN},
                 {500, ERR_PROVIDER},      {503, ERR_PROVIDER_DOWN}, {504, ERR_PROVIDER_DOWN}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SCRIPT(cases[i].status, "");
        assert_int_equal(exec("x", 1000, false), -1);
        assert_int_equal(err.code, cases[i].code);
    }
    /* a proxy's page is no word about a sandbox or a file, whatever it says */
    SCRIPT(502, "<html>The sandbox was not found</html>");
    assert_int_equal(exec("x", 1000, false), -1);
    assert_int_equal(err.code, ERR_PROVIDER_DOWN);
    SCRIPT(404, "<html>not found</html>");
    struct file_get get = {.path = "/x", .bytes = -1, .on_data = on_any};
    assert_int_equal(provider->ops->file_get(provider, client, &target, &get, &err), -1);
    assert_int_equal(err.code, ERR_PROVIDER_DOWN);
    target.access_token = "bad\ntoken";
    assert_int_equal(exec("x", 1000, false), -1);
    assert_int_equal(err.code, ERR_INVALID);
    target.access_token = TOKEN;
    target.provider_sandbox_id = "../etc";
    assert_int_equal(exec("x", 1000, false), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

/* ---- exec, for real ---------------------------------------------------------------------------
 */

/* Processes whose command line holds the mark. */
static int count_processes(const char *mark)
{
    char line[256];
    int count = 0;
    snprintf(line, sizeof(line), "pgrep -fc -- '[%c]%s'", mark[0], mark + 1);
    FILE *out = popen(line, "r");
    assert_non_null(out);
    assert_int_equal(fscanf(out, "%d", &count), 1);
    pclose(out);
    return count;
}

static void test_run(void **state)
{
    (void)state;
    run_commands = true;
    assert_int_equal(exec("echo out; echo err >&2; exit 3", 10000, false), 0);
    assert_string_equal(output.text[EXEC_STDOUT], "out\n");
    assert_string_equal(output.text[EXEC_STDERR], "err\n");
    assert_int_equal(result.exit_code, 3);
    assert_false(result.timed_out);
}

/* Silent, in other sessions, with an empty environment, ignoring SIGTERM, forking on: all dead. */
static void test_timeout_kills_the_tree(void **state)
{
    (void)state;
    run_commands = true;
    char mark[32], command[1024];
    snprintf(mark, sizeof(mark), "7700%d", (int)getpid());
    snprintf(command, sizeof(command),
             "echo before; trap '' TERM; sleep %s & (setsid sleep %s >/dev/null 2>&1 &); "
             "env -i sleep %s & (env -i /bin/sh -c 'sleep %s; true'; true) & "
             "while :; do (sleep 0.01; exec sleep %s) & sleep 0.02; done",
             mark, mark, mark, mark, mark);
    int64_t timeout_ms = 700, took;
    do { /* again with more time where the machine is too busy to begin the command in this */
        int64_t before = clock_mono_ms();
        assert_int_equal(exec(command, timeout_ms, false), 0);
        took = clock_mono_ms() - before;
        assert_true(result.timed_out);
        assert_false(result.exited);
        assert_true(took >= timeout_ms);
        assert_int_equal(count_processes(mark), 0);
        timeout_ms *= 4;
    } while (output.text[EXEC_STDOUT][0] == '\0' && timeout_ms < 60000);
    assert_string_equal(output.text[EXEC_STDOUT], "before\n");
}

static void test_stop_kills(void **state)
{
    (void)state;
    run_commands = true;
    char mark[32], command[256];
    snprintf(mark, sizeof(mark), "7701%d", (int)getpid());
    snprintf(command, sizeof(command), "sleep %s & yes", mark);
    const struct exec_request request = {.command = command, .timeout_ms = 20000};
    memset(&output, 0, sizeof(output));
    output.stop_after = 3;
    assert_int_equal(
        provider->ops->exec(provider, client, &target, &request, on_output, &output, &result, &err),
        0);
    assert_int_equal(output.calls, 3);
    assert_false(result.exited);
    assert_false(result.timed_out);
    assert_int_equal(count_processes(mark), 0);
}

static void test_background_lives_on(void **state)
{
    (void)state;
    run_commands = true;
    char mark[32], command[256];
    snprintf(mark, sizeof(mark), "7702%d", (int)getpid());
    snprintf(command, sizeof(command), "while :; do echo noise; sleep 0.05; done; : %s", mark);
    int64_t before = clock_mono_ms();
    assert_int_equal(exec(command, 0, true), 0);
    assert_true(clock_mono_ms() - before < 2000);
    assert_true(result.started && result.pid > 0 && !result.exited && !result.timed_out);
    assert_null(strcasestr(seen_head, "Connect-Timeout-Ms"));
    usleep(500 * 1000);
    assert_true(count_processes(mark) >= 1);
    assert_int_equal(kill((pid_t)result.pid, SIGKILL), 0); /* it is the command's own */
    assert_int_equal(exec(command, 300, true), 0);         /* with a time of its own it ends */
    for (int i = 0; count_processes(mark) > 0; i++) {
        assert_true(i < 100);
        usleep(100 * 1000);
    }
}

/* ---- files ------------------------------------------------------------------------------------
 */

static char got[100000];
static size_t got_bytes;
static size_t got_limit;

static int on_file(void *arg, const void *data, size_t bytes)
{
    (void)arg;
    if (got_bytes + bytes > got_limit)
        return -1;
    memcpy(got + got_bytes, data, bytes);
    got_bytes += bytes;
    return 0;
}

static int64_t begun_first, begun_bytes;

static int on_begin(void *arg, int64_t first, int64_t bytes)
{
    (void)arg;
    begun_first = first;
    begun_bytes = bytes;
    return 0;
}

static int read_range(const char *path, int64_t offset, int64_t bytes)
{
    struct file_get get = {
        .path = path, .offset = offset, .bytes = bytes, .on_begin = on_begin, .on_data = on_file};
    got_bytes = 0;
    begun_first = begun_bytes = -2;
    return provider->ops->file_get(provider, client, &target, &get, &err);
}

static int read_file(const char *path)
{
    got_limit = sizeof(got);
    return read_range(path, 0, -1);
}

static void test_file_get(void **state)
{
    (void)state;
    SCRIPT(200, "a\0b\xff");
    assert_int_equal(read_file("/home/user/a b+c&d=\xc3\xa9.txt"), 0);
    assert_int_equal(got_bytes, 4);
    assert_memory_equal(got, "a\0b\xff", 4);
    assert_true(begun_first == 0 && begun_bytes == 4);
    assert_string_equal(seen_line, "GET /files?path=/home/user/a%20b%2Bc%26d%3D%C3%A9.txt"
                                   "&username=user HTTP/1.1");
    expect_routing();
    assert_null(strcasestr(seen_head, "Accept-Encoding"));
    assert_null(strcasestr(seen_head, "\r\nRange:"));
    SCRIPT(200, "");
    assert_int_equal(read_file("/empty"), 0);
    assert_int_equal(got_bytes, 0);
    assert_true(begun_first == 0 && begun_bytes == 0);
    SCRIPT(206, "cd");
    assert_int_equal(read_range("/x", 2, 2), 0);
    expect_header("Range: bytes=2-3");
    assert_true(begun_first == 2 && begun_bytes == 2 && got_bytes == 2);
    SCRIPT(200, "abcd"); /* a server may send the whole instead */
    assert_int_equal(read_range("/x", 2, -1), 0);
    expect_header("Range: bytes=2-");
    assert_true(begun_first == 0 && begun_bytes == 4 && got_bytes == 4);
    SCRIPT(404, "{\"code\":404,\"message\":\"path '/x' does not exist\"}");
    assert_int_equal(read_file("/x"), -1);
    assert_int_equal(err.code, ERR_FILE_NOT_FOUND);
    assert_int_equal(got_bytes, 0);
    assert_true(begun_first == -2);
    SCRIPT(401, "{\"code\":401,\"message\":\"x\"}");
    assert_int_equal(read_file("/x"), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
    SCRIPT(502, "{\"message\":\"The sandbox was not found\",\"code\":502}");
    assert_int_equal(read_file("/x"), -1);
    assert_int_equal(err.code, ERR_SANDBOX_NOT_FOUND);
    SCRIPT(200, "0123456789");
    got_limit = 5;
    assert_int_equal(read_range("/x", 0, -1), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
}

struct text {
    const char *at;
    size_t left;
    bool fail;
};

static long read_text(void *arg, void *buf, size_t bytes)
{
    struct text *text = arg;
    size_t n = bytes < text->left ? bytes : text->left;
    if (text->fail)
        return -1;
    memcpy(buf, text->at, n);
    text->at += n;
    text->left -= n;
    return (long)n;
}

static int write_file(const char *path, const char *data, size_t left, int64_t announced)
{
    struct text text = {.at = data, .left = left};
    return provider->ops->file_put(provider, client, &target, path, read_text, &text, announced,
                                   &err);
}

static void test_file_put(void **state)
{
    (void)state;
    script_headers = "Content-Type: text/plain; charset=utf-8\r\n";
    static const int64_t announced[] = {5, -1};
    target.agent_version = "0.5.7";
    for (size_t i = 0; i < 2; i++) {
        SCRIPT(200, "[{\"path\":\"/d/x+y\",\"name\":\"x+y\",\"type\":\"file\"}]\n");
        assert_int_equal(write_file("/d/x+y", "he\0lo", 5, announced[i]), 0);
        assert_string_equal(seen_line, "POST /files?path=/d/x%2By&username=user HTTP/1.1");
        expect_routing();
        expect_header("Content-Type: application/octet-stream");
        assert_null(strcasestr(seen_head, "Expect:"));
        assert_int_equal(seen_bytes, 5);
        assert_memory_equal(seen_body, "he\0lo", 5);
    }
    SCRIPT(200, "[]");
    assert_int_equal(write_file("/e", "", 0, 0), 0);
    SCRIPT(200, "<html>login</html>");
    assert_int_equal(write_file("/e", "x", 1, 1), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
    SCRIPT(507, "{\"code\":507,\"message\":\"not enough disk space available\"}");
    assert_int_equal(write_file("/e", "x", 1, 1), -1);
    assert_int_equal(err.code, ERR_NO_SPACE);
    SCRIPT(200, "[]");
    assert_int_equal(write_file("/e", "x", 1, 10), -1); /* ends early: never a short file */
    assert_int_equal(err.code, ERR_INVALID);
    struct text failing = {.fail = true};
    assert_int_equal(
        provider->ops->file_put(provider, client, &target, "/e", read_text, &failing, -1, &err),
        -1);
    assert_int_equal(err.code, ERR_INVALID);
}

/* envd below 0.5.7 takes forms only, and they work on every version. */
static void test_file_put_as_a_form(void **state)
{
    static const char *const versions[] = {"", "0.5.6", "0.2.11", "none", NULL};
    (void)state;
    for (size_t i = 0; i < sizeof(versions) / sizeof(versions[0]); i++) {
        target.agent_version = versions[i];
        SCRIPT(200, "[]");
        assert_int_equal(write_file("/d/x", "he\0lo", 5, i % 2 ? 5 : -1), 0);
        assert_string_equal(seen_line, "POST /files?path=/d/x&username=user HTTP/1.1");
        assert_non_null(strcasestr(seen_head, "\r\nContent-Type: multipart/form-data; boundary="));
        assert_memory_equal(seen_body, "--", 2);
        seen_body[seen_bytes] = '\0';
        const char *part = strstr(seen_body, "name=\"file\"; filename=\"");
        assert_non_null(part);
        const char *content = strstr(part, "\r\n\r\n");
        assert_non_null(content);
        assert_memory_equal(content + 4, "he\0lo\r\n--", 9);
    }
    target.agent_version = "0.6.0";
    assert_true(e2b_envd_can(&target, ENVD_OCTET_STREAM) &&
                !e2b_envd_can(&target, ENVD_FILE_METADATA));
    target.agent_version = "1.0.0";
    assert_true(e2b_envd_can(&target, ENVD_FILE_METADATA));
}

/* ---- scripts ----------------------------------------------------------------------------------
 */

static int run_script(const char *text, struct strbuf *said)
{
    const char *const argv[] = {text, "one", "two words", NULL};
    strbuf_init(said, 1000);
    atomic_store(&seen_count, 0);
    return provider->ops->run_script(provider, client, &target, argv, 3000, said, &err);
}

static void test_script(void **state)
{
    struct strbuf said;
    (void)state;
    run_commands = true;
    assert_int_equal(run_script("echo \"$2 $1\"; echo to-stderr >&2", &said), 0);
    assert_string_equal(said.data, "two words one\n");
    assert_string_equal(seen_line, "POST /process.Process/Start HTTP/1.1");
    expect_routing();
    expect_header("Authorization: Basic cm9vdDo="); /* as envd's file routes act */
    expect_header("Connect-Timeout-Ms: 3000");
    strbuf_done(&said);
    assert_int_equal(run_script("echo why >&2; exit 3", &said), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
    assert_non_null(strstr(err.message, "why"));
    strbuf_done(&said);
    assert_int_equal(run_script("head -c 5000 /dev/zero | tr '\\0' x", &said), -1);
    assert_int_equal(err.code, ERR_TOO_LARGE);
    strbuf_done(&said);
    assert_int_equal(run_script("kill -9 $$", &said), -1);
    assert_int_equal(err.code, ERR_PROVIDER);
    strbuf_done(&said);
    run_commands = false;
    SCRIPT(502, "{\"message\":\"The sandbox was not found\",\"code\":502}");
    assert_int_equal(run_script("true", &said), -1);
    assert_int_equal(err.code, ERR_SANDBOX_NOT_FOUND);
    strbuf_done(&said);
    SCRIPT(200, "\0\0\0\0\x1d{\"event\":{\"start\":{\"pid\":1}}}");
    assert_int_equal(run_script("true", &said), -1); /* broke off: never an output */
    assert_int_equal(err.code, ERR_PROVIDER_DOWN);
    strbuf_done(&said);
}

/* A whole step machine over a socket. */
static void test_drive(void **state)
{
    (void)state;
    struct provider_call call;
    struct provider_step step;
    SCRIPT(201, "{\"sandboxID\":\"inew\",\"envdAccessToken\":\"t\"}");
    provider_call_init(&call);
    call.op = PROVIDER_CREATE;
    call.deployment_id = "d";
    call.sandbox_id = "s";
    call.job_id = "j";
    call.timeout_ms = 60000;
    http_client_drive(client, provider, &call, &step);
    assert_string_equal(step.error, "");
    assert_int_equal(step.verdict, PROVIDER_DONE);
    assert_string_equal(call.result.provider_sandbox_id, "inew");
    assert_true(call.result.expires_at_ms > clock_wall_ms() + 50000);
    expect_header("X-API-Key: e2b_0123456789");
    provider_call_done(&call);
}

static int once_per_process(void **state)
{
    struct error init_err = ERROR_INIT;
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    return http_global_init(&init_err);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_exec_request),
        T(test_exec_ends),
        T(test_exec_failures),
        T(test_exec_server_deadline),
        T(test_edge_answers),
        T(test_run),
        T(test_timeout_kills_the_tree),
        T(test_stop_kills),
        T(test_background_lives_on),
        T(test_file_get),
        T(test_file_put),
        T(test_file_put_as_a_form),
        T(test_script),
        T(test_drive),
    };
    return cmocka_run_group_tests(tests, once_per_process, NULL);
}
