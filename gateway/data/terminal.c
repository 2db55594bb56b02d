/* terminal - see terminal.h. */
#include "gateway/data/terminal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/json.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "common/proxy/head.h"
#include "common/proxy/websocket.h"
#include "gateway/data/command_call.h"
#include "gateway/data/data_call.h"
#include "gateway/http/bounds.h"
#include "gateway/http/request_state.h"

enum {
    STACK_BYTES = 512 * 1024, /* as that of a handler */
    PIECE_BYTES = 32 * 1024,  /* most output in one message */
    MESSAGE_BYTES = PIECE_BYTES + 64,
    TEXT_MAX_BYTES = 1024, /* a client's text message */
    READ_BYTES = WEBSOCKET_FRAME_MAX_BYTES + WEBSOCKET_HEAD_BYTES,
    KEY_BYTES = 64,
    POLL_MS = 500,
    PING_MS = 20000,       /* so that no proxy takes a quiet terminal for a dead one */
    FAREWELL_MS = 2000,    /* for the client's answer to our close */
    INPUT_RETRY_MS = 50,   /* before input that the command does not take yet is sent again */
    CLOSE_NORMAL = 1000,   /* the command has ended */
    CLOSE_PROTOCOL = 1002, /* RFC 6455 */
    CLOSE_FAULT = 1011,    /* ours, or the sandbox's */
    CLOSE_RESTART = 1012,  /* this gateway stops: open it again */
    CLOSE_TAKEN = 4001,    /* another session has the terminal */
    CLOSE_PAUSED = 4002,   /* the sandbox is paused; opening it again resumes it */
    CLOSE_REVOKED = 4003,  /* its owner was disabled */
};

static struct metric sessions = {
    .name = "gateway_terminals", .help = "Terminals open at this gateway.", .type = METRIC_GAUGE};

struct terminals {
    struct gateway *gateway;
    pthread_mutex_t lock;
    pthread_cond_t left; /* a session ended */
    struct terminal *first;
    int count;
    _Atomic bool stopping;
};

/* What calls into the sandbox are made with; one for each thread. */
struct caller {
    struct request request;
    struct request_state state;
};

struct terminal {
    struct terminals *all;
    struct terminal *next;
    struct terminal_open open;
    char session[UUID_BYTES];
    int fd;
    pthread_mutex_t write_lock;
    _Atomic bool gone;        /* the client */
    _Atomic int64_t ended_ms; /* our close was sent then; 0 = not yet */
    _Atomic int fault;        /* of the reader: the code to close with */
    struct caller follower, reader;
    struct command_call command;
    /* the follower's */
    const struct data_call *data;
    int64_t offset; /* behind what the client has */
    int64_t ping_ms;
    bool taken, paused, moved, revoked;
    /* the reader's */
    struct strbuf input, text;
    enum websocket_opcode message; /* of the fragments that come */
    int64_t input_offset;          /* -1 = not known yet */
    int rows, columns;             /* asked for; 0 = no */
};

/* ---- to the client ---- */

static void send_bytes(struct terminal *terminal, const struct strbuf *bytes)
{
    size_t at = 0;

    pthread_mutex_lock(&terminal->write_lock);
    while (at < bytes->length && !terminal->gone) {
        const ssize_t sent = send(terminal->fd, bytes->data + at, bytes->length - at, MSG_NOSIGNAL);

        if (sent > 0) {
            at += (size_t)sent;
        } else if (sent < 0 && errno != EINTR) {
            terminal->gone = true;
        }
    }
    pthread_mutex_unlock(&terminal->write_lock);
}

static void send_message(struct terminal *terminal, enum websocket_opcode opcode, const void *data,
                         size_t bytes)
{
    struct strbuf message;

    strbuf_init(&message, MESSAGE_BYTES);
    websocket_put(&message, opcode, data, bytes);
    send_bytes(terminal, &message);
    strbuf_done(&message);
}

