/* api_names - see api_names.h. */
#include "deploy/sandbox-host/api/api_names.h"

#include <stdio.h>
#include <string.h>

#include "common/base/alloc.h"

enum { TAGS_MAX = 64 };

cJSON *api_names_tree(const struct template *template)
{
    const cJSON *names = cJSON_GetObjectItemCaseSensitive(
        template->description, template->image != NULL ? "names" : "aliases");
    cJSON *tree = cJSON_IsArray(names) ? cJSON_Duplicate(names, true) : cJSON_CreateArray();

    if (template->image == NULL) {
        cJSON_InsertItemInArray(tree, 0, cJSON_CreateString(template->id));
    }
    return tree;
}

/* Names without tags. */
cJSON *api_aliases_tree(const struct template *template)
{
    cJSON *names = api_names_tree(template), *tree = cJSON_CreateArray();
    const cJSON *name;

    cJSON_ArrayForEach(name, names)
    {
        char text[TEMPLATE_NAME_BYTES];
        const size_t length = strcspn(name->valuestring, ":");
        const int last = cJSON_GetArraySize(tree) - 1;

        snprintf(text, sizeof(text), "%.*s", (int)length, name->valuestring);
        if (last < 0 || strcmp(cJSON_GetArrayItem(tree, last)->valuestring, text) != 0) {
            cJSON_AddItemToArray(tree, cJSON_CreateString(text));
        }
    }
    cJSON_Delete(names);
    return tree;
}

/* Only what is there: not base for a name nobody knows (SANDBOX_HOST_ANY_TEMPLATE). */
int api_take_exactly(const char *reference, const struct template **ret, struct error *err)
{
    char name[TEMPLATE_NAME_BYTES];
    const cJSON *alias;
    cJSON *aliases;
    bool found;

    if (template_normalize(reference, name, err) < 0 || template_take(reference, ret, err) < 0) {
        return -1;
    }
    found = strcmp((*ret)->id, name) == 0;
    aliases = api_aliases_tree(*ret);
    cJSON_ArrayForEach(alias, aliases)
    {
        found = found || strcmp(alias->valuestring, name) == 0;
    }
    cJSON_Delete(aliases);
    if (!found) {
        template_release(*ret);
        return error_set(err, ERR_NOT_FOUND, "template '%.64s' not found", reference);
    }
    return 0;
}

int api_read_tags(const cJSON *body, bool needed, const cJSON **ret, struct error *err)
{
    const cJSON *tag;

    *ret = cJSON_GetObjectItemCaseSensitive(body, "tags");
    if (!needed && (*ret == NULL || cJSON_IsNull(*ret))) {
        *ret = NULL;
        return 0;
    }
    if (!cJSON_IsArray(*ret) || cJSON_GetArraySize(*ret) > TAGS_MAX) {
        return error_set(err, ERR_INVALID, "tags: not an array of at most %d names", TAGS_MAX);
    }
    cJSON_ArrayForEach(tag, *ret)
    {
        char name[TEMPLATE_NAME_BYTES];

        if (!cJSON_IsString(tag) || template_normalize(tag->valuestring, name, err) < 0) {
            return error_set(err, ERR_INVALID, "tags: each is a name of letters, digits, - and _");
        }
    }
    return 0;
}

/* A name that a template of this machine has cannot be given to another. */
int api_check_name(const char *reference, char name[TEMPLATE_NAME_BYTES],
                   char tag[TEMPLATE_NAME_BYTES], struct error *err)
{
    const char *colon = strchr(reference, ':');
    const struct template *other;
    struct error none = ERROR_INIT;
    bool taken;

    if (template_normalize(reference, name, err) < 0) {
        return -1;
    }
    str_copy(tag, TEMPLATE_NAME_BYTES, colon != NULL ? colon + 1 : TEMPLATE_TAG);
    if (api_take_exactly(name, &other, &none) < 0) {
        return 0;
    }
    taken = other->image == NULL;
    template_release(other);
    return taken ? error_set(err, ERR_INVALID, "'%.64s' is a template of this machine", name) : 0;
}
