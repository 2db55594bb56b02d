/*
 * multipart - see multipart.h.
 */
#include "common/httpd/multipart.h"

#include <string.h>
#include <strings.h>

#include "common/base/encode.h"

#define FEED_BYTES 65536 /* input is taken in pieces, so that `held` stays small */

static const char *skip_space(const char *at)
{
    while (*at == ' ' || *at == '\t') {
        at++;
    }
    return at;
}

/* Reads a token or quoted string; returns behind it, or NULL. Appends to out unless NULL. */
static const char *read_value(const char *at, struct strbuf *out)
{
    if (*at != '"') {
        const size_t length = strcspn(at, "; \t");
        if (out != NULL) {
            strbuf_append(out, at, length);
        }
        return at + length;
    }
    for (at++; *at != '"'; at++) {
        if (*at == '\\' && (at[1] == '"' || at[1] == '\\')) {
            at++;
        }
        if (*at == '\0') {
            return NULL;
        }
        if (out != NULL) {
            strbuf_putc(out, *at);
        }
    }
    return at + 1;
}

int multipart_header_param(const char *header, const char *name, struct strbuf *out)
{
    const size_t name_bytes = strlen(name);
    const char *at = header + strcspn(header, ";");

    while (*at != '\0') {
        at = skip_space(at + 1);
        if (*at == '\0') {
            return 0;
        }
        const size_t length = strcspn(at, "=; \t");
        const bool wanted = length == name_bytes && strncasecmp(at, name, length) == 0;
        at = skip_space(at + length);
        if (*at == '=') {
            at = read_value(skip_space(at + 1), wanted ? out : NULL);
            if (at == NULL) {
                return -1;
            }
            at = skip_space(at);
        }
        if (wanted) {
            return out->overflow ? -1 : 1;
        }
        if (*at != ';' && *at != '\0') {
            return -1;
        }
    }
    return 0;
}

int multipart_init(struct multipart *parser, const char *content_type,
                   const struct multipart_handler *handler, struct error *err)
{
    struct strbuf boundary;
    int result = -1;

    *parser = (struct multipart){.handler = handler, .state = MULTIPART_PREAMBLE};
    strbuf_init(&parser->held, FEED_BYTES + MULTIPART_HEADER_BYTES + MULTIPART_BOUNDARY_BYTES + 64);
    strbuf_init(&boundary, MULTIPART_BOUNDARY_BYTES);
    if (multipart_header_param(content_type, "boundary", &boundary) != 1 || boundary.length == 0) {
        error_set(err, ERR_INVALID, "no multipart boundary param in Content-Type");
        goto out;
    }
    memcpy(parser->delimiter, "\r\n--", 4);
    memcpy(parser->delimiter + 4, boundary.data, boundary.length + 1);
    parser->delimiter_bytes = boundary.length + 4;
    /* the first boundary may stand at the very start, without a line break before it */
    strbuf_puts(&parser->held, "\r\n");
    result = 0;
out:
    strbuf_done(&boundary);
    return result;
}

void multipart_done(struct multipart *parser)
{
    strbuf_done(&parser->held);
}

/* filename*=UTF-8''percent-encoded (RFC 5987) wins over filename. */
static int read_filename(const char *disposition, struct strbuf *out)
{
    const int extended = multipart_header_param(disposition, "filename*", out);

    if (extended == 1 && strncasecmp(out->data, "UTF-8'", 6) == 0) {
        const char *quote = strchr(out->data + 6, '\'');
        if (quote == NULL) {
            return -1;
        }
        strbuf_consume(out, (size_t)(quote + 1 - out->data));
        const long length = percent_decode(out->data, false);
        if (length < 0) {
            return -1;
        }
        out->length = (size_t)length;
        return 0;
    }
    strbuf_reset(out);
    return multipart_header_param(disposition, "filename", out) < 0 ? -1 : 0;
}

/* `text` is the part's header block, NUL-terminated, its lines ended by CRLF. */
static int begin_part(struct multipart *parser, char *text, struct error *err)
{
    struct strbuf name, filename;
    int result = -1;

    strbuf_init(&name, 1024);
    strbuf_init(&filename, MULTIPART_HEADER_BYTES);
    for (char *line = text, *next; line != NULL && *line != '\0'; line = next) {
        next = strstr(line, "\r\n");
        if (next != NULL) {
            *next = '\0';
            next += 2;
        }
        if (strncasecmp(line, "Content-Disposition:", 20) == 0 &&
            (multipart_header_param(line, "name", &name) < 0 ||
             read_filename(line, &filename) < 0)) {
            error_set(err, ERR_INVALID, "malformed Content-Disposition");
            goto out;
        }
    }
    if (!utf8_is_valid(name.data, name.length) || !utf8_is_valid(filename.data, filename.length)) {
        error_set(err, ERR_INVALID, "Content-Disposition is not UTF-8");
        goto out;
    }
    result = parser->handler->begin(parser->handler->arg, name.data, filename.data, err);
out:
    strbuf_done(&name);
    strbuf_done(&filename);
    return result;
}

