/*
 * api_key - the form of an API key, and its scopes.
 *
 * Owns: making keys, telling one by its form, scopes as words. A key is "e2b_" and 40 hexadecimal
 * digits, which E2B's clients accept. Does not own: where keys are kept (store_api_keys.h), who may
 * do what with them (auth.h, router.c). Pure but for random numbers.
 */
#ifndef GATEWAY_API_KEY_H
#define GATEWAY_API_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/store/store_api_keys.h"

enum { API_KEY_BYTES = 45, API_KEY_PREFIX_LENGTH = 12 };

/* Bit numbers, in the order of scopes.def. */
enum scope_number {
#define X(enumerator, name) enumerator##_NUMBER,
#include "gateway/auth/scopes.def"
#undef X
    SCOPE_COUNT
};
enum scope {
#define X(enumerator, name) enumerator = 1 << enumerator##_NUMBER,
#include "gateway/auth/scopes.def"
#undef X
    SCOPE_ALL = (1 << SCOPE_COUNT) - 1
};

/* The scope's name. */
const char *scope_name(int number);
/* Adds the scope of that name to *scopes. -1: there is none. */
int scope_parse(const char *name, unsigned *scopes);
/* Parses words separated by blanks, as stored; ignores unknown ones. */
unsigned scopes_parse(const char *words);
void scopes_format(unsigned scopes, char out[STORE_SCOPES_BYTES]);

/* True when `text` has the form of a key. */
bool api_key_is_one(const char *text, size_t length);
/* Makes a new key in ret_key, which the caller wipes; fills id, prefix and hash of *row. */
void api_key_make(struct store_api_key *row, char ret_key[API_KEY_BYTES]);

#endif
