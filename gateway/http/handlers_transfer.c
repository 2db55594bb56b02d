/*
 * handlers_transfer - upload and download of files of any size, with constant memory.
 *
 * What is read from one side is written to the other before more is read. An upload is a multipart
 * form whose fields precede its file, because the target must be known before the bytes arrive.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/httpd/multipart.h"
#include "common/httpd/range.h"
#include "gateway/data/data_call.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"
#include "gateway/work/idempotency.h"

enum { PIECE_BYTES = 65536 };

/* ---- upload ------------------------------------------------------------------------------------
 */

enum upload_part { PART_ID, PART_PATH, PART_KEY, PART_OFFSET, FIELD_COUNT, PART_FILE, PART_OTHER };

struct upload {
    struct request *request;
    struct multipart parser;
    struct multipart_handler handler;
    enum upload_part part;
    struct strbuf field[FIELD_COUNT];
    bool has_field[FIELD_COUNT];
    bool has_file;
    bool broken;           /* the body broke off, and the part of the file that arrived is kept */
    int64_t offset;        /* offset of the file's first byte in the whole content */
    int64_t have;          /* bytes of the content that are stored */
    bool finished;         /* the body has been read to its end */
    struct strbuf pending; /* bytes of the file, read but not yet sent to the provider */
    size_t given;          /* bytes of `pending` already sent */
    int64_t bytes;         /* bytes of the file sent so far */
    struct sha256 *sha256; /* hash of these bytes */
    struct error err;      /* why reading stopped */
};

static const char *const field_names[FIELD_COUNT] = {"sandbox_id", "file_path", "resume_key",
                                                     "offset"};

static int on_begin(void *arg, const char *name, const char *filename, struct error *err)
{
    struct upload *upload = arg;

    (void)filename;
    if (upload->has_file) {
        return error_set(err, ERR_INVALID, "file must be the last part of the form");
    }
    upload->part = PART_OTHER;
    for (int i = 0; i < FIELD_COUNT; i++) {
        if (strcmp(name, field_names[i]) != 0) {
            continue;
        }
        if (upload->has_field[i]) {
            return error_set(err, ERR_INVALID, "%s is given twice", name);
        }
        upload->has_field[i] = true;
        upload->part = (enum upload_part)i;
    }
    if (strcmp(name, "file") == 0) {
        for (int i = 0; i < FIELD_COUNT; i++) {
            if (!upload->has_field[i] && (i == PART_ID || i == PART_PATH ||
                                          (i == PART_KEY && upload->has_field[PART_OFFSET]))) {
                return error_set(err, ERR_INVALID, "%s is required, before file", field_names[i]);
            }
        }
        upload->has_file = true;
        upload->part = PART_FILE;
    }
    return 0;
}

static int on_data(void *arg, const char *data, size_t length, struct error *err)
{
    struct upload *upload = arg;

    if (upload->part == PART_FILE) {
        return strbuf_append(&upload->pending, data, length) < 0
                   ? error_set(err, ERR_INTERNAL, "more of a file than was read")
                   : 0;
    } else if (upload->part != PART_OTHER &&
               strbuf_append(&upload->field[upload->part], data, length) < 0) {
        return error_set(err, ERR_INVALID, "%s is longer than %zu bytes", field_names[upload->part],
                         upload->field[upload->part].max_bytes);
    }
    return 0;
}

static int on_end(void *arg, struct error *err)
{
    struct upload *upload = arg;

    if (upload->part < FIELD_COUNT) {
        const struct strbuf *field = &upload->field[upload->part];

        if (field->length == 0 || strlen(field->data) != field->length ||
            !utf8_is_valid(field->data, field->length)) {
            return error_set(err, ERR_INVALID, "%s is empty or not UTF-8",
                             field_names[upload->part]);
        }
    }
    upload->part = PART_OTHER;
    return 0;
}

/* Reads one piece of the body and parses it. */
static int pump(struct upload *upload)
{
    char *piece = xmalloc(PIECE_BYTES);
    long got = http_read(upload->request->http, piece, PIECE_BYTES);
    int status = 0;

    if (got < 0) {
        http_read_error(upload->request->http, &upload->err);
        status = -1;
    } else if (got == 0) {
        upload->finished = true;
        status = multipart_finish(&upload->parser, &upload->err);
    } else {
        status = multipart_feed(&upload->parser, piece, (size_t)got, &upload->err);
    }
    free(piece);
    return status;
}

