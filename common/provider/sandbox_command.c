/* sandbox_command - see sandbox_command.h. The protocol: deploy/command-runner/main.c, follow.h. */
#include "common/provider/sandbox_command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/provider/command_answer.h"
#include "common/provider/exec_script.h"
#include "common/provider/http.h"
#include "common/provider/memory_source.h"

/* The runner as it was built: what is linked in (Makefile). */
extern const char _binary_sandbox_command_runner_start[];
extern const char _binary_sandbox_command_runner_end[];

enum {
    STREAM_WAIT_MS = 45 * 1000, /* longest time one request waits for output */
    POLL_WAIT_MS = 3 * 1000,    /* the same where it comes at the end of the request */
    POLL_LINGER_MS = 30,
    POLL_MAX_BYTES = 2 * 1024 * 1024,
    BEHIND_BYTES = 4 * 1024 * 1024,
    ASK_MS = 10 * 1000,
    UPLOAD_MS = 30 * 1000,
    TRIES = 5, /* of an answer that breaks off without a byte of news */
    RETRY_MS = 200,
    PATIENCE_MS = 10 * 1000, /* longest wait for a rate limit between two of them */
    PIECE_BYTES = 99999,     /* of one argument, which may have 128 KiB; divides by 3 */
    ARGS_MAX = 64,
    NUMBER_BYTES = 24,
    TEXT_MAX_BYTES = 16 * 1024 * 1024,
};

/* argv[0] of every call: becomes the runner $1, or says that it is not there. */
static const char launcher[] = "r=$1; shift; [ -x \"$r\" ] || { if [ -e \"$r.no\" ]; then echo "
                               "@@unusable; else echo @@missing; "
                               "fi; exit 0; }; exec \"$r\" \"$@\" </dev/null 2>/dev/null";

/* ---- arguments ------------------------------------------------------------------------------- */

struct arguments {
    const char *list[ARGS_MAX + 1];
    char numbers[16][NUMBER_BYTES];
    char *pieces[ARGS_MAX];
    int count, number_count, piece_count;
};

static void add_text(struct arguments *args, const char *text)
{
    if (args->count < ARGS_MAX) {
        args->list[args->count++] = text;
    }
}

static void add_number(struct arguments *args, int64_t number)
{
    char *text = args->numbers[args->number_count++];

    snprintf(text, NUMBER_BYTES, "%lld", (long long)number);
    add_text(args, text);
}

/* Delivers the text in pieces that never split a UTF-8 character. */
static void add_pieces(struct arguments *args, const char *text, size_t left)
{
    do {
        size_t bytes = left < PIECE_BYTES ? left : PIECE_BYTES;

        while (bytes < left && ((unsigned char)text[bytes] & 0xc0) == 0x80) {
            bytes--;
        }
        args->pieces[args->piece_count] = xstrndup(text, bytes);
        add_text(args, args->pieces[args->piece_count++]);
        text += bytes;
        left -= bytes;
    } while (left > 0 && args->count < ARGS_MAX);
}

static void begin_arguments(struct arguments *args, const struct sandbox_command *command,
                            const char *verb)
{
    args->count = args->number_count = args->piece_count = 0;
    add_text(args, launcher);
    add_text(args, command_runner_path);
    add_text(args, verb);
    add_text(args, command->id);
}

static void free_arguments(struct arguments *args)
{
    for (int i = 0; i < args->piece_count; i++) {
        free(args->pieces[i]);
    }
}

/* ---- one call of the runner ------------------------------------------------------------------ */

struct listener {
    struct command_answer *answer;
    int (*on_tick)(void *arg);
    void *arg;
    bool broken;
    struct error *err;
};

static int on_data(void *arg, const void *data, size_t bytes)
{
    struct listener *listener = arg;
    int status = command_answer_feed(listener->answer, data, bytes, listener->err);

    listener->broken = status < 0;
    return status != 0;
}

static int on_tick(void *arg)
{
    struct listener *listener = arg;

    if (listener->on_tick != NULL && listener->on_tick(listener->arg) != 0) {
        listener->answer->status->left = true;
        return 1;
    }
    return 0;
}

/* 0: the answer has its end, or no more of it was wanted. */
static int call(const struct sandbox_command *command, const struct arguments *args,
                const cJSON *envs, int64_t wait_ms, int (*tick)(void *arg), void *tick_arg,
                struct command_answer *answer, struct error *err)
{
    struct listener listener = {.answer = answer, .on_tick = tick, .arg = tick_arg, .err = err};
    const struct program_run run = {.user = command->user,
                                    .argv = args->list,
                                    .envs = envs,
                                    .wait_ms = wait_ms,
                                    .on_data = on_data,
                                    .on_tick = on_tick,
                                    .arg = &listener};
    const struct provider_ops *ops = command->provider->ops;

