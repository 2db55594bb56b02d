/*
 * command_output - keeps the head and the tail of one output of a command.
 *
 * Owns: the bytes kept, the count of bytes left out, the answer's fields that hold them. Does not
 * own: where the output comes from. Threads: the request's own. Failure: output that the buffer
 * budget has no room for is left out.
 */
#ifndef GATEWAY_COMMAND_OUTPUT_H
#define GATEWAY_COMMAND_OUTPUT_H

#include "gateway/http/request.h"

struct command_output {
    struct request *caller;
    struct strbuf head;
    char *tail; /* ring buffer; NULL until the head is full */
    size_t tail_max, tail_at, tail_bytes;
    int64_t total; /* length of the whole output */
    size_t granted;
    bool head_closed;
};

void command_output_init(struct command_output *output, struct request *caller);
void command_output_done(struct command_output *output);
/* Adds output. data NULL: this many bytes could not be read. */
void command_output_add(struct command_output *output, const void *data, size_t bytes);
/* Ends the output: cuts head and tail at character boundaries. */
void command_output_end(struct command_output *output);
int64_t command_output_omitted(const struct command_output *output);
/* Adds head and tail as a string: base64, or text with U+FFFD in place of NUL and invalid UTF-8.
 * True when bytes were replaced. */
bool command_output_put(const struct command_output *output, cJSON *data, const char *field,
                        bool base64);
/* Adds {offset, bytes} of the part left out, if there is one. */
void command_output_put_omitted(const struct command_output *output, cJSON *data,
                                const char *field);

#endif
