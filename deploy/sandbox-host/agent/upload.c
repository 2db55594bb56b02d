/* upload - see upload.h. */
#include "deploy/sandbox-host/agent/upload.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/json.h"
#include "common/httpd/multipart.h"
#include "deploy/sandbox-host/agent/access.h"
#include "deploy/sandbox-host/agent/answers.h"
#include "deploy/sandbox-host/agent/body.h"
#include "deploy/sandbox-host/agent/connect.h"
#include "deploy/sandbox-host/agent/entry.h"
#include "deploy/sandbox-host/agent/user.h"

#define COPY_BYTES         65536
#define DRAIN_MAX_BYTES    (1 << 20)
#define METADATA_PREFIX    "X-Metadata-"
#define METADATA_KEY_BYTES 246  /* XATTR_NAME_MAX less the namespace */
#define METADATA_ALL_BYTES 4096 /* keys with their prefix, and values */

struct upload {
    struct access_request *request;
    cJSON *metadata; /* what the X-Metadata-* headers say, or NULL */
    cJSON *answer;   /* array of what is written */
    int status;      /* of the failure in err */
    bool skipping;   /* inside a part that is no file */
    int fd;
    char *path; /* PATH_MAX */
};

static int upload_fail(struct upload *upload, int status)
{
    upload->status = status;
    return -1;
}

static bool printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < 0x20 || *text > 0x7e) {
            return false;
        }
    }
    return true;
}

static int upload_metadata(struct upload *upload, struct error *err)
{
    const size_t prefix = strlen(METADATA_PREFIX);
    const char *name, *value;
    size_t total = 0;

    for (int i = 0; http_header_at(upload->request->exchange, i, &name, &value); i++) {
        if (strncasecmp(name, METADATA_PREFIX, prefix) != 0) {
            continue;
        }
        char key[METADATA_KEY_BYTES + 1];
        if (name[prefix] == '\0' || str_copy(key, sizeof(key), name + prefix) != 0 ||
            !printable(key) || !printable(value)) {
            upload->status = 400;
            return error_set(err, ERR_INVALID,
                             "metadata keys and values must be printable ASCII, keys at most %d "
                             "bytes",
                             METADATA_KEY_BYTES);
        }
        for (char *at = key; *at != '\0'; at++) {
            *at = (char)(*at >= 'A' && *at <= 'Z' ? *at + 32 : *at);
        }
        if (upload->metadata == NULL) {
            upload->metadata = cJSON_CreateObject();
        }
        if (cJSON_HasObjectItem(upload->metadata, key)) {
            continue; /* the first of several counts */
        }
        total += strlen(ENTRY_XATTR_PREFIX) + strlen(key) + strlen(value);
        cJSON_AddStringToObject(upload->metadata, key, value);
    }
    if (total > METADATA_ALL_BYTES) {
        upload->status = 400;
        return error_set(err, ERR_INVALID, "the metadata is larger than %d bytes",
                         METADATA_ALL_BYTES);
    }
    return 0;
}

/* Replaces the file's metadata by this request's. */
static int apply_metadata(struct upload *upload, struct error *err)
{
    cJSON *old = entry_metadata(upload->fd, NULL);
    const cJSON *item;
    char name[METADATA_KEY_BYTES + sizeof(ENTRY_XATTR_PREFIX)];
    int result = 0;

    cJSON_ArrayForEach(item, old)
    {
        snprintf(name, sizeof(name), ENTRY_XATTR_PREFIX "%s", item->string);
        (void)fremovexattr(upload->fd, name); /* what stays is overwritten or shown as it is */
    }
    cJSON_Delete(old);
    cJSON_ArrayForEach(item, upload->metadata)
    {
        snprintf(name, sizeof(name), ENTRY_XATTR_PREFIX "%s", item->string);
        if (fsetxattr(upload->fd, name, item->valuestring, strlen(item->valuestring), 0) != 0) {
            const int failure = errno;
            upload->status = user_disk_is_full(failure) ? 507 : 500;
            result = error_set_errno(err, ERR_INTERNAL, failure, "error setting metadata");
            break;
        }
    }
    return result;
}

