/* sandbox_files - see sandbox_files.h. */
#include "common/provider/sandbox_files.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/id.h"
#include "common/provider/memory_source.h"
#include "common/provider/path_script.h"

enum {
    SCRIPT_MAX_BYTES = 16 * 1024,
    ANSWER_MAX_BYTES = 64 * 1024,
    ARGUMENT_MAX_BYTES = 5 * FILES_PATH_MAX_BYTES + 1,
    QUICK_MS = 20 * 1000,       /* scripts that look or rename */
    APPEND_MS = 10 * 60 * 1000, /* copies the rest of a file, of any size, inside the sandbox */
    LONG_MS = 60 * 1000,        /* scripts that walk a directory or a tree */
    SHORT_CONTENT_BYTES = 64 * 1024,   /* in base64 it fits an argument, which may have 128 KiB */
    COPY_MAX_BYTES = 64 * 1024 * 1024, /* of a file that reports no size and may never end */
    NAME_BYTES = 40,
    RANDOM_BYTES = 9,
};

/* ---- one script ------------------------------------------------------------------------------ */

/* Runs a script on `path` with up to two more arguments (NULL = none). Appends its answer to
 * *answer. */
static int run(const struct sandbox_files *files, enum path_verb verb, const char *path,
               const char *first, const char *second, int64_t timeout_ms, struct strbuf *answer,
               struct error *err)
{
    const struct provider_ops *ops = files->provider->ops;
    struct strbuf script, argument;
    int rc;

    strbuf_init(&script, SCRIPT_MAX_BYTES);
    strbuf_init(&argument, ARGUMENT_MAX_BYTES);
    path_script_put(&script, verb);
    path_script_put_path(&argument, path);
    const char *const argv[] = {
        script.data, ops->file_owner, argument.data, first, first != NULL ? second : NULL, NULL};
    rc = argument.overflow ? path_script_fail(ERR_NAME_TOO_LONG, path, err)
                           : ops->run_script(files->provider, files->client, files->target, argv,
                                             timeout_ms, answer, err);
    strbuf_done(&script);
    strbuf_done(&argument);
    return rc == 0 ? path_script_check(answer->data, path, err) : -1;
}

/* Runs a script that answers one word. */
static int run_word(const struct sandbox_files *files, enum path_verb verb, const char *path,
                    const char *first, const char *second, int64_t timeout_ms, char ret_word[8],
                    struct error *err)
{
    struct strbuf answer;
    int rc;

    strbuf_init(&answer, ANSWER_MAX_BYTES);
    rc = run(files, verb, path, first, second, timeout_ms, &answer, err);
    if (rc == 0 && (strcspn(answer.data, " \n") >= 8 || answer.length == 0)) {
        rc = error_set(err, ERR_PROVIDER, "the sandbox's answer is unusable");
    } else if (rc == 0) {
        snprintf(ret_word, 8, "%.*s", (int)strcspn(answer.data, " \n"), answer.data);
    }
    strbuf_done(&answer);
    return rc;
}

/* Returns the next word of an answer's line, or "" at its end. */
static const char *next_word(const char **at, size_t *ret_length)
{
    const char *word = *at + strspn(*at, " ");

    *ret_length = strcspn(word, " \n");
    *at = word + *ret_length;
    return word;
}

static int take_path(const char **at, struct strbuf *ret)
{
    size_t length;
    const char *word = next_word(at, &length);

    return length == 0 ? -1 : path_script_take_hex(ret, word, length);
}

static void temporary_name(const char *kind, char ret[NAME_BYTES])
{
    char random[17];

    id_random_alnum(random, sizeof(random) - 1);
    random[sizeof(random) - 1] = '\0';
    snprintf(ret, NAME_BYTES, ".sandbox-%s-%s", kind, random);
}

/* Removes a temporary file. Best effort: a failure leaves a file with a name of ours. */
static void discard(const struct sandbox_files *files, const char *path)
{
    struct error ignored = ERROR_INIT;
    char word[8];

    if (run_word(files, PATH_DISCARD, path, NULL, NULL, QUICK_MS, word, &ignored) != 0) {
        return;
    }
}

/* ---- reading --------------------------------------------------------------------------------- */

int sandbox_files_open(const struct sandbox_files *files, const char *path,
                       struct sandbox_files_source *ret, struct error *err)
{
    char name[NAME_BYTES], limit[24];
    struct strbuf answer;
    size_t length;
    int rc;

