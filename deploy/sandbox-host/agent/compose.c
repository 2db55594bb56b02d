/*
 * compose - see compose.h. The sources go once the whole is there.
 *
 * The whole is written beside the destination and renamed onto it, so that a failure leaves what
 * was there. The kernel copies (copy_file_range), where the file systems let it.
 */
#include "deploy/sandbox-host/agent/compose.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/id.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/agent/answers.h"
#include "deploy/sandbox-host/agent/entry.h"
#include "deploy/sandbox-host/agent/user.h"

#define BODY_MAX_BYTES (4u << 20)
#define SOURCES_MAX    10000 /* as many parts as an S3 upload may have */
#define COPY_BYTES     (1u << 20)

struct compose {
    const struct agent_config *config;
    struct user user;
    char **sources;
    size_t count;
    char *destination, *unfinished; /* PATH_MAX each */
    int fd;                         /* of the unfinished file */
    int status;                     /* of the failure in err */
};

static int fail_with(struct compose *compose, int status)
{
    compose->status = status;
    return -1;
}

/* A failed write, which may be a full disk. */
static int fail_errno(struct compose *compose, const char *what, int errnum, struct error *err)
{
    if (user_disk_is_full(errnum)) {
        error_set(err, ERR_LIMIT, "not enough disk space available");
        return fail_with(compose, 507);
    }
    error_set_errno(err, ERR_INTERNAL, errnum, "%s", what);
    return fail_with(compose, 500);
}

static int check_source(struct compose *compose, const char *name, struct error *err)
{
    struct stat info;
    char *path = xmalloc(PATH_MAX);

    compose->sources[compose->count++] = path;
    compose->status = 400;
    if (user_resolve_path(compose->config, &compose->user, name, path, err) != 0) {
        return error_prefix(err, "error resolving source path");
    }
    if (strcmp(path, compose->destination) == 0) {
        return error_set(err, ERR_INVALID,
                         "source path \"%.200s\" cannot be the same as destination", name);
    }
    if (stat(path, &info) != 0) {
        error_set(err, ERR_FILE_NOT_FOUND, "source file not found: %.200s", name);
        return fail_with(compose, 404);
    }
    if (!S_ISREG(info.st_mode)) {
        return error_set(err, ERR_INVALID, "source path is not a regular file: %.200s", name);
    }
    return 0;
}

static int read_request(struct compose *compose, const cJSON *root, struct error *err)
{
    const cJSON *sources = cJSON_GetObjectItemCaseSensitive(root, "source_paths"), *item;
    const char *destination = NULL, *username = NULL;
    const int count = cJSON_IsArray(sources) ? cJSON_GetArraySize(sources) : 0;

    compose->status = 400;
    if (count < 1 || count > SOURCES_MAX) {
        return error_set(err, ERR_INVALID, "source_paths must not be empty, and at most %d",
                         SOURCES_MAX);
    }
    if (json_get_string_req(root, "destination", 1, PATH_MAX - 1, &destination, err) != 0 ||
        json_get_string(root, "username", 63, "", &username, err) != 0) {
        return -1;
    }
    if (user_lookup(compose->config, username, &compose->user, err) != 0) {
        error_prefix(err, "error looking up user");
        return fail_with(compose, 401);
    }
    if (user_resolve_path(compose->config, &compose->user, destination, compose->destination,
                          err) != 0) {
        return error_prefix(err, "error resolving destination path");
    }
    compose->sources = xcalloc((size_t)count, sizeof(*compose->sources));
    cJSON_ArrayForEach(item, sources)
    {
        if (!cJSON_IsString(item)) {
            compose->status = 400;
            return error_set(err, ERR_INVALID, "source_paths: not an array of strings");
        }
        if (check_source(compose, item->valuestring, err) != 0) {
            return -1;
        }
    }
    return 0;
}

