/*
 * handlers_files - files and directories of a sandbox, in JSON.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "gateway/data/data_call.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"

enum {
    FILE_COST = 6 /* memory per byte read: here, in base64, in the JSON tree, in the answer */
};

struct file {
    const char *path;
    struct strbuf content;
};

static int write_file(const struct data_call *call, void *arg, struct error *err)
{
    const struct file *file = arg;

    return sandbox_files_write_bytes(&call->files, file->path, file->content.data,
                                     file->content.length, err);
}

/* Decodes the body's `content`. */
static int read_content(struct request *request, struct strbuf *ret, struct error *err)
{
    const char *content, *encoding;
    size_t max = ret->max_bytes;

    if (json_get_string_req(request->body, "content", 0, SIZE_MAX, &content, err) < 0 ||
        json_get_string(request->body, "encoding", 16, "utf-8", &encoding, err) < 0 ||
        request_take_bytes(request, (int64_t)strlen(content), err) < 0) {
        return -1;
    }
    if (strcmp(encoding, "utf-8") == 0) {
        return strbuf_puts(ret, content) < 0
                   ? error_set(err, ERR_TOO_LARGE, "content is larger than %zu bytes", max)
                   : 0;
    }
    if (strcmp(encoding, "base64") != 0) {
        return error_set(err, ERR_INVALID, "encoding must be utf-8 or base64");
    }
    if (decode_base64(ret, content, strlen(content), err) < 0) {
        return err->code == ERR_TOO_LARGE
                   ? error_set(err, ERR_TOO_LARGE, "content is larger than %zu bytes", max)
                   : error_set(err, ERR_INVALID, "content is not valid base64");
    }
    return 0;
}

