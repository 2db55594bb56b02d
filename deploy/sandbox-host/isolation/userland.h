/*
 * userland - what a sandbox's system is made of, as its template says. Borrowed strings.
 */
#ifndef SANDBOX_HOST_ISOLATION_USERLAND_H
#define SANDBOX_HOST_ISOLATION_USERLAND_H

#include "common/base/json.h"

struct userland {
    const char *template_id;
    const char *root;    /* folder of its root file system; NULL = this machine's */
    const char *etc;     /* folder that becomes /etc */
    const cJSON *envs;   /* of every command, or NULL */
    const cJSON *mounts; /* path inside -> folder or file of this machine, read-only; or NULL */
    /* of commands that name none; NULL = user, and that user's home */
    const char *user, *workdir;
};

#endif
