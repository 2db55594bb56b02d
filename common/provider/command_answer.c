/* command_answer - see command_answer.h. */
#include "common/provider/command_answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/encode.h"
#include "common/provider/text.h"

enum { LINE_MAX_BYTES = 96 * 1024, PIECE_MAX_BYTES = 64 * 1024 };

static const char *const phase_names[COMMAND_PHASE_COUNT] = {"running", "exited", "timed_out",
                                                             "killed", "lost"};

void command_answer_init(struct command_answer *answer)
{
    strbuf_init(&answer->line, LINE_MAX_BYTES);
    strbuf_init(&answer->decoded, PIECE_MAX_BYTES);
}

void command_answer_done(struct command_answer *answer)
{
    strbuf_done(&answer->line);
    strbuf_done(&answer->decoded);
}

static int unusable(struct error *err)
{
    return error_set(err, ERR_PROVIDER, "command: unusable answer");
}

static void give(struct command_answer *answer, const char *data, size_t bytes)
{
    answer->status->next += (int64_t)bytes;
    answer->progress = true;
    if (answer->on_output != NULL && !answer->stopped &&
        answer->on_output(answer->arg, answer->stream == 2 ? EXEC_STDERR : EXEC_STDOUT, data, bytes,
                          answer->status->next) != 0) {
        answer->stopped = true;
        answer->status->left = true;
    }
}

/* "NEXT MORE PHASE PID CODE SIGNAL BACKGROUND END OUT ERR STARTED ENDED RAN [SURVIVOR...]" */
static int take_state(struct command_answer *answer, const char *text, struct error *err)
{
    struct command_status *status = answer->status;
    long long next, pid, end, out, errors, started, ended, ran;
    int more, background, used = 0, phase = 0;
    char name[16], *behind;

    if (sscanf(text, "%lld %d %15s %lld %d %d %d %lld %lld %lld %lld %lld %lld%n", &next, &more,
               name, &pid, &status->exit_code, &status->signal, &background, &end, &out, &errors,
               &started, &ended, &ran, &used) != 13) {
        return unusable(err);
    }
    while (phase < COMMAND_PHASE_COUNT && strcmp(name, phase_names[phase]) != 0) {
        phase++;
    }
    if (phase == COMMAND_PHASE_COUNT || next < status->next || status->exit_code < 0 ||
        status->exit_code > 255) {
        return unusable(err);
    }
    status->phase = (enum command_phase)phase;
    status->next = next;
    status->more = more != 0;
    status->pid = pid;
    status->background_processes = background != 0;
    status->end_offset = end;
    status->out_bytes = out;
    status->err_bytes = errors;
    status->started_ms = started;
    status->ended_ms = ended;
    status->ran_ms = ran;
    status->survivor_count = 0;
    for (const char *at = text + used; status->survivor_count < EXEC_SURVIVORS_MAX; at = behind) {
        pid = strtoll(at, &behind, 10);
        if (behind == at) {
            break;
        }
        status->survivors[status->survivor_count++] = pid;
    }
    answer->end = COMMAND_ANSWER_STATE;
    return 0;
}

static int take_bytes(struct command_answer *answer, struct error *err)
{
    strbuf_reset(&answer->decoded);
    if (decode_base64(&answer->decoded, answer->line.data, answer->line.length, err) != 0 ||
        (int64_t)answer->decoded.length != answer->due) {
        return unusable(err);
    }
    answer->due = 0;
    give(answer, answer->decoded.data, answer->decoded.length);
    return 0;
}

static void end_with(struct command_answer *answer, enum command_answer_end end, const char *text)
{
    answer->end = end;
    provider_clean_text(answer->text, sizeof(answer->text), text, strlen(text), NULL, 0);
}

static int take_line(struct command_answer *answer, struct error *err)
{
    const char *line = answer->line.data;
    long long bytes;

    if (!answer->begun) {
        answer->begun = strncmp(line, "@@", 2) == 0 && strcmp(line + 2, answer->id) == 0;
        if (strcmp(line, "@@missing") == 0) {
            answer->end = COMMAND_ANSWER_MISSING;
        } else if (strcmp(line, "@@unusable") == 0) {
            answer->end = COMMAND_ANSWER_UNUSABLE;
        }
        return 0;
    }
    if (answer->due > 0) {
        return take_bytes(answer, err);
    }
    switch (line[0]) {
    case 'P':
        answer->status->pid = strtoll(line + 1, NULL, 10);
        return 0;
    case 'D':
        if (sscanf(line + 1, "%d %lld", &answer->stream, &bytes) != 2 || bytes <= 0 ||
            bytes > PIECE_MAX_BYTES) {
            return unusable(err);
        }
        answer->due = bytes;
        return 0;
    case 'G':
        bytes = strtoll(line + 1, NULL, 10);
        if (bytes <= 0) {
            return unusable(err);
        }
        give(answer, NULL, (size_t)bytes);
        return 0;
    case 'S':
        return take_state(answer, line + 1, err);
    case 'A':
        end_with(answer, COMMAND_ANSWER_DONE, line + 1);
        return 0;
    case 'N':
        end_with(answer, COMMAND_ANSWER_REFUSED, line + 1 + strspn(line + 1, " "));
        return 0;
    case 'W':
        end_with(answer, COMMAND_ANSWER_NO_CWD, line + 1 + strspn(line + 1, " "));
        return 0;
    case 'E':
        end_with(answer,
                 strcmp(line, "E unknown") == 0 ? COMMAND_ANSWER_UNKNOWN : COMMAND_ANSWER_FAILED,
                 line + 1 + strspn(line + 1, " "));
        return 0;
    default:
        return 0; /* of a later runner */
    }
}

int command_answer_feed(struct command_answer *answer, const char *data, size_t bytes,
                        struct error *err)
{
    while (bytes > 0 && answer->end == COMMAND_ANSWER_NONE && !answer->stopped) {
        size_t taken;

        if (answer->due > 0 && !answer->base64) {
            taken = (int64_t)bytes < answer->due ? bytes : (size_t)answer->due;
            answer->due -= (int64_t)taken;
            give(answer, data, taken);
        } else {
            const char *end = memchr(data, '\n', bytes);

            taken = end != NULL ? (size_t)(end - data) + 1 : bytes;
            strbuf_append(&answer->line, data, end != NULL ? taken - 1 : taken);
            if (answer->line.overflow) {
                return unusable(err);
            }
            if (end != NULL) {
                if (take_line(answer, err) != 0) {
                    return -1;
                }
                strbuf_reset(&answer->line);
            }
        }
        data += taken;
        bytes -= taken;
    }
    return answer->end != COMMAND_ANSWER_NONE || answer->stopped ? 1 : 0;
}
