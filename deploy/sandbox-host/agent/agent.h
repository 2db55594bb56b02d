/*
 * agent - what every part of the sandbox agent knows about its sandbox.
 *
 * Owns: the configuration the host hands over (read once, constant afterwards) and the limits that
 * bound what a client can make the agent hold. Does not own: any behaviour. Threads: constant after
 * start, so it is read without a lock.
 */
#ifndef AGENT_AGENT_H
#define AGENT_AGENT_H

#include "common/base/json.h"
#include <limits.h>
#include <stdbool.h>
#include <sys/resource.h>

#include "common/base/error.h"

/* One JSON request (unary body or one stream envelope); a SendInput carries base64 of its bytes. */
#define AGENT_MAX_REQUEST_BYTES (16u << 20)
#define AGENT_MAX_ENVS          1024
#define AGENT_MAX_NAME_BYTES    256
/* MAX_ARG_STRLEN of the kernel: one argument or one "NAME=value", its NUL counted. */
#define AGENT_MAX_ARG_BYTES 131072

struct agent_config {
    char *access_token;   /* NULL: open */
    char *user;           /* default user of commands and files */
    char *home;           /* its home */
    char *workdir;        /* relative paths and commands without a cwd */
    char *sandbox_id;     /* NULL: of none */
    char *template_id;    /* or NULL */
    cJSON *envs;          /* object of strings, never NULL; E2B_SANDBOX and its kin are in it */
    struct rlimit nofile; /* what children get; the agent raises its own */
};

/* Parses {"access_token","envs","user","home","workdir","sandbox_id","template_id"}; every field
 * may be absent or null. */
int agent_config_parse(struct agent_config *config, const char *text, size_t length,
                       struct error *err) MUST_CHECK;
/* Leaves the files in which programs find out that they are in a sandbox, /run/e2b/.E2B_SANDBOX and
 * its kin. ERR_INTERNAL where /run cannot be written. */
int agent_config_leave_marks(const struct agent_config *config, struct error *err) MUST_CHECK;
void agent_config_done(struct agent_config *config);

#endif