void handle_write_file(struct request *request)
{
    struct error err = ERROR_INIT;
    struct file file = {.path = NULL};
    char sandbox_id[UUID_BYTES];
    cJSON *data;

    strbuf_init(&file.content, (size_t)request->gateway->config->max_file_bytes);
    if (data_read_target(request, "file_path", sandbox_id, &file.path, &err) < 0 ||
        read_content(request, &file.content, &err) < 0 ||
        data_call_run(request, sandbox_id, write_file, &file, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        data = view_done("File written successfully");
        json_add_int64(data, "bytes", (int64_t)file.content.length);
        respond_data(request, 200, data);
    }
    strbuf_done(&file.content);
}

static int keep_bytes(void *arg, const void *data, size_t bytes)
{
    struct file *file = arg;

    return strbuf_append(&file->content, data, bytes);
}

static int read_opened(const struct data_call *call, const struct sandbox_files_source *source,
                       struct file *file, struct error *err)
{
    struct file_get get = {.bytes = -1, .on_data = keep_bytes, .arg = file};

    if (source->bytes > (int64_t)file->content.max_bytes) {
        return error_set(err, ERR_TOO_LARGE,
                         "the file has %lld bytes, at most %zu can be read here",
                         (long long)source->bytes, file->content.max_bytes);
    }
    if (request_take_bytes(call->request, source->bytes * FILE_COST, err) < 0) {
        return -1;
    }
    if (sandbox_files_read(&call->files, source, &get, err) < 0) {
        return -1;
    }
    return file->content.overflow
               ? error_set(err, ERR_TOO_LARGE, "the file has more than %zu bytes",
                           file->content.max_bytes)
               : 0;
}

static int read_file(const struct data_call *call, void *arg, struct error *err)
{
    struct file *file = arg;
    struct sandbox_files_source source;
    int status;

    strbuf_reset(&file->content);
    if (sandbox_files_open(&call->files, file->path, &source, err) < 0) {
        return -1;
    }
    status = read_opened(call, &source, file, err);
    sandbox_files_close(&call->files, &source);
    return status;
}

void handle_read_file(struct request *request)
{
    struct error err = ERROR_INIT;
    struct file file = {.path = NULL};
    char sandbox_id[UUID_BYTES];
    cJSON *data;

    strbuf_init(&file.content, (size_t)request->gateway->config->max_file_bytes);
    if (data_read_target(request, "file_path", sandbox_id, &file.path, &err) < 0 ||
        data_call_run(request, sandbox_id, read_file, &file, &err) < 0) {
        respond_error(request, &err, 0);
        strbuf_done(&file.content);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    /* a JSON string cannot hold a NUL here, though UTF-8 can */
    if (strlen(file.content.data) == file.content.length &&
        utf8_is_valid(file.content.data, file.content.length)) {
        cJSON_AddStringToObject(data, "content", file.content.data);
        cJSON_AddStringToObject(data, "encoding", "utf-8");
    } else {
        struct strbuf encoded;

        strbuf_init(&encoded, file.content.length / 3 * 4 + 8);
        encode_base64(&encoded, file.content.data, file.content.length);
        cJSON_AddStringToObject(data, "content", encoded.data);
        cJSON_AddStringToObject(data, "encoding", "base64");
        strbuf_done(&encoded);
    }
    respond_data(request, 200, data);
    strbuf_done(&file.content);
}

/* ---- directories --------------------------------------------------------------------------- */

struct directory {
    char path[DATA_PATH_MAX_BYTES + 1];
    bool exist_ok;
};

static int make_directory(const struct data_call *call, void *arg, struct error *err)
{
    const struct directory *directory = arg;
    bool made;

    if (sandbox_files_make_dir(&call->files, directory->path, &made, err) < 0) {
        return -1;
    }
    return made || directory->exist_ok ? 0 : error_set(err, ERR_EXISTS, "the directory exists");
}

/* Reads the fields from the body or from query parameters. */
static int read_directory(struct request *request, char sandbox_id[UUID_BYTES],
                          struct directory *directory, struct error *err)
{
    char flag[8] = "";
    const char *text;
    int found;

    directory->exist_ok = true;
    if (request->body != NULL) {
        if (data_read_target(request, "directory_path", sandbox_id, &text, err) < 0 ||
            json_get_bool(request->body, "exist_ok", true, &directory->exist_ok, err) < 0) {
            return -1;
        }
        str_copy(directory->path, sizeof(directory->path), text);
        return 0;
    }
    found = http_query_param(request->http, "sandbox_id", sandbox_id, UUID_BYTES);
    if (found != 1 || !id_is_uuid(sandbox_id)) {
        return error_set(err, ERR_INVALID,
                         found == 0 ? "sandbox_id is required" : "sandbox_id must be a UUID");
    }
    id_lower(sandbox_id);
    found =
        http_query_param(request->http, "directory_path", directory->path, sizeof(directory->path));
    if (found != 1 || directory->path[0] == '\0') {
        return error_set(err, ERR_INVALID,
                         found < 0 ? "directory_path is malformed or too long"
                                   : "directory_path is required");
    }
    /* Python's requests sends True, where httpx sends true */
    found = http_query_param(request->http, "exist_ok", flag, sizeof(flag));
    directory->exist_ok = found == 0 || strcasecmp(flag, "true") == 0 || strcmp(flag, "1") == 0;
    if (!directory->exist_ok && strcasecmp(flag, "false") != 0 && strcmp(flag, "0") != 0) {
        return error_set(err, ERR_INVALID, "exist_ok must be true or false");
    }
    return 0;
}

void handle_create_directory(struct request *request)
{
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    struct directory directory;

    if (read_directory(request, sandbox_id, &directory, &err) < 0 ||
        data_call_run(request, sandbox_id, make_directory, &directory, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    respond_data(request, 200, view_done("Directory created"));
}

/* ---- listing, removing --------------------------------------------------------------------- */

struct listing {
    struct request *request;
    const char *path;
    const char *cursor;
    int64_t limit;
    cJSON *entries;
    char next_cursor[FILES_CURSOR_BYTES];
    struct error full; /* set when the buffer budget has no more */
};

/* Adds `field` as text, and also `base64_field` with the exact bytes if they are not UTF-8. */
static void add_bytes(cJSON *object, const char *field, const char *base64_field, const char *bytes)
{
    const size_t length = strlen(bytes);
    struct strbuf text;

    if (utf8_is_valid(bytes, length)) {
        cJSON_AddStringToObject(object, field, bytes);
        return;
    }
    strbuf_init(&text, UTF8_CLEAN_GROWTH * length + 8);
    utf8_put_clean(&text, bytes, length);
    cJSON_AddStringToObject(object, field, text.data);
    strbuf_reset(&text);
    encode_base64(&text, bytes, length);
    cJSON_AddStringToObject(object, base64_field, text.data);
    strbuf_done(&text);
}

static int add_entry(void *arg, const struct dir_entry *entry)
{
    static const char *const types[] = {
        [ENTRY_FILE] = "file", [ENTRY_DIRECTORY] = "directory", [ENTRY_OTHER] = "other"};
    struct listing *listing = arg;
    struct request *request = listing->request;
    cJSON *item;

    if (request_take_bytes(
            request,
            budget_entry_bytes((int64_t)(strlen(entry->name) + strlen(entry->link_target))),
            &listing->full) < 0) {
        return -1;
    }
    item = cJSON_CreateObject();
    add_bytes(item, "name", "name_base64", entry->name);
    cJSON_AddStringToObject(item, "type", types[entry->type]);
    json_add_int64(item, "size", entry->bytes);
    cJSON_AddBoolToObject(item, "is_link", entry->is_link);
    if (entry->is_link) {
        add_bytes(item, "link_target", "link_target_base64", entry->link_target);
    }
    cJSON_AddItemToArray(listing->entries, item);
    return 0;
}

static int list_files(const struct data_call *call, void *arg, struct error *err)
{
    struct listing *listing = arg;
    const int64_t bytes = budget_json_bytes(FILES_LIST_MAX_BYTES);
    int status;

    /* room for the longest possible answer of the provider */
    if (request_take_bytes(call->request, bytes, err) < 0) {
        return -1;
    }
    status = sandbox_files_list(&call->files, listing->path, listing->cursor, listing->limit,
                                add_entry, listing, listing->next_cursor, err);
    request_give_bytes(call->request, bytes);
    if (status == 0 && listing->full.code != ERR_OK) {
        *err = listing->full;
        return -1;
    }
    return status;
}

static int read_page(struct request *request, struct listing *listing, struct error *err)
{
    const int64_t max = request->gateway->config->list_max_entries;

    if (json_get_int(request->body, "limit", 1, max, max, &listing->limit, err) < 0 ||
        json_get_string(request->body, "cursor", FILES_CURSOR_BYTES, "", &listing->cursor, err) <
            0) {
        return -1;
    }
    return sandbox_files_cursor_is_valid(listing->cursor)
               ? 0
               : error_set(err, ERR_INVALID, "cursor is not the next_cursor of a listing");
}

void handle_list_files(struct request *request)
{
    struct error err = ERROR_INIT;
    struct listing listing = {.request = request, .full = ERROR_INIT};
    char sandbox_id[UUID_BYTES];
    cJSON *data;

    listing.entries = cJSON_CreateArray();
    if (data_read_target(request, "path", sandbox_id, &listing.path, &err) < 0 ||
        read_page(request, &listing, &err) < 0 ||
        data_call_run(request, sandbox_id, list_files, &listing, &err) < 0) {
        cJSON_Delete(listing.entries);
        respond_error(request, &err, 0);
        return;
    }
    data = cJSON_CreateObject();
    cJSON_AddTrueToObject(data, "success");
    add_bytes(data, "path", "path_base64", listing.path);
    cJSON_AddItemToObject(data, "entries", listing.entries);
    cJSON_AddBoolToObject(data, "truncated", listing.next_cursor[0] != '\0');
    json_add_string_or_null(data, "next_cursor", listing.next_cursor);
    respond_data(request, 200, data);
}

struct removal {
    const char *path;
    bool recursive;
};

static int remove_file(const struct data_call *call, void *arg, struct error *err)
{
    const struct removal *removal = arg;

    return sandbox_files_remove(&call->files, removal->path, removal->recursive, err);
}

void handle_remove_file(struct request *request)
{
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    struct removal removal;

    if (data_read_target(request, "path", sandbox_id, &removal.path, &err) < 0 ||
        json_get_bool(request->body, "recursive", false, &removal.recursive, &err) < 0 ||
        data_call_run(request, sandbox_id, remove_file, &removal, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    respond_data(request, 200, view_done("Removed"));
}
