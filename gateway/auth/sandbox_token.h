/*
 * sandbox_token - the access tokens that E2B's clients get for the agent in a sandbox.
 *
 * A token is the HMAC-SHA256 of the sandbox's id under the deployment's own key, so every gateway
 * makes and checks the same one and keeps none. Owns: the key, read from the store at first use.
 * Does not own: the provider's tokens. Threads: any. Failure: the store's errors.
 */
#ifndef GATEWAY_SANDBOX_TOKEN_H
#define GATEWAY_SANDBOX_TOKEN_H

#include <stdbool.h>

#include "common/base/encode.h"
#include "common/store/store.h"

enum { SANDBOX_TOKEN_BYTES = SHA256_HEX_BYTES };

struct sandbox_tokens;
struct sandbox_tokens *sandbox_tokens_new(struct store *store);
void sandbox_tokens_free(struct sandbox_tokens *tokens); /* NULL-safe */

/* What a token opens: the agent, which runs commands, the sandbox's other ports, or the terminal of
 * one command. */
enum sandbox_token_use { SANDBOX_TOKEN_ENVD, SANDBOX_TOKEN_TRAFFIC, SANDBOX_TOKEN_TERMINAL };

/* The token of that sandbox, hexadecimal. Of a terminal: of its command and its end. */
int sandbox_token_make(struct sandbox_tokens *tokens, const char *sandbox_id,
                       enum sandbox_token_use use, char ret[SANDBOX_TOKEN_BYTES],
                       struct error *err) MUST_CHECK;
/* *ret_right: `token` is that of the sandbox. Takes the same time for every wrong one. */
int sandbox_token_check(struct sandbox_tokens *tokens, const char *sandbox_id,
                        enum sandbox_token_use use, const char *token, bool *ret_right,
                        struct error *err) MUST_CHECK;

#endif
