/*
 * layers - a sandbox's private, writable layer over a system that all sandboxes share.
 *
 * The shared part is this machine's /usr and package list, the prepared /etc, or a template's root.
 * An overlayfs whose upper layer lies on the sandbox's disk shows it, so `sudo apt-get install` and
 * `sudo tee /etc/x` work and nobody else sees what they change. Two ID-mapped mounts make the owner
 * right: what root owns below belongs to the sandbox's user id, and what the sandbox owns is stored
 * as root's on its disk, so a copy of the disk serves a sandbox with any other id.
 * What this machine's /usr holds that not everybody may read is hidden, as found at the host's
 * start, and so is Python's mark that its packages are the distribution's alone (PEP 668).
 * Owns: the choice of layers, the hidden files, the mounts. Does not own: the disk (disk.h), what
 * is bound where (bwrap_argv.h). Threads: layers_init() once; layers_mount() in a child of the
 * warden.
 */
#ifndef SANDBOX_HOST_LAYERS_H
#define SANDBOX_HOST_LAYERS_H

#include <stdbool.h>
#include <sys/types.h>

#include "common/base/error.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/isolation/userland.h"

enum { LAYERS_TEXT_BYTES = 16384 };

/* Finds what to hide and has `try_plan` mount one plan on a disk as sandboxes have it. -1: the
 * system stays read-only here, and err says why. */
int layers_init(const struct host_config *config, int (*try_plan)(const char *, struct error *),
                struct error *err) MUST_CHECK;
/* Whether sandboxes have a layer of their own. */
bool layers_available(void);
/* Why they have none, or "". */
const char *layers_reason(void);

/* The layers of a template, one a line: the name below dir/sys, a tab, lower folders with colons
 * between, the topmost first. */
void layers_plan(const struct userland *userland, struct strbuf *out);
/* Makes the folders of the upper layers on a disk that is mounted without an ID mapping. */
int layers_make_folders(const char *dir, const char *plan, struct error *err) MUST_CHECK;
/* A user namespace that maps what root owns on disk to `uid`; a descriptor. */
int layers_open_mapping(uid_t uid, struct error *err) MUST_CHECK;
/* Covers the mount at `path` with itself under that mapping. */
int layers_map(const char *path, int mapping, struct error *err) MUST_CHECK;
/* Mounts every layer of the plan at dir/sys/<name>; dir/disk is mounted under `mapping`. */
int layers_mount(const char *dir, const char *plan, int mapping, uid_t uid,
                 struct error *err) MUST_CHECK;

#endif