static int open_unfinished(struct compose *compose, struct error *err)
{
    char *parent = xmalloc(PATH_MAX), unique[17] = "";
    int result = -1;

    path_dir(compose->destination, parent);
    if (user_make_dirs(&compose->user, parent, err) != 0) {
        error_prefix(err, "error ensuring directories");
        compose->status = err->code == ERR_LIMIT ? 507 : 500;
        goto out;
    }
    id_random_alnum(unique, sizeof(unique) - 1);
    if (snprintf(compose->unfinished, PATH_MAX, "%s.e2b-compose.%s.tmp", compose->destination,
                 unique) >= PATH_MAX) {
        compose->status = 400;
        error_set(err, ERR_INVALID, "the destination's path is too long");
        compose->unfinished[0] = '\0';
        goto out;
    }
    compose->fd = open(compose->unfinished, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (compose->fd < 0) {
        (void)fail_errno(compose, "error creating destination file", errno, err);
        goto out;
    }
    user_own(&compose->user, compose->unfinished);
    result = 0;
out:
    free(parent);
    return result;
}

/* Where the kernel does not copy between these two file systems. */
static ssize_t copy_by_hand(int from, int to)
{
    char *buffer = xmalloc(COPY_BYTES);
    ssize_t n = read(from, buffer, COPY_BYTES);

    for (ssize_t at = 0; at < n;) {
        const ssize_t written = write(to, buffer + at, (size_t)(n - at));
        if (written < 0 && errno != EINTR) {
            n = -1;
        } else if (written > 0) {
            at += written;
        }
    }
    const int failure = errno;
    free(buffer);
    errno = failure;
    return n;
}

static int append_source(struct compose *compose, const char *path, struct error *err)
{
    const int from = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    bool by_hand = false;
    ssize_t n = 1;

    if (from < 0) {
        return fail_errno(compose, "error opening source file", errno, err);
    }
    while (n > 0) {
        n = by_hand ? copy_by_hand(from, compose->fd)
                    : copy_file_range(from, NULL, compose->fd, NULL, COPY_BYTES, 0);
        if (n < 0 && errno == EINTR) {
            n = 1;
        } else if (n < 0 && !by_hand && (errno == EXDEV || errno == EINVAL || errno == ENOSYS)) {
            by_hand = true;
            n = 1;
        }
    }
    const int failure = n < 0 ? errno : 0;
    close(from);
    return failure != 0 ? fail_errno(compose, "error composing source", failure, err) : 0;
}

static int join_sources(struct compose *compose, struct error *err)
{
    if (open_unfinished(compose, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < compose->count; i++) {
        if (append_source(compose, compose->sources[i], err) != 0) {
            return -1;
        }
    }
    const int failed = close(compose->fd) != 0 ? errno : 0;
    compose->fd = -1;
    if (failed != 0) {
        return fail_errno(compose, "error closing destination file", failed, err);
    }
    if (rename(compose->unfinished, compose->destination) != 0) {
        return fail_errno(compose, "error finalizing compose", errno, err);
    }
    compose->unfinished[0] = '\0';
    for (size_t i = 0; i < compose->count; i++) {
        (void)unlink(compose->sources[i]); /* named twice, or gone already: the whole is made */
    }
    return 0;
}

static void respond(struct http_exchange *exchange, const char *destination)
{
    cJSON *answer = cJSON_CreateObject();
    struct strbuf text;
    char name[NAME_MAX + 1];

    strbuf_init(&text, 4 * PATH_MAX);
    path_base(destination, name, sizeof(name));
    entry_add_name(answer, "path", destination);
    entry_add_name(answer, "name", name);
    cJSON_AddStringToObject(answer, "type", "file");
    if (json_print(answer, &text) == 0) {
        http_respond(exchange, 200, "application/json", "", text.data, text.length);
    } else {
        answer_error(exchange, 500, "the answer is too long");
    }
    cJSON_Delete(answer);
    strbuf_done(&text);
}

void compose_serve(struct http_exchange *exchange, const struct agent_config *config)
{
    struct compose compose = {.config = config,
                              .fd = -1,
                              .status = 400,
                              .destination = xcalloc(1, PATH_MAX),
                              .unfinished = xcalloc(1, PATH_MAX)};
    struct error err = ERROR_INIT;
    struct strbuf body;
    cJSON *root = NULL;
    int result = -1;

    strbuf_init(&body, BODY_MAX_BYTES);
    if (http_read_body(exchange, &body, &err) == 0) {
        root = json_parse(body.data, body.length, &err);
    }
    if (root == NULL) {
        error_prefix(&err, "invalid request body");
    } else if (read_request(&compose, root, &err) == 0) {
        result = join_sources(&compose, &err);
    }
    if (result == 0) {
        respond(exchange, compose.destination);
    } else {
        answer_error(exchange, compose.status, err.message);
    }
    if (compose.fd >= 0) {
        close(compose.fd);
    }
    if (compose.unfinished[0] != '\0') {
        (void)unlink(compose.unfinished);
    }
    for (size_t i = 0; i < compose.count; i++) {
        free(compose.sources[i]);
    }
    free(compose.sources);
    free(compose.destination);
    free(compose.unfinished);
    cJSON_Delete(root);
    strbuf_done(&body);
}
