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

#endif
