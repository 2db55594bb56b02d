/* config - see config.h. */
#include "common/base/config.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"

enum { CONFIG_FILE_MAX_BYTES = 64 * 1024, CONFIG_NAME_MAX_BYTES = 128 };

/* Reads a whole small file without its last newline; NULL with err filled. */
static char *read_value_file(const char *name, const char *path, struct error *err)
{
    FILE *file = fopen(path, "re");
    char *text;
    size_t length;

    if (file == NULL) {
        error_set_errno(err, ERR_CONFIG, errno, "%s_FILE: %s", name, path);
        return NULL;
    }
    text = xmalloc(CONFIG_FILE_MAX_BYTES + 1);
    length = fread(text, 1, CONFIG_FILE_MAX_BYTES + 1, file);
    if (ferror(file) || length > CONFIG_FILE_MAX_BYTES || memchr(text, '\0', length) != NULL) {
        error_set(err, ERR_CONFIG, "%s_FILE: %s is unreadable, larger than %d bytes or binary",
                  name, path, CONFIG_FILE_MAX_BYTES);
        free(text);
        fclose(file);
        return NULL;
    }
    fclose(file);
    if (length > 0 && text[length - 1] == '\n') {
        length--;
    }
    text[length] = '\0';
    return text;
}

/* The entry's text as a heap string, NULL when unset (err untouched) or wrong (err filled). */
static char *find_value(const struct config_entry *entry, bool *ret_failed, struct error *err)
{
    char file_name[CONFIG_NAME_MAX_BYTES + sizeof("_FILE")];
    const char *value = getenv(entry->name);
    const char *path;
    char *text;

    *ret_failed = false;
    snprintf(file_name, sizeof(file_name), "%s_FILE", entry->name);
    path = getenv(file_name);
    if (value != NULL && *value == '\0') {
        value = NULL;
    }
    /* only strings have a _FILE form: numbers and switches are never secrets */
    if (path != NULL && *path != '\0' && entry->type == CONFIG_STRING) {
        if (value != NULL) {
            *ret_failed = true;
            error_set(err, ERR_CONFIG, "%s and %s_FILE are both set", entry->name, entry->name);
            return NULL;
        }
        text = read_value_file(entry->name, path, err);
        *ret_failed = text == NULL;
        if (text != NULL && *text == '\0') {
            free(text);
            return NULL;
        }
        return text;
    }
    return value != NULL ? xstrdup(value) : NULL;
}

static int set_int(const struct config_entry *entry, const char *text, void *field,
                   struct error *err)
{
    char *end;
    long long value;

    errno = 0;
    value = strtoll(text, &end, 10);
    if (*text == '\0' || *end != '\0' || errno != 0) {
        return error_set(err, ERR_CONFIG, "%s: '%.40s' is not a whole number", entry->name,
                         entry->secret ? "" : text);
    }
    if (value < entry->min || value > entry->max) {
        return error_set(err, ERR_CONFIG, "%s: %lld is outside %lld..%lld", entry->name, value,
                         (long long)entry->min, (long long)entry->max);
    }
    *(int64_t *)field = value;
    return 0;
}

static int set_bool(const struct config_entry *entry, const char *text, void *field,
                    struct error *err)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off"};

    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcasecmp(text, yes[i]) == 0 || strcasecmp(text, no[i]) == 0) {
            *(bool *)field = strcasecmp(text, yes[i]) == 0;
            return 0;
        }
    }
    return error_set(err, ERR_CONFIG, "%s: '%.40s' is none of 1 0 true false yes no on off",
                     entry->name, text);
}

static int set_string(const struct config_entry *entry, const char *text, void *field,
                      struct error *err)
{
    size_t length = strlen(text);

    if ((entry->min > 0 && length < (size_t)entry->min) ||
        (entry->max > 0 && length > (size_t)entry->max)) {
        return error_set(err, ERR_CONFIG, "%s: %zu characters long, allowed are %lld..%lld",
                         entry->name, length, (long long)entry->min, (long long)entry->max);
    }
    *(char **)field = xstrdup(text);
    return 0;
}

static int load_entry(const struct config_entry *entry, void *target, struct error *err)
{
    void *field = (char *)target + entry->offset;
    bool failed;
    char *text = find_value(entry, &failed, err);
    int status = 0;

    if (failed) {
        return -1;
    }
    if (text == NULL && entry->required) {
        return error_set(err, ERR_CONFIG, "%s is not set: %s", entry->name, entry->help);
    }
    if (text == NULL && entry->fallback != NULL) {
        text = xstrdup(entry->fallback);
    }
    if (text != NULL) {
        switch (entry->type) {
        case CONFIG_INT:
            status = set_int(entry, text, field, err);
            break;
        case CONFIG_BOOL:
            status = set_bool(entry, text, field, err);
            break;
        case CONFIG_STRING:
            status = set_string(entry, text, field, err);
            break;
        }
    }
    free(text);
    return status;
}

static void clear_field(const struct config_entry *entry, void *target)
{
    void *field = (char *)target + entry->offset;

    switch (entry->type) {
    case CONFIG_STRING:
        *(char **)field = NULL;
        break;
    case CONFIG_INT:
        *(int64_t *)field = 0;
        break;
    case CONFIG_BOOL:
        *(bool *)field = false;
        break;
    }
}

int config_load(const struct config_entry *table, size_t count, void *target, struct error *err)
{
    for (size_t i = 0; i < count; i++) {
        clear_field(&table[i], target);
    }
    for (size_t i = 0; i < count; i++) {
        if (load_entry(&table[i], target, err) < 0) {
            config_free(table, count, target);
            return -1;
        }
    }
    return 0;
}

void config_free(const struct config_entry *table, size_t count, void *target)
{
    for (size_t i = 0; i < count; i++) {
        if (table[i].type == CONFIG_STRING) {
            char **field = (char **)(void *)((char *)target + table[i].offset);

            free(*field);
            *field = NULL;
        }
    }
}

void config_print_help(const struct config_entry *table, size_t count, FILE *out)
{
    for (size_t i = 0; i < count; i++) {
        const struct config_entry *entry = &table[i];

        fprintf(out, "  %-32s %s", entry->name, entry->help);
        if (entry->required) {
            fputs(" (required)", out);
        } else if (entry->fallback != NULL && entry->fallback[0] != '\0' && !entry->secret) {
            fprintf(out, " (default %s)", entry->fallback);
        }
        if (entry->type == CONFIG_INT) {
            fprintf(out, " [%lld..%lld]", (long long)entry->min, (long long)entry->max);
        }
        fputc('\n', out);
    }
}

int config_schema_load(const struct config_schema *schema, void *config, struct error *err)
{
    if (config_load(schema->table, schema->count, config, err) < 0) {
        return -1;
    }
    if (schema->check != NULL && schema->check(config, err) < 0) {
        config_schema_free(schema, config);
        return -1;
    }
    return 0;
}

void config_schema_free(const struct config_schema *schema, void *config)
{
    if (schema->release != NULL) {
        schema->release(config);
    }
    config_free(schema->table, schema->count, config);
}

void config_schema_help(const struct config_schema *schema, FILE *out)
{
    config_print_help(schema->table, schema->count, out);
    if (schema->print_help != NULL) {
        schema->print_help(out);
    }
}
