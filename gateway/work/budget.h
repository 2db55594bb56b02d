/*
 * budget - bounds the memory of all request buffers together.
 *
 * Each buffer has its own maximum. This module bounds their sum: a request beyond it is answered
 * 503, instead of the machine running out of memory. Owns: the sum. Does not own: any buffer.
 * Streams are not counted, because a stream needs the same few bytes whatever its size. Threads: a
 * budget_share belongs to its request's thread; the sum is atomic.
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

/* The bytes that one request holds; all zero at its start. */
struct budget_share {
    int64_t bytes;
    _Atomic int64_t *user_bytes; /* bytes held by all requests of this user; NULL = no user */
    int64_t user_max_bytes;
};

/* Takes bytes. ERR_OVERLOADED: the gateway has no more. ERR_QUOTA: the user has no more. The share
 * is then unchanged. */
int budget_take(struct budget *budget, struct budget_share *share, int64_t bytes,
                struct error *err) MUST_CHECK;
/* Gives bytes back. */
void budget_give(struct budget *budget, struct budget_share *share, int64_t bytes);

/* Upper bound for parsing a JSON body of `length` bytes: its text, tree and strings. */
int64_t budget_json_bytes(int64_t length);

/* Upper bound for one entry of a directory listing in the answer. */
int64_t budget_entry_bytes(int64_t name_length);
/* Upper bound for a listing of `entries` entries, read from at most `length` bytes. */
int64_t budget_listing_bytes(int64_t entries, int64_t length);

#endif
