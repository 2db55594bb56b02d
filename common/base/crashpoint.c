/* crashpoint - see crashpoint.h. Empty in every build that we ship. */
#include "common/base/crashpoint.h"

#ifdef CRASHPOINTS

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/service.h"

static const char *const names[CRASHPOINT_COUNT] = {
#define X(name, meaning) [CRASHPOINT_##name] = #name,
#include "common/base/crashpoints.def"
#undef X
};

static struct {
    enum crashpoint point; /* CRASHPOINT_COUNT = none */
    long nth;
    int signal;
    atomic_long reached;
} armed = {.point = CRASHPOINT_COUNT};

static pthread_once_t once = PTHREAD_ONCE_INIT;

static enum crashpoint find(const char *name, size_t length)
{
    int point = 0;

    while (point < CRASHPOINT_COUNT &&
           (strlen(names[point]) != length || strncmp(names[point], name, length) != 0)) {
        point++;
    }
    return (enum crashpoint)point;
}

static void arm(void)
{
    const char *setting = getenv("CRASHPOINT");
    const char *count, *action = NULL;
    char *end;

    if (setting == NULL) {
        return;
    }
    count = strchr(setting, ':');
    if (count != NULL) {
        armed.point = find(setting, (size_t)(count - setting));
        armed.nth = strtol(count + 1, &end, 10);
        action = end;
    }
    if (action != NULL && strcmp(action, ":KILL") == 0) {
        armed.signal = SIGKILL;
    } else if (action != NULL && strcmp(action, ":STOP") == 0) {
        armed.signal = SIGSTOP;
    }
    if (armed.point == CRASHPOINT_COUNT || armed.nth < 1 || armed.signal == 0) {
        log_event(LOG_ERROR, "crashpoint.unknown", LOG_S("setting", setting));
        _exit(EXIT_CONFIG);
    }
}

void crashpoint_reach(enum crashpoint point)
{
    pthread_once(&once, arm);
    if (point == armed.point && atomic_fetch_add(&armed.reached, 1) + 1 == armed.nth) {
        log_event(LOG_WARN, "crashpoint.reached", LOG_S("point", names[point]));
        raise(armed.signal);
    }
}

#endif
