/* process_stop - see process_stop.h. */
#include "deploy/sandbox-host/isolation/process_stop.h"

#include <ctype.h>
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/clock.h"
#include "deploy/sandbox-host/isolation/kernel_file.h"

enum { STOP_ROUNDS = 200 };

static ino_t pid_namespace(pid_t pid)
{
    char path[64];
    struct stat status;

    snprintf(path, sizeof(path), "/proc/%ld/ns/pid", (long)pid);
    return stat(path, &status) == 0 ? status.st_ino : 0;
}

static bool is_stopped(pid_t pid)
{
    char folder[64], text[512];
    const char *after_name;

    snprintf(folder, sizeof(folder), "/proc/%ld", (long)pid);
    if (kernel_file_read(folder, "stat", text, sizeof(text)) < 0 ||
        (after_name = strrchr(text, ')')) == NULL) {
        return true; /* gone */
    }
    return strchr("TtZX", after_name[2]) != NULL;
}

/* Signals every process of the namespace; returns how many were not stopped yet. */
static int signal_namespace(ino_t namespace, int signal)
{
    DIR *proc = opendir("/proc");
    struct dirent *entry;
    int moving = 0;

    if (proc == NULL) {
        return -1;
    }
    while ((entry = readdir(proc)) != NULL) {
        pid_t pid =
            isdigit((unsigned char)entry->d_name[0]) ? (pid_t)strtol(entry->d_name, NULL, 10) : 0;

        if (pid > 0 && pid_namespace(pid) == namespace) {
            if (signal == SIGCONT || !is_stopped(pid)) {
                moving += signal == SIGSTOP;
                kill(pid, signal);
            }
        }
    }
    closedir(proc);
    return moving;
}

/* A process may fork during a round: repeat until a round finds every process stopped. */
int process_stop(pid_t init_pid, bool stopped, struct error *err)
{
    ino_t namespace = pid_namespace(init_pid);

    if (namespace == 0) {
        return error_set(err, ERR_INTERNAL, "the sandbox's processes are gone");
    }
    if (!stopped) {
        return signal_namespace(namespace, SIGCONT) < 0
                   ? error_set(err, ERR_INTERNAL, "/proc cannot be read")
                   : 0;
    }
    for (int round = 0; round < STOP_ROUNDS; round++) {
        int moving = signal_namespace(namespace, SIGSTOP);

        if (moving <= 0) {
            return moving < 0 ? error_set(err, ERR_INTERNAL, "/proc cannot be read") : 0;
        }
        clock_sleep_ms(1);
    }
    return error_set(err, ERR_INTERNAL, "the sandbox's processes did not stop");
}
