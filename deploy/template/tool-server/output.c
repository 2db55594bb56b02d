/* output - see output.h. */
#include "deploy/template/tool-server/output.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"

void output_init(struct output *output, size_t max_bytes)
{
    *output = (struct output){.half = max_bytes / 2};
    strbuf_init(&output->head, output->half);
}

void output_done(struct output *output)
{
    strbuf_done(&output->head);
    free(output->tail);
    output->tail = NULL;
}

void output_put(struct output *output, const char *data, size_t length)
{
    const size_t room = output->half - output->head.length;
    const size_t first = length < room ? length : room;

    (void)strbuf_append(&output->head, data, first);
    output->total += first;
    data += first;
    length -= first;
    if (length > 0 && output->tail == NULL) {
        output->tail = xmalloc(output->half);
    }
    if (length > output->half) { /* only its end will be kept */
        output->total += length - output->half;
        data += length - output->half;
        length = output->half;
    }
    while (length > 0) {
        const size_t at = (size_t)((output->total - output->half) % output->half);
        const size_t piece = length < output->half - at ? length : output->half - at;

        memcpy(output->tail + at, data, piece);
        output->total += piece;
        data += piece;
        length -= piece;
    }
}

void output_get(const struct output *output, uint64_t offset, struct strbuf *out)
{
    uint64_t at = offset;

    if (at < output->head.length) {
        (void)strbuf_append(out, output->head.data + at, output->head.length - (size_t)at);
        at = output->head.length;
    }
    if (at >= output->total) {
        return;
    }
    if (output->total - output->half > at) {
        const uint64_t kept_from = output->total - output->half > output->half
                                       ? output->total - output->half
                                       : output->half;

        if (kept_from > at) {
            (void)strbuf_printf(out, "\n[... %llu bytes not kept ...]\n",
                                (unsigned long long)(kept_from - at));
            at = kept_from;
        }
    }
    while (at < output->total) {
        const size_t from = (size_t)((at - output->half) % output->half);
        const uint64_t left = output->total - at;
        const size_t piece = left < output->half - from ? (size_t)left : output->half - from;

        (void)strbuf_append(out, output->tail + from, piece);
        at += piece;
    }
}