    if (ops->run_program(command->provider, command->client, command->target, &run, err) < 0) {
        return answer->end != COMMAND_ANSWER_NONE || answer->status->left ? 0 : -1;
    }
    if (listener.broken) {
        return -1;
    }
    return answer->end != COMMAND_ANSWER_NONE || answer->status->left
               ? 0
               : error_set(err, ERR_PROVIDER, "command: its runner said nothing");
}

/* ---- putting the runner there ---------------------------------------------------------------- */

static int put_runner(const struct sandbox_command *command, struct error *err)
{
    /* a machine of another kind, or a /tmp that nothing can be run from, is remembered */
    static const char place[] =
        "d=${2%/*}; [ -d \"$d\" ] || mkdir -m 1777 \"$d\"; if chmod 755 \"$1\" && \"$1\" check -; "
        "then mv -f \"$1\" \"$2\"; else rm -f \"$1\"; : >\"$2.no\"; exit 1; fi";
    const struct provider_ops *ops = command->provider->ops;
    struct memory_source image = {.data = _binary_sandbox_command_runner_start,
                                  .left = (size_t)(_binary_sandbox_command_runner_end -
                                                   _binary_sandbox_command_runner_start)};
    char upload[128], unique[UUID_BYTES];
    const char *const argv[] = {place, upload, command_runner_path, NULL};
    struct strbuf said;
    int rc;

    id_uuid(unique);
    snprintf(upload, sizeof(upload), "/tmp/.sandbox-upload-%s", unique);
    strbuf_init(&said, 1024);
    rc = ops->file_put(command->provider, command->client, command->target, upload,
                       memory_source_read, &image, (int64_t)image.left, err);
    if (rc == 0) {
        rc = ops->run_script(command->provider, command->client, command->target, argv, UPLOAD_MS,
                             &said, err);
    }
    strbuf_done(&said);
    return rc;
}

/* ---- running and following ------------------------------------------------------------------- */

struct following {
    const struct sandbox_command *command;
    const struct command_start *start; /* NULL: it was started */
    const struct command_follow *follow;
    struct command_status *status;
    struct strbuf text;
    int64_t until_ms;
    bool put, unusable, begun; /* begun: the runner has answered once */
    int tried;
};

static void put_follow(struct arguments *args, const struct following *following, int64_t wait_ms)
{
    const bool streams = following->command->provider->ops->program_streams;
    int64_t most =
        following->follow->max_bytes == INT64_MAX
            ? INT64_MAX
            : following->follow->max_bytes - (following->status->next - following->follow->after);

    add_number(args, following->status->next);
    add_number(args, wait_ms);
    add_number(args, streams ? -1 : POLL_LINGER_MS);
    add_number(args, !streams && most > POLL_MAX_BYTES ? POLL_MAX_BYTES : most > 0 ? most : 0);
    add_number(args, following->follow->any_output ? BEHIND_BYTES : 0);
    add_text(args, streams ? "raw" : "base64");
}

static void put_start(struct arguments *args, const struct following *following)
{
    const struct command_start *start = following->start;

    add_number(args, start->timeout_ms);
    add_text(args, start->cwd != NULL ? start->cwd : "");
    add_number(args, start->output_bytes);
    add_number(args, start->retention_s);
    add_number(args, start->keep);
    add_number(args, start->rows);
    add_number(args, start->columns);
    add_number(args, start->takes_stdin ? 1 : 0);
    add_pieces(args, following->text.data, following->text.length);
}

static int refuse(const struct command_answer *answer, struct error *err)
{
    switch (answer->end) {
    case COMMAND_ANSWER_UNKNOWN:
        return error_set(err, ERR_NOT_FOUND, "the sandbox does not know this command");
    case COMMAND_ANSWER_NO_CWD:
        if (strcmp(answer->text, "denied") == 0) {
            return error_set(err, ERR_INVALID, "cwd: permission denied");
        }
        return strcmp(answer->text, "missing") == 0
                   ? error_set(err, ERR_INVALID, "cwd: there is no such directory")
                   : error_set(err, ERR_INVALID, "cwd is not a directory");
    case COMMAND_ANSWER_REFUSED:
        return error_set(err, ERR_CONFLICT, "the command has no %s",
                         strcmp(answer->text, "ended") == 0 ? "process any more" : answer->text);
    case COMMAND_ANSWER_MISSING:
    case COMMAND_ANSWER_UNUSABLE:
        return error_set(err, ERR_NOT_FOUND, "the sandbox does not know this command");
    case COMMAND_ANSWER_NONE:
    case COMMAND_ANSWER_STATE:
    case COMMAND_ANSWER_DONE:
    case COMMAND_ANSWER_FAILED:
        break;
    }
    return error_set(err, ERR_PROVIDER, "command: %s", answer->text);
}

