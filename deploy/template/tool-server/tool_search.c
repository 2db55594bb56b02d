/*
 * tool_search - search_files: with ripgrep when it is installed, else with a walk of our own.
 */
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <ftw.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "deploy/template/tool-server/tools.h"

enum {
    DEFAULT_RESULTS = 100,
    LINE_SHOWN_BYTES = 500,
    SEARCH_MS = 30000,
    RIPGREP_BYTES = 8 << 20,
    SLICE_MS = 1000,
    PROBE_BYTES = 4096, /* a NUL in them: not a text file */
    WALK_FDS = 16,
};

struct search {
    const struct tool_call *call;
    const char *pattern, *glob; /* glob NULL = all */
    char root[TOOL_PATH_BYTES];
    bool literal, ignore_case;
    int64_t left;
    cJSON *matches;
    struct strbuf text;
    bool truncated;
};

/* False when it was one too many. */
static bool put_match(struct search *search, const char *path, int64_t line, const char *text,
                      size_t length)
{
    cJSON *match;

    if (search->left == 0) {
        search->truncated = true;
        return false;
    }
    search->left--;
    while (length > 0 && (text[length - 1] == '\n' || text[length - 1] == '\r')) {
        length--;
    }
    if (length > LINE_SHOWN_BYTES) {
        /* never in the middle of a character */
        const size_t valid = utf8_valid_prefix(text, LINE_SHOWN_BYTES);

        length = LINE_SHOWN_BYTES - valid < 4 ? valid : LINE_SHOWN_BYTES;
    }
    match = cJSON_CreateObject();
    tool_add_text(match, "path", path, strlen(path));
    json_add_int64(match, "line", line);
    tool_add_text(match, "text", text, length);
    cJSON_AddItemToArray(search->matches, match);
    (void)strbuf_printf(&search->text, "%s:%lld:", path, (long long)line);
    (void)strbuf_append(&search->text, text, length);
    (void)strbuf_putc(&search->text, '\n');
    return true;
}

/* ---- ripgrep ---- */

/* path NUL line ':' text, as ripgrep prints with --null. */
static void take_ripgrep(struct search *search, const struct strbuf *output)
{
    const char *at = output->data, *end = output->data + output->length;

    while (at < end) {
        const char *path_end = memchr(at, '\0', (size_t)(end - at));
        const char *line_end =
            path_end != NULL ? memchr(path_end, '\n', (size_t)(end - path_end)) : NULL;
        char *rest;
        int64_t line;

        if (line_end == NULL) {
            return; /* cut where the output ended */
        }
        line = strtoll(path_end + 1, &rest, 10);
        if (*rest == ':' && !put_match(search, at, line, rest + 1, (size_t)(line_end - rest - 1))) {
            return;
        }
        at = line_end + 1;
    }
}

/* 0: searched; 1: no ripgrep here; -1: err says what it did not like. */
static int with_ripgrep(struct search *search, struct error *err)
{
    const char *argv[24] = {"rg",
                            "--null",
                            "--line-number",
                            "--no-heading",
                            "--with-filename",
                            "--color=never",
                            "--no-messages",
                            "--sort=path",
                            "--no-config"};
    struct command_state state;
    struct command *command;
    struct strbuf output;
    int64_t until_ms = clock_mono_ms() + SEARCH_MS;
    size_t count = 9;

    if (search->literal) {
        argv[count++] = "--fixed-strings";
    }
    if (search->ignore_case) {
        argv[count++] = "--ignore-case";
    }
    if (search->glob != NULL) {
        argv[count++] = "--glob";
        argv[count++] = search->glob;
    }
    argv[count++] = "--hidden";
    argv[count++] = "--glob=!.git";
    argv[count++] = "--regexp";
    argv[count++] = search->pattern;
    argv[count++] = "--";
    argv[count++] = search->root;
    const struct command_spec spec = {
        .argv = argv,
        .title = "search_files",
        .cwd = search->call->config->workdir,
        .timeout_ms = SEARCH_MS,
        .output_bytes = RIPGREP_BYTES,
    };
    if (command_start(&spec, &command, err) != 0) {
        return err->code == ERR_LIMIT ? -1 : 1;
    }
    (void)flight_await(search->call->flight, command);
    do {
        command_wait(command, UINT64_MAX, SLICE_MS);
        command_look(command, &state);
    } while (state.running && clock_mono_ms() < until_ms + SLICE_MS &&
             search->call->waiting(search->call->arg, NULL));
    (void)flight_await(search->call->flight, NULL);
    if (state.running) {
        command_kill(command, SIGKILL);
    }
    strbuf_init(&output, RIPGREP_BYTES + 256);
    command_output(command, 0, &output);
    command_forget(command);
    command_unref(command);
    if (!state.running && !state.timed_out && state.exit_code > 1 && output.length > 0 &&
        memchr(output.data, '\0', output.length) == NULL) {
        /* one line per problem, the last says what it is */
        (void)error_set(err, ERR_INVALID, "%.200s", output.data);
        strbuf_done(&output);
        return -1;
    }
    take_ripgrep(search, &output);
    search->truncated =
        search->truncated || state.timed_out || state.running || state.bytes > RIPGREP_BYTES / 2;
    strbuf_done(&output);
    return 0;
}