/* Takes `tree`. */
static void send_json(struct terminal *terminal, cJSON *tree)
{
    struct strbuf text;

    strbuf_init(&text, PIECE_BYTES);
    json_print(tree, &text);
    cJSON_Delete(tree);
    send_message(terminal, WEBSOCKET_TEXT, text.data, text.length);
    strbuf_done(&text);
}

static cJSON *say(const char *type)
{
    cJSON *tree = cJSON_CreateObject();

    cJSON_AddStringToObject(tree, "type", type);
    return tree;
}

static void send_close(struct terminal *terminal, int code, const char *reason)
{
    struct strbuf message;

    strbuf_init(&message, MESSAGE_BYTES);
    websocket_put_close(&message, code, reason);
    send_bytes(terminal, &message);
    strbuf_done(&message);
    shutdown(terminal->fd, SHUT_WR);
    terminal->ended_ms = clock_mono_ms();
}

/* ---- from the client ---- */

static int resize(const struct data_call *data, void *arg, struct error *err)
{
    struct terminal *terminal = arg;
    const struct sandbox_command command = command_call_target(data, &terminal->command.row);

    return sandbox_command_resize(&command, terminal->rows, terminal->columns, err);
}

/* Writes all input, however slowly the command reads it. Offsets let it be sent again. */
static int write_input(const struct data_call *data, void *arg, struct error *err)
{
    struct terminal *terminal = arg;
    const struct sandbox_command command = command_call_target(data, &terminal->command.row);
    int64_t next = 0;

    if (terminal->input_offset < 0) { /* nothing from the beginning: how much has it? */
        if (sandbox_command_input(&command, 0, "", 0, false, &terminal->input_offset, err) < 0) {
            return -1;
        }
    }
    while (terminal->input.length > 0 && !terminal->gone && terminal->ended_ms == 0) {
        if (sandbox_command_input(&command, terminal->input_offset, terminal->input.data,
                                  terminal->input.length, false, &next, err) < 0) {
            return -1;
        }
        if (next > terminal->input_offset) {
            int64_t taken = next - terminal->input_offset;

            taken =
                taken < (int64_t)terminal->input.length ? taken : (int64_t)terminal->input.length;
            strbuf_consume(&terminal->input, (size_t)taken);
            terminal->input_offset = next;
        } else {
            clock_sleep_ms(INPUT_RETRY_MS);
        }
    }
    return 0;
}

/* False: the session ends. A command that has ended takes nothing more, which is no fault. */
static bool call_sandbox(struct terminal *terminal, data_fn run)
{
    struct error err = ERROR_INIT;
    bool held = true;

    /* who has lost the terminal types into nothing, also before the follower knows of it */
    if (store_command_has_terminal(terminal->all->gateway->store, terminal->open.command_id,
                                   terminal->session, &held, &err) == 0 &&
        (!held || data_call_attend(&terminal->reader.request, terminal->open.sandbox_id, run,
                                   terminal, &err) == 0)) {
        return true;
    }
    if (err.code == ERR_CONFLICT || err.code == ERR_NOT_FOUND) {
        return true;
    }
    log_error(LOG_WARN, "terminal.input_failed", &err);
    terminal->fault = CLOSE_FAULT;
    return false;
}

/* False: the message is none that a client may send. */
static bool take_text(struct terminal *terminal)
{
    struct error err = ERROR_INIT;
    cJSON *tree = json_parse(terminal->text.data, terminal->text.length, &err);
    int64_t rows, columns;
    const char *type;
    bool is_resize = tree != NULL && json_get_string_req(tree, "type", 1, 16, &type, &err) == 0 &&
                     strcmp(type, "resize") == 0 &&
                     json_get_int_req(tree, "rows", 1, COMMAND_TTY_MAX, &rows, &err) == 0 &&
                     json_get_int_req(tree, "columns", 1, COMMAND_TTY_MAX, &columns, &err) == 0;

    if (is_resize) {
        terminal->rows = (int)rows;
        terminal->columns = (int)columns;
    }
    cJSON_Delete(tree);
    strbuf_reset(&terminal->text);
    return is_resize;
}

