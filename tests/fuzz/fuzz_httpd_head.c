/*
 * Fuzz target: where a request's head ends, and the form in which CivetWeb gets it. Whatever comes
 * in, in one piece or in two: the end is the same; what CivetWeb gets is one head of the same kind,
 * which written anew stays as it is, and its target is a path without a blank.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/httpd/httpd_head.h"
#include "common/httpd/httpd_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OUT_BYTES = 4 * 8192 };

static void must(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void check_line(const char *out, size_t bytes)
{
    const char *path = memchr(out, ' ', bytes);

    must(path != NULL && path[1] == '/');
    path = memchr(path + 1, ' ', bytes - (size_t)(path + 1 - out));
    must(path != NULL && strncmp(path, " HTTP/1.1\r\n", 11) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *head = malloc(size + 1), *out = malloc(OUT_BYTES), *again = malloc(OUT_BYTES);
    size_t at = 0, bytes = 0, split_at = 0, split_bytes = 0;
    struct head_facts facts, facts_again;
    struct error err = ERROR_INIT;
    long length;

    memcpy(head, data, size);
    head[size] = '\0';
    const enum head_scan scan = head_scan(head, size, &at, &bytes);
    if (head_scan(head, size / 2, &split_at, &split_bytes) == HEAD_PARTIAL) {
        must(head_scan(head, size, &split_at, &split_bytes) == scan && split_bytes == bytes);
    }
    if (scan == HEAD_WHOLE) {
        (void)head_body_ahead(head, bytes);
        length = head_for_civetweb(head, bytes, out, OUT_BYTES, &facts, &err);
        must((length < 0) == (err.code != ERR_OK));
        if (length > 0) {
            at = 0;
            must(head_scan(out, (size_t)length, &at, &bytes) == HEAD_WHOLE &&
                 bytes == (size_t)length);
            check_line(out, bytes);
            must(head_for_civetweb(out, bytes, again, OUT_BYTES, &facts_again, &err) == length &&
                 memcmp(out, again, bytes) == 0 && facts_again.target_fault == NULL &&
                 !facts_again.http_1_0 && !facts_again.close);
        }
    }
    free(head);
    free(out);
    free(again);
    return 0;
}
