/* process - see process.h. */
#include "deploy/sandbox-host/agent/process.h"

#include <pthread.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/agent/process_table.h"

bool process_any(void)
{
    pthread_mutex_lock(&process_table.lock);
    const bool any = process_table.processes != NULL;
    pthread_mutex_unlock(&process_table.lock);
    return any;
}

void process_kill_all(void)
{
    pthread_mutex_lock(&process_table.lock);
    for (struct process *process = process_table.processes; process != NULL;
         process = process->next) {
        process_kill(process);
    }
    pthread_mutex_unlock(&process_table.lock);
}

int process_start(const struct spawn_spec *spec, cJSON *description, const char *tag,
                  int64_t timeout_ms, struct process_sub **ret_sub, uint32_t *ret_pid,
                  struct connect_error *err)
{
    struct spawned child;
    struct error cause = ERROR_INIT;
    struct process *process = xcalloc(1, sizeof(*process));

    process->refs = 1;
    process->description = description;
    process->tag = tag != NULL ? xstrdup(tag) : NULL;
    process->pty = spec->pty;
    process->input = -1;
    pthread_mutex_init(&process->input_lock, NULL);
    if (timeout_ms >= 0) {
        process->deadline_ms = clock_mono_ms() + timeout_ms;
    }
    /* under the lock, so that the child cannot be reaped before it is in the table */
    pthread_mutex_lock(&process_table.lock);
    if (spawn(spec, &child, &cause) != 0) {
        process_unref(process);
        pthread_mutex_unlock(&process_table.lock);
        return connect_fail_from(err, CONNECT_INTERNAL, "", &cause);
    }
    process->pid = child.pid;
    process->input = child.input;
    for (int i = 0; i < 2; i++) {
        process->sources[i] = (struct source){
            .process = process,
            .fd = child.outputs[i],
            .output = spec->pty ? PROCESS_PTY
                      : i == 0  ? PROCESS_STDOUT
                                : PROCESS_STDERR,
        };
        process_source_watch(&process->sources[i], true);
    }
    process->next = process_table.processes;
    process_table.processes = process;
    *ret_pid = (uint32_t)child.pid;
    *ret_sub = process_subscriber_add(process, true);
    if (timeout_ms >= 0) { /* a pause may come before the loop has seen the new deadline */
        process_table.turn_ms = clock_mono_ms();
        process_table.turn_wait_ms = PROCESS_TICK_MS;
    }
    pthread_mutex_unlock(&process_table.lock);
    if (timeout_ms >= 0) {
        process_table_wake(); /* it may be waiting for a later deadline */
    }
    return 0;
}