static bool take_data(struct terminal *terminal, const struct websocket_frame *frame)
{
    const bool continues = frame->opcode == WEBSOCKET_CONTINUATION;

    if (continues != (terminal->message != WEBSOCKET_CONTINUATION)) {
        return false; /* a message inside another, or the rest of none */
    }
    if (!continues) {
        terminal->message = frame->opcode;
    }
    strbuf_append(terminal->message == WEBSOCKET_TEXT ? &terminal->text : &terminal->input,
                  frame->data, frame->bytes);
    if (terminal->text.overflow || terminal->input.overflow) {
        return false;
    }
    if (frame->is_final) {
        const bool is_text = terminal->message == WEBSOCKET_TEXT;

        terminal->message = WEBSOCKET_CONTINUATION;
        return !is_text || take_text(terminal);
    }
    return true;
}

/* False: the session ends. */
static bool take_frame(struct terminal *terminal, const struct websocket_frame *frame)
{
    switch (frame->opcode) {
    case WEBSOCKET_CLOSE:
        if (terminal->ended_ms == 0) {
            send_message(terminal, WEBSOCKET_CLOSE, frame->data,
                         frame->bytes < 2 ? 0 : 2); /* its code */
        }
        terminal->gone = true;
        return false;
    case WEBSOCKET_PING:
        send_message(terminal, WEBSOCKET_PONG, frame->data, frame->bytes);
        return true;
    case WEBSOCKET_PONG:
        return true;
    case WEBSOCKET_CONTINUATION:
    case WEBSOCKET_TEXT:
    case WEBSOCKET_BINARY:
        if (!take_data(terminal, frame)) {
            terminal->fault = CLOSE_PROTOCOL;
            return false;
        }
        return true;
    }
    return false;
}

/* Takes all whole frames. False: the session ends. */
static bool take_frames(struct terminal *terminal, struct strbuf *bytes)
{
    size_t at = 0;
    bool goes_on = true;

    while (goes_on) {
        struct websocket_frame frame;
        const long used = websocket_parse(bytes->data + at, bytes->length - at, &frame);

        if (used == 0) {
            break;
        }
        if (used < 0) {
            terminal->fault = CLOSE_PROTOCOL;
            return false;
        }
        at += (size_t)used;
        goes_on = take_frame(terminal, &frame);
        /* what else is there is sent with it, but no more than the input buffer holds */
        if (goes_on && terminal->input.length > WEBSOCKET_FRAME_MAX_BYTES) {
            goes_on = call_sandbox(terminal, write_input);
        }
    }
    strbuf_consume(bytes, at);
    if (goes_on && terminal->rows > 0) {
        goes_on = call_sandbox(terminal, resize);
        terminal->rows = 0;
    }
    return goes_on && (terminal->input.length == 0 || call_sandbox(terminal, write_input));
}

static bool receive(struct terminal *terminal, struct strbuf *bytes)
{
    struct pollfd item = {.fd = terminal->fd, .events = POLLIN};
    char buffer[16 * 1024];
    ssize_t got;

    if (poll(&item, 1, POLL_MS) == 0) {
        return terminal->ended_ms == 0 || clock_mono_ms() - terminal->ended_ms < FAREWELL_MS;
    }
    got = recv(terminal->fd, buffer, sizeof(buffer), 0);
    if (got < 0 && errno == EINTR) {
        return true;
    }
    if (got <= 0) {
        terminal->gone = true;
        return false;
    }
    strbuf_append(bytes, buffer, (size_t)got);
    return true;
}

static void *read_client(void *arg)
{
    struct terminal *terminal = arg;
    struct strbuf bytes;

    strbuf_init(&bytes, READ_BYTES + 16 * 1024);
    while (receive(terminal, &bytes) && take_frames(terminal, &bytes)) {}
    strbuf_done(&bytes);
    log_context_clear();
    return NULL;
}

