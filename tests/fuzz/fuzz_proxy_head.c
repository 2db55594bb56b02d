/*
 * Fuzz target: what the proxy understands of a message: its head, how it is rewritten, how
 * far its body goes. The first byte chooses how the body is split. Whatever comes in: the rewritten
 * head is one head without hop-by-hop lines of its sender, and a masked one knows one host;
 * whatever the split, the body ends at the same byte.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/proxy/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_rewrite(const char *head)
{
    struct strbuf out;
    char value[64];

    strbuf_init(&out, 1 << 20);
    head_rewrite(head, &(struct head_edit){.connection = "close", .set = "X-Extra: 1\r\n"}, &out);
    if (out.overflow || head_length(out.data, out.length) != out.length ||
        !head_value(out.data, "Connection", value, sizeof(value)) || strcmp(value, "close") != 0 ||
        head_has(out.data, "Keep-Alive") || !head_has(out.data, "X-Extra") ||
        head_has(out.data, "Content-Length") != head_has(head, "Content-Length") ||
        head_has(out.data, "Transfer-Encoding") != head_has(head, "Transfer-Encoding")) {
        abort();
    }
    strbuf_reset(&out);
    const struct head_edit edit = {
        .connection = "close", .host = "mask:1", .path = "/p?q", .drop = "cookie, authorization"};
    head_rewrite(head, &edit, &out);
    if (head_has(out.data, "Cookie") || head_has(out.data, "Authorization") ||
        head_length(out.data, out.length) != out.length ||
        !head_value(out.data, "Host", value, sizeof(value)) || strcmp(value, "mask:1") != 0 ||
        head_has(strstr(out.data, "\r\n") + 2, "Host")) {
        abort();
    }
    strbuf_done(&out);
}

/* Bytes of the body, fed in pieces of `step` (0 = at once). */
static size_t feed(struct body_scan scan, const char *body, size_t size, size_t step,
                   int *ret_state)
{
    size_t taken = 0;

    while (taken < size && scan.state != BODY_DONE && scan.state != BODY_BROKEN) {
        const size_t piece = step == 0 || step > size - taken ? size - taken : step;
        const size_t now = body_scan_feed(&scan, body + taken, piece);

        if (now > piece || (now < piece && scan.state != BODY_DONE && scan.state != BODY_BROKEN)) {
            abort();
        }
        taken += now;
    }
    *ret_state = (int)scan.state;
    return taken;
}

static void check_body(const struct body_scan *scan, const char *body, size_t size, size_t step)
{
    int whole_state, split_state;
    const size_t a = feed(*scan, body, size, 0, &whole_state);
    const size_t b = feed(*scan, body, size, step, &split_state);

    if (a != b || whole_state != split_state) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct body_scan scan;
    char path[128], query[128];

    if (size < 1) {
        return 0;
    }
    const size_t length = head_length((const char *)data + 1, size - 1);
    if (length == 0 || memchr(data + 1, '\0', length) != NULL) {
        return 0;
    }
    const size_t step = (size_t)data[0] % 17 + 1;
    const char *body = (const char *)data + 1 + length;
    const size_t body_bytes = size - 1 - length;
    char *head = malloc(length + 1);
    if (head == NULL) {
        abort();
    }
    memcpy(head, data + 1, length);
    head[length] = '\0';
    check_rewrite(head);
    if (head_target(head, path, sizeof(path), query, sizeof(query)) &&
        (strpbrk(path, " ?\r") != NULL || strpbrk(query, " \r") != NULL)) {
        abort();
    }
    const int status = head_status(head);
    if (status < 0 || status > 999 ||
        (head_keeps_alive(head) && head_lists(head, "Connection", "close"))) {
        abort();
    }
    if (body_scan_request(&scan, head)) {
        check_body(&scan, body, body_bytes, step);
    }
    body_scan_response(&scan, head, false);
    check_body(&scan, body, body_bytes, step);
    free(head);
    return 0;
}
