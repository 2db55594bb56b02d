/* journal - see journal.h. */
#include "deploy/sandbox-host/sandbox/journal.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"

static void drop_oldest(struct journal *journal)
{
    struct journal_line *oldest = &journal->lines[journal->first];

    journal->bytes -= strlen(oldest->text);
    free(oldest->text);
    journal->first = (journal->first + 1) % JOURNAL_LINES;
    journal->count--;
}

void journal_add(struct journal *journal, int64_t at_ms, enum journal_level level, const char *text,
                 size_t length)
{
    char *copy;

    length = length > JOURNAL_LINE_BYTES ? JOURNAL_LINE_BYTES : length;
    copy = xstrndup(text, length);
    length = strlen(copy);
    for (size_t at = 0; (at += utf8_valid_prefix(copy + at, length - at)) < length;) {
        copy[at++] = '?';
    }
    if (journal->lines == NULL) {
        journal->lines = xcalloc(JOURNAL_LINES, sizeof(*journal->lines));
    }
    while (journal->count == JOURNAL_LINES ||
           (journal->count > 0 && journal->bytes + length > JOURNAL_BYTES)) {
        drop_oldest(journal);
    }
    journal->lines[(journal->first + journal->count++) % JOURNAL_LINES] =
        (struct journal_line){.at_ms = at_ms, .level = level, .text = copy};
    journal->bytes += length;
}

void journal_add_lines(struct journal *journal, int64_t at_ms, enum journal_level level,
                       const char *text, size_t length)
{
    while (length > 0) {
        const char *end = memchr(text, '\n', length);
        size_t line = end != NULL ? (size_t)(end - text) : length;

        if (line > 0) {
            journal_add(journal, at_ms, level, text, line);
        }
        line += end != NULL;
        text += line;
        length -= line;
    }
}

const struct journal_line *journal_at(const struct journal *journal, size_t i)
{
    return &journal->lines[(journal->first + i) % JOURNAL_LINES];
}

void journal_copy(const struct journal *from, struct journal *ret)
{
    *ret = (struct journal){.lines = NULL};
    for (size_t i = 0; i < from->count; i++) {
        const struct journal_line *line = journal_at(from, i);

        journal_add(ret, line->at_ms, line->level, line->text, strlen(line->text));
    }
}

void journal_done(struct journal *journal)
{
    while (journal->count > 0) {
        drop_oldest(journal);
    }
    free(journal->lines);
    *journal = (struct journal){.lines = NULL};
}

const char *journal_level_name(enum journal_level level)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    return names[level];
}
