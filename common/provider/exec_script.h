/*
 * exec_script - what runs a command inside a sandbox, alike at every provider.
 *
 * Owns: the scripts (scripts/, for /bin/sh), the marks that they write behind the output, the text
 * that a shell is given. Does not own: how it gets into the sandbox. Threads: a struct exec_marks
 * belongs to its caller. Failure: output that holds no mark is passed on as it is.
 *
 * boot.sh gives the runner an empty stdin and makes it the parent of all orphans; runner.sh runs
 * the command, enforces its time while the sandbox runs, and tells how it ended; kill.sh kills a
 * tree; follow.sh keeps and hands out the output where the provider cannot stream it.
 */
#ifndef PROVIDER_EXEC_SCRIPT_H
#define PROVIDER_EXEC_SCRIPT_H

#include "common/provider/provider.h"

/* Environment variable with the command's id; the processes that it starts inherit it. */
#define PROVIDER_EXEC_ID "SANDBOX_EXEC_ID"

extern const char provider_script_boot[];
extern const char provider_script_follow[];
extern const char provider_script_kill[];
extern const char provider_script_runner[];

enum {
    EXEC_ANSWER_MS = 700, /* behind its time: for the runner to kill a command and to say so */
    EXEC_MARK_MAX_BYTES = 1024
};

/* Separates a command's output from the marks that its runner writes into it. */
struct exec_marks {
    const char *id; /* borrowed; PROVIDER_EXEC_ID of the command */
    struct {
        char held[EXEC_MARK_MAX_BYTES]; /* bytes that may begin a mark */
        size_t held_bytes;
        bool ended;
    } streams[2];
    struct exec_result *result;
    char refused; /* first letter of the reason why the cwd is unusable; '\0' = it is usable */
    bool stopped; /* on_output asked to stop */
};
/* Takes output in any split; gives what belongs to the command to on_output. Bytes behind the end
 * of the command's own process are dropped. -1: on_output asked to stop. */
int exec_marks_feed(struct exec_marks *marks, enum exec_stream stream, const char *data,
                    size_t bytes, exec_output_fn on_output, void *arg);
/* The output has ended: gives held bytes, which were no mark, to on_output. */
int exec_marks_flush(struct exec_marks *marks, exec_output_fn on_output, void *arg);
/* True when both streams have ended with a mark; *result then holds the exit. */
bool exec_marks_complete(const struct exec_marks *marks);
/* -1 + ERR_INVALID when the command could not be started in its cwd. */
int exec_marks_check(const struct exec_marks *marks, struct error *err) MUST_CHECK;

/* Reads the survivors that kill.sh printed into ret->survivors. -1: kill.sh did not finish. */
int exec_take_left(struct exec_result *ret, const char *text) MUST_CHECK;

/* LIMIT of runner.sh: hundredths of a second, rounded up. */
int64_t exec_script_limit(const struct exec_request *request);
/* Appends the command as a shell is given it: a PATH of its own comes behind that of the login
 * files. */
void exec_script_command(const char *command, const cJSON *envs, struct strbuf *out);
void exec_script_quote(struct strbuf *out, const char *text);

#endif
