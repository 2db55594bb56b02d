/*
 * text - see text.h.
 */
#include "common/provider/text.h"

#include <string.h>
#include <strings.h>

#include "common/domain/types.h"

bool provider_is_tag(const char *name)
{
    return strcmp(name, PROVIDER_TAG_DEPLOYMENT) == 0 || strcmp(name, PROVIDER_TAG_SANDBOX) == 0 ||
           strcmp(name, PROVIDER_TAG_JOB) == 0;
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool provider_is_id(const char *text)
{
    size_t length = strlen(text);
    if (length == 0 || length >= PROVIDER_ID_BYTES) {
        return false;
    }
    for (const char *c = text; *c; c++) {
        if (!is_alnum(*c) && *c != '-' && *c != '_') {
            return false;
        }
    }
    return true;
}

bool provider_is_header_value(const char *text)
{
    for (const char *c = text; *c; c++) {
        if ((unsigned char)*c <= 0x20 || (unsigned char)*c >= 0x7f) {
            return false;
        }
    }
    return true;
}

bool provider_normalize_url(char *url)
{
    size_t scheme = strncasecmp(url, "https://", 8) == 0  ? 8
                    : strncasecmp(url, "http://", 7) == 0 ? 7
                                                          : 0;
    size_t length = strlen(url);
    while (length > scheme && url[length - 1] == '/') {
        url[--length] = '\0';
    }
    return scheme > 0 && length > scheme && provider_is_header_value(url) &&
           !strpbrk(url, "?#@\"\\");
}

void provider_clean_text(char *out, size_t size, const char *text, size_t bytes,
                         const char *const *secrets, size_t secret_count)
{
    size_t n = 0;
    size_t i = 0;
    while (i < bytes && n + 1 < size) {
        size_t skip = 0;
        for (size_t s = 0; s < secret_count && skip == 0; s++) {
            size_t length = secrets[s] ? strlen(secrets[s]) : 0;
            if (length >= 4 && length <= bytes - i && memcmp(text + i, secrets[s], length) == 0) {
                skip = length;
            }
        }
        if (skip > 0) {
            for (int k = 0; k < 3 && n + 1 < size; k++) {
                out[n++] = '*';
            }
            i += skip;
            continue;
        }
        unsigned char c = (unsigned char)text[i++];
        out[n++] = c >= 0x20 && c < 0x7f ? (char)c : c < 0x20 ? ' ' : '?';
    }
    out[n] = '\0';
}