    *ret = (struct sandbox_files_source){.bytes = 0};
    strbuf_init(&ret->path, 2 * FILES_PATH_MAX_BYTES);
    strbuf_init(&answer, ANSWER_MAX_BYTES);
    temporary_name("read", name);
    snprintf(limit, sizeof(limit), "%d", COPY_MAX_BYTES);
    rc = run(files, PATH_OPEN, path, name, limit, QUICK_MS, &answer, err);
    if (rc == 0) {
        const char *at = answer.data, *word = next_word(&at, &length);
        ret->is_copy = length == 4 && memcmp(word, "copy", 4) == 0;
        word = next_word(&at, &length);
        char *end;
        ret->bytes = strtoll(word, &end, 10);
        const bool sized = length > 0 && end == word + length && ret->bytes >= 0;
        const bool placed = take_path(&at, &ret->path) == 0;
        word = next_word(&at, &length);
        if (!sized || !placed) {
            rc = error_set(err, ERR_PROVIDER, "the sandbox's answer is unusable");
        } else if (length > 1 && length < FILES_TAG_BYTES) {
            snprintf(ret->tag, sizeof(ret->tag), "%.*s", (int)length, word);
        }
    }
    strbuf_done(&answer);
    if (rc != 0) {
        strbuf_done(&ret->path);
    }
    return rc;
}

int sandbox_files_read(const struct sandbox_files *files, const struct sandbox_files_source *source,
                       struct file_get *get, struct error *err)
{
    get->path = source->path.data;
    if (source->bytes == 0) {
        return get->on_begin != NULL && get->on_begin(get->arg, 0, 0) != 0
                   ? error_set(err, ERR_TOO_LARGE, "reading stopped: the receiver takes no more")
                   : 0;
    }
    return files->provider->ops->file_get(files->provider, files->client, files->target, get, err);
}

void sandbox_files_close(const struct sandbox_files *files, struct sandbox_files_source *source)
{
    if (source->is_copy) {
        discard(files, source->path.data);
    }
    strbuf_done(&source->path);
}

/* ---- writing --------------------------------------------------------------------------------- */

struct counted {
    file_read_fn read;
    void *arg;
    int64_t bytes;
};

static long read_counted(void *arg, void *buf, size_t bytes)
{
    struct counted *counted = arg;
    long got = counted->read(counted->arg, buf, bytes);

    counted->bytes += got > 0 ? got : 0;
    return got;
}

/* Reads the temporary path and the target path from a script's answer. */
static int take_places(const struct strbuf *answer, struct strbuf *temporary, struct strbuf *target,
                       struct error *err)
{
    const char *at = answer->data;
    size_t length;

    (void)next_word(&at, &length);
    return take_path(&at, temporary) == 0 && take_path(&at, target) == 0
               ? 0
               : error_set(err, ERR_PROVIDER, "the sandbox's answer is unusable");
}

/* Moves the written temporary file to its place. */
static int put_in_place(const struct sandbox_files *files, const char *path, const char *temporary,
                        int64_t bytes, struct error *err)
{
    char size[24], word[8];
    struct strbuf argument;
    int rc;

    snprintf(size, sizeof(size), "%lld", (long long)bytes);
    strbuf_init(&argument, ARGUMENT_MAX_BYTES);
    path_script_put_path(&argument, temporary);
    rc = run_word(files, PATH_COMMIT, path, argument.data, size, QUICK_MS, word, err);
    strbuf_done(&argument);
    return rc;
}

int sandbox_files_write(const struct sandbox_files *files, const char *path, file_read_fn read,
                        void *arg, int64_t bytes, struct error *err)
{
    const struct provider_ops *ops = files->provider->ops;
    struct counted counted = {.read = read, .arg = arg};
    struct strbuf answer, temporary, target;
    char name[NAME_BYTES];
    int rc = -1;

    strbuf_init(&answer, ANSWER_MAX_BYTES);
    strbuf_init(&temporary, 2 * FILES_PATH_MAX_BYTES);
    strbuf_init(&target, 2 * FILES_PATH_MAX_BYTES);
    temporary_name("upload", name);
    if (run(files, PATH_PREPARE, path, name, NULL, QUICK_MS, &answer, err) != 0) {
        goto out;
    }
    if (take_places(&answer, &temporary, &target, err) != 0) {
        goto out;
    }
    rc = ops->file_put(files->provider, files->client, files->target, temporary.data, read_counted,
                       &counted, bytes, err);
    if (rc == 0) {
        rc = put_in_place(files, target.data, temporary.data, counted.bytes, err);
    } else {
        discard(files, temporary.data);
        if (err->code == ERR_NO_SPACE) {
            (void)path_script_fail(ERR_NO_SPACE, path, err);
        }
    }
    if (rc != 0 && err->code == ERR_SANDBOX_NOT_FOUND) {
        err->code = ERR_PROVIDER_DOWN; /* part of the work was done, so the caller cannot simply
                                          repeat it */
    }
out:
    strbuf_done(&answer);
    strbuf_done(&temporary);
    strbuf_done(&target);
    return rc;
}

