/*
 * store_audit - the audit log: written in batches, read by pages, pruned by age.
 *
 * Threads and failure: as store.h.
 */
#ifndef STORE_STORE_AUDIT_H
#define STORE_STORE_AUDIT_H

#include "common/store/store.h"

enum {
    AUDIT_ACTION_BYTES = 48,
    AUDIT_ADDRESS_BYTES = 64,
    AUDIT_ERROR_BYTES = 48,
    AUDIT_DETAIL_BYTES = 1025
};

struct store_audit {
    int64_t id; /* when read */
    int64_t at_ms;
    char actor[OWNER_BYTES];
    char actor_name[LABEL_BYTES];
    char key_id[UUID_BYTES];
    char address[AUDIT_ADDRESS_BYTES];
    char action[AUDIT_ACTION_BYTES];
    char target[LABEL_BYTES];
    int status;
    char error[AUDIT_ERROR_BYTES];
    char request_id[UUID_BYTES];
    char detail[AUDIT_DETAIL_BYTES];
};

/* Writes all records with one statement. */
int store_audit_add(struct store *store, const struct store_audit *const *records, size_t count,
                    struct error *err) MUST_CHECK;

struct store_audit_filter {
    const char *actor, *target, *action; /* NULL = any */
    int64_t before_id;                   /* 0 = from the newest */
    int limit;
};
/* Lists matching records, newest first. *ret is a heap array. */
int store_audit_list(struct store *store, const struct store_audit_filter *filter,
                     struct store_audit **ret, size_t *ret_count, struct error *err) MUST_CHECK;
/* Deletes up to `limit` records older than older_than_days. */
int store_audit_prune(struct store *store, int64_t older_than_days, int limit,
                      struct error *err) MUST_CHECK;

#endif
