/*
 * api_build - template builds as E2B's SDKs ask for them: request, upload of files, start, status.
 *
 * Files come by PUT to a URL that the API gives out. Such a request brings no key, so the URL holds
 * a token that only the key's owner can have been given.
 */
#include "deploy/sandbox-host/api/api_build.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "deploy/sandbox-host/api/api_names.h"
#include "deploy/sandbox-host/sandbox/build.h"
#include "deploy/sandbox-host/sandbox/build_upload.h"

enum { TOKEN_BYTES = 32, PIECE_BYTES = 64 * 1024, LOGS_MAX = 1000, HOST_BYTES = 255 };

/* ---- files ---- */

static void token_of(const struct call *call, const char *hash, char out[2 * TOKEN_BYTES + 1])
{
    const char *key = call->config->api_key;
    crypto_generichash_state state;
    unsigned char token[TOKEN_BYTES];

    crypto_generichash_init(&state, NULL, 0, sizeof(token));
    crypto_generichash_update(&state, (const unsigned char *)key, strlen(key) + 1);
    crypto_generichash_update(&state, (const unsigned char *)hash, strlen(hash));
    crypto_generichash_final(&state, token, sizeof(token));
    sodium_bin2hex(out, 2 * TOKEN_BYTES + 1, token, sizeof(token));
}

bool api_upload_allowed(const struct call *call)
{
    char given[2 * TOKEN_BYTES + 1], right[2 * TOKEN_BYTES + 1];
    const char *path = http_path(call->http), *hash = strrchr(path, '/');

    if (strcmp(http_method(call->http), "PUT") != 0 || strncmp(path, "/templates/", 11) != 0 ||
        http_query_param(call->http, "token", given, sizeof(given)) != 1) {
        return false;
    }
    token_of(call, hash + 1, right);
    return strlen(given) == strlen(right) && sodium_memcmp(given, right, strlen(right)) == 0;
}