int sandbox_files_write_bytes(const struct sandbox_files *files, const char *path, const void *data,
                              size_t bytes, struct error *err)
{
    struct memory_source memory = {.data = data, .left = bytes};
    struct strbuf encoded;
    char name[NAME_BYTES], word[8];
    int rc;

    if (bytes > SHORT_CONTENT_BYTES) {
        return sandbox_files_write(files, path, memory_source_read, &memory, (int64_t)bytes, err);
    }
    strbuf_init(&encoded, SHORT_CONTENT_BYTES / 3 * 4 + 32);
    strbuf_printf(&encoded, "%zu:", bytes);
    (void)encode_base64(&encoded, data, bytes);
    temporary_name("upload", name);
    rc = run_word(files, PATH_WRITE, path, name, encoded.data, QUICK_MS, word, err);
    strbuf_done(&encoded);
    return rc;
}

/* Prepares and writes the rest of the content. ERR_CONFLICT: *ret_have bytes are stored. */
static int begin_rest(const struct sandbox_files *files, const char *path, const char *key,
                      int64_t offset, struct strbuf *temporary, struct strbuf *target,
                      int64_t *ret_have, struct error *err)
{
    char name[NAME_BYTES + FILES_KEY_MAX_BYTES], from[24];
    struct strbuf answer;
    int rc;

    snprintf(name, sizeof(name), ".sandbox-upload-%s", key);
    snprintf(from, sizeof(from), "%lld", (long long)offset);
    strbuf_init(&answer, ANSWER_MAX_BYTES);
    rc = run(files, PATH_RESUME, path, name, from, LONG_MS, &answer, err);
    if (rc == 0 && strncmp(answer.data, "short ", 6) == 0) {
        *ret_have = strtoll(answer.data + 6, NULL, 10);
        rc = error_set(err, ERR_CONFLICT, "%lld bytes of this upload have come, not %lld",
                       (long long)*ret_have, (long long)offset);
    } else if (rc == 0) {
        rc = take_places(&answer, temporary, target, err);
    }
    strbuf_done(&answer);
    return rc;
}

/* Appends the rest to the stored part; *ret_bytes: the size of both. */
static int append_rest(const struct sandbox_files *files, const char *temporary, const char *rest,
                       int64_t *ret_bytes, struct error *err)
{
    struct strbuf answer, argument;
    int rc;

    strbuf_init(&answer, ANSWER_MAX_BYTES);
    strbuf_init(&argument, ARGUMENT_MAX_BYTES);
    path_script_put_path(&argument, rest);
    rc = run(files, PATH_APPEND, temporary, argument.data, NULL, APPEND_MS, &answer, err);
    if (rc == 0) {
        *ret_bytes = strncmp(answer.data, "ok ", 3) == 0 ? strtoll(answer.data + 3, NULL, 10) : -1;
    }
    strbuf_done(&answer);
    strbuf_done(&argument);
    return rc;
}

