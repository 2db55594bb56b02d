/*
 * password - argon2id hashes of user passwords, by libsodium.
 *
 * 2 passes over 19 MiB (OWASP's smallest recommended setting): about 35 ms of one core and 19 MiB
 * for each check, which is why the caller bounds how many run at once. The hash text carries its
 * own parameters, so they can be raised later without touching stored ones.
 * Threads: no shared state. Failure: only memory exhaustion.
 */
#ifndef GATEWAY_PASSWORD_H
#define GATEWAY_PASSWORD_H

#include <stdbool.h>
#include <stddef.h>

#include "common/base/error.h"

enum { PASSWORD_MIN_BYTES = 8, PASSWORD_MAX_BYTES = 1024, PASSWORD_HASH_BYTES = 160 };

/* ERR_INVALID when the password is too short or too long. */
int password_hash(const char *password, char out[PASSWORD_HASH_BYTES],
                  struct error *err) MUST_CHECK;
/* A hash of a random password, so that a login of an unknown user takes the same time. */
int password_hash_dummy(char out[PASSWORD_HASH_BYTES], struct error *err) MUST_CHECK;
bool password_verify(const char *hash, const char *password);

#endif
