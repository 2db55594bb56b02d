/*
 * relay - see relay.h.
 *
 * Each direction is a flow: a lead (a head we rewrote) and a buffer of RELAY_BYTES behind it. A
 * flow reads only while its buffer has room, so a receiver that stops also stops the sender,
 * through their own sockets. The server is told `Connection: close`: every exchange has its own
 * connection there, so bytes that stray behind a request or an answer cannot reach another one.
 */
#include "common/proxy/relay.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/proxy/head.h"

enum { RELAY_BYTES = 65536, LEAD_BYTES = 4 * HEAD_MAX_BYTES, TURNS = 16 };

struct flow {
    int from, to;
    struct strbuf lead;
    size_t lead_sent;
    char *data; /* NULL while nothing waits in it */
    size_t start, length;
    bool ended; /* no more to read */
    bool told;  /* of a tunnel: the receiver knows */
};

struct relay {
    struct relay_spec spec;
    struct relay_ready *client, *server;
    struct flow up, down; /* client -> server, server -> client */
    struct body_scan request, response;
    bool answered; /* the final head is on its way */
    bool anything; /* any byte is, or was, for the client */
    bool raw;      /* the answer is no HTTP: relayed until it ends */
    bool tunnel;   /* upgraded: bytes both ways */
    bool keep_alive;
    bool server_keeps; /* by its answer's head */
    bool surplus;      /* the server sent bytes behind its answer */
    bool up_broken;    /* the server takes no more of the request; its answer may still come */
    int64_t now_ms;    /* when this turn began */
    int64_t moved_ms;  /* when the client last took what waited for it */
};

void relay_buffers_done(struct relay_buffers *buffers)
{
    while (buffers->count > 0) {
        free(buffers->spare[--buffers->count]);
    }
}

static void take_buffer(struct flow *flow, struct relay_buffers *buffers)
{
    if (flow->data == NULL) {
        flow->data = buffers->count > 0 ? buffers->spare[--buffers->count] : xmalloc(RELAY_BYTES);
    }
}

static void give_buffer(struct flow *flow, struct relay_buffers *buffers)
{
    if (flow->data != NULL && buffers->count < RELAY_BUFFERS) {
        buffers->spare[buffers->count++] = flow->data;
    } else {
        free(flow->data);
    }
    flow->data = NULL;
}

static void flow_init(struct flow *flow, int from, int to)
{
    *flow = (struct flow){.from = from, .to = to};
    strbuf_init(&flow->lead, LEAD_BYTES);
}

static size_t flow_waiting(const struct flow *flow)
{
    return flow->lead.length - flow->lead_sent + flow->length;
}

static size_t flow_room(const struct flow *flow)
{
    return RELAY_BYTES - flow->start - flow->length;
}

