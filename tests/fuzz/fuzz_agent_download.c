/*
 * Fuzz target: the header values of a download (ranges, Accept-Encoding, dates).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "deploy/sandbox-host/agent/download.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const int64_t sizes[] = {1, 10, 4096, INT64_MAX};
    time_t when;

    if (size > 4096) {
        return 0;
    }
    char *text = malloc(size + 1);
    if (text == NULL) {
        abort();
    }
    memcpy(text, data, size);
    text[size] = '\0';
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        int64_t start = -1, length = -1;
        if (http_range_parse(text, sizes[i], &start, &length) == RANGE_ONE &&
            (start < 0 || length < 1 || start > sizes[i] - length)) {
            abort();
        }
    }
    const int encoding = download_encoding(text);
    if (encoding < -1 || encoding > 1) {
        abort();
    }
    (void)download_parse_date(text, &when);
    (void)download_content_type(text, data, size);
    free(text);
    return 0;
}
