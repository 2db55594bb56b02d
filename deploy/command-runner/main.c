/*
 * sandbox-command-runner - runs commands inside a sandbox so that none of them is lost.
 *
 *   run ID FOLLOW... LIMIT-MS CWD BOUND RETENTION-S KEEP ROWS COLUMNS STDIN PIECE...
 *                                 starts the command unless this id was started before; follows it
 *   follow ID FOLLOW...           FOLLOW: AFTER WAIT-MS LINGER-MS MAX-BYTES BEHIND raw|base64
 *   state ID...                   how they are
 *   kill ID                       kills all of it
 *   signal ID NUMBER
 *   resize ID ROWS COLUMNS
 *   check -                       that it can run here
 *   input ID OFFSET EOF BASE64... bytes of its stdin
 *
 * The gateway puts this program into a sandbox and runs it there through the provider's own way to
 * run programs. It is static and needs nothing of the sandbox but /tmp, /proc and a shell for the
 * command. The answer begins with "@@ID" and goes on as follow.h says; the exit status is 0.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "deploy/command-runner/control.h"
#include "deploy/command-runner/follow.h"
#include "deploy/command-runner/place.h"
#include "deploy/command-runner/supervise.h"

enum { FOLLOW_ARGS = 6, RUN_ARGS = 8 };

static int64_t number(const char *text)
{
    return strtoll(text, NULL, 10);
}

static void say_word(const char *verb, const char *word)
{
    follow_say(verb);
    follow_say(word);
    follow_say("\n");
}

/* ---- run ---- */

/* Takes the words away from where `ps` shows them: they may hold secrets, and a search for a
 * process by its words must not find this one. */
static char **take_words(char *const *words, int count)
{
    char **copies = xcalloc((size_t)count + 1, sizeof(*copies));

    for (int i = 0; i < count; i++) {
        copies[i] = xstrdup(words[i]);
        memset(words[i], 0, strlen(words[i]));
    }
    return copies;
}

/* False when there is no such working directory, which was told. */
static bool enter(const char *cwd)
{
    const char *home = getenv("HOME");
    char path[8192];
    struct stat info;
    int failed;

    if (cwd[0] == '\0') {
        return true;
    }
    if (cwd[0] == '~' && (cwd[1] == '\0' || cwd[1] == '/') && home != NULL) {
        snprintf(path, sizeof(path), "%s%s", home, cwd + 1);
    } else {
        snprintf(path, sizeof(path), "%s", cwd);
    }
    if (chdir(path) == 0) {
        if (path[0] == '/') {
            setenv("PWD", path, 1); /* as it was given, symbolic links and all */
        } else {
            unsetenv("PWD");
        }
        return true;
    }
    failed = errno;
    if (failed == ENOTDIR || (stat(path, &info) == 0 && !S_ISDIR(info.st_mode))) {
        say_word("W ", "not-a-directory");
    } else {
        say_word("W ", failed == EACCES ? "denied" : "missing");
    }
    return false;
}

static struct follow_options read_follow(const char *id, char *const *argv)
{
    return (struct follow_options){.id = id,
                                   .after = number(argv[0]),
                                   .wait_ms = number(argv[1]),
                                   .linger_ms = number(argv[2]),
                                   .max_bytes = number(argv[3]),
                                   .behind_bytes = number(argv[4]),
                                   .base64 = strcmp(argv[5], "base64") == 0};
}

static void run(const char *id, int argc, char *const *argv)
{
    const struct follow_options options = read_follow(id, argv);
    char *const *of = argv + FOLLOW_ARGS;
    const int pieces = argc - FOLLOW_ARGS - RUN_ARGS;
    const struct supervise_options start = {.id = id,
                                            .limit_ms = number(of[0]),
                                            .bound_bytes = number(of[2]),
                                            .retention_s = number(of[3]),
                                            .keep = (int)number(of[4]),
                                            .rows = (int)number(of[5]),
                                            .columns = (int)number(of[6]),
                                            .takes_stdin = number(of[7]) != 0,
                                            .pieces = take_words(of + RUN_ARGS, pieces),
                                            .piece_count = pieces};

    if (!place_exists(id)) {
        if (!enter(of[1])) {
            return;
        }
        if (place_count() >= start.keep + SUPERVISE_SPARES_FOLDERS) {
            (void)place_sweep(start.retention_s, start.keep);
        }
        if (supervise_start(&start) < 0) {
            say_word("E ", strerror(errno));
            return;
        }
    }
    follow(&options);
}

