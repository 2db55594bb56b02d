/* follow - see follow.h. */
#include "deploy/command-runner/follow.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#include "deploy/command-runner/control.h"
#include "deploy/command-runner/place.h"
#include "deploy/command-runner/spool.h"

enum {
    PIECE_BYTES = 49152, /* divides by 3 */
    ANSWER_BYTES = 2 * PIECE_BYTES + 4096,
    LOOK_MS = 250, /* where no event tells of a change */
    TAIL_BYTES = 512 * 1024,
    START_MS = 5000,
};

static char answer[ANSWER_BYTES];
static size_t answer_bytes;

void follow_flush(void)
{
    size_t sent = 0;

    while (sent < answer_bytes) {
        ssize_t wrote = write(STDOUT_FILENO, answer + sent, answer_bytes - sent);

        if (wrote < 0 && errno == EAGAIN) {
            struct pollfd ready = {.fd = STDOUT_FILENO, .events = POLLOUT};

            (void)poll(&ready, 1, -1);
        } else if (wrote < 0 && errno != EINTR) {
            _exit(1); /* nobody reads it */
        }
        sent += wrote > 0 ? (size_t)wrote : 0;
    }
    answer_bytes = 0;
}

static void add(const char *data, size_t bytes)
{
    if (answer_bytes + bytes > sizeof(answer)) {
        follow_flush();
    }
    memcpy(answer + answer_bytes, data, bytes);
    answer_bytes += bytes;
}

void follow_say(const char *text)
{
    add(text, strlen(text));
}

static void add_base64(const char *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static char text[PIECE_BYTES / 3 * 4 + 8];
    size_t used = 0;

    for (size_t i = 0; i < bytes; i += 3) {
        const unsigned char *at = (const unsigned char *)data + i;
        const unsigned second = i + 1 < bytes ? at[1] : 0, third = i + 2 < bytes ? at[2] : 0;
        const unsigned bits = (unsigned)at[0] << 16 | second << 8 | third;

        text[used++] = digits[bits >> 18];
        text[used++] = digits[bits >> 12 & 63];
        text[used++] = i + 1 < bytes ? digits[bits >> 6 & 63] : '=';
        text[used++] = i + 2 < bytes ? digits[bits & 63] : '=';
    }
    text[used++] = '\n';
    add(text, used);
}

static void put_piece(const struct follow_options *options, const struct spool_piece *piece,
                      const char *data)
{
    char line[64];

    if (piece->gap > 0) {
        snprintf(line, sizeof(line), "G %lld\n", (long long)piece->gap);
        follow_say(line);
        return;
    }
    snprintf(line, sizeof(line), "D %d %zu\n", piece->stream, piece->bytes);
    follow_say(line);
    if (options->base64) {
        add_base64(data, piece->bytes);
    } else {
        add(data, piece->bytes);
    }
}

/* False when no such command is known. Waits a moment for one that has just begun. */
static bool look(const char *id, struct command_state *ret)
{
    const int64_t until_ms = place_mono_ms() + START_MS;
    bool alive, told;

    do {
        alive = place_is_locked(id);
        told = place_read_state(id, ret) == 0; /* behind the look at the lock */
        if (told || !alive) {
            break;
        }
        (void)poll(NULL, 0, 1);
    } while (place_mono_ms() < until_ms);
    if (!told && !place_exists(id)) {
        return false;
    }
    if (!told) {
        *ret = (struct command_state){.phase = PHASE_LOST, .end_offset = 0};
    } else if (!alive && ret->phase == PHASE_RUNNING) {
        ret->phase = PHASE_LOST;
        ret->end_offset = spool_end(id);
    }
    if (!alive) {
        ret->background = false;
    }
    return true;
}

static void put_state(const struct command_state *state, int64_t next, bool more)
{
    char line[PLACE_STATE_MAX_BYTES + 64];
    int length = snprintf(line, sizeof(line), "S %lld %d ", (long long)next, more ? 1 : 0);

    (void)place_print_state(state, line + length, sizeof(line) - (size_t)length);
    follow_say(line);
    follow_say("\n");
}

void follow_tell_state(const char *id)
{
    struct command_state state;

    char told[CONTROL_ANSWER_BYTES];

    if (look(id, &state) && state.phase == PHASE_RUNNING &&
        control_ask(id, "Q\n", "", 0, told) == 0) { /* which knows how much has come so far */
        char line[CONTROL_ANSWER_BYTES + 64];

        snprintf(line, sizeof(line), "S %lld 0 %s\n", (long long)spool_end(id), told + 3);
        follow_say(line);
    } else if (look(id, &state)) {
        put_state(&state, spool_end(id), false);
    } else {
        follow_say("E unknown\n");
    }
}

