/*
 * command_answer - what our command runner says (deploy/command-runner/follow.h), in any split.
 *
 * Owns: the lines and the bytes that they carry. Does not own: asking. Threads: its caller's.
 * Failure: ERR_PROVIDER for what cannot be read; what comes before its first line is skipped.
 */
#ifndef PROVIDER_COMMAND_ANSWER_H
#define PROVIDER_COMMAND_ANSWER_H

#include "common/provider/sandbox_command.h"

enum command_answer_end {
    COMMAND_ANSWER_NONE,     /* not yet */
    COMMAND_ANSWER_MISSING,  /* there is no runner */
    COMMAND_ANSWER_UNUSABLE, /* none can run there */
    COMMAND_ANSWER_STATE,    /* *status is whole */
    COMMAND_ANSWER_DONE,     /* what was asked is done: `text` */
    COMMAND_ANSWER_REFUSED,  /* it cannot be done: `text` */
    COMMAND_ANSWER_UNKNOWN,  /* no such command */
    COMMAND_ANSWER_NO_CWD,   /* `text` says why */
    COMMAND_ANSWER_FAILED    /* `text` says why */
};

struct command_answer {
    const char *id; /* of the command asked about; borrowed */
    bool base64;    /* how bytes come */
    /* Receives output as in struct command_follow; NULL = drop the output. */
    int (*on_output)(void *arg, enum exec_stream stream, const void *data, size_t bytes,
                     int64_t next);
    void *arg;
    struct command_status *status;
    enum command_answer_end end;
    char text[128];
    bool begun, stopped, progress;
    struct strbuf line, decoded;
    int stream;
    int64_t due; /* bytes of output that follow */
};
void command_answer_init(struct command_answer *answer);
void command_answer_done(struct command_answer *answer);
/* Non-zero: nothing more is wanted (the end is known, on_output stopped), or -1 with err. */
int command_answer_feed(struct command_answer *answer, const char *data, size_t bytes,
                        struct error *err);

#endif