/* Returns the file's next bytes. It reports the end only after the rest of the form was valid. */
static long next_bytes(void *arg, void *buf, size_t bytes)
{
    struct upload *upload = arg;
    size_t now;

    while (upload->given == upload->pending.length) {
        if (upload->finished) {
            return 0;
        }
        strbuf_reset(&upload->pending);
        upload->given = 0;
        if (pump(upload) < 0) {
            /* an upload that can be resumed keeps what arrived, so the file ends here */
            upload->broken = upload->has_field[PART_KEY];
            return upload->broken ? 0 : -1;
        }
    }
    now = upload->pending.length - upload->given;
    now = now < bytes ? now : bytes;
    memcpy(buf, upload->pending.data + upload->given, now);
    sha256_add(upload->sha256, buf, now);
    upload->given += now;
    upload->bytes += (int64_t)now;
    return (long)now;
}

static int send_file(const struct data_call *call, void *arg, struct error *err)
{
    struct upload *upload = arg;

    /* sandbox_files_write() checks the path before it reads the first byte */
    if (upload->bytes > 0) {
        return error_set(err, ERR_PROVIDER_DOWN, "the sandbox went away during the upload");
    }
    if (upload->has_field[PART_KEY]) {
        if (sandbox_files_resume(&call->files, upload->field[PART_PATH].data,
                                 upload->field[PART_KEY].data, upload->offset, next_bytes, upload,
                                 &upload->broken, &upload->have, err) < 0) {
            return -1;
        }
        if (upload->broken) {
            *err = upload->err;
            return -1;
        }
        return 0;
    }
    if (sandbox_files_write(&call->files, upload->field[PART_PATH].data, next_bytes, upload,
                            upload->finished ? (int64_t)upload->pending.length : -1, err) < 0) {
        if (upload->err.code != ERR_OK) {
            *err = upload->err;
        }
        return -1;
    }
    return 0;
}

/* Reads resume_key and offset (at most 18 digits). */
static int read_resume(struct upload *upload, struct error *err)
{
    const struct strbuf *offset = &upload->field[PART_OFFSET];

    if (upload->has_field[PART_KEY] && !sandbox_files_key_is_valid(upload->field[PART_KEY].data)) {
        return error_set(err, ERR_INVALID,
                         "resume_key must be 1 to %d letters, digits, \"_\" or \"-\"",
                         FILES_KEY_MAX_BYTES);
    }
    if (upload->has_field[PART_OFFSET]) {
        if (strspn(offset->data, "0123456789") != offset->length) {
            return error_set(err, ERR_INVALID, "offset must be a number of bytes");
        }
        upload->offset = strtoll(offset->data, NULL, 10);
    }
    return 0;
}

static int read_fields(struct upload *upload, char sandbox_id[UUID_BYTES], struct error *err)
{
    const char *type = http_header(upload->request->http, "Content-Type");

    if (type == NULL || strncasecmp(type, "multipart/form-data", 19) != 0) {
        return error_set(err, ERR_MEDIA_TYPE, "Content-Type must be multipart/form-data");
    }
    if (multipart_init(&upload->parser, type, &upload->handler, err) < 0) {
        return -1;
    }
    while (!upload->has_file && !upload->finished) {
        if (pump(upload) < 0) {
            *err = upload->err;
            return -1;
        }
    }
    if (!upload->has_file) {
        return error_set(err, ERR_INVALID, "file is required");
    }
    /* a small form is checked whole before anything is sent */
    while (!upload->finished && upload->pending.length < PIECE_BYTES) {
        if (pump(upload) < 0) {
            *err = upload->err;
            return -1;
        }
    }
    if (!id_is_uuid(upload->field[PART_ID].data)) {
        return error_set(err, ERR_INVALID, "sandbox_id must be a UUID");
    }
    str_copy(sandbox_id, UUID_BYTES, upload->field[PART_ID].data);
    id_lower(sandbox_id);
    return read_resume(upload, err);
}

/* Reads the rest of the file, to compare its hash with that of the earlier request. */
static int read_rest(struct upload *upload, struct error *err)
{
    char *piece = xmalloc(PIECE_BYTES);
    long got;

    while ((got = next_bytes(upload, piece, PIECE_BYTES)) > 0) {}
    free(piece);
    if (got < 0) {
        *err = upload->err;
        return -1;
    }
    return 0;
}