/* ---- our own ---- */

static _Thread_local struct search *walking; /* nftw has no argument for it */
static _Thread_local const regex_t *expression;
static _Thread_local int64_t walk_until_ms;

static bool line_matches(const struct search *search, const char *line)
{
    if (!search->literal) {
        return regexec(expression, line, 0, NULL, 0) == 0;
    }
    return search->ignore_case ? strcasestr(line, search->pattern) != NULL
                               : strstr(line, search->pattern) != NULL;
}

/* False: enough. */
static bool search_file(struct search *search, const char *path)
{
    FILE *file = fopen(path, "re");
    char probe[PROBE_BYTES];
    char *line = NULL;
    size_t size = 0;
    int64_t number = 0;
    bool go_on = true;
    ssize_t n;

    if (file == NULL) {
        return true; /* not ours to read: as ripgrep, without a word */
    }
    n = (ssize_t)fread(probe, 1, sizeof(probe), file);
    if (memchr(probe, '\0', (size_t)n) == NULL) {
        rewind(file);
        while (go_on && (n = getline(&line, &size, file)) >= 0) {
            number++;
            if (n > 0 && line[n - 1] == '\n') {
                line[--n] = '\0';
            }
            if (line_matches(search, line)) {
                go_on = put_match(search, path, number, line, (size_t)n);
            }
        }
    }
    free(line);
    fclose(file);
    return go_on;
}

static int visit(const char *path, const struct stat *status, int kind, struct FTW *place)
{
    const char *name = path + place->base;

    if (clock_mono_ms() >= walk_until_ms || flight_cancelled(walking->call->flight)) {
        walking->truncated = true;
        return FTW_STOP;
    }
    if (kind == FTW_D) {
        return strcmp(name, ".git") == 0 && place->level > 0 ? FTW_SKIP_SUBTREE : FTW_CONTINUE;
    }
    if (kind != FTW_F || !S_ISREG(status->st_mode) ||
        (walking->glob != NULL && fnmatch(walking->glob, name, 0) != 0)) {
        return FTW_CONTINUE;
    }
    return search_file(walking, path) ? FTW_CONTINUE : FTW_STOP;
}

static int with_own(struct search *search, struct error *err)
{
    const int flags = REG_EXTENDED | REG_NOSUB | (search->ignore_case ? REG_ICASE : 0);
    regex_t compiled;
    char reason[128];
    int status = 0;

    if (!search->literal) {
        status = regcomp(&compiled, search->pattern, flags);
        if (status != 0) {
            (void)regerror(status, &compiled, reason, sizeof(reason));
            return error_set(err, ERR_INVALID, "pattern: %s (set literal for plain text)", reason);
        }
        expression = &compiled;
    }
    walking = search;
    walk_until_ms = clock_mono_ms() + SEARCH_MS;
    (void)nftw(search->root, visit, WALK_FDS, FTW_PHYS | FTW_ACTIONRETVAL);
    if (!search->literal) {
        regfree(&compiled);
    }
    return 0;
}

static int search_all(struct search *search, const char **ret_engine, struct error *err)
{
    const int status = with_ripgrep(search, err);

    *ret_engine = status == 1 ? "builtin" : "ripgrep";
    return status == 1 ? with_own(search, err) : status;
}

cJSON *tool_search_files(const struct tool_call *call)
{
    const int64_t wanted = tool_integer(call, "max_results", DEFAULT_RESULTS);
    struct search search = {
        .call = call,
        .pattern = tool_string(call, "pattern", ""),
        .glob = tool_string(call, "glob", NULL),
        .literal = tool_bool(call, "literal"),
        .ignore_case = tool_bool(call, "ignore_case"),
        .left = wanted < call->config->entries ? wanted : call->config->entries,
    };
    const int64_t limit = search.left;
    struct error err = ERROR_INIT;
    const char *engine;
    cJSON *data, *answer;

    if (tool_path(call, tool_string(call, "path", ""), search.root, &err) != 0) {
        return tool_failure("%s", err.message);
    }
    if (access(search.root, R_OK) != 0) {
        return tool_failure("%s: %s", search.root, strerror(errno));
    }
    data = cJSON_CreateObject();
    search.matches = cJSON_AddArrayToObject(data, "matches");
    strbuf_init(&search.text, RIPGREP_BYTES);
    if (search_all(&search, &engine, &err) != 0) {
        cJSON_Delete(data);
        answer = tool_failure("%s", err.message);
    } else {
        cJSON_AddStringToObject(data, "engine", engine);
        cJSON_AddBoolToObject(data, "truncated", search.truncated);
        if (search.truncated) {
            (void)strbuf_printf(&search.text,
                                "[more than these; at most %lld are given: narrow the pattern, the "
                                "path or the glob]",
                                (long long)limit);
        } else if (search.text.length == 0) {
            (void)strbuf_puts(&search.text, "[no match]");
        }
        answer = tool_answer(&search.text, data);
    }
    strbuf_done(&search.text);
    if (flight_cancelled(call->flight)) {
        cJSON_Delete(answer);
        return NULL;
    }
    return answer;
}