/* One request. 0: *ret_end says what came of it. */
static int ask_once(struct following *following, struct command_answer *answer, struct error *err)
{
    const struct sandbox_command *command = following->command;
    const struct command_follow *follow = following->follow;
    const int64_t most = command->provider->ops->program_streams ? STREAM_WAIT_MS : POLL_WAIT_MS;
    int64_t wait_ms = following->until_ms - clock_mono_ms();
    const bool starts = following->start != NULL && !following->begun;
    struct arguments args;
    int rc;

    wait_ms = wait_ms < 0 ? 0 : wait_ms < most ? wait_ms : most;
    begin_arguments(&args, command, starts ? "run" : "follow");
    put_follow(&args, following, wait_ms);
    if (starts) {
        put_start(&args, following);
    }
    args.list[args.count] = NULL;
    rc = call(command, &args, starts ? following->start->envs : NULL, wait_ms, follow->on_tick,
              follow->arg, answer, err);
    free_arguments(&args);
    return rc;
}

/* Waits before the next try, for as long as the provider asks for; false when there is to be none.
 */
static bool wait_to_try(struct following *following, const struct error *err)
{
    int64_t wait_ms = (int64_t)RETRY_MS << following->tried;
    int64_t asked_ms = (int64_t)err->retry_after_s * 1000;

    if (++following->tried >= TRIES || err->code == ERR_SANDBOX_NOT_FOUND ||
        err->code == ERR_INVALID || err->code == ERR_TOO_LARGE || err->code == ERR_NOT_FOUND ||
        asked_ms > PATIENCE_MS) {
        return false;
    }
    clock_sleep_ms(wait_ms > asked_ms ? wait_ms : asked_ms);
    return true;
}

/* Judges a complete answer: 1 = poll again, 0 = the command has ended, -1 with err. */
static int take_end(struct following *following, const struct command_answer *answer,
                    struct error *err)
{
    const struct command_status *status = following->status;
    const struct command_follow *follow = following->follow;

    if (answer->end == COMMAND_ANSWER_UNUSABLE && following->start != NULL) {
        following->unusable = true;
        return 0;
    }
    /* a full disk, most likely: the runner could not begin, and without it the command may free
     * some */
    if (answer->end == COMMAND_ANSWER_FAILED && following->start != NULL && status->pid == 0) {
        following->unusable = true;
        return 0;
    }
    if (answer->end == COMMAND_ANSWER_MISSING && following->start != NULL && !following->begun) {
        struct error why = ERROR_INIT;

        if (following->put || put_runner(following->command, &why) < 0) {
            if (why.code == ERR_SANDBOX_NOT_FOUND || why.code == ERR_PROVIDER_DOWN) {
                *err = why;
                return -1;
            }
            following->unusable = true;
            return 0;
        }
        following->put = true;
        return 1;
    }
    if (status->left) {
        return 0;
    }
    if (answer->end != COMMAND_ANSWER_STATE) {
        return refuse(answer, err);
    }
    if (status->phase != COMMAND_PHASE_RUNNING && !status->more) {
        return 0;
    }
    if (follow->max_bytes != INT64_MAX && status->next - follow->after >= follow->max_bytes) {
        return 0;
    }
    return status->more || clock_mono_ms() < following->until_ms ? 1 : 0;
}