/* Two forms are the same when their fields and the bytes of the file agree. */
static void hash_form(struct upload *upload, const char *head)
{
    char file_hash[SHA256_HEX_BYTES];

    sha256_finish(upload->sha256, file_hash);
    upload->sha256 = NULL;
    idempotency_form_read(upload->request, head, file_hash);
}

static void respond_uploaded(struct upload *upload)
{
    cJSON *data = view_done("File uploaded successfully");

    json_add_int64(data, "bytes", upload->offset + upload->bytes);
    respond_data(upload->request, 200, data);
}

/* Writes the file; or, if its Idempotency-Key has an answer, reads it and replays that answer. */
static int take_file(struct upload *upload, const char *sandbox_id, struct error *err)
{
    struct strbuf head;
    int status;

    strbuf_init(&head, UUID_BYTES + DATA_PATH_MAX_BYTES + FILES_KEY_MAX_BYTES + 32);
    strbuf_printf(&head, "%s %s", sandbox_id, upload->field[PART_PATH].data);
    if (upload->has_field[PART_KEY]) {
        strbuf_printf(&head, " %s %lld", upload->field[PART_KEY].data, (long long)upload->offset);
    }
    status = idempotency_begin_form(upload->request, head.data, err);
    if (status == 0 &&
        (status = data_call_run(upload->request, sandbox_id, send_file, upload, err)) == 0) {
        hash_form(upload, head.data);
        respond_uploaded(upload);
    } else if (status > 0 && (status = read_rest(upload, err)) == 0) {
        hash_form(upload, head.data);
        status = idempotency_replay(upload->request, err);
    }
    strbuf_done(&head);
    return status;
}

/* Answers a failed upload. If it can be resumed, the answer has the offset to resume from. */
static void respond_upload_error(struct upload *upload, const struct error *err)
{
    cJSON *details = NULL;

    if (upload->has_field[PART_KEY] && (err->code == ERR_CONFLICT || upload->broken)) {
        details = cJSON_CreateObject();
        json_add_int64(details, "offset", upload->have);
    }
    respond_error_details(upload->request, err, 0, details, "");
}

void handle_upload_file(struct request *request)
{
    struct upload upload = {.request = request, .part = PART_OTHER};
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];

    upload.handler = (struct multipart_handler){on_begin, on_data, on_end, &upload};
    strbuf_init(&upload.field[PART_ID], UUID_BYTES);
    strbuf_init(&upload.field[PART_PATH], DATA_PATH_MAX_BYTES);
    strbuf_init(&upload.field[PART_KEY], FILES_KEY_MAX_BYTES);
    strbuf_init(&upload.field[PART_OFFSET], 18);
    strbuf_init(&upload.pending, 2 * PIECE_BYTES + MULTIPART_HEADER_BYTES);
    upload.sha256 = sha256_new();
    if (read_fields(&upload, sandbox_id, &err) < 0 || take_file(&upload, sandbox_id, &err) < 0) {
        respond_upload_error(&upload, &err);
    }
    if (upload.sha256 != NULL) {
        sha256_finish(upload.sha256, NULL);
    }
    multipart_done(&upload.parser);
    for (int i = 0; i < FIELD_COUNT; i++) {
        strbuf_done(&upload.field[i]);
    }
    strbuf_done(&upload.pending);
}

/* ---- download ----------------------------------------------------------------------------------
 */

struct download {
    struct request *request;
    const char *path;
    const struct sandbox_files_source *source;
    enum range_kind range;
    int64_t first, length; /* range wanted; length -1 = to the end */
    int64_t skip;          /* bytes to skip before the range */
    int64_t left;          /* bytes left to send; negative = unknown */
    bool begun;            /* the answer's head was sent */
    bool answered;         /* an error was answered */
};

static void put_etag(const struct sandbox_files_source *source, char *out, size_t size)
{
    snprintf(out, size, source->tag[0] != '\0' ? "\"%s-%lld\"" : "%s", source->tag,
             (long long)source->bytes);
}

