/*
 * tool_files - read_file, write_file, edit_file.
 *
 * A file that is written appears whole: a new one beside it takes its name, and keeps the mode of
 * the one that was. Text of one answer is bounded by MCP_OUTPUT_BYTES times READ_FACTOR.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/id.h"
#include "deploy/template/tool-server/tools.h"

enum {
    READ_FACTOR = 4, /* a file read on purpose may be longer than output that came along */
    MAGIC_BYTES = 16,
    NOTE_BYTES = 256,
    MATCHES_SHOWN = 8,
    DEFAULT_LINES = 2000,
};

/* ---- opening ---- */

/* What the errno of a path means to who gave it. */
static cJSON *failure_of(const char *path, int errnum)
{
    switch (errnum) {
    case ENOENT:
        return tool_failure("%s does not exist; list_directory shows what does", path);
    case EISDIR:
        return tool_failure("%s is a folder; use list_directory", path);
    case ENOTDIR:
        return tool_failure("a part of %s is a file, not a folder", path);
    case EACCES:
    case EPERM:
    case EROFS:
        return tool_failure("%s: %s; try a path under the home folder", path, strerror(errnum));
    default:
        return tool_failure("%s: %s", path, strerror(errnum));
    }
}

/* A regular file to read; NULL with *ret_failure. */
static FILE *open_to_read(const char *path, struct stat *ret_status, cJSON **ret_failure)
{
    /* non-blocking: a pipe without a writer must not hold the call */
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    FILE *file = NULL;

    if (fd < 0 || fstat(fd, ret_status) != 0) {
        *ret_failure = failure_of(path, errno);
    } else if (S_ISDIR(ret_status->st_mode)) {
        *ret_failure = failure_of(path, EISDIR);
    } else if (!S_ISREG(ret_status->st_mode)) {
        *ret_failure = tool_failure("%s is not a regular file", path);
    } else if ((file = fdopen(fd, "r")) == NULL) {
        *ret_failure = failure_of(path, errno);
    }
    if (file == NULL && fd >= 0) {
        close(fd);
    }
    return file;
}

/* All of a file of at most MCP_FILE_BYTES; *out is initialised in any case. */
static cJSON *load(const struct tool_call *call, const char *path, struct strbuf *out)
{
    cJSON *failure = NULL;
    struct stat status;
    FILE *file;
    char buffer[8192];
    size_t n;

    strbuf_init(out, (size_t)call->config->file_bytes);
    file = open_to_read(path, &status, &failure);
    if (file == NULL) {
        return failure;
    }
    while (failure == NULL && (n = fread(buffer, 1, sizeof(buffer), file)) > 0) {
        if (strbuf_append(out, buffer, n) != 0) {
            failure = tool_failure("%s is larger than the %lld bytes this tool takes; use "
                                   "run_command (sed, python, ...)",
                                   path, (long long)call->config->file_bytes);
        }
    }
    if (failure == NULL && ferror(file) != 0) {
        failure = failure_of(path, EIO);
    }
    fclose(file);
    return failure;
}

/* ---- read_file ---- */

static const char *image_type(const char *magic, size_t length)
{
    static const struct {
        const char *magic;
        size_t at, length;
        const char *type;
    } known[] = {{"\x89PNG\r\n\x1a\n", 0, 8, "image/png"},
                 {"\xff\xd8\xff", 0, 3, "image/jpeg"},
                 {"GIF8", 0, 4, "image/gif"},
                 {"WEBP", 8, 4, "image/webp"}};

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (length >= known[i].at + known[i].length &&
            memcmp(magic + known[i].at, known[i].magic, known[i].length) == 0) {
            return known[i].type;
        }
    }
    return NULL;
}

static cJSON *read_image(const struct tool_call *call, const char *path, const char *type)
{
    struct strbuf bytes, text;
    cJSON *root = load(call, path, &bytes), *part;

    strbuf_init(&text, bytes.length / 3 * 4 + 8);
    if (root == NULL && encode_base64(&text, bytes.data, bytes.length) == 0) {
        root = cJSON_CreateObject();
        part = cJSON_CreateObject();
        cJSON_AddItemToArray(cJSON_AddArrayToObject(root, "content"), part);
        cJSON_AddStringToObject(part, "type", "image");
        cJSON_AddStringToObject(part, "data", text.data);
        cJSON_AddStringToObject(part, "mimeType", type);
    }
    strbuf_done(&text);
    strbuf_done(&bytes);
    return root;
}

/* What read_lines has found. */
struct excerpt {
    struct strbuf text;
    int64_t last;   /* line taken last */
    size_t line_at; /* where it begins in text */
    bool more, cut; /* lines follow; the last one is not whole */
};

/* One piece of a line, which is wanted. What does not fit whole is left to the next call, unless
 * nothing else is there. */
