/* api_key - see api_key.h. */
#include "gateway/auth/api_key.h"

#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/base/id.h"

#define KEY_MARK "e2b_"

enum { KEY_SECRET_BYTES = 20 };

static const char *const names[SCOPE_COUNT] = {
#define X(enumerator, name) [enumerator##_NUMBER] = name,
#include "gateway/auth/scopes.def"
#undef X
};

const char *scope_name(int number)
{
    return names[number];
}

int scope_parse(const char *name, unsigned *scopes)
{
    for (int i = 0; i < SCOPE_COUNT; i++) {
        if (strcmp(names[i], name) == 0) {
            *scopes |= 1U << i;
            return 0;
        }
    }
    return -1;
}

unsigned scopes_parse(const char *words)
{
    unsigned scopes = 0;
    char word[32];

    while (*words != '\0') {
        size_t length = strcspn(words, " ");

        if (length < sizeof(word)) {
            memcpy(word, words, length);
            word[length] = '\0';
            (void)scope_parse(word, &scopes); /* a newer release may have stored more scopes */
        }
        words += length + (words[length] == ' ');
    }
    return scopes;
}

void scopes_format(unsigned scopes, char out[STORE_SCOPES_BYTES])
{
    size_t used = 0;

    out[0] = '\0';
    for (int i = 0; i < SCOPE_COUNT; i++) {
        if ((scopes & 1U << i) != 0) {
            used += (size_t)snprintf(out + used, STORE_SCOPES_BYTES - used, "%s%s",
                                     used > 0 ? " " : "", names[i]);
        }
    }
}

bool api_key_is_one(const char *text, size_t length)
{
    return length == API_KEY_BYTES - 1 && strncmp(text, KEY_MARK, strlen(KEY_MARK)) == 0 &&
           strspn(text + strlen(KEY_MARK), "0123456789abcdef") == 2 * KEY_SECRET_BYTES;
}

void api_key_make(struct store_api_key *row, char ret_key[API_KEY_BYTES])
{
    unsigned char secret[KEY_SECRET_BYTES];

    randombytes_buf(secret, sizeof(secret));
    memcpy(ret_key, KEY_MARK, strlen(KEY_MARK));
    sodium_bin2hex(ret_key + strlen(KEY_MARK), API_KEY_BYTES - strlen(KEY_MARK), secret,
                   sizeof(secret));
    sodium_memzero(secret, sizeof(secret));
    id_uuid(row->id);
    memcpy(row->prefix, ret_key, API_KEY_PREFIX_LENGTH);
    row->prefix[API_KEY_PREFIX_LENGTH] = '\0';
    sha256_hex(ret_key, API_KEY_BYTES - 1, row->hash);
}
