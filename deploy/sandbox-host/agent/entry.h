/*
 * entry - one file as filesystem.EntryInfo shows it.
 *
 * Owns: its JSON (proto3: empty fields absent, int64 as text), owner names, the metadata attributes
 * behind it. Does not own: which files. Threads: any.
 */
#ifndef AGENT_ENTRY_H
#define AGENT_ENTRY_H

#include "common/base/json.h"

/* Every metadata key is this attribute prefix + the key. */
#define ENTRY_XATTR_PREFIX "user.e2b."

/* EntryInfo of `path` (absolute), not following its last link. NULL with errno set. */
cJSON *entry_json(const char *path);
/* Object of the file's metadata, or NULL when it has none. `fd` < 0: by path, links not followed.
 */
cJSON *entry_metadata(int fd, const char *path);
/* Adds a string that is a file name: bytes that are no UTF-8 show as U+FFFD. */
void entry_add_name(cJSON *object, const char *field, const char *name);

#endif