/* Opens upload->path for writing, empty, owned by the user. */
static int upload_open(struct upload *upload, struct error *err)
{
    char parent[PATH_MAX];
    struct stat info;

    /* as in envd, "new/" makes the directory and is then refused as one */
    (void)str_copy(parent, sizeof(parent), upload->path);
    if (parent[strlen(parent) - 1] != '/') {
        path_dir(upload->path, parent);
    }
    if (user_make_dirs(&upload->request->user, parent, err) != 0) {
        error_prefix(err, "error ensuring directories");
        return upload_fail(upload, err->code == ERR_LIMIT ? 507 : 500);
    }
    if (stat(upload->path, &info) == 0 && S_ISDIR(info.st_mode)) {
        error_set(err, ERR_INVALID, "path is a directory: %.200s", upload->path);
        return upload_fail(upload, 400);
    }
    /* non-blocking: a pipe without a reader must not hold this thread */
    upload->fd =
        open(upload->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
    if (upload->fd < 0) {
        const int failure = errno;
        error_set_errno(err, ERR_INTERNAL, failure, "error opening file");
        return upload_fail(upload, user_disk_is_full(failure) ? 507 : 500);
    }
    user_own(&upload->request->user, upload->path);
    return apply_metadata(upload, err);
}

static int upload_write(struct upload *upload, const char *data, size_t length, struct error *err)
{
    while (length > 0) {
        const ssize_t n = write(upload->fd, data, length);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            const int failure = errno;
            if (user_disk_is_full(failure)) {
                error_set(err, ERR_LIMIT, "not enough disk space available");
                return upload_fail(upload, 507);
            }
            error_set_errno(err, ERR_INTERNAL, failure, "error writing file");
            return upload_fail(upload, 500);
        }
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

static int upload_close(struct upload *upload, struct error *err)
{
    char name[NAME_MAX + 1];
    const int failed = close(upload->fd) != 0 ? errno : 0;

    upload->fd = -1;
    if (failed != 0) { /* where a full disk shows late */
        error_set_errno(err, ERR_INTERNAL, failed, "error writing file");
        return upload_fail(upload, user_disk_is_full(failed) ? 507 : 500);
    }
    cJSON *item = cJSON_CreateObject();
    path_base(upload->path, name, sizeof(name));
    entry_add_name(item, "path", upload->path);
    entry_add_name(item, "name", name);
    cJSON_AddStringToObject(item, "type", "file");
    if (upload->metadata != NULL) {
        cJSON_AddItemToObject(item, "metadata", cJSON_Duplicate(upload->metadata, true));
    }
    cJSON_AddItemToArray(upload->answer, item);
    return 0;
}

static int part_begin(void *arg, const char *name, const char *filename, struct error *err)
{
    struct upload *upload = arg;
    const struct access_request *request = upload->request;
    const cJSON *item;

    upload->skipping = strcmp(name, "file") != 0;
    if (upload->skipping) {
        return 0;
    }
    if (user_resolve_path(request->config, &request->user,
                          request->has_path ? request->path : filename, upload->path, err) != 0) {
        error_prefix(err, "error resolving path");
        return upload_fail(upload, 400);
    }
    cJSON_ArrayForEach(item, upload->answer)
    {
        const cJSON *path = cJSON_GetObjectItemCaseSensitive(item, "path");
        if (cJSON_IsString(path) && strcmp(path->valuestring, upload->path) == 0) {
            error_set(err, ERR_INVALID,
                      "you cannot upload multiple files to the same path '%.100s' in one upload "
                      "request, only the first specified file was uploaded",
                      upload->path);
            return upload_fail(upload, 400);
        }
    }
    return upload_open(upload, err);
}

static int part_data(void *arg, const char *data, size_t length, struct error *err)
{
    struct upload *upload = arg;

    return upload->skipping ? 0 : upload_write(upload, data, length, err);
}

static int part_end(void *arg, struct error *err)
{
    struct upload *upload = arg;

    return upload->skipping ? 0 : upload_close(upload, err);
}

static int upload_multipart(struct upload *upload, struct body *body, const char *content_type,
                            struct error *err)
{
    const struct multipart_handler handler = {part_begin, part_data, part_end, upload};
    struct multipart parser;
    char *buffer = xmalloc(COPY_BYTES);
    long n = 0;
    int result = -1;

    upload->status = 500;
    if (multipart_init(&parser, content_type, &handler, err) != 0) {
        error_prefix(err, "error parsing multipart form");
        goto out;
    }
    while ((n = body_read(body, buffer, COPY_BYTES, err)) > 0) {
        if (multipart_feed(&parser, buffer, (size_t)n, err) != 0) {
            goto out;
        }
    }
    result = n < 0 ? error_prefix(err, "error reading form") : multipart_finish(&parser, err);
out:
    multipart_done(&parser);
    free(buffer);
    return result;
}

static int upload_raw(struct upload *upload, struct body *body, struct error *err)
{
    const struct access_request *request = upload->request;
    char *buffer = NULL;
    long n = 0;
    int result = -1;

    upload->status = 400;
    if (!request->has_path) {
        return error_set(err, ERR_INVALID, "path query parameter is required for raw body upload");
    }
    if (user_resolve_path(request->config, &request->user, request->path, upload->path, err) != 0) {
        return error_prefix(err, "error resolving path");
    }
    if (upload_open(upload, err) != 0) {
        return -1;
    }
    buffer = xmalloc(COPY_BYTES);
    while ((n = body_read(body, buffer, COPY_BYTES, err)) > 0) {
        if (upload_write(upload, buffer, (size_t)n, err) != 0) {
            goto out;
        }
    }
    if (n < 0) {
        upload->status = 500;
        error_prefix(err, "error writing file");
        goto out;
    }
    result = upload_close(upload, err);
out:
    free(buffer);
    return result;
}

/* A client that is still sending sees a reset instead of the answer: take a little more. */
static void drain(struct http_exchange *exchange)
{
    char *buffer = xmalloc(COPY_BYTES);

    for (long total = 0, n; total < DRAIN_MAX_BYTES; total += n) {
        n = http_read(exchange, buffer, COPY_BYTES);
        if (n <= 0) {
            break;
        }
    }
    free(buffer);
}

void upload_serve(struct http_exchange *exchange, const struct agent_config *config)
{
    struct access_request *request = xmalloc(sizeof(*request));
    struct upload upload = {.request = request, .fd = -1};
    struct error err = ERROR_INIT;
    struct body body;
    struct strbuf text;
    const char *content_type = http_header(exchange, "Content-Type");
    int result = -1;

    upload.path = xmalloc(PATH_MAX);
    upload.answer = cJSON_CreateArray();
    strbuf_init(&text, 4u << 20);
    if (access_request_init(request, exchange, config, "write", &upload.status, &err) == 0) {
        upload.status = 400;
        if (body_init(&body, exchange, &err) != 0) {
            error_prefix(&err, "error decompressing request body");
        } else if (upload_metadata(&upload, &err) == 0) {
            if (connect_content_type_is(content_type, "application/octet-stream")) {
                result = upload_raw(&upload, &body, &err);
            } else if (content_type != NULL && strncasecmp(content_type, "multipart/", 10) == 0) {
                result = upload_multipart(&upload, &body, content_type, &err);
            } else {
                error_set(&err, ERR_MEDIA_TYPE,
                          "unsupported content type: %.64s, expected multipart/form-data or "
                          "application/octet-stream",
                          content_type != NULL ? content_type : "");
            }
        }
        body_done(&body);
    }
    if (result == 0 && json_print(upload.answer, &text) == 0) {
        /* envd names no type and Go sniffs this one */
        http_respond(exchange, 200, "text/plain; charset=utf-8", "", text.data, text.length);
    } else {
        drain(exchange);
        answer_error(exchange, upload.status, err.message);
    }
    if (upload.fd >= 0) {
        close(upload.fd);
    }
    strbuf_done(&text);
    cJSON_Delete(upload.answer);
    cJSON_Delete(upload.metadata);
    free(upload.path);
    free(request);
}