/* Bytes read, 0 when there were none now; sets `ended`. -1: broken. */
static ssize_t flow_read(struct relay *relay, struct flow *flow, struct relay_ready *from)
{
    take_buffer(flow, relay->spec.buffers);
    const size_t room = flow_room(flow);
    const ssize_t n = recv(flow->from, flow->data + flow->start + flow->length, room, MSG_DONTWAIT);

    if (n > 0) {
        /* less than asked for was all there is: what comes later is a new edge (epoll(7)) */
        from->in = (size_t)n == room || from->ended;
        flow->length += (size_t)n;
        return n;
    }
    if (n == 0) {
        flow->ended = true;
        return 0;
    }
    from->in = errno == EINTR;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* Bytes written, -1: broken. */
static ssize_t flow_write(struct flow *flow, struct relay_ready *to, bool lead_only)
{
    struct iovec parts[] = {
        {flow->lead.data + flow->lead_sent, flow->lead.length - flow->lead_sent},
        {flow->data != NULL ? flow->data + flow->start : NULL, flow->length},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = lead_only ? 1 : 2};
    const ssize_t n = sendmsg(flow->to, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0) {
        to->out = errno == EINTR;
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    const size_t of_lead = (size_t)n < parts[0].iov_len ? (size_t)n : parts[0].iov_len;
    flow->lead_sent += of_lead;
    if (flow->lead_sent == flow->lead.length) {
        strbuf_done(&flow->lead);
        strbuf_init(&flow->lead, LEAD_BYTES);
        flow->lead_sent = 0;
    }
    flow->start += (size_t)n - of_lead;
    flow->length -= (size_t)n - of_lead;
    return n;
}

/* ---- the request's way up ---- */

static bool request_unfinished(const struct relay *relay)
{
    return relay->request.state != BODY_DONE && relay->request.state != BODY_BROKEN;
}

/* Only this request's body goes up; what follows it waits for its turn. */
static int take_body(struct relay *relay, size_t fresh)
{
    struct flow *up = &relay->up;
    const char *at = up->data + up->start + up->length - fresh;
    const size_t taken = body_scan_feed(&relay->request, at, fresh);

    if (relay->request.state == BODY_BROKEN) {
        return -1;
    }
    up->length -= fresh - taken;
    return strbuf_append(relay->spec.ahead, at + taken, fresh - taken);
}

/* What came with the head. */
static int take_ahead(struct relay *relay)
{
    struct strbuf *ahead = relay->spec.ahead;

    if (relay->tunnel) {
        const size_t room = flow_room(&relay->up);
        const size_t piece = ahead->length < room ? ahead->length : room;

        if (piece == 0) {
            return 0;
        }
        take_buffer(&relay->up, relay->spec.buffers);
        memcpy(relay->up.data + relay->up.start + relay->up.length, ahead->data, piece);
        relay->up.length += piece;
        strbuf_consume(ahead, piece);
        return 0;
    }
    while (ahead->length > 0 && request_unfinished(relay) && flow_room(&relay->up) > 0) {
        const size_t room = flow_room(&relay->up);
        const size_t piece = ahead->length < room ? ahead->length : room;
        const size_t taken = body_scan_feed(&relay->request, ahead->data, piece);

        if (relay->request.state == BODY_BROKEN) {
            return -1;
        }
        take_buffer(&relay->up, relay->spec.buffers);
        memcpy(relay->up.data + relay->up.start + relay->up.length, ahead->data, taken);
        relay->up.length += taken;
        strbuf_consume(ahead, taken);
    }
    return 0;
}

static bool wants_client(const struct relay *relay)
{
    return !relay->up.ended && !relay->up_broken && flow_room(&relay->up) > 0 &&
           relay->spec.ahead->length == 0 && (relay->tunnel || request_unfinished(relay));
}

/* ---- the answer's way down ---- */

static void begin_answer(struct relay *relay, const char *head, int status)
{
    struct flow *down = &relay->down;
    const struct relay_spec *spec = &relay->spec;
    const bool own_cors = head_has(head, "Access-Control-Allow-Origin");

    relay->answered = true;
    if (status == 101) {
        relay->tunnel = true;
        relay->keep_alive = false;
        head_rewrite(head, &(struct head_edit){.upgrade = true}, &down->lead);
        return;
    }
    body_scan_response(&relay->response, head, head_method_is(spec->head, "HEAD"));
    if (relay->response.kind == BODY_TO_END) {
        relay->keep_alive = false;
    }
    const struct head_edit edit = {.connection = relay->keep_alive ? "keep-alive" : "close",
                                   .set = own_cors ? NULL : spec->cors_lines};
    head_rewrite(head, &edit, &down->lead);
}

/* Drops what follows the answer in the last `fresh` bytes read. */
static void take_body_of_answer(struct relay *relay, size_t fresh)
{
    struct flow *down = &relay->down;
    const char *at = down->data + down->start + down->length - fresh;
    const size_t taken = body_scan_feed(&relay->response, at, fresh);

    relay->surplus = relay->surplus || taken < fresh;
    down->length -= fresh - taken;
}

/* Holds the answer back until its head is whole, then rewrites it. 1xx heads go as they are. */
static int take_head(struct relay *relay)
{
    struct flow *down = &relay->down;

    while (down->data != NULL && !relay->answered && !relay->raw) {
        const char *at = down->data + down->start;
        const size_t length = head_length(at, down->length);
        char *head;

        if (length == 0 && (down->ended ? down->length > 0 : flow_room(down) == 0)) {
            relay->raw = true;
        }
        if (length == 0) {
            break;
        }
        head = xstrndup(at, length);
        const int status = strlen(head) == length ? head_status(head) : 0;
        if (status < 100) {
            relay->raw = true;
            free(head);
            break;
        }
        const bool final = status >= 200 || status == 101;
        if (status == 101 && !head_has(relay->spec.head, "Upgrade")) {
            free(head);
            return -1;
        }
        relay->server_keeps = head[7] == '1' && !head_lists(head, "Connection", "close");
        head[7] = '1'; /* the version of who sends it, which is us */
        if (final) {
            begin_answer(relay, head, status);
        } else {
            strbuf_append(&down->lead, head, length);
        }
        free(head);
        down->start += length;
        down->length -= length;
        relay->anything = true;
        if (final && !relay->tunnel) {
            take_body_of_answer(relay, down->length);
        }
    }
    if (relay->raw) {
        relay->keep_alive = false;
        relay->anything = true;
    }
    return down->lead.overflow ? -1 : 0;
}

static int take_answer(struct relay *relay)
{
    struct flow *down = &relay->down;
    const bool was_answered = relay->answered;
    const ssize_t n = flow_read(relay, down, relay->server);

    if (n < 0) {
        down->ended = true; /* a reset says no more than an end: what came before it counts */
    }
    if (!was_answered) {
        return take_head(relay);
    }
    if (!relay->tunnel && n > 0) {
        const size_t fresh = (size_t)n;
        const size_t taken = body_scan_feed(&relay->response,
                                            down->data + down->start + down->length - fresh, fresh);
        down->length -= fresh - taken;
    }
    return 0;
}

/* Whether both messages ended where their framing says, so that the server's connection is at the
 * beginning of another exchange. */
bool relay_keeps_server(const struct relay *relay)
{
    return relay->spec.keep_server && relay->server_keeps && relay->answered && !relay->tunnel &&
           !relay->raw && !relay->surplus && relay->response.state == BODY_DONE &&
           relay->request.state == BODY_DONE && !relay->up_broken && !relay->down.ended &&
           flow_waiting(&relay->up) == 0;
}

static bool answer_is_whole(const struct relay *relay)
{
    return relay->answered && !relay->tunnel &&
           (relay->response.state == BODY_DONE ||
            (relay->response.kind == BODY_TO_END && relay->down.ended));
}

/* ---- turns ---- */

/* RELAY_WAITS: it goes on. */
static enum relay_result verdict(const struct relay *relay)
{
    const struct flow *up = &relay->up, *down = &relay->down;

    if (relay->tunnel) {
        return up->ended && down->ended && flow_waiting(up) == 0 && flow_waiting(down) == 0
                   ? RELAY_CLOSE
                   : RELAY_WAITS;
    }
    if (flow_waiting(down) > 0) {
        return RELAY_WAITS;
    }
    if (answer_is_whole(relay)) {
        return relay->keep_alive && relay->request.state == BODY_DONE && flow_waiting(up) == 0 &&
                       !relay->up_broken
                   ? RELAY_NEXT
                   : RELAY_CLOSE;
    }
    if (!down->ended && relay->response.state != BODY_BROKEN) {
        return RELAY_WAITS;
    }
    return !relay->anything ? RELAY_UNANSWERED : relay->raw ? RELAY_CLOSE : RELAY_ABORT;
}

/* Of a tunnel: forwards the end of one side. */
static void tell_end(struct flow *flow)
{
    if (flow->ended && !flow->told && flow_waiting(flow) == 0) {
        flow->told = true;
        shutdown(flow->to, SHUT_WR);
    }
}

/* 1 = something moved, 0 = nothing, -1: the client left or broke the protocol. */
static int read_client(struct relay *relay)
{
    struct flow *up = &relay->up;

    if (!wants_client(relay) || !relay->client->in) {
        /* as for every HTTP proxy, a client that ends its side has left */
        return relay->client->broken || (relay->client->ended && !relay->tunnel) ? -1 : 0;
    }
    const ssize_t n = flow_read(relay, up, relay->client);
    if (n < 0 || (up->ended && !relay->tunnel) ||
        (n > 0 && !relay->tunnel && take_body(relay, (size_t)n) != 0)) {
        return -1;
    }
    return n > 0 || up->ended;
}

/* Bytes that may leave for the client now: while a final head is awaited, interim ones only. */
static size_t sendable(const struct relay *relay)
{
    const struct flow *down = &relay->down;

    return relay->answered || relay->raw ? flow_waiting(down) : down->lead.length - down->lead_sent;
}

/* As read_client(). */
static int write_client(struct relay *relay)
{
    if (sendable(relay) == 0) {
        relay->moved_ms = relay->now_ms;
        return 0;
    }
    if (!relay->client->out) {
        return 0;
    }
    const ssize_t n = flow_write(&relay->down, relay->client, !relay->answered && !relay->raw);
    if (n > 0) {
        relay->moved_ms = relay->now_ms;
    }
    return n < 0 ? -1 : n > 0;
}

/* A server that takes no more of the request may still answer. */
static int write_server(struct relay *relay)
{
    if (flow_waiting(&relay->up) == 0 || relay->up_broken || !relay->server->out) {
        return 0;
    }
    const ssize_t n = flow_write(&relay->up, relay->server, false);
    relay->up_broken = n < 0;
    return n != 0;
}

/* As read_client(). */
static int read_server(struct relay *relay)
{
    struct flow *down = &relay->down;

    if (!relay->server->in || down->ended || flow_room(down) == 0) {
        return 0;
    }
    return take_answer(relay) != 0 ? -1 : relay->server->in || down->ended;
}

static void release_if_empty(struct flow *flow, struct relay_buffers *buffers)
{
    if (flow->length == 0) {
        flow->start = 0; /* the whole buffer is room again */
        give_buffer(flow, buffers);
    }
}

/* As read_client(). */
static int turn(struct relay *relay)
{
    const int from_client = read_client(relay);
    int moved = from_client > 0, status;

    if (from_client < 0 || take_ahead(relay) != 0) {
        return -1;
    }
    moved |= write_server(relay);
    status = read_server(relay);
    if (status < 0) {
        return -1;
    }
    moved |= status;
    if (relay->tunnel && take_ahead(relay) != 0) {
        return -1; /* what a client sent behind its upgrade */
    }
    status = write_client(relay);
    if (relay->tunnel) {
        tell_end(&relay->up);
        tell_end(&relay->down);
    }
    release_if_empty(&relay->up, relay->spec.buffers);
    release_if_empty(&relay->down, relay->spec.buffers);
    return status < 0 ? -1 : moved | status;
}

struct relay *relay_new(const struct relay_spec *spec)
{
    struct relay *relay = xcalloc(1, sizeof(*relay));
    struct head_edit edit = spec->edit;

    if (!body_scan_request(&relay->request, spec->head)) {
        free(relay);
        return NULL;
    }
    relay->spec = *spec;
    relay->keep_alive = spec->keep_alive;
    relay->now_ms = relay->moved_ms = clock_mono_ms();
    flow_init(&relay->up, spec->client, spec->server);
    flow_init(&relay->down, spec->server, spec->client);
    edit.upgrade = head_has(spec->head, "Upgrade");
    edit.connection = spec->keep_server ? "keep-alive" : "close";
    head_rewrite(spec->head, &edit, &relay->up.lead);
    return relay;
}

enum relay_result relay_run(struct relay *relay, struct relay_ready *client,
                            struct relay_ready *server)
{
    const int64_t deadline_ms = relay_deadline_ms(relay);
    enum relay_result result;

    relay->client = client;
    relay->server = server;
    relay->now_ms = clock_mono_ms();
    if (relay->up.lead.overflow) {
        return RELAY_ABORT;
    }
    for (int i = 0; i < TURNS; i++) {
        const int moved = turn(relay);

        if (moved < 0) {
            return RELAY_ABORT;
        }
        result = verdict(relay);
        if (result != RELAY_WAITS) {
            return result;
        }
        if (moved == 0) {
            return relay->now_ms >= deadline_ms ? RELAY_ABORT : RELAY_WAITS;
        }
    }
    return RELAY_MORE;
}

int64_t relay_deadline_ms(const struct relay *relay)
{
    /* a server that was told of a tunnel's end has no more to say */
    const bool bounded = sendable(relay) > 0 || (relay->tunnel && relay->down.told);

    return bounded ? relay->moved_ms + relay->spec.stall_ms : INT64_MAX;
}

bool relay_may_repeat(const struct relay *relay)
{
    return relay->request.kind == BODY_NONE;
}

void relay_free(struct relay *relay)
{
    if (relay != NULL) {
        give_buffer(&relay->up, relay->spec.buffers);
        give_buffer(&relay->down, relay->spec.buffers);
        strbuf_done(&relay->up.lead);
        strbuf_done(&relay->down.lead);
        free(relay);
    }
}