/* Chooses the range of the opened file. ERR_RANGE. */
static int choose_range(struct download *download, struct error *err)
{
    struct http_exchange *http = download->request->http;
    const char *if_range = http_header(http, "If-Range");
    const int64_t size = download->source->bytes;
    char etag[FILES_TAG_BYTES + 32];

    put_etag(download->source, etag, sizeof(etag));
    download->first = 0;
    download->length = -1;
    download->range = RANGE_NONE;
    /* a file without a known size is copied anew for each download */
    if (!download->source->is_copy && (if_range == NULL || strcmp(if_range, etag) == 0)) {
        download->range =
            http_range_parse(http_header(http, "Range"), size, &download->first, &download->length);
    }
    if (download->range == RANGE_BAD) {
        return error_set(err, ERR_RANGE, "the file has %lld bytes", (long long)size);
    }
    if (download->range == RANGE_NONE) {
        download->first = 0;
        download->length = -1;
    }
    return 0;
}

/* Begins the answer; its size is that of the opened file. The provider sends `bytes` bytes from
 * `first`. */
static int begin_download(void *arg, int64_t first, int64_t bytes)
{
    struct download *download = arg;
    char headers[512], etag[FILES_TAG_BYTES + 32];
    int used;

    if (first > download->first || (download->range == RANGE_ONE && bytes >= 0 &&
                                    bytes < download->first - first + download->length)) {
        return -1; /* the file has shrunk since it was opened */
    }
    download->skip = download->first - first;
    download->left = download->length;
    put_etag(download->source, etag, sizeof(etag));
    used = snprintf(headers, sizeof(headers),
                    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
                    "Accept-Ranges: %s\r\n",
                    download->source->is_copy ? "none" : "bytes");
    if (etag[0] != '\0') {
        used += snprintf(headers + used, sizeof(headers) - (size_t)used, "ETag: %s\r\n", etag);
    }
    if (download->range == RANGE_ONE) {
        snprintf(headers + used, sizeof(headers) - (size_t)used,
                 "Content-Range: bytes %lld-%lld/%lld\r\n", (long long)download->first,
                 (long long)(download->first + download->length - 1),
                 (long long)download->source->bytes);
    }
    download->begun = true;
    return respond_stream_status(download->request, download->range == RANGE_ONE ? 206 : 200,
                                 "application/octet-stream", headers,
                                 download->range == RANGE_ONE ? download->length : bytes);
}

static int pass_on(void *arg, const void *data, size_t bytes)
{
    struct download *download = arg;
    const char *at = data;
    const int64_t skipped = download->skip < (int64_t)bytes ? download->skip : (int64_t)bytes;

    download->skip -= skipped;
    at += skipped;
    bytes -= (size_t)skipped;
    if (download->left >= 0 && (int64_t)bytes > download->left) {
        bytes = (size_t)download->left;
    }
    if (bytes > 0 && http_stream_write(download->request->http, at, bytes) < 0) {
        return -1;
    }
    request_count_sent(download->request, bytes);
    download->left -= download->left > 0 ? (int64_t)bytes : 0;
    return 0;
}

static int fetch_file(const struct data_call *call, void *arg, struct error *err)
{
    struct download *download = arg;
    struct sandbox_files_source source;
    int status;

    if (sandbox_files_open(&call->files, download->path, &source, err) < 0) {
        return -1;
    }
    download->source = &source;
    status = choose_range(download, err);
    if (status == 0) {
        struct file_get get = {.offset = download->first,
                               .bytes = download->length,
                               .on_begin = begin_download,
                               .on_data = pass_on,
                               .arg = download};
        status = sandbox_files_read(&call->files, &source, &get, err);
    } else {
        char headers[64];
        snprintf(headers, sizeof(headers), "Content-Range: bytes */%lld\r\n",
                 (long long)source.bytes);
        respond_error_details(download->request, err, 0, NULL, headers);
        download->answered = true;
    }
    sandbox_files_close(&call->files, &source);
    download->source = NULL;
    if (status < 0 && download->begun && err->code == ERR_SANDBOX_NOT_FOUND) {
        err->code = ERR_PROVIDER_DOWN; /* an answer that has begun cannot be started again */
    }
    return status;
}

void handle_download_file(struct request *request)
{
    struct download download = {.request = request};
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    int status = -1;

    if (data_read_target(request, "file_path", sandbox_id, &download.path, &err) == 0) {
        status = data_call_run(request, sandbox_id, fetch_file, &download, &err);
    }
    if (status == 0) {
        (void)http_stream_end(request->http);
    } else if (!download.begun && !download.answered) {
        respond_error(request, &err, 0);
    } else if (download.begun) {
        /* the connection ends before the announced length, or without the last chunk */
        cJSON_Delete(request_error_json(request, &err));
    }
}
