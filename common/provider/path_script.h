/*
 * path_script - shell scripts that look at paths of a sandbox and change them, alike for every
 * provider.
 *
 * Owns: the text of the scripts, how their arguments are written, what their answers mean. Does not
 * own: running them (provider_ops.run_script), file contents (provider_ops.file_get, file_put).
 * Threads: no shared state. Failure: as each says.
 *
 * Why scripts: the file routes of the providers name no cause (Daytona answers 400 with an empty
 * body to every mistake, envd 500), follow or count links in different ways, and cannot list a name
 * that is not UTF-8. A shell and the coreutils (or busybox) are in every sandbox that can run a
 * command.
 *
 * A script is `/bin/sh -c <prelude + body> sh <owner> <path> <more>`. Paths travel as the escapes
 * of printf's %b, so that every byte is possible and none needs quoting. A script exits 0 and
 * prints one line: "ok ..." or "fail <the tool's words>" (path_script_check), or what its body
 * says.
 */
#ifndef PROVIDER_PATH_SCRIPT_H
#define PROVIDER_PATH_SCRIPT_H

#include <stddef.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"

enum path_verb {
    PATH_OPEN,     /* <copy name> <limit>: "ok <size> <hex path> <tag>"; "copy ..." when the file
                      tells no size and its content was copied to the path that is named */
    PATH_PREPARE,  /* <temporary name> <offset>: makes the parents; "ok <hex temporary> <hex path>"
                    */
    PATH_RESUME,   /* <temporary name> <offset>: as PATH_PREPARE for the rest of a content, of which
                      the  first `offset` bytes came before; "ok <hex temporary> <hex path>", or
                      "short  <bytes>" when fewer are there */
    PATH_APPEND,   /* <path of the rest, ending in .<offset>.<random>>: appends it to the temporary
                      file at the path if that has `offset` bytes; "ok <bytes>" */
    PATH_COMMIT,   /* <temporary path> <bytes>: puts the temporary in the path's place; "ok" */
    PATH_WRITE,    /* <temporary name> <bytes:base64>: all three for a short content; "ok" */
    PATH_DISCARD,  /* removes a temporary file; "ok" */
    PATH_MAKE_DIR, /* makes a directory and its parents; "ok", or "old" when it is there already */
    PATH_REMOVE,   /* <recursive 0|1>; "ok" */
    PATH_LIST,     /* <hex name to begin behind> <limit>: lines "<hex name> <hex fact>", then "end"
                      or "more" */
    PATH_VERB_COUNT
};

/* The whole text of a script. Appends it to `out`. */
void path_script_put(struct strbuf *out, enum path_verb verb);
/* Appends a path as a script takes it. */
void path_script_put_path(struct strbuf *out, const char *path);
/* Appends the bytes of hex digits. -1: it is none. */
int path_script_take_hex(struct strbuf *out, const char *hex, size_t length) MUST_CHECK;

/* -1 unless the answer's first word is not "fail": then the code of the caller's mistake, or
 * ERR_PROVIDER for words that no table knows. `path` is for the message. */
int path_script_check(const char *answer, const char *path, struct error *err) MUST_CHECK;
/* The code that the words of a tool or a provider name (their last part, as strerror has it);
 * ERR_PROVIDER when they name none. */
enum error_code path_script_cause(const char *words);
/* Fills err with the message of a path mistake; returns -1. */
int path_script_fail(enum error_code code, const char *path, struct error *err);

#endif
