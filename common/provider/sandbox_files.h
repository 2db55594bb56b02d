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
    FILES_LIST_MAX_BYTES = 2 * 1024 * 1024, /* largest answer for one page of a listing */
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

/* An opened regular file. */
struct sandbox_files_source {
    struct strbuf path; /* path of its bytes: the file, or a copy of a file that reports no size */
    bool is_copy;       /* removed by sandbox_files_close() */
    int64_t bytes;
    char tag[FILES_TAG_BYTES]; /* changes with the content; "" = unknown */
};

/* Opens a file. Call sandbox_files_close() after every successful open. */
int sandbox_files_open(const struct sandbox_files *files, const char *path,
                       struct sandbox_files_source *ret, struct error *err) MUST_CHECK;
/* Reads the file; fills get->path. A file of 0 bytes is not requested from the provider. */
int sandbox_files_read(const struct sandbox_files *files, const struct sandbox_files_source *source,
                       struct file_get *get, struct error *err) MUST_CHECK;
void sandbox_files_close(const struct sandbox_files *files, struct sandbox_files_source *source);

/* Writes the file and its missing parents, and puts it in place in one step at the end: a failure
 * before leaves the old file. Follows a link. A replaced file keeps its mode and owner. */
int sandbox_files_write(const struct sandbox_files *files, const char *path, file_read_fn read,
                        void *arg, int64_t bytes /* -1 = unknown */, struct error *err) MUST_CHECK;
/* Writes a file from memory; short content needs one provider call. */
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

/* Makes the directory and its parents. *ret_made false: it existed. ERR_EXISTS: the path is not a
 * directory. */
int sandbox_files_make_dir(const struct sandbox_files *files, const char *path, bool *ret_made,
                           struct error *err) MUST_CHECK;

/* Removes a file, a link (not its target) or, with `recursive`, a directory tree. ERR_IS_DIRECTORY:
 * that needs `recursive`. */
int sandbox_files_remove(const struct sandbox_files *files, const char *path, bool recursive,
                         struct error *err) MUST_CHECK;

enum entry_type { ENTRY_FILE, ENTRY_DIRECTORY, ENTRY_OTHER };
struct dir_entry {
    const char *name;     /* any bytes but slash and NUL */
    enum entry_type type; /* the type of a link's target; OTHER for a dangling link */
    int64_t bytes;        /* size of the same file; 0 if it has none */
    bool is_link;
    const char *link_target; /* as stored in the link; "" = not a link */
};
/* Non-zero ends the listing; this is not an error. */
typedef int (*dir_entry_fn)(void *arg, const struct dir_entry *entry);
/* Lists up to `limit` entries after `cursor` ("" = from the first), sorted by bytes. ret_cursor "":
 * there are no more. ERR_TOO_LARGE: the page exceeds FILES_LIST_MAX_BYTES. */
int sandbox_files_list(const struct sandbox_files *files, const char *path, const char *cursor,
                       int64_t limit, dir_entry_fn on_entry, void *arg,
                       char ret_cursor[FILES_CURSOR_BYTES], struct error *err) MUST_CHECK;
/* True when a cursor has our form. */
bool sandbox_files_cursor_is_valid(const char *cursor);

#endif