static void take_piece(struct excerpt *excerpt, const char *piece, size_t length, int64_t line)
{
    struct strbuf *text = &excerpt->text;

    if (line != excerpt->last) {
        excerpt->last = line;
        excerpt->line_at = text->length;
    }
    if (strbuf_append(text, piece, length) == 0) {
        return;
    }
    if (excerpt->line_at > 0) {
        text->length = excerpt->line_at;
        text->data[text->length] = '\0';
        text->overflow = false;
        excerpt->last--;
        excerpt->more = true;
    } else {
        text->overflow = false;
        (void)strbuf_append(text, piece, text->max_bytes - text->length);
        excerpt->cut = true;
    }
}

/* Takes lines first..first+count-1, as far as they fit. */
static void read_lines(FILE *file, int64_t first, int64_t count, struct excerpt *excerpt)
{
    int64_t line = 1;
    char buffer[8192];
    size_t n;

    excerpt->last = first - 1;
    while (!excerpt->more && !excerpt->cut && (n = fread(buffer, 1, sizeof(buffer), file)) > 0) {
        for (size_t at = 0; at < n && !excerpt->more && !excerpt->cut;) {
            const char *end = memchr(buffer + at, '\n', n - at);
            const size_t length = end != NULL ? (size_t)(end - (buffer + at)) + 1 : n - at;

            if (line >= first + count) {
                excerpt->more = true;
            } else if (line >= first) {
                take_piece(excerpt, buffer + at, length, line);
            }
            line += end != NULL;
            at += length;
        }
    }
}

static cJSON *text_answer(const char *path, int64_t first, struct excerpt *excerpt)
{
    char note[NOTE_BYTES] = "";
    cJSON *root;

    if (excerpt->last < first && first > 1) {
        return tool_failure("%s has fewer than %lld lines", path, (long long)first);
    }
    if (excerpt->cut) {
        snprintf(note, sizeof(note),
                 "[line %lld is cut: it is longer than one answer; use run_command (cut -c, jq, "
                 "...)]",
                 (long long)excerpt->last);
    } else if (excerpt->more) {
        snprintf(note, sizeof(note), "[lines %lld to %lld; go on with start_line %lld]",
                 (long long)first, (long long)excerpt->last, (long long)excerpt->last + 1);
    }
    root = tool_answer(&excerpt->text, NULL);
    if (note[0] != '\0') { /* a part of its own, so that the first is the file's text alone */
        cJSON *part = cJSON_CreateObject();

        cJSON_AddStringToObject(part, "type", "text");
        cJSON_AddStringToObject(part, "text", note);
        cJSON_AddItemToArray(cJSON_GetObjectItemCaseSensitive(root, "content"), part);
    }
    return root;
}

static bool is_text(const struct excerpt *excerpt)
{
    const struct strbuf *text = &excerpt->text;
    const size_t valid = utf8_valid_prefix(text->data, text->length);

    /* a cut may fall into a character */
    return memchr(text->data, '\0', text->length) == NULL &&
           (valid == text->length || (excerpt->cut && text->length - valid < 4));
}

cJSON *tool_read_file(const struct tool_call *call)
{
    const int64_t first = tool_integer(call, "start_line", 1);
    char path[TOOL_PATH_BYTES], magic[MAGIC_BYTES];
    struct error err = ERROR_INIT;
    struct excerpt excerpt = {.last = 0};
    struct stat status;
    cJSON *answer = NULL;
    const char *type;
    FILE *file;

    if (tool_path(call, tool_string(call, "path", ""), path, &err) != 0) {
        return tool_failure("%s", err.message);
    }
    file = open_to_read(path, &status, &answer);
    if (file == NULL) {
        return answer;
    }
    type = image_type(magic, fread(magic, 1, sizeof(magic), file));
    if (type != NULL) {
        fclose(file);
        return read_image(call, path, type);
    }
    rewind(file);
    strbuf_init(&excerpt.text, (size_t)call->config->output_bytes * READ_FACTOR);
    read_lines(file, first, tool_integer(call, "max_lines", DEFAULT_LINES), &excerpt);
    if (ferror(file) != 0) {
        answer = failure_of(path, EIO);
    } else if (!is_text(&excerpt)) {
        answer = tool_failure("%s is not text (%lld bytes); use run_command (file, xxd, strings, "
                              "...)",
                              path, (long long)status.st_size);
    } else {
        answer = text_answer(path, first, &excerpt);
    }
    strbuf_done(&excerpt.text);
    fclose(file);
    return answer;
}

/* ---- writing ---- */

/* mkdir -p of what leads to the file. */
static int make_parents(const char *path)
{
    char *copy = xstrdup(path);
    int status = 0;

    for (char *at = strchr(copy + 1, '/'); at != NULL && status == 0; at = strchr(at + 1, '/')) {
        *at = '\0';
        status = mkdir(copy, 0777) == 0 || errno == EEXIST ? 0 : -1;
        *at = '/';
    }
    free(copy);
    return status;
}

