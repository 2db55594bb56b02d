/*
 * resolver - whom a sandbox asks for names.
 *
 * slirp4netns offers this machine's own resolver at 10.0.2.3. One in a private network knows names
 * and addresses that are not for everybody, so it is offered only where sandboxes may reach its
 * network (SANDBOX_HOST_EGRESS_ALLOW); else they ask SANDBOX_HOST_NAMESERVERS.
 * Threads: resolver_init() once; then any.
 */
#ifndef SANDBOX_HOST_RESOLVER_H
#define SANDBOX_HOST_RESOLVER_H

#include <stdbool.h>

#include "common/base/cidr.h"
#include "common/base/error.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/config.h"

/* `closed`: the networks no sandbox reaches. */
int resolver_init(const struct host_config *config, const struct cidr_set *closed,
                  struct error *err) MUST_CHECK;
/* Whether sandboxes may ask this machine's resolver. */
bool resolver_is_own(void);
/* Text of a sandbox's /etc/resolv.conf. */
void resolver_write(struct strbuf *out);

#endif
