/* user_name - see user_name.h. */
#include "gateway/auth/user_name.h"

#include <string.h>

#include "common/base/encode.h"
#include "common/domain/types.h"

int user_name_check(const char *name, struct error *err)
{
    size_t length = strlen(name);

    if (length == 0 || length >= LABEL_BYTES || !utf8_is_valid(name, length)) {
        return error_set(err, ERR_INVALID, "username has 1 to %d bytes of UTF-8", LABEL_BYTES - 1);
    }
    for (const char *p = name; *p != '\0'; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f) {
            return error_set(err, ERR_INVALID, "username has no blanks or control characters");
        }
    }
    return 0;
}
