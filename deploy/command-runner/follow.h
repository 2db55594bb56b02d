/*
 * follow - hands out the output of a command as lines that carry bytes, and says how it is.
 *
 *   P PID
 *   D STREAM BYTES        then the bytes: as they are, or in base64 and a line end
 *   G BYTES               so many are not there any more
 *   S NEXT MORE STATE...  the last line: offset behind what was given, whether more is there
 *                         already, and the state as place_print_state() has it
 *   E WHY                 instead of all: unknown
 *
 * What comes before the end of the command's own process ends there, however much those that it
 * left behind print; who asks again from that offset on gets what they have printed.
 */
#ifndef RUNNER_FOLLOW_H
#define RUNNER_FOLLOW_H

#include <stdbool.h>
#include <stdint.h>

struct follow_options {
    const char *id;
    bool base64;
    int64_t after;
    int64_t wait_ms;      /* for the command's end */
    int64_t linger_ms;    /* so long for more, once there is some; -1 = all of wait_ms */
    int64_t max_bytes;    /* of output in one answer */
    int64_t behind_bytes; /* a reader further behind is put near the end; 0 = never */
};
void follow(const struct follow_options *options);
/* The line "S ..." or "E unknown". */
void follow_tell_state(const char *id);
/* Adds text to the answer; what was added is sent at the end, or when there is much. */
void follow_say(const char *text);
void follow_flush(void);

#endif
