/*
 * store_config - what the environment says of PostgreSQL, once for all programs that reach it.
 *
 * Owns: the variable's name and help, and the times every program waits for the database.
 * Does not own: reading it: a program puts the entry into its own table (common/base/config.h).
 */
#ifndef STORE_STORE_CONFIG_H
#define STORE_STORE_CONFIG_H

#include "common/store/store.h"

/* Entry of a table; at_ = offset of its char * in the table's target. */
/* clang-format off */
#define STORE_CONFIG_ENTRY(at_)                                                                    \
    {"DATABASE_URL", CONFIG_STRING, (at_), 1, 4096, NULL, true, true,                              \
     "PostgreSQL, several hosts allowed"}
/* clang-format on */

/* How that database is reached by `application`; borrows both strings. */
struct store_options store_config_options(const char *database_url, const char *application,
                                          int pool_size);

#endif
