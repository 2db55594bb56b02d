/* build_upload - see build_upload.h. */
#include "deploy/sandbox-host/sandbox/build_upload.h"

#include <stdio.h>
#include <string.h>

int build_upload_check(const char *hash, struct error *err)
{
    const size_t length = strlen(hash);

    if (length == 0 || length > 64 || strspn(hash, "0123456789abcdef") != length) {
        return error_set(err, ERR_INVALID, "the hash is not 1 to 64 hexadecimal digits");
    }
    return 0;
}

int build_upload_path(const char *state_dir, const char *hash, char out[SAVED_PATH_BYTES],
                      struct error *err)
{
    if (build_upload_check(hash, err) < 0) {
        return -1;
    }
    snprintf(out, SAVED_PATH_BYTES, "%.60s/u/%.64s", state_dir, hash);
    return 0;
}
