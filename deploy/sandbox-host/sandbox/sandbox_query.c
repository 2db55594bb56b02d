/* sandbox_query - see sandbox_query.h. */
#include "deploy/sandbox-host/sandbox/sandbox_query.h"

#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/sandbox/sandbox_table.h"

int sandbox_get(const char *id, struct sandbox_view *ret, struct error *err)
{
    struct sandbox *sandbox = table_take(id, err);

    if (sandbox == NULL) {
        return -1;
    }
    table_lock();
    table_copy_view(sandbox, ret);
    table_unlock();
    table_release(sandbox);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct sandbox_view *left = a, *right = b;

    if (left->started_ms != right->started_ms) {
        return left->started_ms < right->started_ms ? 1 : -1;
    }
    return strcmp(right->id, left->id);
}

void sandbox_list(struct sandbox_view **ret, size_t *ret_count)
{
    size_t count = 0, room = 0;

    table_lock();
    for (struct sandbox *sandbox = table_first(); sandbox != NULL; sandbox = sandbox->next) {
        room++;
    }
    *ret = xcalloc(room + 1, sizeof(**ret));
    for (struct sandbox *sandbox = table_first(); sandbox != NULL; sandbox = sandbox->next) {
        if (sandbox->view.state == SANDBOX_RUNNING || sandbox->view.state == SANDBOX_PAUSED) {
            table_copy_view(sandbox, &(*ret)[count++]);
        }
    }
    table_unlock();
    qsort(*ret, count, sizeof(**ret), newest_first);
    *ret_count = count;
}

int sandbox_journal(const char *id, struct journal *ret, struct error *err)
{
    struct sandbox *sandbox = table_take(id, err);

    if (sandbox == NULL) {
        return -1;
    }
    table_lock();
    journal_copy(&sandbox->journal, ret);
    table_unlock();
    table_release(sandbox);
    return 0;
}

int sandbox_meter(const char *id, struct meter_sample **ret, size_t *ret_count, struct error *err)
{
    struct sandbox *sandbox = table_take(id, err);
    struct error unmeasured = ERROR_INIT; /* then the list ends with the last one */
    struct meter_sample now;
    bool measured;

    if (sandbox == NULL) {
        return -1;
    }
    table_lock();
    measured = sandbox->view.state == SANDBOX_RUNNING;
    table_unlock();
    measured = measured && meter_take(id, sandbox->processes.init.pid, &now, &unmeasured) == 0;
    table_lock();
    if (measured) {
        meter_add(&sandbox->meter, now);
        sandbox->measured_ms = clock_mono_ms();
    }
    *ret_count = sandbox->meter.count;
    *ret = xcalloc(*ret_count + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_count; i++) {
        (*ret)[i] = *meter_at(&sandbox->meter, i);
    }
    table_unlock();
    table_release(sandbox);
    return 0;
}