int sandbox_files_resume(const struct sandbox_files *files, const char *path, const char *key,
                         int64_t offset, file_read_fn read, void *arg, const bool *broken,
                         int64_t *ret_have, struct error *err)
{
    const struct provider_ops *ops = files->provider->ops;
    struct counted counted = {.read = read, .arg = arg};
    struct strbuf temporary, target, rest;
    char random[RANDOM_BYTES];
    int rc;

    *ret_have = 0;
    strbuf_init(&temporary, 2 * FILES_PATH_MAX_BYTES);
    strbuf_init(&target, 2 * FILES_PATH_MAX_BYTES);
    strbuf_init(&rest, 2 * FILES_PATH_MAX_BYTES);
    rc = begin_rest(files, path, key, offset, &temporary, &target, ret_have, err);
    if (rc == 0) {
        id_random_alnum(random, sizeof(random) - 1);
        strbuf_printf(&rest, "%s.rest.%lld.%s", temporary.data, (long long)offset, random);
        /* unknown length: a rest that breaks off is kept as a shorter one */
        rc = ops->file_put(files->provider, files->client, files->target, rest.data, read_counted,
                           &counted, -1, err);
        if (rc == 0) {
            rc = append_rest(files, temporary.data, rest.data, ret_have, err);
        }
        if (rc == 0 && *ret_have != offset + counted.bytes) {
            rc = error_set(err, ERR_CONFLICT, "another call has gone on with this upload");
        } else if (rc == 0 && !*broken) {
            rc = put_in_place(files, target.data, temporary.data, *ret_have, err);
        } else if (rc != 0 && err->code == ERR_NO_SPACE) {
            (void)path_script_fail(ERR_NO_SPACE, path, err);
        }
        if (rc != 0 && err->code == ERR_SANDBOX_NOT_FOUND) {
            err->code = ERR_PROVIDER_DOWN; /* part of the work was done */
        }
    }
    strbuf_done(&temporary);
    strbuf_done(&target);
    strbuf_done(&rest);
    return rc;
}

bool sandbox_files_key_is_valid(const char *key)
{
    const size_t length = strlen(key);

    return length > 0 && length <= FILES_KEY_MAX_BYTES &&
           strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") ==
               length;
}

/* ---- directories ----------------------------------------------------------------------------- */

int sandbox_files_make_dir(const struct sandbox_files *files, const char *path, bool *ret_made,
                           struct error *err)
{
    char word[8];
    int rc = run_word(files, PATH_MAKE_DIR, path, NULL, NULL, QUICK_MS, word, err);

    *ret_made = rc == 0 && strcmp(word, "old") != 0;
    return rc;
}

int sandbox_files_remove(const struct sandbox_files *files, const char *path, bool recursive,
                         struct error *err)
{
    char word[8];

    if (run_word(files, PATH_REMOVE, path, recursive ? "1" : "0", NULL, LONG_MS, word, err) != 0) {
        return err->code == ERR_IS_DIRECTORY && !recursive
                   ? error_prefix(err, "recursive is needed")
                   : -1;
    }
    return 0;
}

/* A directory entry, collected from the lines of its name. */
struct reading {
    struct strbuf name, target;
    const char *hex; /* the name's digits in the answer */
    size_t hex_bytes;
    struct dir_entry entry;
    bool has_fact; /* the entry, or the target of its link, has a fact */
};

static enum entry_type type_of(char letter)
{
    return letter == 'f' ? ENTRY_FILE : letter == 'd' ? ENTRY_DIRECTORY : ENTRY_OTHER;
}

/* Reads one decoded fact: "e<type> <size>" or "l<type> <target>". */
static int take_fact(struct reading *reading, const struct strbuf *fact)
{
    struct dir_entry *entry = &reading->entry;
    char *end;

    if (fact->length < 3 || fact->data[2] != ' ') {
        return -1;
    }
    if (fact->data[0] == 'e') {
        long long bytes = strtoll(fact->data + 3, &end, 10);
        if (end == fact->data + 3 || *end != '\0' || bytes < 0) {
            return -1;
        }
        reading->has_fact = true;
        entry->type = type_of(fact->data[1]);
        /* for a dangling link find -L reports the link's own length */
        entry->bytes = fact->data[1] == 'l' ? 0 : bytes;
        return 0;
    }
    if (fact->data[0] != 'l') {
        return -1;
    }
    if (!reading->has_fact) {
        entry->type = type_of(fact->data[1]);
    }
    entry->is_link = true;
    return strbuf_append(&reading->target, fact->data + 3, fact->length - 3);
}

/* Reports the complete entry, if there is one. Returns the result of on_entry. */
static int tell(struct reading *reading, dir_entry_fn on_entry, void *arg)
{
    int stop = 0;

    if (reading->hex != NULL) {
        reading->entry.name = reading->name.data;
        reading->entry.link_target = reading->target.data;
        stop = on_entry(arg, &reading->entry);
    }
    strbuf_reset(&reading->name);
    strbuf_reset(&reading->target);
    reading->hex = NULL;
    reading->has_fact = false;
    reading->entry = (struct dir_entry){.type = ENTRY_OTHER};
    return stop;
}