/* ---- the other verbs ---- */

static void tell_answer(const char *id, int status, const char *answer)
{
    if (status == 0 && strncmp(answer, "ok", 2) == 0) {
        say_word("A", answer + 2);
    } else if (status == 0) {
        say_word("N ", answer + 3);
    } else {
        say_word(place_exists(id) ? "N " : "E ", place_exists(id) ? "ended" : "unknown");
    }
}

static void ask(const char *id, const char *line, const char *data, size_t bytes)
{
    char answer[CONTROL_ANSWER_BYTES];
    int status = control_ask(id, line, data, bytes, answer);

    tell_answer(id, status, answer);
}

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* Each piece is whole base64. */
static size_t decode(char *const *pieces, int count, char *out)
{
    size_t used = 0;

    for (int i = 0; i < count; i++) {
        unsigned bits = 0;
        int have = 0;

        for (const char *c = pieces[i]; *c != '\0' && digit(*c) >= 0; c++) {
            bits = bits << 6 | (unsigned)digit(*c);
            have += 6;
            if (have >= 8) {
                have -= 8;
                out[used++] = (char)(bits >> have);
            }
        }
    }
    return used;
}

static void input(const char *id, int argc, char *const *argv)
{
    size_t room = 1, bytes;
    char line[96], *data;

    for (int i = 2; i < argc; i++) {
        room += strlen(argv[i]);
    }
    data = xmalloc(room);
    bytes = decode(argv + 2, argc - 2, data);
    snprintf(line, sizeof(line), "I %lld %zu %s\n", (long long)number(argv[0]), bytes,
             number(argv[1]) != 0 ? "1" : "0");
    ask(id, line, data, bytes);
    free(data);
}

static int usage(void)
{
    fprintf(stderr, "sandbox-command-runner: no such call\n");
    return 2;
}

int main(int argc, char **argv)
{
    const char *verb = argc > 2 ? argv[1] : "", *id = argc > 2 ? argv[2] : "";
    int rest = argc - 3;
    char line[96];

    if (strcmp(verb, "check") == 0) {
        return 0;
    }
    if (!place_is_id(id)) {
        return usage();
    }
    say_word("@@", id);
    if (strcmp(verb, "run") == 0 && rest > FOLLOW_ARGS + RUN_ARGS) {
        run(id, rest, argv + 3);
    } else if (strcmp(verb, "follow") == 0 && rest == FOLLOW_ARGS) {
        const struct follow_options options = read_follow(id, argv + 3);

        follow(&options);
    } else if (strcmp(verb, "state") == 0) {
        for (int i = 2; i < argc; i++) {
            if (place_is_id(argv[i])) {
                say_word("C ", argv[i]);
                follow_tell_state(argv[i]);
            }
        }
    } else if (strcmp(verb, "kill") == 0) {
        ask(id, "K\n", "", 0);
    } else if (strcmp(verb, "signal") == 0 && rest == 1) {
        snprintf(line, sizeof(line), "S %lld\n", (long long)number(argv[3]));
        ask(id, line, "", 0);
    } else if (strcmp(verb, "resize") == 0 && rest == 2) {
        snprintf(line, sizeof(line), "W %lld %lld\n", (long long)number(argv[3]),
                 (long long)number(argv[4]));
        ask(id, line, "", 0);
    } else if (strcmp(verb, "input") == 0 && rest >= 2) {
        input(id, rest, argv + 3);
    } else {
        return usage();
    }
    follow_flush();
    return 0;
}
