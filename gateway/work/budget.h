/*
 * budget - what the buffers of all requests may take together.
 *
 * Each buffer has its own maximum; this bounds their sum, so that many large requests at once are
 * answered 503 instead of taking the machine's memory. Owns: the sum. Does not own: any buffer.
 * What is streamed is not counted: it takes the same few bytes whatever its size. Threads: a share
 * belongs to its request's thread; the sum is atomic.
 */
#ifndef GATEWAY_BUDGET_H
#define GATEWAY_BUDGET_H

#include <stdatomic.h>
#include <stdint.h>

#include "common/base/error.h"

struct budget {
    int64_t max_bytes;
    _Atomic int64_t used_bytes;
};

/* Of one request; zero at its start. */
struct budget_share {
    int64_t bytes;
    _Atomic int64_t *user_bytes; /* of all requests of its user; NULL = of no user */
    int64_t user_max_bytes;
};

/* Adds to the share. ERR_OVERLOADED, or ERR_QUOTA where the user has its part already: the share is
 * as before. */
int budget_take(struct budget *budget, struct budget_share *share, int64_t bytes,
                struct error *err) MUST_CHECK;
/* Gives back part of the share. */
void budget_give(struct budget *budget, struct budget_share *share, int64_t bytes);

/* Most that a JSON body of `length` bytes takes while it is parsed: text, tree and strings. */
int64_t budget_json_bytes(int64_t length);

/* Most that an entry of a listing takes in the answer that is made of it. */
int64_t budget_entry_bytes(int64_t name_length);
/* Most that a listing of so many entries takes, read from at most `length` bytes. */
int64_t budget_listing_bytes(int64_t entries, int64_t length);

#endif