/* True for a single path component other than "." and "..". */
static bool is_entry_name(const struct strbuf *name)
{
    return strlen(name->data) == name->length && strchr(name->data, '/') == NULL &&
           strcmp(name->data, ".") != 0 && strcmp(name->data, "..") != 0;
}

/* Reads "<hex name> <hex fact>". The lines of one name follow each other. *ret_stop: on_entry ended
 * the listing. */
static int take_line(struct reading *reading, const char *line, dir_entry_fn on_entry, void *arg,
                     bool *ret_stop)
{
    const char *at = line;
    size_t name_bytes, fact_bytes;
    const char *name = next_word(&at, &name_bytes);
    const char *fact = next_word(&at, &fact_bytes);
    struct strbuf decoded;
    int rc;

    if (reading->hex == NULL || reading->hex_bytes != name_bytes ||
        memcmp(reading->hex, name, name_bytes) != 0) {
        *ret_stop = tell(reading, on_entry, arg) != 0;
        if (*ret_stop) {
            return 0;
        }
        if (name_bytes == 0 || path_script_take_hex(&reading->name, name, name_bytes) != 0 ||
            !is_entry_name(&reading->name)) {
            return -1;
        }
        reading->hex = name;
        reading->hex_bytes = name_bytes;
    }
    strbuf_init(&decoded, 2 * FILES_PATH_MAX_BYTES);
    rc = path_script_take_hex(&decoded, fact, fact_bytes);
    if (rc == 0) {
        rc = take_fact(reading, &decoded);
    }
    strbuf_done(&decoded);
    return rc;
}

static int take_listing(const struct strbuf *answer, dir_entry_fn on_entry, void *arg,
                        char ret_cursor[FILES_CURSOR_BYTES], struct error *err)
{
    struct reading reading = {.hex = NULL};
    const char *line = answer->data, *last = NULL;
    size_t last_bytes = 0;
    bool stop = false, complete = false;
    int rc = 0;

    strbuf_init(&reading.name, FILES_NAME_MAX_BYTES);
    strbuf_init(&reading.target, 2 * FILES_PATH_MAX_BYTES);
    while (rc == 0 && !stop && !complete && *line != '\0') {
        const size_t bytes = strcspn(line, "\n");
        const bool more = bytes == 4 && memcmp(line, "more", 4) == 0;
        complete = more || (bytes == 3 && memcmp(line, "end", 3) == 0);
        if (complete) {
            (void)tell(&reading, on_entry, arg);
            if (more && last != NULL) {
                snprintf(ret_cursor, FILES_CURSOR_BYTES, "%.*s", (int)last_bytes, last);
            }
        } else {
            rc = take_line(&reading, line, on_entry, arg, &stop);
            last = reading.hex;
            last_bytes = reading.hex_bytes;
        }
        line += bytes + (line[bytes] == '\n' ? 1 : 0);
    }
    strbuf_done(&reading.name);
    strbuf_done(&reading.target);
    return rc == 0 && (stop || complete)
               ? 0
               : error_set(err, ERR_PROVIDER, "the sandbox's list is unusable");
}

int sandbox_files_list(const struct sandbox_files *files, const char *path, const char *cursor,
                       int64_t limit, dir_entry_fn on_entry, void *arg,
                       char ret_cursor[FILES_CURSOR_BYTES], struct error *err)
{
    struct strbuf answer;
    char count[24];
    int rc;

    ret_cursor[0] = '\0';
    snprintf(count, sizeof(count), "%lld", (long long)limit);
    strbuf_init(&answer, FILES_LIST_MAX_BYTES);
    rc = run(files, PATH_LIST, path, cursor, count, LONG_MS, &answer, err);
    if (rc == 0) {
        rc = take_listing(&answer, on_entry, arg, ret_cursor, err);
    } else if (err->code == ERR_TOO_LARGE) {
        error_set(err, ERR_TOO_LARGE, "%lld entries are more than %d bytes: ask for fewer",
                  (long long)limit, FILES_LIST_MAX_BYTES);
    }
    strbuf_done(&answer);
    return rc;
}

bool sandbox_files_cursor_is_valid(const char *cursor)
{
    const size_t length = strlen(cursor);

    return length < FILES_CURSOR_BYTES && length % 2 == 0 &&
           strspn(cursor, "0123456789abcdef") == length;
}
