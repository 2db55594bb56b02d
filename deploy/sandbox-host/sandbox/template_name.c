/* template_name - see template_name.h. */
#include "deploy/sandbox-host/sandbox/template_name.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/id.h"

bool template_name_valid(const char *text, size_t length)
{
    if (length == 0 || length >= TEMPLATE_NAME_BYTES) {
        return false;
    }
    for (size_t i = 0; i < length; i++) {
        if (!islower((unsigned char)text[i]) && !isdigit((unsigned char)text[i]) &&
            strchr("-_", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

int template_normalize(const char *reference, char out[TEMPLATE_NAME_BYTES], struct error *err)
{
    const char *slash;
    size_t length;

    while (isspace((unsigned char)*reference)) {
        reference++;
    }
    slash = strchr(reference, '/');
    if (slash != NULL) {
        reference = slash + 1;
    }
    length = strcspn(reference, ":");
    while (length > 0 && isspace((unsigned char)reference[length - 1])) {
        length--;
    }
    if (length >= TEMPLATE_NAME_BYTES) {
        return error_set(err, ERR_INVALID, "Invalid template reference");
    }
    memcpy(out, reference, length);
    out[length] = '\0';
    id_lower(out);
    return template_name_valid(out, length)
               ? 0
               : error_set(err, ERR_INVALID, "Invalid template reference");
}

void template_name_tag(const char *reference, char out[TEMPLATE_NAME_BYTES])
{
    const char *colon = strchr(reference, ':');
    size_t length;

    if (colon == NULL) {
        str_copy(out, TEMPLATE_NAME_BYTES, TEMPLATE_TAG);
        return;
    }
    colon += 1 + strspn(colon + 1, " \t");
    length = strcspn(colon, " \t");
    snprintf(out, TEMPLATE_NAME_BYTES, "%.*s", (int)length, colon);
}
