/*
 * handlers_commands - commands after they were started: how they are, their output, their input.
 *
 * A look at an open command asks its sandbox and writes down what it saw, unless the sandbox does
 * not run: then the row is all there is to say. Only reading output resumes a paused sandbox.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/base/encode.h"
#include "gateway/data/command_call.h"
#include "gateway/gateway.h"
#include "gateway/http/bounds.h"
#include "gateway/http/command_events.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"
#include "gateway/work/lifecycle.h"

enum {
    LIST_LOOKS_MAX = 16,     /* open commands of a page that their sandbox is asked about */
    STARTING_MS = 60 * 1000, /* age at which one that its sandbox does not know is lost */
    OUTPUT_COST = 6,         /* of a byte of output: decoded, in the tree, escaped */
};

/* ---- one command ---- */

struct look {
    struct command_call command;
    int64_t wait_ms;
    const struct data_call *data;
    bool paused;
};

static int on_look_tick(void *arg)
{
    struct look *look = arg;

    look->paused = data_call_paused(look->data, look->command.row.sandbox_id, false);
    return look->paused;
}

static int look_at(const struct data_call *data, void *arg, struct error *err)
{
    struct look *look = arg;
    struct store_command *row = &look->command.row;
    /* beyond all output: its end alone is wanted */
    const struct command_follow follow = {.after = COMMAND_OFFSET_MAX,
                                          .wait_ms = look->wait_ms,
                                          .max_bytes = INT64_MAX,
                                          .on_tick = on_look_tick,
                                          .arg = look};
    int status;

    look->data = data;
    status = command_call_follow(data, &look->command, &follow, err);
    if (status < 0 && err->code == ERR_NOT_FOUND && row->kept) {
        *err = (struct error)ERROR_INIT;
        status = 0;
        if (row->state != COMMAND_STARTING || clock_wall_ms() - row->created_at_ms > STARTING_MS) {
            row->state = COMMAND_LOST;
        }
    } else if (status < 0 && err->code == ERR_NOT_FOUND) {
        *err = (struct error)ERROR_INIT;
        status = 0;
    }
    if (look->paused && !command_state_is_end(row->state)) {
        row->state = COMMAND_RUNNING;
    }
    return status;
}

/* Asks the sandbox about a command that has not ended, if it runs. */
static int refresh(struct request *request, const struct sandbox *sandbox, struct look *look,
                   struct error *err)
{
    struct store_command *row = &look->command.row;

    if (row->ended_at_ms > 0 || sandbox->status != SANDBOX_RUNNING) {
        return 0;
    }
    if (data_call_run(request, row->sandbox_id, look_at, look, err) < 0) {
        return -1;
    }
    command_call_note(request, &look->command);
    if (look->paused && !command_state_is_end(row->state)) {
        row->state = COMMAND_PAUSED;
    }
    return 0;
}

static void add_number(cJSON *tree, const char *name, int64_t number, bool known)
{
    if (known) {
        json_add_int64(tree, name, number);
    } else {
        cJSON_AddNullToObject(tree, name);
    }
}

