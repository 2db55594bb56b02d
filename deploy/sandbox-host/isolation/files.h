/*
 * files - folders and small files of the host's own state.
 *
 * Owns: making, writing, copying and removing them. Does not own: what they mean.
 * Threads: no shared state. Failure: -1 with the path named.
 */
#ifndef SANDBOX_HOST_FILES_H
#define SANDBOX_HOST_FILES_H

#include <stddef.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

/* Makes the folder if it is not there and sets its mode, whatever the umask. */
int files_make_dir(const char *path, mode_t mode, struct error *err) MUST_CHECK;
/* Replaces the file in one step (a reader sees the old or the new text). */
int files_write(const char *path, const char *text, size_t length, mode_t mode,
                struct error *err) MUST_CHECK;
/* Appends the file to out. ERR_NOT_FOUND when it is not there, ERR_TOO_LARGE past out's maximum. */
int files_read(const char *path, struct strbuf *out, struct error *err) MUST_CHECK;
/* Copies one file, replacing what is there in one step. */
int files_copy(const char *from, const char *to, mode_t mode, struct error *err) MUST_CHECK;
/* Copies a file, a link or a folder with all in it, but only what every user of this machine may
 * read: a key that only root reads stays out. Anything else (devices, sockets) is left out. */
int files_copy_public(const char *from, const char *to, struct error *err) MUST_CHECK;
/* Copies a folder's content into an existing folder, all of it, owned by uid (0 = by us). */
int files_copy_home(const char *from, const char *to, uid_t uid, struct error *err) MUST_CHECK;
/* Removes a folder with all in it, however deep, on one file system. One that is not there is
 * removed. Nobody else may be changing it. */
int files_remove_tree(const char *path, struct error *err) MUST_CHECK;

#endif