/*
 * Where the next delimiter stands in what is held, or `*ret_plain` = how many bytes are certainly
 * none. What follows it must be able to follow a boundary: "--xyz" inside "--xyzz" is content.
 */
static const char *find_delimiter(const struct multipart *parser, size_t *ret_plain)
{
    const struct strbuf *held = &parser->held;
    const char *at = held->data, *end = held->data + held->length;
    const size_t size = parser->delimiter_bytes;

    while ((at = memmem(at, (size_t)(end - at), parser->delimiter, size)) != NULL) {
        *ret_plain = (size_t)(at - held->data);
        if (at + size == end || (at[size] == '-' && at + size + 1 == end)) {
            return NULL;
        }
        if (strchr(" \t\r\n", at[size]) != NULL ? at[size] != '\0'
                                                : at[size] == '-' && at[size + 1] == '-') {
            return at;
        }
        at++;
    }
    *ret_plain = held->length >= size ? held->length - size + 1 : 0;
    return NULL;
}

/* The preamble, or the bytes of a part. */
static int step_content(struct multipart *parser, struct error *err)
{
    struct strbuf *held = &parser->held;
    const bool body = parser->state == MULTIPART_BODY;
    size_t plain = 0;
    const char *found = find_delimiter(parser, &plain);

    /* the line break that ends the headers is no content, but may open the next boundary */
    const size_t skip = body && parser->fresh ? 2 : 0;
    if (found == NULL && plain <= skip) {
        return 0;
    }
    if (body && plain > skip &&
        parser->handler->data(parser->handler->arg, held->data + skip, plain - skip, err) != 0) {
        return -1;
    }
    parser->fresh = false;
    if (found == NULL) {
        strbuf_consume(held, plain);
        return 0;
    }
    strbuf_consume(held, plain + parser->delimiter_bytes);
    parser->state = MULTIPART_LINE;
    if (body && parser->handler->end(parser->handler->arg, err) != 0) {
        return -1;
    }
    return 1;
}

/* One step on what is held: 1 = did something, 0 = needs more, -1 = failed. */
static int step(struct multipart *parser, struct error *err)
{
    struct strbuf *held = &parser->held;
    const char *found;

    switch (parser->state) {
    case MULTIPART_PREAMBLE:
    case MULTIPART_BODY:
        return step_content(parser, err);
    case MULTIPART_LINE:
        if (held->length >= 2 && memcmp(held->data, "--", 2) == 0) {
            parser->state = MULTIPART_DONE;
            return 1;
        }
        found = memmem(held->data, held->length, "\r\n", 2);
        if (found == NULL && held->length < 256) {
            return 0;
        }
        if (found == NULL ||
            (size_t)(skip_space(held->data) - held->data) != (size_t)(found - held->data)) {
            return error_set(err, ERR_INVALID, "malformed multipart boundary line");
        }
        /* the break stays: with it, a part without headers ends like any other */
        strbuf_consume(held, (size_t)(found - held->data));
        parser->state = MULTIPART_HEADERS;
        return 1;
    case MULTIPART_HEADERS:
        found = memmem(held->data, held->length, "\r\n\r\n", 4);
        if (found == NULL ? held->length > MULTIPART_HEADER_BYTES
                          : (size_t)(found - held->data) > MULTIPART_HEADER_BYTES) {
            return error_set(err, ERR_INVALID, "the headers of a part are larger than %d bytes",
                             MULTIPART_HEADER_BYTES);
        }
        if (found == NULL) {
            return 0;
        }
        const size_t block = (size_t)(found - held->data);
        if (memchr(held->data, '\0', block) != NULL) {
            return error_set(err, ERR_INVALID, "a part's header has a NUL byte");
        }
        held->data[block] = '\0';
        parser->state = MULTIPART_BODY;
        if (begin_part(parser, held->data + (block >= 2 ? 2 : 0), err) != 0) {
            return -1;
        }
        strbuf_consume(held, block + 2);
        parser->fresh = true;
        return 1;
    case MULTIPART_DONE:
        strbuf_reset(held);
        return 0;
    }
    return 0;
}

int multipart_feed(struct multipart *parser, const char *data, size_t length, struct error *err)
{
    int result;

    while (length > 0) {
        const size_t piece = length < FEED_BYTES ? length : FEED_BYTES;
        if (strbuf_append(&parser->held, data, piece) != 0) {
            return error_set(err, ERR_INVALID, "malformed multipart body");
        }
        data += piece;
        length -= piece;
        while ((result = step(parser, err)) > 0) {}
        if (result < 0) {
            return -1;
        }
    }
    return 0;
}

int multipart_finish(struct multipart *parser, struct error *err)
{
    if (parser->state != MULTIPART_DONE) {
        return error_set(err, ERR_INVALID, "error reading form: unexpected EOF");
    }
    return 0;
}
