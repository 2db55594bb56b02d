/*
 * store_commands - rows of commands.
 *
 * Owns: the statements about them. Does not own: the commands, which live in their sandboxes and
 * are the truth. A row is written without waiting for the disk: what a crash of the database takes
 * with it is found in the sandbox again. Failure: as store.h.
 */
#ifndef STORE_STORE_COMMANDS_H
#define STORE_STORE_COMMANDS_H

#include "common/domain/command_state.h"
#include "common/store/store.h"

enum { COMMAND_USER_BYTES = 65, COMMAND_SURVIVORS_BYTES = 400 };

struct store_command {
    char id[UUID_BYTES], sandbox_id[UUID_BYTES];
    char actor[OWNER_BYTES];
    char request_hash[SHA256_HEX_BYTES];
    enum command_state state;
    bool background, tty, kept;
    char run_as[COMMAND_USER_BYTES]; /* "" = the sandbox's default user */
    int64_t timeout_ms;              /* 0 = none */
    int64_t pid;                     /* 0 = not known */
    int exit_code, signal;           /* -1 = none */
    bool background_processes;
    int64_t stdout_bytes, stderr_bytes, ran_ms;
    char survivors[COMMAND_SURVIVORS_BYTES];
    int64_t created_at_ms, ended_at_ms; /* 0 = not ended */
    int64_t created_at_us;              /* for cursors */
};

/* Adds the row of a command that is about to be started. While it runs and has a timeout, its
 * sandbox stays awake: its idle deadline moves behind the timeout. *ret_new false: the id has a
 * row, which is not changed. ERR_QUOTA when the sandbox has max_open commands that have not ended.
 */
int store_command_begin(struct store *store, const struct store_command *command, int64_t max_open,
                        bool *ret_new, struct error *err) MUST_CHECK;
/* Updates state, pid and counts of a command that has not ended. */
int store_command_see(struct store *store, const struct store_command *command,
                      struct error *err) MUST_CHECK;
/* Ends a command: writes state, exit code and counts. The row is kept for retention_s, and the
 * command no longer keeps its sandbox awake. *ret_first false: an earlier call had ended it. */
int store_command_end(struct store *store, const struct store_command *command, int64_t retention_s,
                      bool *ret_first, struct error *err) MUST_CHECK;
/* Deletes the row of a command that was refused before it started. */
int store_command_forget(struct store *store, const char *id, struct error *err) MUST_CHECK;

/* ERR_NOT_FOUND. */
int store_command_get(struct store *store, const char *id, struct store_command *ret,
                      struct error *err) MUST_CHECK;
/* Gives the terminal of the command to this session; an earlier session loses it. */
int store_command_take_terminal(struct store *store, const char *id, const char *session,
                                struct error *err) MUST_CHECK;
/* Sets *ret to true when no later session has taken the terminal. */
int store_command_has_terminal(struct store *store, const char *id, const char *session, bool *ret,
                               struct error *err) MUST_CHECK;
/* Lists the commands of a sandbox, newest first. before_us > 0 = only those behind the cursor
 * (before_us, before_id). *ret is a heap array. */
int store_command_list(struct store *store, const char *sandbox_id, int64_t before_us,
                       const char *before_id, int limit, struct store_command **ret,
                       size_t *ret_count, struct error *err) MUST_CHECK;

#endif