static void wait_for_change(int fd, int64_t ms)
{
    char events[4096];
    struct pollfd ready = {.fd = fd, .events = POLLIN};

    ms = ms < 0 ? 0 : ms > LOOK_MS ? LOOK_MS : ms;
    if (poll(&ready, 1, (int)ms) > 0) {
        (void)!read(fd, events, sizeof(events)); /* which they are does not matter */
    }
}

/* A reader who is far behind and wants no more than the end is put near it. */
static void skip_ahead(struct spool_reader *reader, const struct follow_options *options)
{
    int64_t end;

    if (options->behind_bytes == 0 || reader->at < options->behind_bytes / 2) {
        return; /* the beginning is wanted, too */
    }
    end = spool_end(options->id);
    if (end - reader->at > options->behind_bytes) {
        const struct spool_piece piece = {.gap = end - TAIL_BYTES - reader->at};

        put_piece(options, &piece, NULL);
        spool_reader_done(reader);
        spool_reader_init(reader, options->id, end - TAIL_BYTES);
    }
}

/* Gives what is there, up to `limit`; returns the bytes given. */
static int64_t give(struct spool_reader *reader, const struct follow_options *options,
                    int64_t limit, int64_t most)
{
    static char data[PIECE_BYTES];
    int64_t given = 0;

    while (reader->at < limit && given < most) {
        int64_t room = limit - reader->at < PIECE_BYTES ? limit - reader->at : PIECE_BYTES;
        struct spool_piece piece;

        if (spool_read(reader, data, (size_t)room, &piece) == 0) {
            break;
        }
        if (piece.gap > 0 && reader->at > limit) {
            piece.gap -= reader->at - limit;
            reader->at = limit;
        }
        put_piece(options, &piece, data);
        given += (int64_t)piece.bytes;
    }
    return given;
}

void follow(const struct follow_options *options)
{
    const int64_t begin_ms = place_mono_ms();
    int64_t given = 0, some_ms = 0, skipped_at = 0;
    struct spool_reader reader;
    struct command_state state;
    char folder[PLACE_BYTES];
    int watch = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    bool told_pid = false;

    place_path(folder, options->id, "");
    (void)inotify_add_watch(watch, folder, IN_MODIFY | IN_CREATE | IN_MOVED_TO);
    spool_reader_init(&reader, options->id, options->after);
    for (;;) {
        int64_t now_ms, passed_ms, limit = INT64_MAX, more;
        bool ended;

        if (!look(options->id, &state)) {
            follow_say("E unknown\n");
            break;
        }
        if (!told_pid && state.pid > 0) {
            char line[32];

            snprintf(line, sizeof(line), "P %d\n", (int)state.pid);
            follow_say(line);
            told_pid = true;
        }
        ended = state.phase != PHASE_RUNNING;
        if (ended && reader.at < state.end_offset) {
            limit = state.end_offset;
        }
        if (given - skipped_at >= TAIL_BYTES || given == 0) {
            skip_ahead(&reader, options);
            skipped_at = given;
        }
        more = options->max_bytes - given;
        more = give(&reader, options, limit, more < TAIL_BYTES ? more : TAIL_BYTES);
        given += more;
        if (ended && limit != INT64_MAX && reader.at < limit && more == 0) {
            const struct spool_piece piece = {.gap =
                                                  limit - reader.at}; /* it could not be stored */

            put_piece(options, &piece, NULL);
            reader.at = limit;
        }
        now_ms = place_mono_ms();
        some_ms = given > 0 && some_ms == 0 ? now_ms : some_ms;
        passed_ms = now_ms - begin_ms;
        if ((ended && (limit == INT64_MAX || reader.at >= limit)) || given >= options->max_bytes ||
            passed_ms >= options->wait_ms ||
            (options->linger_ms >= 0 && some_ms > 0 && now_ms - some_ms >= options->linger_ms)) {
            put_state(&state, reader.at, given >= options->max_bytes);
            break;
        }
        follow_flush();
        if (more == 0) {
            int64_t wait_ms = options->wait_ms - passed_ms;

            if (options->linger_ms >= 0 && some_ms > 0 &&
                some_ms + options->linger_ms - now_ms < wait_ms) {
                wait_ms = some_ms + options->linger_ms - now_ms;
            }
            wait_for_change(watch, wait_ms);
        }
    }
    spool_reader_done(&reader);
    /* before the watch goes: the kernel closes one only after a grace period, some 10 ms */
    follow_flush();
    close(watch);
}
