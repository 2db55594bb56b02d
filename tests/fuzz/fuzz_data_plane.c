/*
 * Fuzz target: what a provider's data plane answers to commands, files and ports. Linked with
 * stand-ins for the blocking HTTP client and for sleeping; everything else is the real backend.
 * Whatever comes back, a call ends, does not run on past its deadline, tells no secret, and a
 * command of which no end was told is never a success.
 *
 * Input: byte 0 the provider and the operation, then answers of 4 bytes (status, flags, length) and
 * a body. The last one repeats for ever. In a body $ID stands for the id that the request's script
 * was given; with the flag WRAP each line is put in a Connect envelope, the last as the stream's
 * end.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/provider/daytona.h"
#include "common/provider/e2b.h"
#include "common/provider/sandbox_files.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
void __wrap_clock_sleep_ms(int64_t ms);
bool __wrap_http_client_over(struct http_client *client);
void __wrap_http_client_perform(struct http_client *client, const struct http_request *request,
                                struct http_response *ret);
void __wrap_http_client_stream(struct http_client *client, const struct http_request *request,
                               const struct http_stream *stream, struct http_response *ret);

#define KEY   "key_5ec2e75ec2e75ec2e7"
#define TOKEN "token5ec2e7token5ec2e7"

enum {
    REQUESTS_MAX = 6000,
    REQUEST_MS = 50, /* each takes this long, by the clock that the backend sees */
    TIMEOUT_MS = 10000,
    BODY_MAX_BYTES = 1 << 20,
    HEAD_BYTES = 4,
};
/* OVER: the right to the call ends before this answer */
enum answer_flag { NOT_SENT = 1, AMBIGUOUS = 2, WRAP = 4, SPLIT = 8, OVER = 16 };

/* one run at a time: the stand-ins are called by the one thread that runs the target */
static struct {
    const uint8_t *data;
    size_t size;
    int requests;
    struct strbuf body;
} script;

void __wrap_clock_sleep_ms(int64_t ms)
{
    clock_test_advance_ms(ms);
}

/* ---- the stand-in for HTTP ------------------------------------------------------------------- */

/* The id in "sh <mode> <id> ..." of the request's script; "" if it has none. */
static void script_id(const struct http_request *request, char ret[UUID_BYTES])
{
    static const char *const modes[] = {" sh run ", " sh start ", " sh follow ", " sh end "};

    ret[0] = '\0';
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        const char *at = strstr(request->body.data, modes[i]);

        if (at != NULL && strlen(at) >= strlen(modes[i]) + UUID_BYTES) {
            memcpy(ret, at + strlen(modes[i]), UUID_BYTES - 1);
            ret[UUID_BYTES - 1] = '\0';
        }
    }
}

static void put_body(const char *text, size_t bytes, const char *id, struct strbuf *out)
{
    for (size_t i = 0; i < bytes; i++) {
        if (bytes - i >= 3 && memcmp(text + i, "$ID", 3) == 0) {
            strbuf_puts(out, id);
            i += 2;
        } else {
            strbuf_putc(out, text[i]);
        }
    }
}

static void put_envelopes(const char *text, size_t bytes, struct strbuf *out)
{
    while (bytes > 0) {
        const char *end = memchr(text, '\n', bytes);
        size_t line = end != NULL ? (size_t)(end - text) : bytes, taken = line + (end != NULL);
        size_t at = out->length;

        connect_envelope_put(out, text, line);
        if (taken == bytes) {
            out->data[at] = 2; /* end of stream */
        }
        text += taken;
        bytes -= taken;
    }
}

