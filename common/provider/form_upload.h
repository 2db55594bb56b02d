/*
 * form_upload - sends one file as multipart/form-data (RFC 7578), produced while it is sent.
 *
 * Owns: the bytes before and after the content, the check that the announced length is produced.
 * Does not own: the request. Threads: not shared. Failure: `failed`.
 */
#ifndef PROVIDER_FORM_UPLOAD_H
#define PROVIDER_FORM_UPLOAD_H

#include "common/provider/http.h"

struct form_upload {
    struct strbuf head, tail; /* filled by the caller after form_upload_init(); both may be empty */
    struct strbuf answer;     /* the receiver's answer */
    int64_t sent;             /* content bytes */
    bool failed;              /* the content ended early, or its source failed */
    /* private */
    file_read_fn read;
    void *arg;
    int64_t
        left; /* content bytes left of the announced length; negative = no length was announced */
    size_t head_at, tail_at;
    bool content_over;
};

/* bytes: length of the content; -1 = unknown. */
void form_upload_init(struct form_upload *upload, file_read_fn read, void *arg, int64_t bytes);
void form_upload_done(struct form_upload *upload);
/* Adds the Content-Type header and a file part to a form that ends behind it. `path_field` is a
 * field with the path before it, or NULL; `file_field` is the file's. ERR_INVALID: too long. */
int form_upload_multipart(struct form_upload *upload, struct http_request *request,
                          const char *path_field, const char *path, const char *file_field,
                          struct error *err) MUST_CHECK;
/* Sends the form; the exchange ends after idle_ms without progress. */
void form_upload_send(struct form_upload *upload, struct http_client *client,
                      const struct http_request *request, int64_t idle_ms,
                      struct http_response *ret);

#endif
