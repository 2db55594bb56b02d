/*
 * Fuzz target: a request body that says it is gzip. The first bytes choose how the network splits
 * it and how much is asked for at a time; whatever the split, the same bytes come out and so does
 * the verdict. A small input that unpacks to much is taken in pieces, never whole.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/sandbox-host/agent/body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__wrap_http_header(const struct http_exchange *exchange, const char *name);
long __wrap_http_read(struct http_exchange *exchange, void *buf, size_t bytes);

enum { OUT_MAX = 1 << 20 };

static struct {
    const uint8_t *data;
    size_t left, step;
} network;

const char *__wrap_http_header(const struct http_exchange *exchange, const char *name)
{
    (void)exchange;
    return strcmp(name, "Content-Encoding") == 0 ? "gzip" : NULL;
}

long __wrap_http_read(struct http_exchange *exchange, void *buf, size_t bytes)
{
    size_t n = network.left < bytes ? network.left : bytes;

    (void)exchange;
    n = network.step > 0 && n > network.step ? network.step : n;
    memcpy(buf, network.data, n);
    network.data += n;
    network.left -= n;
    return (long)n;
}

/* Reads all, or OUT_MAX bytes. Returns 0 at the end, 1 when there is more, -1 when it is broken. */
static int unpack(const uint8_t *data, size_t size, size_t step, size_t ask, struct strbuf *out)
{
    struct error err = ERROR_INIT;
    struct body body;
    char piece[4096];
    long n = 0;

    network.data = data;
    network.left = size;
    network.step = step;
    if (body_init(&body, NULL, &err) != 0) {
        abort();
    }
    while (out->length < OUT_MAX && (n = body_read(&body, piece, ask, &err)) > 0) {
        if ((size_t)n > ask) {
            abort();
        }
        strbuf_append(out, piece, (size_t)n);
    }
    body_done(&body);
    return n < 0 ? -1 : n == 0 ? 0 : 1;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct strbuf whole, split;

    if (size < 2) {
        return 0;
    }
    strbuf_init(&whole, 2 * OUT_MAX);
    strbuf_init(&split, 2 * OUT_MAX);
    const int a = unpack(data + 2, size - 2, 0, 4096, &whole);
    const int b =
        unpack(data + 2, size - 2, (size_t)data[0] % 7 + 1, (size_t)data[1] * 15 + 1, &split);
    const size_t same = whole.length < split.length ? whole.length : split.length;
    /* the two stop at different places of a long one, and of one that breaks: what a piece unpacked
     * before it broke is not given out */
    if (memcmp(whole.data, split.data, same) != 0 || (same < OUT_MAX - 4096 && a != b) ||
        (a == 0 && whole.length != split.length)) {
        abort();
    }
    strbuf_done(&whole);
    strbuf_done(&split);
    return 0;
}
