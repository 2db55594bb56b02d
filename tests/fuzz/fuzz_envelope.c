/*
 * Fuzz target: the Connect stream parser. The first bytes choose how the rest is split; whatever
 * the split, the messages must be the same, and so must the verdict.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/provider/connect_rpc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_MESSAGE = 4096 };

struct seen {
    struct strbuf text;
};

static int on_message(void *arg, const char *json, size_t bytes, struct error *err)
{
    struct seen *seen = arg;
    (void)err;
    strbuf_append(&seen->text, json, bytes);
    strbuf_putc(&seen->text, '\n');
    return 0;
}

/* Feeds in pieces of step bytes, 0 = at once. */
static int feed(const uint8_t *data, size_t size, size_t step, struct seen *seen, bool *ended)
{
    struct connect_stream stream;
    struct error err = ERROR_INIT;
    int rc = 0;
    strbuf_init(&seen->text, 1 << 20);
    connect_stream_init(&stream, MAX_MESSAGE);
    while (size > 0 && rc == 0) {
        size_t n = step == 0 || step > size ? size : step;
        rc = connect_stream_feed(&stream, data, n, on_message, seen, &err);
        data += n;
        size -= n;
    }
    *ended = stream.ended;
    connect_stream_done(&stream);
    return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole, split;
    bool whole_ended, split_ended;
    if (size < 1 || size > 65536)
        return 0;
    int a = feed(data + 1, size - 1, 0, &whole, &whole_ended);
    int b = feed(data + 1, size - 1, (size_t)data[0] % 17 + 1, &split, &split_ended);
    if (a != b || whole_ended != split_ended || whole.text.length != split.text.length ||
        memcmp(whole.text.data, split.text.data, whole.text.length) != 0)
        abort();
    strbuf_done(&whole.text);
    strbuf_done(&split.text);

    struct connect_error error;
    connect_error_decode(data[0] * 3, (const char *)data + 1, size - 1, &error);
    return 0;
}
