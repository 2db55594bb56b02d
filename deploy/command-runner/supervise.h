/*
 * supervise - the process that owns one command: starts it, stores its output, ends it at its time.
 *
 * It lives apart from whoever started it and holds the lock of the command's folder. It goes on
 * after the command's own process for as long as that left others behind, whose output it stores.
 * Owns: the command's process, its limit of running time, its stdin, its state line. Does not own:
 * who reads the output (follow.c). Failure: a supervisor that dies leaves a state that says
 * "running" and no lock, which readers take for "lost".
 */
#ifndef RUNNER_SUPERVISE_H
#define RUNNER_SUPERVISE_H

#include <stdbool.h>
#include <stdint.h>

struct supervise_options {
    const char *id;
    int64_t limit_ms; /* of running time; 0 = no limit */
    int64_t bound_bytes;
    int64_t retention_s;
    int keep;
    int rows, columns; /* of its terminal; 0 = it has none */
    bool takes_stdin;
    char *const *pieces; /* of the command's text */
    int piece_count;
};

enum { SUPERVISE_SPARES_FOLDERS = 32 };

/* 0 = started, 1 = this id was started before, -1 + errno. */
int supervise_start(const struct supervise_options *options);

#endif