/* The next answer of the script; 0 when its body is to be given in one piece, else the step. */
static size_t next_answer(const struct http_request *request, struct http_response *ret)
{
    static const int statuses[] = {200, 201, 204, 302, 400, 401, 403, 404,
                                   408, 409, 412, 429, 500, 502, 503, 504};
    char id[UUID_BYTES];
    size_t bytes;
    int flags;

    if (++script.requests > REQUESTS_MAX) {
        abort(); /* a call that never ends */
    }
    if (request->url.overflow || request->headers.overflow || request->body.overflow) {
        abort();
    }
    clock_test_advance_ms(REQUEST_MS);
    memset(ret, 0, sizeof(*ret));
    ret->content_length = -1;
    if (script.size < HEAD_BYTES) {
        ret->transport = HTTP_NOT_SENT;
        return 0;
    }
    flags = script.data[1];
    ret->transport = (flags & NOT_SENT) != 0    ? HTTP_NOT_SENT
                     : (flags & AMBIGUOUS) != 0 ? HTTP_AMBIGUOUS
                                                : HTTP_ANSWERED;
    ret->status = statuses[script.data[0] % (sizeof(statuses) / sizeof(statuses[0]))];
    bytes = (size_t)script.data[2] << 8 | script.data[3];
    bytes = bytes < script.size - HEAD_BYTES ? bytes : script.size - HEAD_BYTES;
    script_id(request, id);
    strbuf_reset(&script.body);
    if ((flags & WRAP) != 0) {
        put_envelopes((const char *)script.data + HEAD_BYTES, bytes, &script.body);
    } else {
        put_body((const char *)script.data + HEAD_BYTES, bytes, id, &script.body);
    }
    /* the last answer stays */
    if (script.size - HEAD_BYTES - bytes >= HEAD_BYTES) {
        script.data += HEAD_BYTES + bytes;
        script.size -= HEAD_BYTES + bytes;
    }
    ret->body = script.body.data;
    ret->body_bytes = ret->transport == HTTP_NOT_SENT ? 0 : script.body.length;
    return (flags & SPLIT) != 0 ? 7 : 0;
}

bool __wrap_http_client_over(struct http_client *client)
{
    (void)client;
    return script.size >= HEAD_BYTES && (script.data[1] & OVER) != 0;
}

void __wrap_http_client_perform(struct http_client *client, const struct http_request *request,
                                struct http_response *ret)
{
    (void)client;
    (void)next_answer(request, ret);
}

void __wrap_http_client_stream(struct http_client *client, const struct http_request *request,
                               const struct http_stream *stream, struct http_response *ret)
{
    size_t step = next_answer(request, ret);
    char upload[64];

    (void)client;
    while (stream->read_body != NULL &&
           stream->read_body(stream->arg, upload, sizeof(upload)) > 0) {
        continue;
    }
    if (ret->transport == HTTP_NOT_SENT || ret->status < 200 || ret->status > 299) {
        return;
    }
    for (size_t at = 0; at < ret->body_bytes;) {
        size_t piece = step == 0 || step > ret->body_bytes - at ? ret->body_bytes - at : step;

        if (stream->on_data(stream->arg, ret->body + at, piece) != 0) {
            ret->transport = HTTP_AMBIGUOUS;
            break;
        }
        at += piece;
    }
    ret->body_bytes = 0;
}

/* ---- the calls ------------------------------------------------------------------------------- */

static struct provider *open_once(int which)
{
    static const struct provider_ops *const ops[] = {&e2b_provider_ops, &daytona_provider_ops};
    static struct provider *opened[2];
    struct error err = ERROR_INIT;

    if (opened[which] == NULL) {
        setenv("E2B_API_KEY", KEY, 1);
        setenv("DAYTONA_API_KEY", KEY, 1);
        opened[which] = ops[which]->open(&err);
        if (opened[which] == NULL) {
            abort();
        }
    }
    return opened[which];
}

static int on_output(void *arg, enum exec_stream stream, const void *data, size_t bytes)
{
    size_t *seen = arg;

    (void)data; /* NULL: skipped */

    if (stream != EXEC_STDOUT && stream != EXEC_STDERR) {
        abort();
    }
    *seen += bytes;
    return *seen > 4096 ? -1 : 0; /* a reader that has enough */
}

static int on_bytes(void *arg, const void *data, size_t bytes)
{
    (void)data;
    *(size_t *)arg += bytes;
    return 0;
}