static int follow_on(struct following *following, struct error *err)
{
    for (;;) {
        struct command_answer answer = {.id = following->command->id,
                                        .base64 =
                                            !following->command->provider->ops->program_streams,
                                        .on_output = following->follow->on_output,
                                        .arg = following->follow->arg,
                                        .status = following->status};
        struct error why = ERROR_INIT;
        int rc;

        following->status->more = false;
        command_answer_init(&answer);
        rc = ask_once(following, &answer, &why);
        following->begun |= answer.begun;
        following->tried = answer.progress ? 0 : following->tried;
        if (rc == 0) {
            rc = take_end(following, &answer, err);
            following->tried = 0;
        } else if (http_client_over(following->command->client)) {
            following->status->left = true; /* the caller may not go on */
            rc = 0;
        } else if (wait_to_try(following, &why)) {
            rc = 1;
        } else {
            *err = why;
            if (err->code == ERR_SANDBOX_NOT_FOUND && (following->begun || following->tried > 1)) {
                error_set(err, ERR_PROVIDER_DOWN, "the sandbox went away under the command");
            }
        }
        command_answer_done(&answer);
        if (rc <= 0) {
            return rc;
        }
        if (http_client_over(following->command->client)) {
            following->status->left = true;
            return 0;
        }
        if (following->follow->on_tick != NULL &&
            !following->command->provider->ops->program_streams &&
            following->follow->on_tick(following->follow->arg) != 0) {
            following->status->left = true;
            return 0;
        }
    }
}

static int run_following(struct following *following, struct error *err)
{
    const struct command_follow *follow = following->follow;

    *following->status = (struct command_status){.next = follow->after, .end_offset = -1};
    following->until_ms =
        follow->wait_ms == INT64_MAX ? INT64_MAX : clock_mono_ms() + follow->wait_ms;
    return follow_on(following, err);
}

int sandbox_command_run(const struct sandbox_command *command, const struct command_start *start,
                        const struct command_follow *follow, struct command_status *ret,
                        bool *ret_unusable, struct error *err)
{
    struct following following = {
        .command = command, .start = start, .follow = follow, .status = ret};
    int rc;

    strbuf_init(&following.text, TEXT_MAX_BYTES);
    exec_script_command(start->text, start->envs, &following.text);
    rc = run_following(&following, err);
    strbuf_done(&following.text);
    *ret_unusable = following.unusable;
    return rc;
}

int sandbox_command_follow(const struct sandbox_command *command,
                           const struct command_follow *follow, struct command_status *ret,
                           struct error *err)
{
    struct following following = {.command = command, .follow = follow, .status = ret};

    return run_following(&following, err);
}

/* ---- asking something of it ------------------------------------------------------------------ */

static int ask(const struct sandbox_command *command, struct arguments *args,
               struct command_answer *answer, struct error *err)
{
    struct command_status status = {.pid = 0};
    int rc;

    *answer = (struct command_answer){.id = command->id, .status = &status};
    args->list[args->count] = NULL;
    command_answer_init(answer);
    rc = call(command, args, NULL, ASK_MS, NULL, NULL, answer, err);
    if (rc == 0 && answer->end != COMMAND_ANSWER_DONE) {
        rc = refuse(answer, err);
    }
    command_answer_done(answer);
    free_arguments(args);
    return rc;
}

int sandbox_command_kill(const struct sandbox_command *command, struct error *err)
{
    struct command_answer answer;
    struct arguments args;

    begin_arguments(&args, command, "kill");
    return ask(command, &args, &answer, err);
}

int sandbox_command_signal(const struct sandbox_command *command, int number, struct error *err)
{
    struct command_answer answer;
    struct arguments args;

    begin_arguments(&args, command, "signal");
    add_number(&args, number);
    return ask(command, &args, &answer, err);
}

int sandbox_command_resize(const struct sandbox_command *command, int rows, int columns,
                           struct error *err)
{
    struct command_answer answer;
    struct arguments args;

    begin_arguments(&args, command, "resize");
    add_number(&args, rows);
    add_number(&args, columns);
    return ask(command, &args, &answer, err);
}

int sandbox_command_input(const struct sandbox_command *command, int64_t offset, const char *data,
                          size_t bytes, bool end, int64_t *ret_next, struct error *err)
{
    struct command_answer answer;
    struct arguments args;
    struct strbuf packed;
    long long next;
    int rc;

    strbuf_init(&packed, bytes * 4 / 3 + 8);
    encode_base64(&packed, data, bytes);
    begin_arguments(&args, command, "input");
    add_number(&args, offset);
    add_number(&args, end ? 1 : 0);
    if (packed.length > 0) {
        add_pieces(&args, packed.data, packed.length);
    }
    strbuf_done(&packed);
    rc = ask(command, &args, &answer, err);
    if (rc == 0 && sscanf(answer.text, "%lld", &next) == 1) {
        *ret_next = next;
    } else if (rc == 0) {
        rc = error_set(err, ERR_PROVIDER, "command: unusable answer");
    } else if (answer.end == COMMAND_ANSWER_REFUSED && strncmp(answer.text, "offset ", 7) == 0) {
        rc = error_set(err, ERR_CONFLICT, "stdin continues at offset %s", answer.text + 7);
    }
    return rc;
}
