/* id - see id.h. */
#include "common/base/id.h"

#include <ctype.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

void id_uuid(char out[UUID_BYTES])
{
    unsigned char b[16];

    randombytes_buf(b, sizeof(b));
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    snprintf(out, UUID_BYTES,
             "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0], b[1],
             b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14],
             b[15]);
}

static bool is_uuid(const char *text, bool lower_only)
{
    for (int i = 0; i < UUID_BYTES - 1; i++) {
        unsigned char c = (unsigned char)text[i];

        if (i == 8 || i == 13 || i == 18 || i == 23) {
            if (c != '-') {
                return false;
            }
        } else if (!isxdigit(c) || (lower_only && isupper(c))) {
            return false;
        }
    }
    return text[UUID_BYTES - 1] == '\0';
}

bool id_is_uuid(const char *text)
{
    return is_uuid(text, false);
}

bool id_is_uuid_lower(const char *text)
{
    return is_uuid(text, true);
}

void id_uuid_plain(const char *uuid, char out[UUID_PLAIN_BYTES])
{
    size_t used = 0;

    for (; *uuid != '\0' && used < UUID_PLAIN_BYTES - 1; uuid++) {
        if (*uuid != '-') {
            out[used++] = *uuid;
        }
    }
    out[used] = '\0';
}

bool id_uuid_from_plain(const char *text, size_t length, char out[UUID_BYTES])
{
    size_t used = 0;

    if (length == UUID_BYTES - 1) {
        memcpy(out, text, length);
        out[length] = '\0';
        return id_is_uuid_lower(out);
    }
    if (length != UUID_PLAIN_BYTES - 1) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (i == 8 || i == 12 || i == 16 || i == 20) {
            out[used++] = '-';
        }
        out[used++] = text[i];
    }
    out[used] = '\0';
    return id_is_uuid_lower(out);
}

void id_lower(char *text)
{
    for (; *text != '\0'; text++) {
        if (*text >= 'A' && *text <= 'Z') {
            *text = (char)(*text - 'A' + 'a');
        }
    }
}

void id_random_alnum(char *out, size_t length)
{
    static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz0123456789";

    for (size_t i = 0; i < length; i++) {
        out[i] = alphabet[randombytes_uniform(sizeof(alphabet) - 1)];
    }
    out[length] = '\0';
}

uint32_t id_random_below(uint32_t bound)
{
    return randombytes_uniform(bound);
}

uint64_t id_hash64(const void *data, size_t length)
{
    const unsigned char *p = data;
    uint64_t hash = 0xcbf29ce484222325ULL;

    for (size_t i = 0; i < length; i++) {
        hash = (hash ^ p[i]) * 0x100000001b3ULL;
    }
    return hash;
}
