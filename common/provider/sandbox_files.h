/*
 * sandbox_files - what the API can do with files and directories, on every provider in the same
 * way.
 *
 * Owns: the order of calls (look, transfer, put in place), causes of failures, listings. Does not
 * own: how a script runs or bytes travel (provider_ops), who may ask. Threads: a struct
 * sandbox_files belongs to its caller. Failure: -1 + err with the type of the caller's mistake
 * (ERR_FILE_NOT_FOUND, ERR_NOT_DIRECTORY, ERR_IS_DIRECTORY, ERR_NOT_REGULAR, ERR_PERMISSION,
 * ERR_READ_ONLY, ERR_NAME_TOO_LONG, ERR_SYMLINK_LOOP, ERR_NO_SPACE, ERR_EXISTS, ERR_CONFLICT), else
 * as provider_ops: ERR_PROVIDER, ERR_PROVIDER_DOWN, ERR_SANDBOX_NOT_FOUND (nothing was done).
 *
 * Paths: absolute ones as they are; relative ones begin where commands start; "~" and "~/x" are in
 * the home directory; blanks belong to the name; a trailing slash names a directory.
 */
#ifndef PROVIDER_SANDBOX_FILES_H
#define PROVIDER_SANDBOX_FILES_H

#include "common/provider/http.h"

enum {
    FILES_LIST_MAX_BYTES =
        2 * 1024 * 1024, /* of the answer that a page of a listing is read from */
    FILES_NAME_MAX_BYTES = 255,
    FILES_CURSOR_BYTES = 2 * FILES_NAME_MAX_BYTES + 1,
    FILES_TAG_BYTES = 80,
    FILES_PATH_MAX_BYTES = 4096,
};

struct sandbox_files {
    struct provider *provider;
    struct http_client *client;
    const struct provider_target *target;
};

/* A regular file that can be read. */
struct sandbox_files_source {
    struct strbuf path; /* where its bytes are: itself, or a copy of what tells no size */
    bool is_copy;       /* removed by sandbox_files_close() */
    int64_t bytes;
    char tag[FILES_TAG_BYTES]; /* changes with the content; "" = none can be told */
};

/* Looks for the file. sandbox_files_close() belongs to every open that succeeded. */
int sandbox_files_open(const struct sandbox_files *files, const char *path,
                       struct sandbox_files_source *ret, struct error *err) MUST_CHECK;
/* get->path is filled in. A file of 0 bytes is not asked for. */
int sandbox_files_read(const struct sandbox_files *files, const struct sandbox_files_source *source,
                       struct file_get *get, struct error *err) MUST_CHECK;
void sandbox_files_close(const struct sandbox_files *files, struct sandbox_files_source *source);

/* Replaces or makes the file, and its missing parents, in one step at the end: whatever breaks
 * before leaves what was there. A link is followed; mode and owner of a file that is replaced stay.
 */
int sandbox_files_write(const struct sandbox_files *files, const char *path, file_read_fn read,
                        void *arg, int64_t bytes /* -1 = unknown */, struct error *err) MUST_CHECK;
/* The same for a content that is in memory: one call when it is short. */
int sandbox_files_write_bytes(const struct sandbox_files *files, const char *path, const void *data,
                              size_t bytes, struct error *err) MUST_CHECK;

/* A write in several calls. The part that is read begins at `offset` of the content; the bytes
 * before came in earlier calls with the same `key` (letters, digits, "_", "-"). *broken is set by
 * `read`, which then returns 0: what came is kept for the next call, and nothing is put in place (0
 * is returned all the same). ERR_CONFLICT: *ret_have, which is less than the offset, is all there
 * is. */
enum { FILES_KEY_MAX_BYTES = 64 };
int sandbox_files_resume(const struct sandbox_files *files, const char *path, const char *key,
                         int64_t offset, file_read_fn read, void *arg, const bool *broken,
                         int64_t *ret_have, struct error *err) MUST_CHECK;
bool sandbox_files_key_is_valid(const char *key);

/* Makes it and its parents. *ret_made = false: it was there already. ERR_EXISTS: no directory. */
int sandbox_files_make_dir(const struct sandbox_files *files, const char *path, bool *ret_made,
                           struct error *err) MUST_CHECK;

/* Removes a file, a link (not what it leads to), or with `recursive` a directory and all in it.
 * ERR_IS_DIRECTORY when that needs `recursive`. */
int sandbox_files_remove(const struct sandbox_files *files, const char *path, bool recursive,
                         struct error *err) MUST_CHECK;

enum entry_type { ENTRY_FILE, ENTRY_DIRECTORY, ENTRY_OTHER };
struct dir_entry {
    const char *name;     /* any bytes but slash and NUL */
    enum entry_type type; /* of what a link leads to; OTHER for one that leads nowhere */
    int64_t bytes;        /* as type; 0 where there is none */
    bool is_link;
    const char *link_target; /* as the link has it; "" = no link */
};
/* Return non-zero to be told of no more, which is no error. */
typedef int (*dir_entry_fn)(void *arg, const struct dir_entry *entry);
/* The next `limit` entries behind `cursor` ("" = from the first), in the order of their bytes.
 * ret_cursor: "" when these were the last. ERR_TOO_LARGE: the page has more than
 * FILES_LIST_MAX_BYTES. */
int sandbox_files_list(const struct sandbox_files *files, const char *path, const char *cursor,
                       int64_t limit, dir_entry_fn on_entry, void *arg,
                       char ret_cursor[FILES_CURSOR_BYTES], struct error *err) MUST_CHECK;
/* Whether a caller's cursor can be one of ours. */
bool sandbox_files_cursor_is_valid(const char *cursor);

#endif
