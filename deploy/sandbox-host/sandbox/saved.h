/*
 * saved - templates this host made itself: snapshots of sandboxes, and what template builds end as.
 *
 * Each is a folder i/<id> of the state folder with a disk image and about.json: the template below
 * it, names with tags, start and ready command, environment. It outlives the host and the sandbox
 * it comes from. A name with a tag belongs to one template; who takes it over leaves the other
 * without. Owns: that folder, names and tags. Does not own: templates of SANDBOX_HOST_TEMPLATES
 * (template.h), copying disks (sandbox_copy.h). Threads: any. Failure: -1 with the reason.
 */
#ifndef SANDBOX_HOST_SAVED_H
#define SANDBOX_HOST_SAVED_H

#include "common/base/error.h"
#include "common/base/json.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/sandbox/template.h"

enum { SAVED_ID_BYTES = 24, SAVED_PATH_BYTES = 160, SAVED_TAGS_MAX = 64 };

struct saved_about {
    const char *id, *base;
    const char *name;                  /* or NULL: none but its id */
    const cJSON *tags;                 /* of the name; NULL or empty = the default one */
    const char *sandbox_id, *build_id; /* of a snapshot; of a build; else NULL */
    const char *start_command, *ready_command;
    const char *user, *workdir; /* or NULL */
    int ready_port;
    int64_t ready_timeout_ms;
    const cJSON *envs, *mounts;
};

/* Reads what earlier hosts saved. What cannot be read is logged and left alone. */
int saved_init(const struct host_config *config, struct error *err) MUST_CHECK;
/* A new id and a path for its image, in a folder of its own that saved_commit() makes a template or
 * saved_abandon() removes. */
int saved_begin(char id[SAVED_ID_BYTES], char image[SAVED_PATH_BYTES],
                struct error *err) MUST_CHECK;
int saved_commit(const struct saved_about *about, struct error *err) MUST_CHECK;
void saved_abandon(const char *id);
/* By id or name. ERR_NOT_FOUND; ERR_CONFLICT: it is a file of SANDBOX_HOST_TEMPLATES. */
int saved_delete(const char *reference, struct error *err) MUST_CHECK;
/* Gives the names `tags` of the template that `reference` names, or takes them from it. The build
 * id is copied. */
int saved_tag(const char *reference, const cJSON *tags, char build_id[64],
              struct error *err) MUST_CHECK;
int saved_untag(const char *name, const cJSON *tags, struct error *err) MUST_CHECK;

#endif
