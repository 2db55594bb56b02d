/* limits - see limits.h. */
#include "common/domain/limits.h"

#include <string.h>

static const struct {
    const char *name, *text;
} limits[USER_LIMIT_COUNT] = {
#define X(enumerator, name, text) [enumerator] = {name, text},
#include "common/domain/limits.def"
#undef X
};

const char *user_limit_name(enum user_limit limit)
{
    return limits[limit].name;
}

const char *user_limit_text(enum user_limit limit)
{
    return limits[limit].text;
}

int user_limit_parse(const char *name, enum user_limit *ret)
{
    for (int i = 0; i < USER_LIMIT_COUNT; i++) {
        if (strcmp(limits[i].name, name) == 0) {
            *ret = (enum user_limit)i;
            return 0;
        }
    }
    return -1;
}
