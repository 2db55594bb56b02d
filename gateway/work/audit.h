/*
 * audit - writes what was done to the audit log, off the request's path.
 *
 * Owns: a bounded list of records and the thread that writes it, five times a second, in one
 * statement. While PostgreSQL is away the list waits; what does not fit is counted and lost. Also
 * removes records beyond their retention. Threads: any. Failure: none for the caller.
 */
#ifndef GATEWAY_AUDIT_H
#define GATEWAY_AUDIT_H

#include "common/store/store_audit.h"

struct audit;
/* keep_days 0 = for ever. */
struct audit *audit_start(struct store *store, int64_t keep_days, struct error *err) MUST_CHECK;
void audit_stop(struct audit *audit); /* writes what is left */
/* Takes the record, which is on the heap. */
void audit_add(struct audit *audit, struct store_audit *record);

#endif
