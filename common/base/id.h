/*
 * id - random identifiers and random numbers from libsodium, and the check of an id from outside.
 *
 * Threads: no shared state; sodium_init() comes first (service_init). Failure: none.
 */
#ifndef BASE_ID_H
#define BASE_ID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define UUID_BYTES 37 /* 36 characters + NUL */

/* Writes a lower-case random (version 4) UUID. */
void id_uuid(char out[UUID_BYTES]);
/* 8-4-4-4-12 hexadecimal digits, either case, any version. */
bool id_is_uuid(const char *text);
/* As id_is_uuid, lower case only: the form in which our own ids are stored and compared. */
bool id_is_uuid_lower(const char *text);
/* The UUID without its dashes: the form that E2B's clients and host names can carry. */
#define UUID_PLAIN_BYTES 33
void id_uuid_plain(const char *uuid, char out[UUID_PLAIN_BYTES]);
/* Reads the first `length` characters of text: 32 lower-case hexadecimal digits, or a lower-case
 * UUID. False: neither. */
bool id_uuid_from_plain(const char *text, size_t length, char out[UUID_BYTES]);
/* Lower-cases in place (ASCII). */
void id_lower(char *text);
/* `length` characters of [a-z0-9] + NUL. */
void id_random_alnum(char *out, size_t length);
/* Uniform in [0, bound). bound > 0. */
uint32_t id_random_below(uint32_t bound);
/* FNV-1a, for hash tables only. */
uint64_t id_hash64(const void *data, size_t length);

#endif