static cJSON *command_json(const struct store_command *row)
{
    cJSON *tree = cJSON_CreateObject(), *survivors;
    char *end;

    cJSON_AddBoolToObject(tree, "success", true);
    cJSON_AddStringToObject(tree, "command_id", row->id);
    cJSON_AddStringToObject(tree, "state", command_state_name(row->state));
    cJSON_AddBoolToObject(tree, "background", row->background);
    cJSON_AddBoolToObject(tree, "tty", row->tty);
    json_add_string_or_null(tree, "user", row->run_as);
    add_number(tree, "pid", row->pid, row->pid > 0);
    add_number(tree, "exit_code", row->exit_code, row->exit_code >= 0);
    add_number(tree, "signal", row->signal, row->signal > 0);
    add_number(tree, "timeout_seconds", row->timeout_ms / 1000, row->timeout_ms > 0);
    json_add_int64(tree, "ran_ms", row->ran_ms);
    json_add_int64(tree, "stdout_bytes", row->stdout_bytes);
    json_add_int64(tree, "stderr_bytes", row->stderr_bytes);
    cJSON_AddBoolToObject(tree, "output_kept", row->kept);
    cJSON_AddBoolToObject(tree, "background_processes", row->background_processes);
    survivors = cJSON_AddArrayToObject(tree, "survivors");
    for (const char *at = row->survivors; *at != '\0'; at = end) {
        cJSON_AddItemToArray(survivors, cJSON_CreateNumber((double)strtoll(at, &end, 10)));
        if (end == at) {
            break;
        }
    }
    json_add_time(tree, "created_at", row->created_at_ms);
    json_add_time(tree, "ended_at", row->ended_at_ms);
    return tree;
}

/* A number of the query; `fallback` when it was not sent. */
static int query_number(const struct request *request, const char *name, int64_t min, int64_t max,
                        int64_t fallback, int64_t *ret, struct error *err)
{
    char text[24], *end;
    bool given;

    if (request_query(request, name, text, sizeof(text), &given, err) < 0) {
        return -1;
    }
    *ret = fallback;
    if (given) {
        *ret = strtoll(text, &end, 10);
        if (*end != '\0' || text[0] < '0' || text[0] > '9' || *ret < min || *ret > max) {
            return error_set(err, ERR_INVALID, "%s must be a number from %lld to %lld", name,
                             (long long)min, (long long)max);
        }
    }
    return 0;
}

