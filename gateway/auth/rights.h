/*
 * rights - which rights have ended: revoked tokens, and users whose older tokens ended.
 *
 * Owns: this gateway's copy of both lists. Another gateway's changes arrive with rights_refresh(),
 * which upkeep.c calls every second. Does not own: tokens (jwt.h), users (store.h).
 * Threads: any. Failure: the store's errors; the copy stays as it was.
 */
#ifndef GATEWAY_RIGHTS_H
#define GATEWAY_RIGHTS_H

#include "gateway/auth/auth.h"

struct rights;
struct rights *rights_new(struct store *store);
void rights_free(struct rights *rights);

/* Reads what ended since the last call. */
int rights_refresh(struct rights *rights, struct error *err) MUST_CHECK;
/* False until the first rights_refresh() that succeeded. */
bool rights_known(const struct rights *rights);
/* Revokes a token everywhere: here at once, on other gateways with their next refresh. */
int rights_revoke(struct rights *rights, const char *jti, int64_t expires_at_ms,
                  struct error *err) MUST_CHECK;
/* Has the principal's token been revoked, or has its user been disabled, or been given another
 * password since it was issued? */
bool rights_ended(struct rights *rights, const struct principal *principal);

/* Has the principal's user been changed since its key was looked up? */
bool rights_user_changed(struct rights *rights, const struct principal *principal);

#endif
