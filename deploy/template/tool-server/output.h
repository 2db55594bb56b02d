/*
 * output - what a command printed: its first and its last bytes, and how many there were.
 *
 * Both halves hold max/2 bytes; memory grows with use. Threads: none of its own (command.c locks).
 * Failure: none.
 */
#ifndef TOOL_SERVER_OUTPUT_H
#define TOOL_SERVER_OUTPUT_H

#include <stdint.h>

#include "common/base/strbuf.h"

struct output {
    struct strbuf head;
    char *tail; /* a ring of `half` bytes, allocated when the head is full */
    size_t half;
    uint64_t total; /* bytes ever put; byte n is at head[n] or tail[(n - half) % half] */
};

void output_init(struct output *output, size_t max_bytes);
void output_done(struct output *output);
void output_put(struct output *output, const char *data, size_t length);
/* Appends what is kept from byte `offset` on, with a line that says so where bytes are missing. */
void output_get(const struct output *output, uint64_t offset, struct strbuf *out);

#endif