void handle_command_get(struct request *request)
{
    struct error err = ERROR_INIT;
    struct look look = {.wait_ms = 0};
    struct sandbox sandbox;
    int64_t wait_s;
    int status;

    if (query_number(request, "wait", 0, COMMAND_WAIT_MAX_S, 0, &wait_s, &err) < 0 ||
        command_call_find(request, &sandbox, &look.command, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    look.wait_ms = wait_s * 1000;
    status = refresh(request, &sandbox, &look, &err);
    sandbox_done(&sandbox);
    if (status < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_data(request, 200, command_json(&look.command.row));
    }
}

/* ---- all of a sandbox ---- */

static int read_cursor(const struct request *request, int64_t *ret_us, char ret_id[UUID_BYTES],
                       struct error *err)
{
    char cursor[80] = "", *end;
    bool given;

    *ret_us = 0;
    ret_id[0] = '\0';
    if (request_query(request, "cursor", cursor, sizeof(cursor), &given, err) < 0 || !given) {
        return err->code == ERR_OK ? 0 : -1;
    }
    *ret_us = strtoll(cursor, &end, 10);
    if (*ret_us <= 0 || *end != '.' || !id_is_uuid_lower(end + 1)) {
        return error_set(err, ERR_INVALID, "cursor is not one that was given out");
    }
    memcpy(ret_id, end + 1, UUID_BYTES);
    return 0;
}

static void respond_list(struct request *request, const struct sandbox *sandbox,
                         struct store_command *rows, size_t count, size_t limit)
{
    cJSON *data = cJSON_CreateObject(), *items;
    char cursor[80] = "";
    int looks = 0;

    cJSON_AddBoolToObject(data, "success", true);
    items = cJSON_AddArrayToObject(data, "items");
    for (size_t i = 0; i < count && i < limit; i++) {
        struct look look = {.command = {.row = rows[i], .begun = true}};
        struct error unseen = ERROR_INIT; /* then it is told as it was seen last */

        if (rows[i].ended_at_ms == 0 && looks < LIST_LOOKS_MAX) {
            looks++;
            if (refresh(request, sandbox, &look, &unseen) < 0) {
                looks = LIST_LOOKS_MAX;
            }
        }
        cJSON_AddItemToArray(items, command_json(&look.command.row));
    }
    if (count > limit) {
        snprintf(cursor, sizeof(cursor), "%lld.%s", (long long)rows[limit - 1].created_at_us,
                 rows[limit - 1].id);
    }
    json_add_string_or_null(data, "next_cursor", cursor);
    respond_data(request, 200, data);
}

void handle_command_list(struct request *request)
{
    struct error err = ERROR_INIT;
    struct store_command *rows = NULL;
    struct sandbox sandbox;
    char before_id[UUID_BYTES];
    int64_t before_us;
    size_t count;
    int limit;

    if (request_page_limit(request, &limit, &err) < 0 ||
        read_cursor(request, &before_us, before_id, &err) < 0 ||
        lifecycle_get(request, request->path_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    if (store_command_list(request->gateway->store, request->path_id, before_us, before_id,
                           limit + 1, &rows, &count, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_list(request, &sandbox, rows, count, (size_t)limit);
    }
    free(rows);
    sandbox_done(&sandbox);
}

/* ---- output ---- */

enum output_form { OUTPUT_JSON, OUTPUT_RAW, OUTPUT_EVENTS };

struct output {
    struct request *caller;
    struct command_call command;
    enum output_form form;
    int only; /* enum exec_stream, -1 = both */
    int64_t after, wait_ms, limit;
    bool base64;
    const struct data_call *data;
    cJSON *items; /* JSON */
    struct command_events events;
    bool begun, gone; /* raw */
};

static void add_item(struct output *output, enum exec_stream stream, const char *data, size_t bytes,
                     int64_t next)
{
    cJSON *item = cJSON_CreateObject();
    struct strbuf text;

    json_add_int64(item, "offset", next - (int64_t)bytes);
    if (data == NULL) {
        json_add_int64(item, "omitted_bytes", (int64_t)bytes);
    } else {
        cJSON_AddStringToObject(item, "stream", stream == EXEC_STDOUT ? "stdout" : "stderr");
        strbuf_init(&text, bytes / 3 * 4 + 8);
        if (!output->base64 && memchr(data, '\0', bytes) == NULL && utf8_is_valid(data, bytes)) {
            strbuf_append(&text, data, bytes);
            cJSON_AddStringToObject(item, "text", text.data);
        } else {
            encode_base64(&text, data, bytes);
            cJSON_AddStringToObject(item, "base64", text.data);
        }
        strbuf_done(&text);
    }
    cJSON_AddItemToArray(output->items, item);
}

static void write_raw(struct output *output, const char *data, size_t bytes)
{
    char header[64];

    if (!output->begun) {
        output->begun = true;
        snprintf(header, sizeof(header), "X-Command-ID: %s\r\n", output->command.row.id);
        output->gone = respond_stream(output->caller, "application/octet-stream", header, -1) < 0;
    }
    if (bytes > 0 && !output->gone) {
        output->gone = http_stream_write(output->caller->http, data, bytes) < 0;
        request_count_sent(output->caller, bytes);
    }
}

static void add_omitted(struct output *output, size_t bytes, int64_t next)
{
    cJSON *data = cJSON_CreateObject();

    json_add_int64(data, "omitted_bytes", (int64_t)bytes);
    command_events_put(&output->events, "omitted", next, data);
}

static int on_output(void *arg, enum exec_stream stream, const void *data, size_t bytes,
                     int64_t next)
{
    struct output *output = arg;

    if (output->only >= 0 && data != NULL && output->only != (int)stream) {
        return 0;
    }
    switch (output->form) {
    case OUTPUT_JSON:
        add_item(output, stream, data, bytes, next);
        return 0;
    case OUTPUT_RAW:
        if (data != NULL) {
            write_raw(output, data, bytes);
        }
        return output->gone;
    case OUTPUT_EVENTS:
        if (data != NULL) {
            command_events_output(&output->events, stream, data, bytes, next);
        } else {
            add_omitted(output, bytes, next);
        }
        return output->events.gone;
    }
    return 1;
}

static int on_output_tick(void *arg)
{
    struct output *output = arg;

    if (output->form == OUTPUT_EVENTS) {
        command_events_tick(&output->events);
    }
    return output->events.gone || output->gone ||
           data_call_paused(output->data, output->command.row.sandbox_id, false);
}

static int read_output(const struct data_call *data, void *arg, struct error *err)
{
    struct output *output = arg;
    const struct command_follow follow = {.after = output->after,
                                          .wait_ms = output->wait_ms,
                                          .max_bytes = output->form == OUTPUT_JSON ? output->limit
                                                                                   : INT64_MAX,
                                          .on_output = on_output,
                                          .on_tick = on_output_tick,
                                          .arg = output};

    output->data = data;
    return command_call_follow(data, &output->command, &follow, err);
}

static int read_stream(const struct request *request, int *ret, struct error *err)
{
    char name[16];
    bool given;

    if (request_query(request, "stream", name, sizeof(name), &given, err) < 0) {
        return -1;
    }
    *ret = !given || strcmp(name, "all") == 0 ? -1
           : strcmp(name, "stdout") == 0      ? EXEC_STDOUT
           : strcmp(name, "stderr") == 0      ? EXEC_STDERR
                                              : -2;
    return *ret == -2 ? error_set(err, ERR_INVALID, "stream must be all, stdout or stderr") : 0;
}

static int read_output_request(struct request *request, struct output *output, struct error *err)
{
    const char *accept = http_header(request->http, "Accept");
    const char *last = http_header(request->http, "Last-Event-ID");
    char encoding[16], *end;
    int64_t wait_s;
    bool given;

    output->form = accept != NULL && strcasestr(accept, "text/event-stream") != NULL ? OUTPUT_EVENTS
                   : accept != NULL && strcasestr(accept, "application/octet-stream") != NULL
                       ? OUTPUT_RAW
                       : OUTPUT_JSON;
    if (query_number(request, "after", 0, COMMAND_OFFSET_MAX, 0, &output->after, err) < 0 ||
        query_number(request, "wait", 0, COMMAND_WAIT_MAX_S, -1, &wait_s, err) < 0 ||
        query_number(request, "limit", 1, COMMAND_OUTPUT_PAGE_MAX_BYTES, COMMAND_OUTPUT_PAGE_BYTES,
                     &output->limit, err) < 0 ||
        read_stream(request, &output->only, err) < 0 ||
        request_query(request, "encoding", encoding, sizeof(encoding), &given, err) < 0) {
        return -1;
    }
    output->base64 = given && strcmp(encoding, "base64") == 0;
    if (given && !output->base64 && strcmp(encoding, "utf-8") != 0) {
        return error_set(err, ERR_INVALID, "encoding must be utf-8 or base64");
    }
    if (output->form == OUTPUT_EVENTS && last != NULL && last[0] != '\0') {
        output->after = strtoll(last, &end, 10);
        if (*end != '\0' || last[0] < '0' || last[0] > '9' || output->after > COMMAND_OFFSET_MAX) {
            return error_set(err, ERR_HEADER_INVALID, "Last-Event-ID is not one of these events");
        }
    }
    output->wait_ms = wait_s >= 0 ? wait_s * 1000 : output->form == OUTPUT_EVENTS ? INT64_MAX : 0;
    return output->form == OUTPUT_JSON
               ? request_take_bytes(request, (output->limit + 65536) * OUTPUT_COST, err)
               : 0;
}

static void respond_output(struct request *request, struct output *output)
{
    const struct store_command *row = &output->command.row;
    cJSON *data;

    switch (output->form) {
    case OUTPUT_JSON:
        data = cJSON_CreateObject();
        cJSON_AddBoolToObject(data, "success", true);
        cJSON_AddStringToObject(data, "command_id", row->id);
        cJSON_AddStringToObject(data, "state", command_state_name(row->state));
        cJSON_AddItemToObject(data, "items", output->items);
        json_add_int64(data, "next_offset", output->command.status.next);
        cJSON_AddBoolToObject(data, "more", output->command.status.more);
        output->items = NULL;
        respond_data(request, 200, data);
        break;
    case OUTPUT_RAW:
        write_raw(output, "", 0);
        if (!output->gone) {
            (void)http_stream_end(request->http);
        }
        break;
    case OUTPUT_EVENTS:
        command_events_put(&output->events, command_state_is_end(row->state) ? "exit" : "running",
                           output->command.status.next, command_json(row));
        command_events_end(&output->events);
        break;
    }
}

void handle_command_output(struct request *request)
{
    struct error err = ERROR_INIT;
    struct output output = {.caller = request};
    struct sandbox sandbox;

    if (read_output_request(request, &output, &err) < 0 ||
        command_call_find(request, &sandbox, &output.command, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    sandbox_done(&sandbox);
    output.items = cJSON_CreateArray();
    output.events = (struct command_events){
        .caller = request, .command_id = output.command.row.id, .written_ms = clock_mono_ms()};
    if (data_call_run(request, request->path_id, read_output, &output, &err) == 0) {
        command_call_note(request, &output.command);
        respond_output(request, &output);
    } else if (!output.begun && !output.events.begun) {
        respond_error(request, &err, 0);
    } else if (output.form == OUTPUT_EVENTS) {
        command_events_put(&output.events, "error", -1, request_error_json(request, &err));
        command_events_end(&output.events);
    } /* else the answer breaks off, which says that it is not whole */
    cJSON_Delete(output.items);
}

/* ---- what is asked of it ---- */

struct asking {
    struct command_call command;
    int (*ask)(const struct sandbox_command *command, struct asking *asking, struct error *err);
    int64_t offset, next;
    struct strbuf input;
    bool end;
    int number, rows, columns;
};

static int run_ask(const struct data_call *data, void *arg, struct error *err)
{
    struct asking *asking = arg;
    const struct sandbox_command command = command_call_target(data, &asking->command.row);

    return asking->command.row.kept
               ? asking->ask(&command, asking, err)
               : error_set(err, ERR_CONFLICT, "this command cannot be reached");
}

/* -1 when it was answered with an error. */
static int ask(struct request *request, struct asking *asking, struct error *err)
{
    struct sandbox sandbox;

    if (command_call_find(request, &sandbox, &asking->command, err) < 0) {
        return -1;
    }
    sandbox_done(&sandbox);
    return data_call_run(request, request->path_id, run_ask, asking, err);
}

static cJSON *asked_json(const struct request *request, const char *message)
{
    cJSON *data = view_done(message);

    cJSON_AddStringToObject(data, "command_id", request->command_id);
    return data;
}

static int ask_input(const struct sandbox_command *command, struct asking *asking,
                     struct error *err)
{
    return sandbox_command_input(command, asking->offset, asking->input.data, asking->input.length,
                                 asking->end, &asking->next, err);
}

static int read_input(struct request *request, struct asking *asking, struct error *err)
{
    const cJSON *body = request->body;
    const char *data, *encoding;

    if (json_get_string_req(body, "data", 0, COMMAND_INPUT_MAX_BYTES, &data, err) < 0 ||
        json_get_string(body, "encoding", 16, "utf-8", &encoding, err) < 0 ||
        json_get_int_req(body, "offset", 0, COMMAND_OFFSET_MAX, &asking->offset, err) < 0 ||
        json_get_bool(body, "end", false, &asking->end, err) < 0) {
        return -1;
    }
    if (strcmp(encoding, "base64") == 0) {
        return decode_base64(&asking->input, data, strlen(data), err) < 0
                   ? error_set(err, ERR_INVALID, "data is not valid base64")
                   : 0;
    }
    strbuf_puts(&asking->input, data);
    return strcmp(encoding, "utf-8") == 0
               ? 0
               : error_set(err, ERR_INVALID, "encoding must be utf-8 or base64");
}

void handle_command_stdin(struct request *request)
{
    struct error err = ERROR_INIT;
    struct asking asking = {.ask = ask_input};
    cJSON *data;

    strbuf_init(&asking.input, COMMAND_INPUT_MAX_BYTES + 1);
    if (read_input(request, &asking, &err) < 0 || ask(request, &asking, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        data = asked_json(request, "Input written");
        json_add_int64(data, "next_offset", asking.next);
        respond_data(request, 200, data);
    }
    strbuf_done(&asking.input);
}

static int ask_signal(const struct sandbox_command *command, struct asking *asking,
                      struct error *err)
{
    return sandbox_command_signal(command, asking->number, err);
}

static int read_signal(const struct request *request, int *ret, struct error *err)
{
    static const struct {
        const char *name;
        int number;
    } signals[] = {{"HUP", SIGHUP},   {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"KILL", SIGKILL},
                   {"USR1", SIGUSR1}, {"USR2", SIGUSR2}, {"TERM", SIGTERM}, {"CONT", SIGCONT},
                   {"STOP", SIGSTOP}, {"TSTP", SIGTSTP}};
    const char *name;

    if (json_get_string_req(request->body, "signal", 1, 8, &name, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        if (strcmp(name, signals[i].name) == 0) {
            *ret = signals[i].number;
            return 0;
        }
    }
    return error_set(err, ERR_INVALID, "signal is none that can be sent");
}

void handle_command_signal(struct request *request)
{
    struct error err = ERROR_INIT;
    struct asking asking = {.ask = ask_signal};

    if (read_signal(request, &asking.number, &err) < 0 || ask(request, &asking, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_data(request, 200, asked_json(request, "Signal sent"));
    }
}

static int ask_resize(const struct sandbox_command *command, struct asking *asking,
                      struct error *err)
{
    return sandbox_command_resize(command, asking->rows, asking->columns, err);
}

void handle_command_resize(struct request *request)
{
    struct error err = ERROR_INIT;
    struct asking asking = {.ask = ask_resize};
    int64_t rows, columns;

    if (json_get_int_req(request->body, "rows", 1, COMMAND_TTY_MAX, &rows, &err) < 0 ||
        json_get_int_req(request->body, "columns", 1, COMMAND_TTY_MAX, &columns, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    asking.rows = (int)rows;
    asking.columns = (int)columns;
    if (ask(request, &asking, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        respond_data(request, 200, asked_json(request, "Terminal resized"));
    }
}

static int kill_and_look(const struct data_call *data, void *arg, struct error *err)
{
    struct look *look = arg;
    const struct sandbox_command command = command_call_target(data, &look->command.row);

    if (!look->command.row.kept) {
        return error_set(err, ERR_CONFLICT, "this command cannot be reached");
    }
    if (sandbox_command_kill(&command, err) < 0 && err->code != ERR_CONFLICT &&
        err->code != ERR_NOT_FOUND) {
        return -1;
    }
    *err = (struct error)ERROR_INIT; /* it has ended already: then that is how it is */
    return look_at(data, look, err);
}

void handle_command_kill(struct request *request)
{
    struct error err = ERROR_INIT;
    struct look look = {.wait_ms = 0};
    struct sandbox sandbox;

    if (command_call_find(request, &sandbox, &look.command, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    sandbox_done(&sandbox);
    if (look.command.row.ended_at_ms == 0 || look.command.row.background_processes) {
        if (data_call_run(request, request->path_id, kill_and_look, &look, &err) < 0) {
            respond_error(request, &err, 0);
            return;
        }
        command_call_note(request, &look.command);
    }
    respond_data(request, 200, command_json(&look.command.row));
}
