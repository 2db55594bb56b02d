/*
 * Fuzz target: the multipart parser of uploads. The first byte chooses how the rest is split;
 * whatever the split, parts, names and bytes must be the same, and so must the verdict.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/strbuf.h"
#include "common/httpd/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct seen {
    struct strbuf text;
    bool open;
};

static int on_begin(void *arg, const char *name, const char *filename, struct error *err)
{
    struct seen *seen = arg;

    if (seen->open) {
        abort();
    }
    seen->open = true;
    strbuf_printf(&seen->text, "[%s|%s|", name, filename);
    return strcmp(name, "refuse") == 0 ? error_set(err, ERR_INVALID, "refused") : 0;
}

static int on_data(void *arg, const char *data, size_t length, struct error *err)
{
    struct seen *seen = arg;

    (void)err;
    if (!seen->open || length == 0) {
        abort();
    }
    strbuf_append(&seen->text, data, length);
    return 0;
}

static int on_end(void *arg, struct error *err)
{
    struct seen *seen = arg;

    (void)err;
    if (!seen->open) {
        abort();
    }
    seen->open = false;
    strbuf_puts(&seen->text, "]");
    return 0;
}

/* Feeds in pieces of step bytes, 0 = at once. */
static int feed(const char *type, const uint8_t *data, size_t size, size_t step, struct seen *seen)
{
    const struct multipart_handler handler = {on_begin, on_data, on_end, seen};
    struct multipart parser;
    struct error err = ERROR_INIT;

    *seen = (struct seen){.open = false};
    strbuf_init(&seen->text, 1 << 20);
    int result = multipart_init(&parser, type, &handler, &err);
    while (size > 0 && result == 0) {
        const size_t piece = step == 0 || step > size ? size : step;
        result = multipart_feed(&parser, (const char *)data, piece, &err);
        data += piece;
        size -= piece;
    }
    if (result == 0) {
        result = multipart_finish(&parser, &err);
    }
    multipart_done(&parser);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct seen whole, split;
    struct strbuf value;

    if (size < 1 || size > 65536) {
        return 0;
    }
    const char *type = "multipart/form-data; boundary=b";
    const int a = feed(type, data + 1, size - 1, 0, &whole);
    const int b = feed(type, data + 1, size - 1, (size_t)data[0] % 17 + 1, &split);
    /* a malformed body may be refused earlier in one piece than in many: only bytes before count */
    if (a != b || (a == 0 && (whole.text.length != split.text.length ||
                              memcmp(whole.text.data, split.text.data, whole.text.length) != 0))) {
        abort();
    }
    strbuf_done(&whole.text);
    strbuf_done(&split.text);

    char *header = malloc(size);
    if (header == NULL) {
        abort();
    }
    memcpy(header, data + 1, size - 1);
    header[size - 1] = '\0';
    strbuf_init(&value, 256);
    (void)multipart_header_param(header, "filename", &value);
    strbuf_done(&value);
    (void)feed(header, data, size, 0, &whole);
    strbuf_done(&whole.text);
    free(header);
    return 0;
}