/* ---- output ---- */

static int on_output(void *arg, enum exec_stream stream, const void *data, size_t bytes,
                     int64_t next)
{
    struct terminal *terminal = arg;

    (void)stream; /* a terminal has one */
    if (data == NULL) {
        cJSON *tree = say("omitted");

        json_add_int64(tree, "bytes", (int64_t)bytes);
        send_json(terminal, tree);
    }
    for (size_t at = 0; data != NULL && at < bytes; at += PIECE_BYTES) {
        const size_t piece = bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES;

        send_message(terminal, WEBSOCKET_BINARY, (const char *)data + at, piece);
    }
    terminal->offset = next;
    return terminal->gone || terminal->fault != 0;
}

static int on_tick(void *arg)
{
    struct terminal *terminal = arg;
    struct gateway *gateway = terminal->all->gateway;
    struct error ignored = ERROR_INIT; /* the next tick asks again */
    const int64_t now_ms = clock_mono_ms();
    bool held = true;

    if (now_ms - terminal->ping_ms >= PING_MS) {
        terminal->ping_ms = now_ms;
        send_message(terminal, WEBSOCKET_PING, "", 0);
    }
    terminal->paused = data_call_paused(terminal->data, terminal->open.sandbox_id, false);
    terminal->moved = terminal->all->stopping || service_draining();
    terminal->revoked = auth_owner_disabled(gateway->auth, terminal->open.owner);
    terminal->taken = store_command_has_terminal(gateway->store, terminal->open.command_id,
                                                 terminal->session, &held, &ignored) == 0 &&
                      !held;
    return terminal->gone || terminal->fault != 0 || terminal->paused || terminal->moved ||
           terminal->revoked || terminal->taken;
}

static int follow(const struct data_call *data, void *arg, struct error *err)
{
    struct terminal *terminal = arg;
    const struct command_follow wanted = {.after = terminal->offset,
                                          .wait_ms = INT64_MAX,
                                          .max_bytes = INT64_MAX,
                                          .on_output = on_output,
                                          .on_tick = on_tick,
                                          .arg = terminal};
    int status;

    terminal->data = data;
    status = command_call_follow(data, &terminal->command, &wanted, err);
    if (status < 0 && err->code == ERR_PROVIDER_DOWN &&
        data_call_paused(data, terminal->open.sandbox_id, true)) {
        terminal->paused = true; /* the pause broke the connection */
        status = 0;
    }
    return status;
}

/* ---- a session ---- */

static void say_exit(struct terminal *terminal)
{
    const struct store_command *row = &terminal->command.row;
    cJSON *tree = say("exit");

    cJSON_AddStringToObject(tree, "state", command_state_name(row->state));
    if (row->exit_code >= 0) {
        cJSON_AddNumberToObject(tree, "exit_code", row->exit_code);
    } else {
        cJSON_AddNullToObject(tree, "exit_code");
    }
    send_json(terminal, tree);
    send_close(terminal, CLOSE_NORMAL, "exit");
}

static void say_end(struct terminal *terminal, const char *type, int code)
{
    send_json(terminal, say(type));
    send_close(terminal, code, type);
}

/* Tells the client why the session is over. */
static void say_why(struct terminal *terminal, int status, const struct error *err)
{
    if (terminal->taken) {
        say_end(terminal, "taken_over", CLOSE_TAKEN);
    } else if (terminal->revoked) {
        say_end(terminal, "revoked", CLOSE_REVOKED);
    } else if (terminal->fault != 0) {
        say_end(terminal, "error", terminal->fault);
    } else if (terminal->paused) {
        say_end(terminal, "paused", CLOSE_PAUSED);
    } else if (status == 0 && command_state_is_end(terminal->command.row.state)) {
        say_exit(terminal);
    } else if (terminal->moved) {
        say_end(terminal, "moved", CLOSE_RESTART);
    } else {
        log_error(LOG_WARN, "terminal.failed", err); /* no message: its follower left unasked */
        say_end(terminal, "error", CLOSE_FAULT);
    }
}