static int write_all(int fd, const struct strbuf *bytes)
{
    size_t done = 0;

    while (done < bytes->length) {
        const ssize_t n = write(fd, bytes->data + done, bytes->length - done);

        if (n < 0 && errno != EINTR) {
            return -1;
        }
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Follows links, so that the file and not the link to it is replaced. */
static void real_target(const char *path, char ret[PATH_MAX])
{
    if (realpath(path, ret) == NULL) {
        (void)str_copy(ret, PATH_MAX, path);
    }
}

/* A device or pipe; or a file in a folder that takes no new one. 0, or an errno. */
static int write_over(const char *target, const struct strbuf *bytes, int flags)
{
    const int fd = open(target, O_WRONLY | O_CLOEXEC | O_NONBLOCK | flags);
    const int failure = fd < 0 || write_all(fd, bytes) != 0 ? errno : 0;

    if (fd >= 0) {
        close(fd);
    }
    return failure;
}

/* Puts the bytes in the place of `path`; 0, or an errno. */
static int replace(const char *path, const struct strbuf *bytes, bool executable, bool *ret_created)
{
    char target[PATH_MAX], temporary[PATH_MAX + 32], suffix[9];
    struct stat old;
    int fd, failure = 0;

    real_target(path, target);
    *ret_created = stat(target, &old) != 0;
    if (!*ret_created && S_ISDIR(old.st_mode)) {
        return EISDIR;
    }
    if (!*ret_created && access(target, W_OK) != 0) {
        return errno;
    }
    if (!*ret_created && !S_ISREG(old.st_mode)) {
        return write_over(target, bytes, 0);
    }
    if (*ret_created && make_parents(target) != 0) {
        return errno;
    }
    id_random_alnum(suffix, sizeof(suffix) - 1);
    snprintf(temporary, sizeof(temporary), "%s.%s.tmp", target, suffix);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        return !*ret_created && (errno == EACCES || errno == EROFS)
                   ? write_over(target, bytes, O_TRUNC)
                   : errno;
    }
    if (write_all(fd, bytes) != 0 || (!*ret_created && fchmod(fd, old.st_mode & 07777) != 0) ||
        (executable && (fstat(fd, &old) != 0 || fchmod(fd, (old.st_mode & 07777) | 0111) != 0))) {
        failure = errno;
    }
    if (close(fd) != 0 && failure == 0) {
        failure = errno;
    }
    if (failure == 0 && rename(temporary, target) != 0) {
        failure = errno;
    }
    if (failure != 0) {
        unlink(temporary);
    }
    return failure;
}

cJSON *tool_write_file(const struct tool_call *call)
{
    const char *content = tool_string(call, "content", "");
    const bool base64 = strcmp(tool_string(call, "encoding", "utf-8"), "base64") == 0;
    char path[TOOL_PATH_BYTES];
    struct error err = ERROR_INIT;
    struct strbuf bytes, text;
    cJSON *answer, *data;
    bool created;
    int failure;

    if (tool_path(call, tool_string(call, "path", ""), path, &err) != 0) {
        return tool_failure("%s", err.message);
    }
    strbuf_init(&bytes, strlen(content));
    if (base64 ? decode_base64(&bytes, content, strlen(content), &err) != 0
               : strbuf_puts(&bytes, content) != 0) {
        strbuf_done(&bytes);
        return tool_failure("content: %s", err.message);
    }
    failure = replace(path, &bytes, tool_bool(call, "executable"), &created);
    if (failure != 0) {
        strbuf_done(&bytes);
        return failure_of(path, failure);
    }
    strbuf_init(&text, TOOL_PATH_BYTES + NOTE_BYTES);
    (void)strbuf_printf(&text, "%s %s, %zu bytes", created ? "created" : "replaced", path,
                        bytes.length);
    data = cJSON_CreateObject();
    tool_add_text(data, "path", path, strlen(path));
    json_add_int64(data, "bytes", (int64_t)bytes.length);
    cJSON_AddBoolToObject(data, "created", created);
    answer = tool_answer(&text, data);
    strbuf_done(&text);
    strbuf_done(&bytes);
    return answer;
}

/* ---- edit_file ---- */

static int64_t line_of(const char *start, const char *at)
{
    int64_t line = 1;

    for (const char *p = start; (p = memchr(p, '\n', (size_t)(at - p))) != NULL; p++) {
        line++;
    }
    return line;
}

/* Not found as given: says whether it is there but for white space, and where. */
static cJSON *not_found(const char *path, const struct strbuf *file, const char *old_text)
{
    const char *first = old_text + strspn(old_text, " \t\r\n");
    const size_t length = strcspn(first, "\r\n");
    char *probe = xstrndup(first, length);
    const char *at;
    cJSON *answer;

    for (size_t n = length; n > 0 && (probe[n - 1] == ' ' || probe[n - 1] == '\t'); n--) {
        probe[n - 1] = '\0';
    }
    at = probe[0] != '\0' ? memmem(file->data, file->length, probe, strlen(probe)) : NULL;
    if (at != NULL) {
        answer = tool_failure("old_text is not in %s. Its first line is at line %lld, so white "
                              "space or a later line differs: read_file from there and copy the "
                              "text exactly",
                              path, (long long)line_of(file->data, at));
    } else {
        answer = tool_failure("old_text is not in %s, nor is its first line: read_file shows what "
                              "is",
                              path);
    }
    free(probe);
    return answer;
}

static cJSON *ambiguous(const char *path, const struct strbuf *file, const char *old_text)
{
    const size_t length = strlen(old_text);
    const char *at = file->data;
    struct strbuf lines;
    int count = 0;
    cJSON *answer;

    strbuf_init(&lines, NOTE_BYTES);
    while ((at = memmem(at, file->length - (size_t)(at - file->data), old_text, length)) != NULL) {
        if (count < MATCHES_SHOWN) {
            (void)strbuf_printf(&lines, "%s%lld", count == 0 ? "" : ", ",
                                (long long)line_of(file->data, at));
        }
        count++;
        at += length;
    }
    answer = tool_failure("old_text is in %s %d times (lines %s%s): give more of the text around "
                          "the one that is meant, or set replace_all",
                          path, count, lines.data, count > MATCHES_SHOWN ? ", ..." : "");
    strbuf_done(&lines);
    return answer;
}

/* Replaces in `file` into `out`; the number of replacements, or -1 when the result is too long. */
static int64_t substitute(const struct strbuf *file, const char *old_text, const char *new_text,
                          struct strbuf *out, int64_t *ret_line)
{
    const size_t length = strlen(old_text);
    const char *from = file->data, *at;
    int64_t count = 0;

    while ((at = memmem(from, file->length - (size_t)(from - file->data), old_text, length)) !=
           NULL) {
        if (count++ == 0) {
            *ret_line = line_of(file->data, at);
        }
        (void)strbuf_append(out, from, (size_t)(at - from));
        (void)strbuf_puts(out, new_text);
        from = at + length;
    }
    (void)strbuf_append(out, from, file->length - (size_t)(from - file->data));
    return out->overflow ? -1 : count;
}

static cJSON *edit(const struct tool_call *call, const char *path, const struct strbuf *file,
                   struct strbuf *out)
{
    const char *old_text = tool_string(call, "old_text", "");
    const char *new_text = tool_string(call, "new_text", "");
    const char *first = memmem(file->data, file->length, old_text, strlen(old_text));
    int64_t count, line = 0;
    struct strbuf text;
    cJSON *data, *answer;
    bool created;
    int failure;

    if (strcmp(old_text, new_text) == 0) {
        return tool_failure("old_text and new_text are the same: nothing to do");
    }
    if (first == NULL) {
        return not_found(path, file, old_text);
    }
    if (!tool_bool(call, "replace_all") &&
        memmem(first + 1, file->length - (size_t)(first + 1 - file->data), old_text,
               strlen(old_text)) != NULL) {
        return ambiguous(path, file, old_text);
    }
    count = substitute(file, old_text, new_text, out, &line);
    if (count < 0) {
        return tool_failure("the file would become larger than %lld bytes",
                            (long long)call->config->file_bytes);
    }
    failure = replace(path, out, false, &created);
    if (failure != 0) {
        return failure_of(path, failure);
    }
    strbuf_init(&text, TOOL_PATH_BYTES + NOTE_BYTES);
    (void)strbuf_printf(&text, "%lld replacement%s in %s, the first at line %lld", (long long)count,
                        count == 1 ? "" : "s", path, (long long)line);
    data = cJSON_CreateObject();
    tool_add_text(data, "path", path, strlen(path));
    json_add_int64(data, "replacements", count);
    json_add_int64(data, "line", line);
    json_add_int64(data, "bytes", (int64_t)out->length);
    answer = tool_answer(&text, data);
    strbuf_done(&text);
    return answer;
}

cJSON *tool_edit_file(const struct tool_call *call)
{
    char path[TOOL_PATH_BYTES];
    struct error err = ERROR_INIT;
    struct strbuf file, out;
    cJSON *answer;

    if (tool_path(call, tool_string(call, "path", ""), path, &err) != 0) {
        return tool_failure("%s", err.message);
    }
    strbuf_init(&out, (size_t)call->config->file_bytes);
    answer = load(call, path, &file);
    if (answer == NULL) {
        answer = edit(call, path, &file, &out);
    }
    strbuf_done(&out);
    strbuf_done(&file);
    return answer;
}
