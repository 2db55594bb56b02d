/*
 * journal - the last log lines of one sandbox: what its host did with it, what its start command
 * wrote.
 *
 * Owns: a bounded list; the oldest lines go first. Threads: guarded by whoever owns it.
 */
#ifndef SANDBOX_HOST_JOURNAL_H
#define SANDBOX_HOST_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

enum { JOURNAL_LINES = 1000, JOURNAL_BYTES = 256 * 1024, JOURNAL_LINE_BYTES = 4096 };
/* in rising order, as E2B names them */
enum journal_level { JOURNAL_DEBUG, JOURNAL_INFO, JOURNAL_WARN, JOURNAL_ERROR };

struct journal_line {
    int64_t at_ms; /* wall clock */
    enum journal_level level;
    char *text; /* valid UTF-8 */
};
struct journal {
    struct journal_line *lines; /* a ring of JOURNAL_LINES, made when first written to */
    size_t first, count, bytes;
};

void journal_add(struct journal *journal, int64_t at_ms, enum journal_level level, const char *text,
                 size_t length);
/* Each line of a text on its own. */
void journal_add_lines(struct journal *journal, int64_t at_ms, enum journal_level level,
                       const char *text, size_t length);
/* i-th line from the oldest, i < count. */
const struct journal_line *journal_at(const struct journal *journal, size_t i);
void journal_copy(const struct journal *from, struct journal *ret);
void journal_done(struct journal *journal);
const char *journal_level_name(enum journal_level level);

#endif