static void run_session(struct terminal *terminal)
{
    struct request *request = &terminal->follower.request;
    struct error err = ERROR_INIT;
    cJSON *tree = say("ready");
    int status;

    json_add_int64(tree, "offset", terminal->offset);
    send_json(terminal, tree);
    status = data_call_attend(request, terminal->open.sandbox_id, follow, terminal, &err);
    if (status == 0) {
        command_call_note(request, &terminal->command);
    }
    if (!terminal->gone) {
        say_why(terminal, status, &err);
    }
}

/* Takes the terminal before the client has an answer, so that of two clients the one that opens
 * later has it. Reads the command's row before both threads start, because both use it. */
static bool take(struct terminal *terminal)
{
    struct store *store = terminal->all->gateway->store;
    struct error err = ERROR_INIT;

    if (store_command_take_terminal(store, terminal->open.command_id, terminal->session, &err) <
            0 ||
        store_command_get(store, terminal->open.command_id, &terminal->command.row, &err) < 0) {
        log_error(LOG_WARN, "terminal.not_taken", &err);
        return false;
    }
    return true;
}

/* Reads the request's head, which the proxy has checked, and answers it. */
static bool upgrade(struct terminal *terminal)
{
    char *head = xcalloc(1, HEAD_MAX_BYTES + 1), key[KEY_BYTES], accept[WEBSOCKET_ACCEPT_BYTES];
    struct strbuf answer;
    size_t used = 0;
    ssize_t got = 1;
    bool whole;

    /* the client sends nothing behind it before it has our answer */
    while (head_length(head, used) == 0 && used < HEAD_MAX_BYTES && got > 0) {
        got = recv(terminal->fd, head + used, HEAD_MAX_BYTES - used, 0);
        used += got > 0 ? (size_t)got : 0;
    }
    whole =
        head_length(head, used) == used && head_value(head, "Sec-WebSocket-Key", key, sizeof(key));
    free(head);
    if (whole) {
        websocket_accept(key, accept);
        strbuf_init(&answer, MESSAGE_BYTES);
        strbuf_printf(&answer,
                      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                      "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
                      accept);
        send_bytes(terminal, &answer);
        strbuf_done(&answer);
    }
    return whole && !terminal->gone;
}

static void leave(struct terminal *terminal)
{
    struct terminals *all = terminal->all;
    struct terminal **at = &all->first;

    pthread_mutex_lock(&all->lock);
    while (*at != terminal) {
        at = &(*at)->next;
    }
    *at = terminal->next;
    all->count--;
    metric_set(&sessions, all->count);
    pthread_cond_broadcast(&all->left);
    pthread_mutex_unlock(&all->lock);
}

static void free_terminal(struct terminal *terminal)
{
    struct user_shares *users = terminal->all->gateway->users;

    close(terminal->fd);
    user_share_release(users, terminal->follower.state.user);
    user_share_release(users, terminal->reader.state.user);
    strbuf_done(&terminal->input);
    strbuf_done(&terminal->text);
    pthread_mutex_destroy(&terminal->write_lock);
}

static void *serve(void *arg)
{
    struct terminal *terminal = arg;
    pthread_attr_t attributes;
    pthread_t reader;
    bool reads = false;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (take(terminal) && upgrade(terminal)) {
        reads = pthread_create(&reader, &attributes, read_client, terminal) == 0;
        if (reads) {
            run_session(terminal);
            if (terminal->ended_ms == 0) {
                terminal->ended_ms = clock_mono_ms();
            }
            pthread_join(reader, NULL);
        }
    }
    pthread_attr_destroy(&attributes);
    log_context_clear();
    free_terminal(terminal);
    leave(terminal);
    free(terminal);
    return NULL;
}

