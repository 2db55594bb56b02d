/*
 * user_name - which names a user may have; one rule for the admin API and the command line.
 *
 * Threads: no shared state.
 */
#ifndef GATEWAY_USER_NAME_H
#define GATEWAY_USER_NAME_H

#include "common/base/error.h"

/* 1 to LABEL_BYTES - 1 bytes of UTF-8 without blanks or control characters, else ERR_INVALID. */
int user_name_check(const char *name, struct error *err) MUST_CHECK;

#endif
