/*
 * tool_command - run_command, command_output, kill_command.
 *
 * Does not own: processes (command.h).
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "deploy/template/tool-server/tools.h"

enum {
    SLICE_MS = 1000,  /* between looks at the client while a command runs */
    KILLED_MS = 3000, /* for what was killed to be gone */
    NEWS_BYTES = 200,
    LIST_MAX_BYTES = 1 << 20,
    NOTE_BYTES = 512,
};

static int64_t min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* What is kept of the output, with room for a note. */
static void read_output(struct command *command, const struct tool_call *call, int64_t offset,
                        struct strbuf *out)
{
    strbuf_init(out, (size_t)call->config->output_bytes + 2 * NOTE_BYTES);
    command_output(command, (uint64_t)offset, out);
}

/* One line below the output that says in words what the data says. */
static void put_note(struct strbuf *text, const struct command_state *state)
{
    char note[NOTE_BYTES];

    if (state->running) {
        snprintf(note, sizeof(note), "[still running; command_id %s, next_offset %llu]", state->id,
                 (unsigned long long)state->bytes);
    } else if (state->timed_out) {
        snprintf(note, sizeof(note),
                 "[killed after %lld s, its timeout; a longer timeout_seconds or background may "
                 "help]",
                 (long long)(state->duration_ms / 1000));
    } else if (state->held) {
        snprintf(note, sizeof(note),
                 "[exit code %d; something it started still runs, command_id %s]", state->exit_code,
                 state->id);
    } else {
        snprintf(note, sizeof(note), "[exit code %d]", state->exit_code);
    }
    if (text->length > 0 && text->data[text->length - 1] != '\n') {
        (void)strbuf_putc(text, '\n');
    }
    (void)strbuf_puts(text, note);
}

static cJSON *describe(struct command *command, const struct tool_call *call, int64_t offset)
{
    struct command_state state;
    cJSON *data = cJSON_CreateObject(), *answer;
    struct strbuf text;

    command_look(command, &state);
    read_output(command, call, offset, &text);
    if (state.running || state.held) {
        cJSON_AddStringToObject(data, "command_id", state.id);
    }
    cJSON_AddBoolToObject(data, "running", state.running);
    tool_add_text(data, "output", text.data, text.length);
    if (!state.running) {
        cJSON_AddNumberToObject(data, "exit_code", state.exit_code);
        cJSON_AddBoolToObject(data, "timed_out", state.timed_out);
    }
    json_add_int64(data, "duration_ms", state.duration_ms);
    json_add_int64(data, "next_offset", (int64_t)state.bytes);
    put_note(&text, &state);
    answer = tool_answer(&text, data);
    strbuf_done(&text);
    return answer;
}

/* The last line printed, for who watches. */
static void last_line(struct command *command, const struct tool_call *call,
                      const struct command_state *state, char news[NEWS_BYTES])
{
    struct strbuf text;
    const char *line;

    read_output(command, call, state->bytes > NEWS_BYTES ? (int64_t)state->bytes - NEWS_BYTES : 0,
                &text);
    while (text.length > 0 && text.data[text.length - 1] == '\n') {
        text.data[--text.length] = '\0';
    }
    line = strrchr(text.data, '\n');
    snprintf(news, NEWS_BYTES, "%s", line != NULL ? line + 1 : text.data);
    strbuf_done(&text);
}

/* Until it is over, or nobody waits for it. False: it runs on, in the background. */
static bool wait_for(struct command *command, const struct tool_call *call)
{
    struct command_state state;
    uint64_t told = 0;

    for (;;) {
        char news[NEWS_BYTES];

        command_wait(command, UINT64_MAX, SLICE_MS);
        command_look(command, &state);
        if (!state.running) {
            return true;
        }
        last_line(command, call, &state, news);
        if (!call->waiting(call->arg, state.bytes > told ? news : NULL)) {
            return false;
        }
        told = state.bytes;
    }
}

static int read_folder(const struct tool_call *call, char ret[TOOL_PATH_BYTES], struct error *err)
{
    const char *given = tool_string(call, "cwd", "");
    struct stat status;

    if (tool_path(call, given, ret, err) != 0) {
        return error_prefix(err, "cwd");
    }
    if (stat(ret, &status) != 0 || !S_ISDIR(status.st_mode) || access(ret, X_OK) != 0) {
        return error_set(err, ERR_INVALID, "cwd %.180s is not a folder that can be entered", ret);
    }
    return 0;
}

static int64_t read_timeout_ms(const struct tool_call *call, bool background)
{
    const struct tool_config *config = call->config;
    const int64_t given = tool_integer(call, "timeout_seconds", 0);

    if (background) {
        return given * 1000;
    }
    return 1000 *
           min_i64(given > 0 ? given : config->command_timeout_s, config->command_timeout_max_s);
}

static cJSON *run_foreground(struct command *command, const struct tool_call *call)
{
    cJSON *answer = NULL;

    if (!flight_await(call->flight, command)) {
        command_kill(command, SIGKILL);
    }
    if (wait_for(command, call) && flight_await(call->flight, NULL)) {
        answer = describe(command, call, 0);
        command_forget(command);
    }
    (void)flight_await(call->flight, NULL);
    return answer;
}

