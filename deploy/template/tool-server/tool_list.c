/*
 * tool_list - list_directory.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deploy/template/tool-server/tools.h"

enum { TEXT_BYTES = 4 << 20 };

struct listing {
    const char *root;
    int64_t left; /* entries still to be given */
    cJSON *entries;
    struct strbuf text;
    bool truncated;
};

static int not_dots(const struct dirent *entry)
{
    return strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0;
}

static const char *type_of(const struct stat *status)
{
    return S_ISREG(status->st_mode)   ? "file"
           : S_ISDIR(status->st_mode) ? "directory"
           : S_ISLNK(status->st_mode) ? "link"
                                      : "other";
}

static void put_entry(struct listing *listing, const char *path, const char *relative,
                      const struct stat *status)
{
    cJSON *entry = cJSON_CreateObject();
    char target[PATH_MAX];
    ssize_t n;

    tool_add_text(entry, "path", relative, strlen(relative));
    cJSON_AddStringToObject(entry, "type", type_of(status));
    (void)strbuf_puts(&listing->text, relative);
    if (S_ISREG(status->st_mode)) {
        json_add_int64(entry, "bytes", status->st_size);
        (void)strbuf_printf(&listing->text, "  %lld bytes", (long long)status->st_size);
    } else if (S_ISDIR(status->st_mode)) {
        (void)strbuf_putc(&listing->text, '/');
    } else if (S_ISLNK(status->st_mode) && (n = readlink(path, target, sizeof(target))) > 0) {
        tool_add_text(entry, "target", target, (size_t)n);
        (void)strbuf_puts(&listing->text, " -> ");
        (void)strbuf_append(&listing->text, target, (size_t)n);
    }
    (void)strbuf_putc(&listing->text, '\n');
    json_add_time(entry, "modified", (int64_t)status->st_mtime * 1000);
    cJSON_AddItemToArray(listing->entries, entry);
}

/* `path` ends in a slash, and has room up to PATH_MAX; 0, or the errno of opening it. */
static int walk(struct listing *listing, char *path, int64_t depth)
{
    const size_t length = strlen(path), root = strlen(listing->root);
    struct dirent **names;
    const int count = scandir(path, &names, not_dots, alphasort);

    if (count < 0) {
        return errno;
    }
    for (int i = 0; i < count; i++) {
        const char *name = names[i]->d_name;
        struct stat status;

        if (listing->left == 0) {
            listing->truncated = true;
        } else if (length + strlen(name) + 2 < PATH_MAX) {
            memcpy(path + length, name, strlen(name) + 1);
            if (lstat(path, &status) == 0) {
                listing->left--;
                put_entry(listing, path, path + root, &status);
                if (S_ISDIR(status.st_mode) && depth > 1 && strcmp(name, ".git") != 0) {
                    memcpy(path + length + strlen(name), "/", 2);
                    (void)walk(listing, path,
                               depth - 1); /* one that may not be read is just named */
                }
            }
            path[length] = '\0';
        }
        free(names[i]);
    }
    free(names);
    return 0;
}

cJSON *tool_list_directory(const struct tool_call *call)
{
    char path[TOOL_PATH_BYTES], at[PATH_MAX + 2];
    struct error err = ERROR_INIT;
    struct listing listing = {.root = path, .left = call->config->entries};
    size_t length;
    cJSON *data, *answer;
    int failure;

    if (tool_path(call, tool_string(call, "path", ""), path, &err) != 0) {
        return tool_failure("%s", err.message);
    }
    length = strlen(path);
    if (path[length - 1] != '/' && length + 1 < sizeof(path)) {
        memcpy(path + length, "/", 2);
    }
    memcpy(at, path, strlen(path) + 1);
    strbuf_init(&listing.text, TEXT_BYTES);
    data = cJSON_CreateObject();
    tool_add_text(data, "path", path, length);
    listing.entries = cJSON_AddArrayToObject(data, "entries");
    failure = walk(&listing, at, tool_integer(call, "depth", 1));
    if (failure != 0) {
        strbuf_done(&listing.text);
        cJSON_Delete(data);
        return tool_failure("%s: %s%s", path, strerror(failure),
                            failure == ENOTDIR ? "; read_file shows a file" : "");
    }
    cJSON_AddBoolToObject(data, "truncated", listing.truncated);
    if (listing.truncated) {
        (void)strbuf_printf(&listing.text,
                            "[more than %lld entries; list a folder further down, or use "
                            "search_files]",
                            (long long)call->config->entries);
    } else if (listing.text.length == 0) {
        (void)strbuf_puts(&listing.text, "[empty]");
    }
    answer = tool_answer(&listing.text, data);
    strbuf_done(&listing.text);
    return answer;
}