static long give_bytes(void *arg, void *buf, size_t bytes)
{
    size_t *left = arg, now = *left < bytes ? *left : bytes;

    memset(buf, 'x', now);
    *left -= now;
    return (long)now;
}

/* A client may put the name behind a path of its own. */
static int on_entry(void *arg, const struct dir_entry *entry)
{
    size_t *left = arg;

    if (entry->name[0] == '\0' || strchr(entry->name, '/') != NULL ||
        strcmp(entry->name, "..") == 0 || entry->bytes < 0 || *left == 0) {
        abort();
    }
    return --*left == 0;
}

static int run_exec(struct provider *provider, const struct provider_target *target,
                    bool background, struct error *err)
{
    const struct exec_request request = {
        .command = "true", .timeout_ms = background ? 0 : TIMEOUT_MS, .background = background};
    struct exec_result result;
    size_t seen = 0;
    int status =
        provider->ops->exec(provider, NULL, target, &request, on_output, &seen, &result, err);

    if (status == 0 && !background && !result.exited && !result.timed_out && seen <= 4096) {
        abort(); /* neither ended nor given up: what would the caller be told? */
    }
    return status;
}

static int run_port_url(struct provider *provider, const struct provider_target *target,
                        struct error *err)
{
    struct strbuf url;
    int status;

    strbuf_init(&url, 1024);
    status = provider->ops->port_url(provider, NULL, target, 8080, &url, err);
    if (status == 0 && (url.length == 0 || strpbrk(url.data, " \r\n\"<>") != NULL)) {
        abort();
    }
    strbuf_done(&url);
    return status;
}

static int run_call(struct provider *provider, int which, const struct provider_target *target,
                    struct error *err)
{
    const struct sandbox_files files = {provider, NULL, target};
    struct sandbox_files_source source;
    char cursor[FILES_CURSOR_BYTES];
    size_t count = 100;
    bool made;
    int status;

    switch (which) {
    case 0:
        return run_exec(provider, target, false, err);
    case 1:
        return run_exec(provider, target, true, err);
    case 2:
        status = sandbox_files_open(&files, "/tmp/f", &source, err);
        if (status == 0) {
            struct file_get get = {.bytes = -1, .on_data = on_bytes, .arg = &count};
            if (source.bytes < 0) {
                abort();
            }
            status = sandbox_files_read(&files, &source, &get, err);
            sandbox_files_close(&files, &source);
        }
        return status;
    case 3:
        return sandbox_files_write(&files, "/tmp/f", give_bytes, &count, 100, err);
    case 4:
        return sandbox_files_make_dir(&files, "/tmp/d", &made, err);
    case 5:
        return sandbox_files_write_bytes(&files, "/tmp/f", "content", 7, err);
    case 7:
        return sandbox_files_list(&files, "/tmp", "", 100, on_entry, &count, cursor, err);
    case 8:
        return sandbox_files_remove(&files, "/tmp/f", false, err);
    case 9:
        return sandbox_files_remove(&files, "/tmp/d", true, err);
    default:
        return run_port_url(provider, target, err);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct error err = ERROR_INIT;
    struct provider *provider;
    struct provider_target target = {
        .provider_sandbox_id = "iabc", .domain = "", .access_token = TOKEN, .traffic_token = ""};

    if (size < 1) {
        return 0;
    }
    provider = open_once(data[0] & 1);
    if ((data[0] & 1) != 0) {
        target.domain = "https://proxy.example/toolbox";
        target.access_token = ""; /* a row of Daytona's has none */
    }
    script.data = data + 1;
    script.size = size - 1;
    script.requests = 0;
    strbuf_init(&script.body, BODY_MAX_BYTES);
    if (run_call(provider, data[0] / 2 % 10, &target, &err) != 0 &&
        (err.code == ERR_OK || err.message[0] == '\0' || strstr(err.message, KEY) != NULL ||
         (target.access_token[0] != '\0' && strstr(err.message, TOKEN) != NULL))) {
        abort();
    }
    strbuf_done(&script.body);
    return 0;
}