cJSON *tool_run_command(const struct tool_call *call)
{
    const char *text = tool_string(call, "command", "");
    const char *const shells[] = {"/bin/bash", "/bin/sh"};
    const char *argv[] = {shells[access(shells[0], X_OK) == 0 ? 0 : 1], "-l", "-c", text, NULL};
    const bool background = tool_bool(call, "background");
    struct error err = ERROR_INIT;
    char cwd[TOOL_PATH_BYTES];
    struct command *command;
    cJSON *answer;

    if (read_folder(call, cwd, &err) != 0) {
        return tool_failure("%s", err.message);
    }
    const struct command_spec spec = {
        .argv = argv,
        .title = text,
        .cwd = cwd,
        .env = cJSON_GetObjectItemCaseSensitive(call->arguments, "env"),
        .timeout_ms = read_timeout_ms(call, background),
        .output_bytes = (size_t)call->config->output_bytes,
    };
    if (command_start(&spec, &command, &err) != 0) {
        return tool_failure("%s", err.message);
    }
    answer = background ? describe(command, call, 0) : run_foreground(command, call);
    command_unref(command);
    return answer;
}

/* ---- the others ---- */

static void put_listed(void *arg, const struct command_state *state)
{
    cJSON *entry = cJSON_CreateObject();

    cJSON_AddStringToObject(entry, "command_id", state->id);
    tool_add_text(entry, "command", state->title, strlen(state->title));
    cJSON_AddBoolToObject(entry, "running", state->running);
    if (!state->running) {
        cJSON_AddNumberToObject(entry, "exit_code", state->exit_code);
    }
    json_add_int64(entry, "duration_ms", state->duration_ms);
    cJSON_AddItemToArray(arg, entry);
}

static cJSON *list_all(void)
{
    cJSON *data = cJSON_CreateObject(), *answer;
    cJSON *list = cJSON_AddArrayToObject(data, "commands");
    const cJSON *entry;
    struct strbuf text;

    commands_each(put_listed, list);
    strbuf_init(&text, LIST_MAX_BYTES);
    cJSON_ArrayForEach(entry, list)
    {
        const bool running = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(entry, "running"));

        (void)strbuf_printf(&text, "%s  %s  %s\n",
                            cJSON_GetObjectItemCaseSensitive(entry, "command_id")->valuestring,
                            running ? "running" : "ended",
                            cJSON_GetObjectItemCaseSensitive(entry, "command")->valuestring);
    }
    if (text.length == 0) {
        (void)strbuf_puts(&text, "no command is running in the background");
    }
    answer = tool_answer(&text, data);
    strbuf_done(&text);
    return answer;
}

static cJSON *unknown(const char *id)
{
    return tool_failure("no command %.60s is known (any more); command_output without command_id "
                        "lists those that are",
                        id);
}

cJSON *tool_command_output(const struct tool_call *call)
{
    const char *id = tool_string(call, "command_id", NULL);
    const int64_t offset = tool_integer(call, "offset", 0);
    int64_t left_ms = tool_integer(call, "wait_seconds", 0) * 1000;
    struct command *command;
    struct command_state state;
    cJSON *answer = NULL;
    bool listening = true;

    if (id == NULL) {
        return list_all();
    }
    command = command_find(id);
    if (command == NULL) {
        return unknown(id);
    }
    command_look(command, &state);
    while (listening && state.running && state.bytes <= (uint64_t)offset && left_ms > 0 &&
           !flight_cancelled(call->flight)) {
        command_wait(command, (uint64_t)offset, min_i64(left_ms, SLICE_MS));
        left_ms -= SLICE_MS;
        command_look(command, &state);
        listening = call->waiting(call->arg, NULL);
    }
    if (!flight_cancelled(call->flight)) {
        answer = describe(command, call, offset);
    }
    command_unref(command);
    return answer;
}

cJSON *tool_kill_command(const struct tool_call *call)
{
    const char *id = tool_string(call, "command_id", "");
    const char *name = tool_string(call, "signal", "KILL");
    const int number = strcmp(name, "TERM") == 0  ? SIGTERM
                       : strcmp(name, "INT") == 0 ? SIGINT
                                                  : SIGKILL;
    struct command *command = command_find(id);
    struct command_state state;
    struct strbuf text;
    cJSON *data, *answer;

    if (command == NULL) {
        return unknown(id);
    }
    command_kill(command, number);
    command_wait(command, UINT64_MAX, number == SIGKILL ? KILLED_MS : SLICE_MS);
    command_look(command, &state);
    data = cJSON_CreateObject();
    cJSON_AddStringToObject(data, "command_id", state.id);
    cJSON_AddBoolToObject(data, "running", state.running);
    strbuf_init(&text, NOTE_BYTES);
    if (state.running) {
        (void)strbuf_printf(&text, "%s still runs after SIG%s", state.id, name);
    } else {
        cJSON_AddNumberToObject(data, "exit_code", state.exit_code);
        (void)strbuf_printf(&text, "%s has ended, exit code %d", state.id, state.exit_code);
    }
    answer = tool_answer(&text, data);
    strbuf_done(&text);
    command_unref(command);
    return answer;
}