static void init_caller(struct caller *caller, struct gateway *gateway, const char *owner)
{
    caller->request.gateway = gateway;
    caller->request.state = &caller->state;
    str_copy(caller->request.principal.subject, sizeof(caller->request.principal.subject), owner);
    id_uuid(caller->request.request_id);
    caller->state.user = user_share_hold(gateway->users, owner);
}

static struct terminal *new_terminal(struct terminals *all, const struct terminal_open *open,
                                     int fd)
{
    struct terminal *terminal = xcalloc(1, sizeof(*terminal));

    terminal->all = all;
    terminal->open = *open;
    terminal->fd = fd;
    terminal->offset = open->after;
    terminal->ping_ms = clock_mono_ms();
    terminal->input_offset = -1;
    terminal->command.begun = true;
    id_uuid(terminal->session);
    pthread_mutex_init(&terminal->write_lock, NULL);
    strbuf_init(&terminal->input, 2 * WEBSOCKET_FRAME_MAX_BYTES);
    strbuf_init(&terminal->text, TEXT_MAX_BYTES);
    init_caller(&terminal->follower, all->gateway, open->owner);
    init_caller(&terminal->reader, all->gateway, open->owner);
    return terminal;
}

/* Adds the session to the list, if there is room for it. The lock is held. */
static int enter(struct terminals *all, struct terminal *terminal, struct error *err)
{
    const int most = (int)all->gateway->config->terminals;
    int of_owner = 0;

    for (const struct terminal *other = all->first; other != NULL; other = other->next) {
        of_owner += strcmp(other->open.owner, terminal->open.owner) == 0 ? 1 : 0;
    }
    if (all->stopping || all->count >= most) {
        return error_set(err, ERR_OVERLOADED, "all terminals of this gateway are in use");
    }
    if (of_owner >= (most + 1) / 2) {
        return error_set(err, ERR_QUOTA, "all terminals that one user may have are in use");
    }
    return 0;
}

int terminals_open(struct terminals *all, const struct terminal_open *open, struct error *err)
{
    struct terminal *terminal;
    pthread_attr_t attributes;
    pthread_t thread;
    int pair[2], status;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return error_set_errno(err, ERR_LIMIT, errno, "socketpair");
    }
    (void)fcntl(pair[0], F_SETFL, O_NONBLOCK); /* the proxy's */
    terminal = new_terminal(all, open, pair[1]);
    pthread_mutex_lock(&all->lock);
    status = enter(all, terminal, err);
    if (status == 0) {
        pthread_attr_init(&attributes);
        pthread_attr_setstacksize(&attributes, STACK_BYTES);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        status = pthread_create(&thread, &attributes, serve, terminal);
        pthread_attr_destroy(&attributes);
        if (status != 0) {
            status = error_set_errno(err, ERR_LIMIT, status, "starting the thread of a terminal");
        } else {
            terminal->next = all->first;
            all->first = terminal;
            all->count++;
            metric_set(&sessions, all->count);
        }
    }
    pthread_mutex_unlock(&all->lock);
    if (status < 0) {
        close(pair[0]);
        free_terminal(terminal);
        free(terminal);
        return -1;
    }
    return pair[0];
}

struct terminals *terminals_new(struct gateway *gateway)
{
    struct terminals *all = xcalloc(1, sizeof(*all));

    all->gateway = gateway;
    pthread_mutex_init(&all->lock, NULL);
    pthread_cond_init(&all->left, NULL);
    metrics_register(&sessions);
    return all;
}

void terminals_stop(struct terminals *all)
{
    all->stopping = true;
    pthread_mutex_lock(&all->lock);
    while (all->count > 0) {
        pthread_cond_wait(&all->left, &all->lock);
    }
    pthread_mutex_unlock(&all->lock);
}

void terminals_free(struct terminals *all)
{
    pthread_cond_destroy(&all->left);
    pthread_mutex_destroy(&all->lock);
    free(all);
}
