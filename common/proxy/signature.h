/*
 * signature - how E2B's SDKs sign the URL of a file, shared by the host and the agent.
 *
 * Owns: the one formula. Does not own: who may use it, expiry. Threads: no shared state.
 */
#ifndef PROXY_SIGNATURE_H
#define PROXY_SIGNATURE_H

enum { SIGNATURE_BYTES = 3 + 43 + 1 };

/* "v1_" + unpadded base64 of sha256("path:operation:username:token[:expiration]"); operation is
 * "read" or "write", expiration "" = none. */
void signature_make(const char *path, const char *operation, const char *username,
                    const char *token, const char *expiration, char out[SIGNATURE_BYTES]);

#endif
