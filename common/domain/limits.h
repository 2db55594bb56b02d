/*
 * limits - the names of what can be limited per user.
 */
#ifndef DOMAIN_LIMITS_H
#define DOMAIN_LIMITS_H

enum user_limit {
#define X(enumerator, name, text) enumerator,
#include "common/domain/limits.def"
#undef X
    USER_LIMIT_COUNT
};

const char *user_limit_name(enum user_limit limit);
const char *user_limit_text(enum user_limit limit);
/* -1: there is none of that name. */
int user_limit_parse(const char *name, enum user_limit *ret);

#endif
