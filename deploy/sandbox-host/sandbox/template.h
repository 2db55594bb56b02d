/*
 * template - what a sandbox starts from: a root file system, an /etc, a start command.
 *
 * Owns: the list of templates, aliases, the prepared copies of /etc. A template `name` is any of
 * these files of the folder SANDBOX_HOST_TEMPLATES, alone or together:
 *   name/            a root file system, used read-only (its home/user is copied to each sandbox)
 *   name.tar[.*]     the same, packed; unpacked once into the state folder
 *   name.json        its description (template_description.h)
 * Without the first two the root file system is this machine's own, as for `base`, which always
 * exists. Does not own: references (template_name.h), archives (template_archive.h), starting
 * anything (spawn.h). Threads: any. A template that changed on disk is read again at its next use;
 * one in use stays as it is until it is released.
 */
#ifndef SANDBOX_HOST_TEMPLATE_H
#define SANDBOX_HOST_TEMPLATE_H

#include "common/base/error.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/sandbox/template_name.h"

struct template
{
    char id[TEMPLATE_NAME_BYTES];
    char alias[TEMPLATE_NAME_BYTES]; /* the first one, or "" */
    char base[TEMPLATE_NAME_BYTES];  /* of a saved one, the template its system is; else "" */
    char *image;                     /* of a saved one, the disk a sandbox starts with a copy of */
    char *root;                      /* folder of its root file system; NULL = this machine's */
    char *etc;                       /* folder that becomes /etc */
    char *start_command;             /* run by bash in the background, or NULL */
    char *ready_command;             /* the sandbox is ready when it exits 0, or NULL */
    int ready_port;                  /* ... and when something listens on it, or 0 */
    int64_t ready_timeout_ms;
    const cJSON *envs;   /* of every command, or NULL */
    const cJSON *mounts; /* path inside -> folder or file of this machine, read-only; or NULL */
    int64_t created_ms;  /* of a saved one */
    /* of commands that name none; NULL = user, and that user's home */
    const char *user, *workdir;
    /* the rest is this module's own, and saved.c's */
    cJSON *description;
    char stamp[96]; /* tells whether it changed on disk */
    int references;
    struct template *next;
};

/* Reads all templates; a broken one stops the start, named. */
int templates_init(const struct host_config *config, struct error *err) MUST_CHECK;
void templates_done(void);
/* Brings the list up to date with the folder. -1 names a broken one; the others are in the list. */
int templates_refresh(struct error *err) MUST_CHECK;
/* By id, alias, `namespace/alias`, each with or without `:tag`, in any case, as E2B takes them.
 * ERR_INVALID: no reference at all; ERR_NOT_FOUND. Release what was taken. */
int template_take(const char *reference, const struct template **ret, struct error *err) MUST_CHECK;
void template_release(const struct template *template);
/* ---- with the lock held, for saved.c and the list of templates ---- */

void template_lock(void);
void template_unlock(void);
struct template **template_list(void);
/* A saved one, by id, or by name and tag; NULL: none. */
struct template *template_find_saved(const char *name, const char *tag);
/* One reference fewer; the last one frees it. */
void template_let_go(struct template *template);
void template_free(struct template *template);

#endif
