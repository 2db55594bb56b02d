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
    char run_as[COMMAND_USER_BYTES]; /* "" = whom commands run as */
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
/* What was seen of a command that has not ended: state, pid, counts. */
int store_command_see(struct store *store, const struct store_command *command,
                      struct error *err) MUST_CHECK;
/* The one place where a command ends: state, exit code, counts. The row is kept for retention_s.
 * What held its sandbox awake is over. *ret_first false: it had ended before. */
int store_command_end(struct store *store, const struct store_command *command, int64_t retention_s,
                      bool *ret_first, struct error *err) MUST_CHECK;
/* Removes a row that stands for nothing: it was refused before it was started. */
int store_command_forget(struct store *store, const char *id, struct error *err) MUST_CHECK;

/* ERR_NOT_FOUND. */
int store_command_get(struct store *store, const char *id, struct store_command *ret,
                      struct error *err) MUST_CHECK;
/* The terminal of the command belongs to this session from now on; an earlier one has lost it. */
int store_command_take_terminal(struct store *store, const char *id, const char *session,
                                struct error *err) MUST_CHECK;
/* *ret: no later session has taken it. */
int store_command_has_terminal(struct store *store, const char *id, const char *session, bool *ret,
                               struct error *err) MUST_CHECK;
/* Those of a sandbox, the newest first, behind (before_us, before_id) when before_us is not 0. *ret
 * is a heap array. */
int store_command_list(struct store *store, const char *sandbox_id, int64_t before_us,
                       const char *before_id, int limit, struct store_command **ret,
                       size_t *ret_count, struct error *err) MUST_CHECK;

#endif
