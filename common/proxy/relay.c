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
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/proxy/head.h"

enum { RELAY_BYTES = 65536, LEAD_BYTES = 4 * HEAD_MAX_BYTES };

struct flow {
    int from, to;
    struct strbuf lead;
    size_t lead_sent;
    char *data;
    size_t start, length;
    bool ended; /* no more to read */
    bool told;  /* of a tunnel: the receiver knows */
};

struct relay {
    const struct relay_spec *spec;
    struct flow up, down; /* client -> server, server -> client */
    struct body_scan request, response;
    bool answered; /* the final head is on its way */
    bool anything; /* any byte is, or was, for the client */
    bool raw;      /* the answer is no HTTP: relayed until it ends */
    bool tunnel;   /* upgraded: bytes both ways */
    bool keep_alive;
    bool up_broken; /* the server takes no more of the request; its answer may still come */
    int64_t moved_ms;
};

static void flow_init(struct flow *flow, int from, int to)
{
    *flow = (struct flow){.from = from, .to = to, .data = xmalloc(RELAY_BYTES)};
    strbuf_init(&flow->lead, LEAD_BYTES);
}

static void flow_done(struct flow *flow)
{
    free(flow->data);
    strbuf_done(&flow->lead);
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
static ssize_t flow_read(struct flow *flow)
{
    const ssize_t n =
        recv(flow->from, flow->data + flow->start + flow->length, flow_room(flow), MSG_DONTWAIT);

    if (n > 0) {
        flow->length += (size_t)n;
        return n;
    }
    if (n == 0) {
        flow->ended = true;
        return 0;
    }
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

/* Bytes written, -1: broken. */
static ssize_t flow_write(struct flow *flow, bool lead_only)
{
    struct iovec parts[] = {
        {flow->lead.data + flow->lead_sent, flow->lead.length - flow->lead_sent},
        {flow->data + flow->start, flow->length},
    };
    struct msghdr message = {.msg_iov = parts, .msg_iovlen = lead_only ? 1 : 2};
    const ssize_t n = sendmsg(flow->to, &message, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0) {
        return errno == EAGAIN || errno == EINTR ? 0 : -1;
    }
    const size_t of_lead = (size_t)n < parts[0].iov_len ? (size_t)n : parts[0].iov_len;
    flow->lead_sent += of_lead;
    if (flow->lead_sent == flow->lead.length) {
        strbuf_reset(&flow->lead);
        flow->lead_sent = 0;
    }
    flow->start += (size_t)n - of_lead;
    flow->length -= (size_t)n - of_lead;
    if (flow->length == 0) {
        flow->start = 0; /* the whole buffer is room again */
    }
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
    return strbuf_append(relay->spec->ahead, at + taken, fresh - taken);
}

/* What came with the head. */
static int take_ahead(struct relay *relay)
{
    struct strbuf *ahead = relay->spec->ahead;

    if (relay->tunnel) {
        const size_t room = flow_room(&relay->up);
        const size_t piece = ahead->length < room ? ahead->length : room;
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
        memcpy(relay->up.data + relay->up.start + relay->up.length, ahead->data, taken);
        relay->up.length += taken;
        strbuf_consume(ahead, taken);
    }
    return 0;
}

static bool wants_client(const struct relay *relay)
{
    return !relay->up.ended && !relay->up_broken && flow_room(&relay->up) > 0 &&
           relay->spec->ahead->length == 0 && (relay->tunnel || request_unfinished(relay));
}

/* ---- the answer's way down ---- */

static void begin_answer(struct relay *relay, const char *head, int status)
{
    struct flow *down = &relay->down;
    const struct relay_spec *spec = relay->spec;
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

/* Holds the answer back until its head is whole, then rewrites it. 1xx heads go as they are. */
static int take_head(struct relay *relay)
{
    struct flow *down = &relay->down;

    while (!relay->answered && !relay->raw) {
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
        if (status == 101 && !head_has(relay->spec->head, "Upgrade")) {
            free(head);
            return -1;
        }
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
            down->length = body_scan_feed(&relay->response, down->data + down->start, down->length);
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
    const ssize_t n = flow_read(down);

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

static bool answer_is_whole(const struct relay *relay)
{
    return relay->answered && !relay->tunnel &&
           (relay->response.state == BODY_DONE ||
            (relay->response.kind == BODY_TO_END && relay->down.ended));
}

/* ---- turns ---- */

/* 1 = go on, 0 = over with *ret. */
static int verdict(struct relay *relay, enum relay_result *ret)
{
    const struct flow *up = &relay->up, *down = &relay->down;

    if (relay->tunnel) {
        *ret = RELAY_CLOSE;
        return up->ended && down->ended && flow_waiting(up) == 0 && flow_waiting(down) == 0 ? 0 : 1;
    }
    if (flow_waiting(down) > 0) {
        return 1;
    }
    if (answer_is_whole(relay)) {
        const bool next = relay->keep_alive && relay->request.state == BODY_DONE &&
                          flow_waiting(up) == 0 && !relay->up_broken;
        *ret = next ? RELAY_NEXT : RELAY_CLOSE;
        return 0;
    }
    if (!down->ended && relay->response.state != BODY_BROKEN) {
        return 1;
    }
    if (!relay->anything) {
        *ret = RELAY_UNANSWERED;
        return 0;
    }
    if (relay->raw) {
        *ret = RELAY_CLOSE;
        return 0;
    }
    *ret = RELAY_ABORT;
    return 0;
}

/* Of a tunnel: forwards the end of one side. */
static void tell_end(struct flow *flow)
{
    if (flow->ended && !flow->told && flow_waiting(flow) == 0) {
        flow->told = true;
        shutdown(flow->to, SHUT_WR);
    }
}

static int client_event(struct relay *relay, short events)
{
    struct flow *up = &relay->up;

    if ((events & (POLLERR | POLLNVAL)) != 0 || (events & (POLLHUP | POLLIN)) == POLLHUP) {
        return -1;
    }
    if ((events & POLLIN) != 0) {
        const ssize_t n = flow_read(up);
        if (n < 0 || (up->ended && !relay->tunnel)) {
            return -1;
        }
        if (n > 0 && !relay->tunnel && take_body(relay, (size_t)n) != 0) {
            return -1;
        }
    } else if ((events & POLLRDHUP) != 0) {
        return -1; /* as for every HTTP proxy, a client that ends its side has left */
    }
    return 0;
}

/* Bytes that may leave for the client now: while a final head is awaited, interim ones only. */
static size_t sendable(const struct relay *relay)
{
    const struct flow *down = &relay->down;

    return relay->answered || relay->raw ? flow_waiting(down) : down->lead.length - down->lead_sent;
}

static int send_down(struct relay *relay)
{
    if (sendable(relay) == 0) {
        relay->moved_ms = clock_mono_ms();
        return 0;
    }
    const ssize_t n = flow_write(&relay->down, !relay->answered && !relay->raw);
    if (n < 0) {
        return -1;
    }
    if (n > 0) {
        relay->moved_ms = clock_mono_ms();
    }
    return 0;
}

/* Waits for something to do. -1: the client stalled. */
static int await(const struct relay *relay, struct pollfd fds[2])
{
    const struct flow *up = &relay->up, *down = &relay->down;
    const bool has_news = sendable(relay) > 0;
    int timeout = -1;

    fds[0] = (struct pollfd){.fd = up->from};
    /* of a tunnel the end is read behind the last bytes */
    fds[0].events = (short)((wants_client(relay) ? POLLIN : 0) | (has_news ? POLLOUT : 0) |
                            (relay->tunnel ? 0 : POLLRDHUP));
    fds[1] = (struct pollfd){.fd = down->from};
    fds[1].events = (short)((!down->ended && flow_room(down) > 0 ? POLLIN : 0) |
                            (flow_waiting(up) > 0 && !relay->up_broken ? POLLOUT : 0));
    if (fds[1].events == 0) {
        fds[1].fd = -1; /* an server that has hung up would make every poll return at once */
    }
    if (has_news) {
        const int64_t left = relay->moved_ms + relay->spec->stall_ms - clock_mono_ms();
        if (left <= 0) {
            return -1;
        }
        timeout = left < INT32_MAX ? (int)left : INT32_MAX;
    } else if (relay->tunnel && down->told) {
        timeout = (int)relay->spec->stall_ms; /* told that this is over, it has no more to say */
    }
    const int ready = poll(fds, 2, timeout);
    if (ready == 0 && !has_news) {
        return -1;
    }
    if (ready < 0) {
        fds[0].revents = fds[1].revents = 0;
        return errno == EINTR ? 0 : -1;
    }
    return 0;
}

static int turn(struct relay *relay)
{
    struct flow *up = &relay->up, *down = &relay->down;
    struct pollfd fds[2];

    if (await(relay, fds) != 0 || client_event(relay, fds[0].revents) != 0) {
        return -1;
    }
    if (flow_waiting(up) > 0 && !relay->up_broken && flow_write(up, false) < 0) {
        relay->up_broken = true;
    }
    if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !down->ended &&
        flow_room(down) > 0 && take_answer(relay) != 0) {
        return -1;
    }
    if (take_ahead(relay) != 0 || send_down(relay) != 0) {
        return -1;
    }
    if (relay->tunnel) {
        tell_end(up);
        tell_end(down);
    }
    return 0;
}

enum relay_result relay_exchange(const struct relay_spec *spec)
{
    struct relay relay = {
        .spec = spec, .keep_alive = spec->keep_alive, .moved_ms = clock_mono_ms()};
    enum relay_result result = RELAY_ABORT;

    if (!body_scan_request(&relay.request, spec->head)) {
        return RELAY_REFUSED;
    }
    flow_init(&relay.up, spec->client, spec->server);
    flow_init(&relay.down, spec->server, spec->client);
    struct head_edit edit = spec->edit;
    edit.upgrade = head_has(spec->head, "Upgrade");
    edit.connection = "close";
    head_rewrite(spec->head, &edit, &relay.up.lead);
    if (!relay.up.lead.overflow && take_ahead(&relay) == 0) {
        while (verdict(&relay, &result) > 0) {
            if (turn(&relay) != 0) {
                result = RELAY_ABORT;
                break;
            }
        }
    }
    flow_done(&relay.up);
    flow_done(&relay.down);
    return result;
}
