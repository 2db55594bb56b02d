/* placement - see placement.h. */
#include "gateway/data/placement.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/domain/providers.h"

/* One template name of SANDBOX_TEMPLATES and its name at each provider. */
struct mapping {
    char name[TEMPLATE_BYTES];
    char at[PROVIDER_KIND_COUNT][TEMPLATE_BYTES]; /* "" = the provider does not have it */
};

struct placement {
    struct provider_set *providers;
    struct mapping *mappings;
    size_t count;
};

static const struct mapping *find(const struct placement *placement, const char *name)
{
    for (size_t i = 0; i < placement->count; i++) {
        if (strcmp(placement->mappings[i].name, name) == 0) {
            return &placement->mappings[i];
        }
    }
    return NULL;
}

/* Copies `length` bytes, trimmed. -1: empty or too long. */
static int take(char *out, size_t size, const char *text, size_t length)
{
    while (length > 0 && strchr(" \t\n", *text) != NULL) {
        text++;
        length--;
    }
    while (length > 0 && strchr(" \t\n", text[length - 1]) != NULL) {
        length--;
    }
    if (length == 0 || length >= size) {
        return -1;
    }
    memcpy(out, text, length);
    out[length] = '\0';
    return 0;
}

/* provider:template */
static int read_pair(struct mapping *mapping, const char *text, size_t length, struct error *err)
{
    const char *colon = memchr(text, ':', length);
    char name[PROVIDER_BYTES];
    enum provider_kind kind;

    if (colon == NULL || take(name, sizeof(name), text, (size_t)(colon - text)) != 0) {
        return error_set(err, ERR_CONFIG,
                         "SANDBOX_TEMPLATES: %s: '%.*s' is not of the form provider:template",
                         mapping->name, (int)(length < 80 ? length : 80), text);
    }
    if (provider_kind_parse(name, &kind) != 0) {
        return error_set(err, ERR_CONFIG, "SANDBOX_TEMPLATES: %s: there is no provider '%s'",
                         mapping->name, name);
    }
    if (mapping->at[kind][0] != '\0') {
        return error_set(err, ERR_CONFIG, "SANDBOX_TEMPLATES: %s names %s twice", mapping->name,
                         name);
    }
    if (take(mapping->at[kind], TEMPLATE_BYTES, colon + 1, length - (size_t)(colon + 1 - text)) !=
        0) {
        return error_set(err, ERR_CONFIG,
                         "SANDBOX_TEMPLATES: %s: the template of %s is empty or too long",
                         mapping->name, name);
    }
    return 0;
}

/* name=provider:template,provider:template */
static int read_mapping(struct placement *placement, const char *text, size_t length,
                        struct error *err)
{
    const char *equals = memchr(text, '=', length);
    struct mapping mapping;

    memset(&mapping, 0, sizeof(mapping));
    if (equals == NULL ||
        take(mapping.name, sizeof(mapping.name), text, (size_t)(equals - text)) != 0) {
        return error_set(err, ERR_CONFIG,
                         "SANDBOX_TEMPLATES: '%.*s' is not of the form name=provider:template,...",
                         (int)(length < 80 ? length : 80), text);
    }
    if (find(placement, mapping.name) != NULL) {
        return error_set(err, ERR_CONFIG, "SANDBOX_TEMPLATES: %s is there twice", mapping.name);
    }
    for (const char *at = equals + 1, *end = text + length; at <= end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        size_t size = (size_t)((comma != NULL ? comma : end) - at);

        if (read_pair(&mapping, at, size, err) != 0) {
            return -1;
        }
        at += size + 1;
    }
    placement->mappings =
        xrealloc(placement->mappings, (placement->count + 1) * sizeof(*placement->mappings));
    placement->mappings[placement->count++] = mapping;
    return 0;
}

static bool is_blank(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        if (strchr(" \t\n", text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

struct placement *placement_open(const char *templates, struct provider_set *providers,
                                 struct error *err)
{
    struct placement *placement = xcalloc(1, sizeof(*placement));

    placement->providers = providers;
    for (const char *at = templates != NULL ? templates : ""; *at != '\0';) {
        size_t length = strcspn(at, ";");

        if (!is_blank(at, length) && read_mapping(placement, at, length, err) != 0) {
            placement_close(placement);
            return NULL;
        }
        at += length + (at[length] == ';' ? 1 : 0);
    }
    return placement;
}

void placement_close(struct placement *placement)
{
    if (placement != NULL) {
        free(placement->mappings);
        free(placement);
    }
}

static void add_place(struct job_params *params, const struct provider *provider,
                      const char *template_id)
{
    struct job_place *place;

    if (params->place_count < JOB_PLACES_MAX) {
        place = &params->places[params->place_count++];
        str_copy(place->provider, sizeof(place->provider), provider->ops->name);
        str_copy(place->template_id, sizeof(place->template_id), template_id);
    }
}

/* The template's name at `provider`; NULL = the provider does not have it. */
static const char *template_at(const struct mapping *mapping, const char *template_id,
                               struct provider *provider)
{
    enum provider_kind kind;

    if (*template_id == '\0') {
        return provider->ops->default_template(provider);
    }
    if (mapping == NULL) {
        return template_id;
    }
    return provider_kind_parse(provider->ops->name, &kind) == 0 && mapping->at[kind][0] != '\0'
               ? mapping->at[kind]
               : NULL;
}

int placement_choose(const struct placement *placement, const char *template_id, const char *pinned,
                     struct job_params *params, struct error *err)
{
    const struct mapping *mapping = find(placement, template_id);
    bool only_first = *template_id != '\0' && mapping == NULL;

    params->place_count = 0;
    if (pinned != NULL && provider_set_find(placement->providers, pinned) == NULL) {
        return error_set(err, ERR_INVALID, "provider is not one of those configured here");
    }
    for (size_t i = 0; i < provider_set_count(placement->providers); i++) {
        struct provider *provider = provider_set_at(placement->providers, i);
        const char *name = template_at(mapping, template_id, provider);

        if (name != NULL && (pinned == NULL || strcmp(pinned, provider->ops->name) == 0) &&
            !(only_first && params->place_count > 0)) {
            add_place(params, provider, name);
        }
    }
    if (params->place_count == 0) {
        return error_set(err, ERR_INVALID, "sandbox_template_id has no template at %s",
                         pinned != NULL ? pinned : "any provider configured here");
    }
    return 0;
}

const char *placement_name(const struct placement *placement, size_t index)
{
    return index < placement->count ? placement->mappings[index].name : NULL;
}

const char *placement_name_of(const struct placement *placement, const char *provider_name,
                              const char *template_id)
{
    enum provider_kind kind;

    if (provider_kind_parse(provider_name, &kind) != 0 || *template_id == '\0') {
        return NULL;
    }
    for (size_t i = 0; i < placement->count; i++) {
        if (strcmp(placement->mappings[i].at[kind], template_id) == 0) {
            return placement->mappings[i].name;
        }
    }
    return NULL;
}

void placement_add_ids(const struct placement *placement, const char *template_id, cJSON *array)
{
    const struct mapping *mapping = find(placement, template_id);

    for (size_t i = 0; i < provider_set_count(placement->providers); i++) {
        const char *id =
            template_at(mapping, template_id, provider_set_at(placement->providers, i));

        if (id != NULL) {
            cJSON_AddItemToArray(array, cJSON_CreateString(id));
        }
    }
}
