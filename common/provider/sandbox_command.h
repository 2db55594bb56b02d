/*
 * sandbox_command - commands that outlive the call that started them, alike at every provider.
 *
 * Owns: putting our command runner (deploy/command-runner) into a sandbox, asking it, reading what
 * it says, asking again where an answer broke off. Does not own: what is done with the output, rows
 * of commands (store). Threads: a client belongs to its caller. Failure: -1 + err. One id starts at
 * most one command, so every call may be repeated.
 */
#ifndef PROVIDER_SANDBOX_COMMAND_H
#define PROVIDER_SANDBOX_COMMAND_H

#include "common/base/id.h"
#include "common/provider/provider.h"

/* Where the runner is in a sandbox; its name says which one it is. Made by the Makefile. */
extern const char command_runner_path[];

enum command_phase {
    COMMAND_PHASE_RUNNING,
    COMMAND_PHASE_EXITED,
    COMMAND_PHASE_TIMED_OUT,
    COMMAND_PHASE_KILLED,
    COMMAND_PHASE_LOST, /* its runner was killed, or the sandbox lost its processes */
    COMMAND_PHASE_COUNT
};

/* Where a command is, and through what it is asked. */
struct sandbox_command {
    struct provider *provider;
    struct http_client *client;
    const struct provider_target *target;
    const char *id;
    const char *user; /* "" = whom commands run as */
};

struct command_start {
    const char *text;
    const char *cwd;    /* NULL = default */
    const cJSON *envs;  /* or NULL */
    int64_t timeout_ms; /* of running time; 0 = none */
    int rows, columns;  /* of its terminal; 0 = it has none */
    bool takes_stdin;
    int64_t output_bytes; /* most that is kept of its output in the sandbox */
    int64_t retention_s;  /* how long it is kept there after the command's end */
    int keep;             /* ended commands that are kept at most */
};

struct command_follow {
    int64_t after;     /* offset of the first byte wanted */
    int64_t wait_ms;   /* how long for its end; INT64_MAX = to the end */
    int64_t max_bytes; /* of output; INT64_MAX = all */
    bool any_output;   /* what comes too fast may be skipped: its beginning and end are wanted */
    /* `data` NULL: so many bytes are not there any more. `next`: the offset behind. Non-zero: no
     * more is wanted. */
    int (*on_output)(void *arg, enum exec_stream stream, const void *data, size_t bytes,
                     int64_t next);
    int (*on_tick)(void *arg); /* about every second, or NULL; non-zero: no more is wanted */
    void *arg;
};

struct command_status {
    enum command_phase phase;
    bool left; /* on_output or on_tick wanted no more */
    bool more; /* output is there beyond max_bytes */
    int64_t pid;
    int exit_code, signal; /* of its own process; exit_code is 128 + signal for one */
    bool background_processes;
    int64_t next;       /* the offset behind what was given */
    int64_t end_offset; /* of the output of its own process; -1 = it has not ended */
    int64_t out_bytes, err_bytes, ran_ms;
    int64_t started_ms, ended_ms; /* by the sandbox's clock; 0 = not yet */
    int64_t survivors[EXEC_SURVIVORS_MAX];
    int survivor_count;
};

/* Starts it, unless it was started before, and follows it. *ret_unusable: the sandbox cannot run
 * our runner; nothing was started. ERR_INVALID for cwd and user; ERR_SANDBOX_NOT_FOUND only when
 * nothing was started. */
int sandbox_command_run(const struct sandbox_command *command, const struct command_start *start,
                        const struct command_follow *follow, struct command_status *ret,
                        bool *ret_unusable, struct error *err) MUST_CHECK;
/* ERR_NOT_FOUND: the sandbox does not know it (any more). */
int sandbox_command_follow(const struct sandbox_command *command,
                           const struct command_follow *follow, struct command_status *ret,
                           struct error *err) MUST_CHECK;
/* ERR_CONFLICT when it has ended, has no stdin, no terminal; ERR_NOT_FOUND. */
int sandbox_command_kill(const struct sandbox_command *command, struct error *err) MUST_CHECK;
int sandbox_command_signal(const struct sandbox_command *command, int number,
                           struct error *err) MUST_CHECK;
int sandbox_command_resize(const struct sandbox_command *command, int rows, int columns,
                           struct error *err) MUST_CHECK;
/* Bytes of its stdin from `offset` on; those before what it has are ignored. *ret_next: how many it
 * has now. ERR_CONFLICT when bytes before `offset` are missing. */
int sandbox_command_input(const struct sandbox_command *command, int64_t offset, const char *data,
                          size_t bytes, bool end, int64_t *ret_next, struct error *err) MUST_CHECK;

#endif
