/*
 * command_output - what is kept of one output of a command: its beginning and its end.
 *
 * Owns: the bytes kept, the count of those left out, the fields of an answer that hold them.
 * Does not own: where they come from. Threads: the request's own. Failure: what the budget of all
 * requests has no room for is left out.
 */
#ifndef GATEWAY_COMMAND_OUTPUT_H
#define GATEWAY_COMMAND_OUTPUT_H

#include "gateway/http/request.h"

struct command_output {
    struct request *caller;
    struct strbuf head;
    char *tail; /* a ring; NULL until the head is full */
    size_t tail_max, tail_at, tail_bytes;
    int64_t total; /* bytes there were */
    size_t granted;
    bool head_closed;
};

void command_output_init(struct command_output *output, struct request *caller);
void command_output_done(struct command_output *output);
/* `data` NULL: so many bytes are not to be had. */
void command_output_add(struct command_output *output, const void *data, size_t bytes);
/* No more comes: cuts at the boundaries of characters. */
void command_output_end(struct command_output *output);
int64_t command_output_omitted(const struct command_output *output);
/* Adds the head and the tail as a string: base64, or text in which what is not UTF-8 (or is NUL)
 * becomes U+FFFD. True when bytes were replaced so. */
bool command_output_put(const struct command_output *output, cJSON *data, const char *field,
                        bool base64);
/* Adds {offset, bytes} of what is left out, if anything is. */
void command_output_put_omitted(const struct command_output *output, cJSON *data,
                                const char *field);

#endif
