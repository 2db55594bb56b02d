/*
 * command - the commands that run for the tools, in the foreground and in the background.
 *
 * Owns: starting, reading their output, timeouts, killing a command with all it started, reaping.
 * One table, one thread that reads all outputs and keeps all deadlines. Does not own: what a
 * caller is told (tool_command.c, tool_search.c).
 * Threads: all functions are safe from any thread; a struct command is reference counted.
 *
 * A command is over when its first process has ended and its output is closed, or stays open for
 * COMMAND_GRACE_MS longer because something it started holds it; then `held` is set and reading
 * goes on, so that `server &` neither blocks its caller nor dies of a closed pipe.
 */
#ifndef TOOL_SERVER_COMMAND_H
#define TOOL_SERVER_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/json.h"
#include "common/base/strbuf.h"

enum { COMMAND_GRACE_MS = 100, COMMAND_ID_BYTES = 9, COMMAND_TITLE_BYTES = 160 };

struct command;

struct command_spec {
    const char *const *argv; /* argv[0] is looked up in PATH */
    const char *title;       /* for lists; cut to COMMAND_TITLE_BYTES */
    const char *cwd;         /* absolute, an existing folder */
    const cJSON *env;        /* object of strings, or NULL */
    int64_t timeout_ms;      /* 0 = none */
    size_t output_bytes;
};

struct command_state {
    char id[COMMAND_ID_BYTES];
    char title[COMMAND_TITLE_BYTES];
    bool running;
    bool held;      /* over, but something it started still has its output open */
    bool timed_out; /* and killed for it */
    bool killed;    /* command_kill(SIGKILL) */
    int exit_code;  /* 128+n for a signal; valid when not running */
    int64_t duration_ms;
    uint64_t bytes; /* printed so far */
};

/* Once: at most `max` commands are known; starting one more forgets the one that ended first. */
int commands_init(int max, struct error *err) MUST_CHECK;
/* Kills all, with what they started. */
void commands_done(void);

/* ERR_LIMIT when `max` are running, ERR_INTERNAL when it cannot be started. *ret is referenced. */
int command_start(const struct command_spec *spec, struct command **ret,
                  struct error *err) MUST_CHECK;
/* NULL for an unknown or forgotten id; else referenced. */
struct command *command_find(const char *id);
void command_unref(struct command *command);
/* No longer found by its id. */
void command_forget(struct command *command);

/* Waits until it is over, has printed more than `bytes`, or wait_ms have passed. */
void command_wait(struct command *command, uint64_t bytes, int64_t wait_ms);
void command_look(struct command *command, struct command_state *ret);
/* Appends what is kept of its output from byte `offset` on (output.h). */
void command_output(struct command *command, uint64_t offset, struct strbuf *out);
/* SIGKILL: it and all it started, soon after; another signal: to its process group, now. */
void command_kill(struct command *command, int signal);
/* Calls `each` for every known one, oldest first. */
void commands_each(void (*each)(void *arg, const struct command_state *state), void *arg);

#endif