static void give_link(struct call *call, const char *template_id, const char *hash)
{
    const char *host = http_header(call->http, "Host");
    char path[SAVED_PATH_BYTES], token[2 * TOKEN_BYTES + 1], url[1024];
    struct error err = ERROR_INIT;
    cJSON *tree;

    if (build_upload_path(call->config->state_dir, hash, path, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    if (host == NULL || strlen(host) > HOST_BYTES) {
        api_send_error(call->http, 400, "a Host is needed");
        return;
    }
    token_of(call, hash, token);
    snprintf(url, sizeof(url), "http://%s/templates/%.64s/files/%s?token=%s", host, template_id,
             hash, token);
    tree = cJSON_CreateObject();
    cJSON_AddBoolToObject(tree, "present", access(path, F_OK) == 0);
    cJSON_AddStringToObject(tree, "url", url);
    api_send_tree(call->http, 201, "", tree);
}

/* The body, piece by piece, to a new file. */
static int receive(struct call *call, int fd, struct error *err)
{
    char *piece = xmalloc(PIECE_BYTES);
    int64_t total = 0;
    long n;
    int status = 0;

    while (status == 0 && (n = http_read(call->http, piece, PIECE_BYTES)) != 0) {
        if (n < 0) {
            status = error_set(err, ERR_INVALID, "the file did not arrive whole");
        } else if ((total += n) > call->config->upload_bytes) {
            status = error_set(err, ERR_TOO_LARGE, "more than SANDBOX_HOST_UPLOAD_BYTES (%lld)",
                               (long long)call->config->upload_bytes);
        } else if (write(fd, piece, (size_t)n) != n) {
            status = error_set_errno(err, ERR_INTERNAL, errno, "keeping the file");
        }
    }
    free(piece);
    if (status == 0 && http_body_length(call->http) > 0 && total != http_body_length(call->http)) {
        status = error_set(err, ERR_INVALID, "the file did not arrive whole");
    }
    return status;
}

static void take_file(struct call *call, const char *hash)
{
    char path[SAVED_PATH_BYTES], fresh[SAVED_PATH_BYTES + 16];
    struct error err = ERROR_INIT;
    int fd = -1, status = build_upload_path(call->config->state_dir, hash, path, &err);

    if (status == 0) {
        snprintf(fresh, sizeof(fresh), "%s.XXXXXX", path);
        fd = mkostemp(fresh, O_CLOEXEC);
        status = fd < 0 ? error_set_errno(&err, ERR_INTERNAL, errno, "%s", fresh)
                        : receive(call, fd, &err);
    }
    if (fd >= 0) {
        close(fd);
        if (status == 0 && rename(fresh, path) < 0) {
            status = error_set_errno(&err, ERR_INTERNAL, errno, "%s", path);
        }
        if (status < 0) {
            unlink(fresh);
        }
    }
    if (status < 0) {
        api_send_failure(call->http, &err);
    } else {
        http_respond(call->http, 200, "text/plain", "", "", 0);
    }
}

/* ---- builds ---- */

/* POST /v3/templates, and its older forms, which call the name an alias. */
static void request_build(struct call *call)
{
    char name[TEMPLATE_NAME_BYTES], tag[TEMPLATE_NAME_BYTES];
    char id[SAVED_ID_BYTES], build_id[UUID_BYTES];
    struct error err = ERROR_INIT;
    const char *given = NULL, *alias = NULL;
    const cJSON *tags, *one;
    cJSON *tree, *all, *names, *aliases;

    if (json_get_string(call->body, "name", TEMPLATE_NAME_BYTES, NULL, &given, &err) < 0 ||
        json_get_string(call->body, "alias", TEMPLATE_NAME_BYTES, NULL, &alias, &err) < 0 ||
        api_read_tags(call->body, false, &tags, &err) < 0 ||
        (given == NULL && alias == NULL && error_set(&err, ERR_INVALID, "name: missing") < 0) ||
        api_check_name(given != NULL ? given : alias, name, tag, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    all = tags != NULL ? cJSON_Duplicate(tags, true) : cJSON_CreateArray();
    if (cJSON_GetArraySize(all) == 0 || strchr(given != NULL ? given : alias, ':') != NULL) {
        cJSON_InsertItemInArray(all, 0, cJSON_CreateString(tag));
    }
    if (build_new(name, all, id, build_id, &err) < 0) {
        cJSON_Delete(all);
        api_send_failure(call->http, &err);
        return;
    }
    tree = cJSON_CreateObject();
    cJSON_AddStringToObject(tree, "templateID", id);
    cJSON_AddStringToObject(tree, "buildID", build_id);
    cJSON_AddBoolToObject(tree, "public", false);
    aliases = cJSON_AddArrayToObject(tree, "aliases");
    cJSON_AddItemToArray(aliases, cJSON_CreateString(name));
    names = cJSON_AddArrayToObject(tree, "names");
    cJSON_ArrayForEach(one, all)
    {
        char full[2 * TEMPLATE_NAME_BYTES];

        snprintf(full, sizeof(full), "%s:%s", name, one->valuestring);
        cJSON_AddItemToArray(names, cJSON_CreateString(full));
    }
    cJSON_AddItemToObject(tree, "tags", all);
    api_send_tree(call->http, 202, "", tree);
}

static void start_build(struct call *call, const char *template_id, const char *build_id)
{
    struct error err = ERROR_INIT;

    if (build_start(template_id, build_id, call->body, &err) < 0) {
        api_send_failure(call->http, &err);
    } else {
        http_respond(call->http, 202, "application/json", "", "", 0);
    }
}

static void get_build(struct call *call, const char *template_id, const char *build_id,
                      bool logs_alone)
{
    struct error err = ERROR_INIT;
    int64_t offset, limit;
    cJSON *tree = NULL, *logs;

    if (api_query_number(call, "logsOffset", 0, 0, INT32_MAX, &offset, &err) == 0 &&
        api_query_number(call, "limit", LOGS_MAX, 0, LOGS_MAX, &limit, &err) == 0) {
        tree = build_info(template_id, build_id, offset, limit, &err);
    }
    if (tree == NULL) {
        api_send_failure(call->http, &err);
        return;
    }
    if (logs_alone) {
        logs = cJSON_CreateObject();
        cJSON_AddItemToObject(logs, "logs",
                              cJSON_DetachItemFromObjectCaseSensitive(tree, "logEntries"));
        cJSON_Delete(tree);
        tree = logs;
    }
    api_send_tree(call->http, 200, "", tree);
}

bool api_build(struct call *call, const char *const *part, int count)
{
    const char *method = http_method(call->http);
    const bool get = strcmp(method, "GET") == 0, post = strcmp(method, "POST") == 0;

    if (count == 0 || strcmp(part[0], "templates") != 0) {
        return false;
    }
    if (post && count == 1) {
        request_build(call);
    } else if (count == 4 && strcmp(part[2], "files") == 0 && get) {
        give_link(call, part[1], part[3]);
    } else if (count == 4 && strcmp(part[2], "files") == 0 && strcmp(method, "PUT") == 0) {
        take_file(call, part[3]);
    } else if (count == 4 && strcmp(part[2], "builds") == 0 && post) {
        start_build(call, part[1], part[3]);
    } else if (count == 5 && strcmp(part[2], "builds") == 0 && get &&
               strcmp(part[4], "status") == 0) {
        get_build(call, part[1], part[3], false);
    } else if (count == 5 && strcmp(part[2], "builds") == 0 && get &&
               strcmp(part[4], "logs") == 0) {
        get_build(call, part[1], part[3], true);
    } else {
        return false;
    }
    return true;
}
