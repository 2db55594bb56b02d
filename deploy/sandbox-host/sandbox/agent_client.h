/*
 * agent_client - commands the host itself runs in a sandbox: a template's start and ready command.
 *
 * Owns: being a client of the agent's process.Process/Start over the relay. Does not own: what is
 * run (template.h). Threads: one agent_client_run belongs to one thread. Failure: -1 with the
 * reason.
 */
#ifndef SANDBOX_HOST_AGENT_CLIENT_H
#define SANDBOX_HOST_AGENT_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/error.h"
#include "common/base/json.h"
#include "common/base/strbuf.h"

struct agent_client_run {
    int fd;
    struct strbuf raw;    /* as received, not decoded yet */
    struct strbuf stream; /* decoded of the transfer coding, not parsed yet */
    struct strbuf output; /* what the command wrote, its first AGENT_CLIENT_OUTPUT_BYTES */
    bool head_done;
    int64_t chunk_left; /* -1 = a chunk's size comes next, -2 = its line end */
    bool ended;
    int exit_code; /* once ended; -1 = by a signal or not at all */
};
enum { AGENT_CLIENT_OUTPUT_BYTES = 65536 };

struct agent_client_command {
    const char *text; /* for `bash -l -c` */
    const char *tag;
    const char *user;  /* NULL = the sandbox's own */
    const char *cwd;   /* NULL = its home */
    const cJSON *envs; /* or NULL */
};

/* Starts the command. It runs on when the run is closed. */
int agent_client_open(struct agent_client_run *run, const char *id, const char *token,
                      const struct agent_client_command *command, struct error *err) MUST_CHECK;
/* Writes a file of this machine to a path inside, which needs no escaping, as the sandbox's user.
 */
int agent_client_upload(const char *id, const char *token, const char *file, const char *path,
                        struct error *err) MUST_CHECK;
/* Reads until the command ended (1) or timeout_ms passed (0). -1: the agent refused or is gone. */
int agent_client_wait(struct agent_client_run *run, int64_t timeout_ms,
                      struct error *err) MUST_CHECK;
void agent_client_close(struct agent_client_run *run);

struct template;
/* Brings the template's start command up and waits until the sandbox is ready. The command's first
 * output is appended to `output`. */
int agent_client_bring_up(const char *id, const char *token, const struct template *template,
                          struct strbuf *output, struct error *err) MUST_CHECK;

#endif
