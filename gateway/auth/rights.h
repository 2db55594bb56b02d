/*
 * rights - knows which tokens and keys have ended: revoked tokens, users disabled or changed.
 *
 * Owns: this gateway's copy of both lists. Changes made at other gateways arrive with
 * rights_refresh(), which upkeep.c calls every second. Does not own: tokens (jwt.h), users
 * (store.h). Threads: any. Failure: the store's errors; the copy stays as it was.
 */
#ifndef GATEWAY_RIGHTS_H
#define GATEWAY_RIGHTS_H

#include "gateway/auth/auth.h"

struct rights;
struct rights *rights_new(struct store *store);
void rights_free(struct rights *rights);

/* Reads the revocations and changes since the last call. */
int rights_refresh(struct rights *rights, struct error *err) MUST_CHECK;
/* False until the first rights_refresh() that succeeded. */
bool rights_known(const struct rights *rights);
/* Revokes a token: here at once, at other gateways with their next refresh. */
int rights_revoke(struct rights *rights, const char *jti, int64_t expires_at_ms,
                  struct error *err) MUST_CHECK;
/* True when the token was revoked, or its user was disabled or got another password after it was
 * issued. */
bool rights_ended(struct rights *rights, const struct principal *principal);

/* True when it is a user of ours who is disabled. */
bool rights_user_disabled(struct rights *rights, const char *subject);
/* True when the user has changed since the API key was read. */
bool rights_user_changed(struct rights *rights, const struct principal *principal);

#endif
