/*
 * config - reads environment variables through one table per program.
 *
 * Owns: parsing, ranges, defaults, the `--help` text, <NAME>_FILE (Docker secrets). Does not own:
 * what a value means. Threads: load before any thread starts. Failure: config_load() names the
 * first bad variable, and the program stops at start.
 */
#ifndef BASE_CONFIG_H
#define BASE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"

enum config_type { CONFIG_STRING, CONFIG_INT, CONFIG_BOOL };

struct config_entry {
    const char *name; /* environment variable */
    enum config_type type;
    size_t offset;        /* offset of a char *, int64_t or bool in the program's config struct */
    int64_t min, max;     /* CONFIG_INT: range; CONFIG_STRING: length range */
    const char *fallback; /* textual default; NULL with required=false leaves NULL/0 */
    bool required;        /* empty counts as missing */
    bool secret;          /* never printed; --help shows no default */
    const char *help;     /* one line, with the unit */
};

/* Shorthand for the offsets of a table: CONFIG_AT(struct e2b_config, api_key). */
#define CONFIG_AT(type_, field_) offsetof(type_, field_)

/*
 * A program keeps its settings in one list, config.def, with a line for each:
 *   X(type, field, "NAME", minimum, maximum, "default" or NULL, "help")
 * It is expanded twice: with CONFIG_FIELD in the program's config struct, and with CONFIG_ENTRY in
 * its table. Types: INT, BOOL, STRING, SECRET, REQUIRED_SECRET.
 */
/* clang-format off */
#define CONFIG_FIELD(type_, field_, ...) CONFIG_C_##type_ field_;
#define CONFIG_C_INT             int64_t
#define CONFIG_C_BOOL            bool
#define CONFIG_C_STRING          char *
#define CONFIG_C_SECRET          char *
#define CONFIG_C_REQUIRED_SECRET char *
#define CONFIG_ENTRY(struct_, type_, field_, name_, min_, max_, default_, help_)                   \
    {(name_), CONFIG_KIND_##type_(offsetof(struct_, field_), (min_), (max_), (default_)), (help_)},
#define CONFIG_KIND_INT(at_, ...)             CONFIG_INT, (at_), __VA_ARGS__, false, false
#define CONFIG_KIND_BOOL(at_, ...)            CONFIG_BOOL, (at_), __VA_ARGS__, false, false
#define CONFIG_KIND_STRING(at_, ...)          CONFIG_STRING, (at_), __VA_ARGS__, false, false
#define CONFIG_KIND_SECRET(at_, ...)          CONFIG_STRING, (at_), __VA_ARGS__, false, true
#define CONFIG_KIND_REQUIRED_SECRET(at_, ...) CONFIG_STRING, (at_), __VA_ARGS__, true, true
/* clang-format on */

/*
 * Fills *target from the environment. Strings are heap copies owned by target (freed by
 * config_free). An empty variable counts as unset. For secrets and strings `<NAME>_FILE` names a
 * file whose content (one trailing newline removed) is the value, unset when empty; both set is an
 * error.
 * Bool: 1/0/true/false/yes/no/on/off.
 */
int config_load(const struct config_entry *table, size_t count, void *target,
                struct error *err) MUST_CHECK;
void config_free(const struct config_entry *table, size_t count, void *target);
/* Prints name, default, range and help of every entry. */
void config_print_help(const struct config_entry *table, size_t count, FILE *out);

/* All that a program reads from the environment. */
struct config_schema {
    const struct config_entry *table;
    size_t count;
    int (*check)(void *config, struct error *err); /* rules between values; NULL = none */
    void (*release)(void *config); /* frees what `check` allocated, also after it failed; or NULL */
    void (*print_help)(FILE *out); /* of settings outside the table; NULL = none */
};

/* Reads and checks; after a failure nothing is left to free. */
int config_schema_load(const struct config_schema *schema, void *config,
                       struct error *err) MUST_CHECK;
void config_schema_free(const struct config_schema *schema, void *config);
void config_schema_help(const struct config_schema *schema, FILE *out);

#endif
