/*
 * pass - see pass.h.
 *
 * Each direction is a flow: a lead (a head we rewrote) and a buffer of PASS_BYTES behind it. A flow
 * reads only while its buffer has room, so a receiver that stops stops the sender too, through
 * their own sockets. The inside is told `Connection: close`: every exchange has its own connection
 * there, so bytes that stray behind a request or an answer cannot reach another one.
 */
#include "deploy/sandbox-host/pass.h"

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
#include "deploy/sandbox-host/head.h"

enum { PASS_BYTES = 65536, LEAD_BYTES = 4 * HEAD_MAX_BYTES };

struct flow {
    int from, to;
    struct strbuf lead;
    size_t lead_sent;
    char *data;
    size_t start, length;
    bool ended; /* no more to read */
    bool told;  /* of a tunnel: the receiver knows */
};

struct pass {
    const struct pass_spec *spec;
    struct flow up, down; /* client -> inside, inside -> client */
    struct body_scan request, response;
    bool answered; /* the final head is on its way */
    bool anything; /* any byte is, or was, for the client */
    bool raw;      /* what comes back is no HTTP: passed on until it ends */
    bool tunnel;   /* upgraded: bytes both ways */
    bool keep_alive;
    bool up_broken; /* the inside takes no more of the request; its answer may still come */
    int64_t moved_ms;
};

