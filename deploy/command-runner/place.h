/*
 * place - where a command lives in its sandbox: one folder in /tmp/.sandbox-commands, named
 * by its id.
 *
 *   lock    locked while its supervisor lives
 *   state   one line: how far it is (struct command_state); replaced whole, never written in place
 *   spare.N room for a later state, so that a full disk cannot lose the command's end
 *   o.N     output, from its Nth byte on (spool.h)
 *   ctl     socket of its supervisor (control.h)
 *
 * The folder is made under another name and renamed, so that one id has one folder, with its lock
 * held from its first moment: whoever loses that race does not start anything.
 * Owns: these names, the state line. Does not own: the output. Failure: -1 with errno.
 */
#ifndef RUNNER_PLACE_H
#define RUNNER_PLACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    PLACE_BYTES = 96,
    PLACE_SURVIVORS_MAX = 32,
    PLACE_STATE_MAX_BYTES = 1024,
    PLACE_OUTPUT_BYTES = 16 * 1024 /* room reserved for output, whatever fills the disk later */
};

enum phase { PHASE_RUNNING, PHASE_EXITED, PHASE_TIMED_OUT, PHASE_KILLED, PHASE_LOST, PHASE_COUNT };

struct command_state {
    enum phase phase;
    pid_t pid;
    int code, signal;   /* of its own process */
    bool background;    /* it ended and left processes that live on */
    int64_t end_offset; /* output up to the end of its own process; -1 = it has not ended */
    int64_t out_bytes, err_bytes;
    int64_t started_ms, ended_ms; /* wall clock */
    int64_t ran_ms;               /* running time so far; pauses do not count */
    pid_t survivors[PLACE_SURVIVORS_MAX];
    int survivor_count;
};

/* A command id as we make them: 36 characters of a lower-case UUID. */
bool place_is_id(const char *id);
/* Folder of the command, or a file in it when `name` is not "". */
void place_path(char ret[PLACE_BYTES], const char *id, const char *name);
/* Makes the folder with its lock held, and reserves room for its states and its first output.
 * Returns the lock's descriptor; -1 + EEXIST: there is one; -1 + ENOSPC: the disk has no room for
 * it. */
int place_make(const char *id);
bool place_exists(const char *id);
/* Is a supervisor at work there? */
bool place_is_locked(const char *id);
int place_write_state(const char *id, const struct command_state *state);
/* -1 when there is none yet, or no folder. */
int place_read_state(const char *id, struct command_state *ret);
/* The state in words, without a line end. */
int place_print_state(const struct command_state *state, char *out, size_t size);
void place_remove(const char *id);
int64_t place_wall_ms(void);
int64_t place_mono_ms(void);

/* Removes folders of commands that ended more than retention_s ago, oldest first until at most
 * `keep` are left. Returns the time in ms until the next one is due, -1 = none has ended. */
int64_t place_sweep(int64_t retention_s, int keep);
/* How many command folders there are, of anybody. */
int place_count(void);

#endif
