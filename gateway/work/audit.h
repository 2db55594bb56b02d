/*
 * audit - writes records to the audit log in a thread of its own.
 *
 * Owns: a bounded list of records and the thread that writes it, five times a second, in one
 * statement. While PostgreSQL is away the list waits. Records that do not fit are dropped and
 * counted. The thread also removes records beyond their retention. Threads: any. Failure: none for
 * the caller.
 */
#ifndef GATEWAY_AUDIT_H
#define GATEWAY_AUDIT_H

#include "common/store/store_audit.h"

struct audit;
/* keep_days: retention of records; 0 = no limit. */
struct audit *audit_start(struct store *store, int64_t keep_days, struct error *err) MUST_CHECK;
void audit_stop(struct audit *audit); /* writes the remaining records; NULL-safe */
/* Takes ownership of the record, which is on the heap. */
void audit_add(struct audit *audit, struct store_audit *record);

#endif