static void flow_init(struct flow *flow, int from, int to)
{
    *flow = (struct flow){.from = from, .to = to, .data = xmalloc(PASS_BYTES)};
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
    return PASS_BYTES - flow->start - flow->length;
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

static bool request_unfinished(const struct pass *pass)
{
    return pass->request.state != BODY_DONE && pass->request.state != BODY_BROKEN;
}

/* Only this request's body goes up; what follows it waits for its turn. */
static int take_body(struct pass *pass, size_t fresh)
{
    struct flow *up = &pass->up;
    const char *at = up->data + up->start + up->length - fresh;
    const size_t taken = body_scan_feed(&pass->request, at, fresh);

    if (pass->request.state == BODY_BROKEN) {
        return -1;
    }
    up->length -= fresh - taken;
    return strbuf_append(pass->spec->ahead, at + taken, fresh - taken);
}

/* What came with the head. */
static int take_ahead(struct pass *pass)
{
    struct strbuf *ahead = pass->spec->ahead;

    if (pass->tunnel) {
        const size_t room = flow_room(&pass->up);
        const size_t piece = ahead->length < room ? ahead->length : room;
        memcpy(pass->up.data + pass->up.start + pass->up.length, ahead->data, piece);
        pass->up.length += piece;
        strbuf_consume(ahead, piece);
        return 0;
    }
    while (ahead->length > 0 && request_unfinished(pass) && flow_room(&pass->up) > 0) {
        const size_t room = flow_room(&pass->up);
        const size_t piece = ahead->length < room ? ahead->length : room;
        const size_t taken = body_scan_feed(&pass->request, ahead->data, piece);

        if (pass->request.state == BODY_BROKEN) {
            return -1;
        }
        memcpy(pass->up.data + pass->up.start + pass->up.length, ahead->data, taken);
        pass->up.length += taken;
        strbuf_consume(ahead, taken);
    }
    return 0;
}

static bool wants_client(const struct pass *pass)
{
    return !pass->up.ended && !pass->up_broken && flow_room(&pass->up) > 0 &&
           pass->spec->ahead->length == 0 && (pass->tunnel || request_unfinished(pass));
}

/* ---- the answer's way down ---- */

static void begin_answer(struct pass *pass, const char *head, int status)
{
    struct flow *down = &pass->down;
    const struct pass_spec *spec = pass->spec;
    const bool own_cors = head_has(head, "Access-Control-Allow-Origin");

    pass->answered = true;
    if (status == 101) {
        pass->tunnel = true;
        pass->keep_alive = false;
        head_rewrite(head, true, "", NULL, "", &down->lead);
        return;
    }
    body_scan_response(&pass->response, head, head_method_is(spec->head, "HEAD"));
    if (pass->response.kind == BODY_TO_END) {
        pass->keep_alive = false;
    }
    head_rewrite(head, false, pass->keep_alive ? "keep-alive" : "close", NULL,
                 own_cors ? "" : spec->cors_lines, &down->lead);
}

/* Holds the answer back until its head is whole, then rewrites it. 1xx heads go as they are. */
static int take_head(struct pass *pass)
{
    struct flow *down = &pass->down;

    while (!pass->answered && !pass->raw) {
        const char *at = down->data + down->start;
        const size_t length = head_length(at, down->length);
        char *head;

        if (length == 0 && (down->ended ? down->length > 0 : flow_room(down) == 0)) {
            pass->raw = true;
        }
        if (length == 0) {
            break;
        }
        head = xstrndup(at, length);
        const int status = strlen(head) == length ? head_status(head) : 0;
        if (status < 100) {
            pass->raw = true;
            free(head);
            break;
        }
        const bool final = status >= 200 || status == 101;
        if (status == 101 && !head_has(pass->spec->head, "Upgrade")) {
            free(head);
            return -1;
        }
        head[7] = '1'; /* the version of who sends it, which is us */
        if (final) {
            begin_answer(pass, head, status);
        } else {
            strbuf_append(&down->lead, head, length);
        }
        free(head);
        down->start += length;
        down->length -= length;
        pass->anything = true;
        if (final && !pass->tunnel) {
            down->length = body_scan_feed(&pass->response, down->data + down->start, down->length);
        }
    }
    if (pass->raw) {
        pass->keep_alive = false;
        pass->anything = true;
    }
    return down->lead.overflow ? -1 : 0;
}

static int take_answer(struct pass *pass)
{
    struct flow *down = &pass->down;
    const bool was_answered = pass->answered;
    const ssize_t n = flow_read(down);

    if (n < 0) {
        down->ended = true; /* a reset says no more than an end: what came before it counts */
    }
    if (!was_answered) {
        return take_head(pass);
    }
    if (!pass->tunnel && n > 0) {
        const size_t fresh = (size_t)n;
        const size_t taken =
            body_scan_feed(&pass->response, down->data + down->start + down->length - fresh, fresh);
        down->length -= fresh - taken;
    }
    return 0;
}

static bool answer_is_whole(const struct pass *pass)
{
    return pass->answered && !pass->tunnel &&
           (pass->response.state == BODY_DONE ||
            (pass->response.kind == BODY_TO_END && pass->down.ended));
}

/* ---- turns ---- */

/* 1 = go on, 0 = over with *ret. */
static int verdict(struct pass *pass, enum pass_result *ret)
{
    const struct flow *up = &pass->up, *down = &pass->down;

    if (pass->tunnel) {
        *ret = PASS_CLOSE;
        return up->ended && down->ended && flow_waiting(up) == 0 && flow_waiting(down) == 0 ? 0 : 1;
    }
    if (flow_waiting(down) > 0) {
        return 1;
    }
    if (answer_is_whole(pass)) {
        const bool next = pass->keep_alive && pass->request.state == BODY_DONE &&
                          flow_waiting(up) == 0 && !pass->up_broken;
        *ret = next ? PASS_NEXT : PASS_CLOSE;
        return 0;
    }
    if (!down->ended && pass->response.state != BODY_BROKEN) {
        return 1;
    }
    if (!pass->anything) {
        *ret = PASS_UNANSWERED;
        return 0;
    }
    if (pass->raw) {
        *ret = PASS_CLOSE;
        return 0;
    }
    *ret = PASS_ABORT;
    return 0;
}

/* Of a tunnel: passes an end on. */
static void tell_end(struct flow *flow)
{
    if (flow->ended && !flow->told && flow_waiting(flow) == 0) {
        flow->told = true;
        shutdown(flow->to, SHUT_WR);
    }
}

static int client_event(struct pass *pass, short events)
{
    struct flow *up = &pass->up;

    if ((events & (POLLERR | POLLNVAL)) != 0 || (events & (POLLHUP | POLLIN)) == POLLHUP) {
        return -1;
    }
    if ((events & POLLIN) != 0) {
        const ssize_t n = flow_read(up);
        if (n < 0 || (up->ended && !pass->tunnel)) {
            return -1;
        }
        if (n > 0 && !pass->tunnel && take_body(pass, (size_t)n) != 0) {
            return -1;
        }
    } else if ((events & POLLRDHUP) != 0) {
        return -1; /* as for every HTTP proxy, a client that ends its side has left */
    }
    return 0;
}

/* Bytes that may leave for the client now: while a final head is awaited, interim ones only. */
static size_t sendable(const struct pass *pass)
{
    const struct flow *down = &pass->down;

    return pass->answered || pass->raw ? flow_waiting(down) : down->lead.length - down->lead_sent;
}

static int send_down(struct pass *pass)
{
    if (sendable(pass) == 0) {
        pass->moved_ms = clock_mono_ms();
        return 0;
    }
    const ssize_t n = flow_write(&pass->down, !pass->answered && !pass->raw);
    if (n < 0) {
        return -1;
    }
    if (n > 0) {
        pass->moved_ms = clock_mono_ms();
    }
    return 0;
}

/* Waits for something to do. -1: the client stalled. */
static int await(const struct pass *pass, struct pollfd fds[2])
{
    const struct flow *up = &pass->up, *down = &pass->down;
    const bool has_news = sendable(pass) > 0;
    int timeout = -1;

    fds[0] = (struct pollfd){.fd = up->from};
    /* of a tunnel the end is read behind the last bytes */
    fds[0].events = (short)((wants_client(pass) ? POLLIN : 0) | (has_news ? POLLOUT : 0) |
                            (pass->tunnel ? 0 : POLLRDHUP));
    fds[1] = (struct pollfd){.fd = down->from};
    fds[1].events = (short)((!down->ended && flow_room(down) > 0 ? POLLIN : 0) |
                            (flow_waiting(up) > 0 && !pass->up_broken ? POLLOUT : 0));
    if (fds[1].events == 0) {
        fds[1].fd = -1; /* an inside that has hung up would make every poll return at once */
    }
    if (has_news) {
        const int64_t left = pass->moved_ms + pass->spec->stall_ms - clock_mono_ms();
        if (left <= 0) {
            return -1;
        }
        timeout = left < INT32_MAX ? (int)left : INT32_MAX;
    } else if (pass->tunnel && down->told) {
        timeout = (int)pass->spec->stall_ms; /* told that this is over, it has no more to say */
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

static int turn(struct pass *pass)
{
    struct flow *up = &pass->up, *down = &pass->down;
    struct pollfd fds[2];

    if (await(pass, fds) != 0 || client_event(pass, fds[0].revents) != 0) {
        return -1;
    }
    if (flow_waiting(up) > 0 && !pass->up_broken && flow_write(up, false) < 0) {
        pass->up_broken = true;
    }
    if ((fds[1].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && !down->ended &&
        flow_room(down) > 0 && take_answer(pass) != 0) {
        return -1;
    }
    if (take_ahead(pass) != 0 || send_down(pass) != 0) {
        return -1;
    }
    if (pass->tunnel) {
        tell_end(up);
        tell_end(down);
    }
    return 0;
}

enum pass_result pass_exchange(const struct pass_spec *spec)
{
    struct pass pass = {.spec = spec, .keep_alive = spec->keep_alive, .moved_ms = clock_mono_ms()};
    enum pass_result result = PASS_ABORT;

    if (!body_scan_request(&pass.request, spec->head)) {
        return PASS_REFUSED;
    }
    flow_init(&pass.up, spec->client, spec->inside);
    flow_init(&pass.down, spec->inside, spec->client);
    head_rewrite(spec->head, head_has(spec->head, "Upgrade"), "close", spec->host, "",
                 &pass.up.lead);
    if (!pass.up.lead.overflow && take_ahead(&pass) == 0) {
        while (verdict(&pass, &result) > 0) {
            if (turn(&pass) != 0) {
                result = PASS_ABORT;
                break;
            }
        }
    }
    flow_done(&pass.up);
    flow_done(&pass.down);
    return result;
}
