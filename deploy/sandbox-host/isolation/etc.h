/*
 * etc - the /etc that sandboxes of one template see.
 *
 * Owns: what of an /etc goes in, and the files every sandbox needs the same way: users (`user` with
 * id 1000, and root), hosts, the resolver, the login shell's PATH. Does not own: mounting it.
 */
#ifndef SANDBOX_HOST_ETC_H
#define SANDBOX_HOST_ETC_H

#include "common/base/error.h"

/* Fills the folder `out` from root's /etc; root NULL = this machine's, of which only what programs
 * need and holds no secret. Of either only what everybody may read. */
int etc_prepare(const char *root, const char *out, struct error *err) MUST_CHECK;

#endif
