/* form_upload - see form_upload.h. */
#include "common/provider/form_upload.h"

#include <string.h>

#include "common/base/id.h"

enum { HEAD_MAX_BYTES = 64 * 1024, TAIL_MAX_BYTES = 1024, ANSWER_MAX_BYTES = 16 * 1024 };

void form_upload_init(struct form_upload *upload, file_read_fn read, void *arg, int64_t bytes)
{
    *upload = (struct form_upload){.read = read, .arg = arg, .left = bytes};
    strbuf_init(&upload->head, HEAD_MAX_BYTES);
    strbuf_init(&upload->tail, TAIL_MAX_BYTES);
    strbuf_init(&upload->answer, ANSWER_MAX_BYTES);
}

void form_upload_done(struct form_upload *upload)
{
    strbuf_done(&upload->head);
    strbuf_done(&upload->tail);
    strbuf_done(&upload->answer);
}

int form_upload_multipart(struct form_upload *upload, struct http_request *request,
                          const char *path_field, const char *path, const char *file_field,
                          struct error *err)
{
    char boundary[UUID_BYTES];

    id_uuid(boundary);
    strbuf_printf(&request->headers, "Content-Type: multipart/form-data; boundary=%s\n", boundary);
    if (path_field != NULL) {
        strbuf_printf(&upload->head,
                      "--%s\r\nContent-Disposition: form-data; name=\"%s\"\r\n\r\n%s\r\n", boundary,
                      path_field, path);
    }
    strbuf_printf(&upload->head,
                  "--%s\r\nContent-Disposition: form-data; name=\"%s\"; filename=\"file\"\r\n"
                  "Content-Type: application/octet-stream\r\n\r\n",
                  boundary, file_field);
    strbuf_printf(&upload->tail, "\r\n--%s--\r\n", boundary);
    return upload->head.overflow ? error_set(err, ERR_INVALID, "the path is too long") : 0;
}

static size_t put_part(const struct strbuf *part, size_t *at, char *buf, size_t bytes)
{
    size_t n = part->length - *at < bytes ? part->length - *at : bytes;

    memcpy(buf, part->data + *at, n);
    *at += n;
    return n;
}

static long next_bytes(void *arg, void *buf, size_t bytes)
{
    struct form_upload *upload = arg;

    if (upload->head_at < upload->head.length) {
        return (long)put_part(&upload->head, &upload->head_at, buf, bytes);
    }
    if (!upload->content_over) {
        if (upload->left > 0 && (int64_t)bytes > upload->left) {
            bytes = (size_t)upload->left;
        }
        long got = upload->left == 0 ? 0 : upload->read(upload->arg, buf, bytes);
        if (got < 0 || (got == 0 && upload->left > 0)) {
            upload->failed = true;
            return -1;
        }
        if (got > 0) {
            upload->sent += got;
            upload->left -= upload->left > 0 ? got : 0;
            return got;
        }
        upload->content_over = true;
    }
    return (long)put_part(&upload->tail, &upload->tail_at, buf, bytes);
}

static int take_answer(void *arg, const void *data, size_t bytes)
{
    struct form_upload *upload = arg;

    return strbuf_append(&upload->answer, data, bytes);
}

void form_upload_send(struct form_upload *upload, struct http_client *client,
                      const struct http_request *request, int64_t idle_ms,
                      struct http_response *ret)
{
    const struct http_stream stream = {
        .on_data = take_answer,
        .read_body = next_bytes,
        .arg = upload,
        .body_bytes = upload->left < 0 ? -1
                                       : (int64_t)upload->head.length + upload->left +
                                             (int64_t)upload->tail.length,
        .idle_ms = idle_ms,
    };

    http_client_stream(client, request, &stream, ret);
}
