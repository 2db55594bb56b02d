/*
 * crashpoint - named places at which a test lets a program die or freeze.
 *
 * CRASHPOINT(name) is nothing at all unless built with -DCRASHPOINTS (make CRASHPOINTS=1, which
 * is never shipped); its name must be in crashpoints.def in either build. There the environment
 * arms one of them, CRASHPOINT=<name>:<nth>:KILL|STOP: the nth time the process gets there it sends
 * itself SIGKILL or SIGSTOP. Threads: any. Failure: a setting that means nothing ends the process
 * with EXIT_CONFIG, so that no test passes because nothing happened.
 */
#ifndef BASE_CRASHPOINT_H
#define BASE_CRASHPOINT_H

enum crashpoint {
#define X(name, meaning) CRASHPOINT_##name,
#include "common/base/crashpoints.def"
#undef X
    CRASHPOINT_COUNT
};

#ifdef CRASHPOINTS
void crashpoint_reach(enum crashpoint point);
#define CRASHPOINT(name) crashpoint_reach(CRASHPOINT_##name)
#else
#define CRASHPOINT(name) ((void)CRASHPOINT_##name)
#endif

#endif
