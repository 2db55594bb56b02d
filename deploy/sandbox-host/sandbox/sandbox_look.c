/* sandbox_look - what is known of sandboxes, as copies: one, all, their lines and samples. */
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/sandbox/sandbox_table.h"

int box_get(const char *id, struct box_view *ret, struct error *err)
{
    struct box *box = table_take(id, err);

    if (box == NULL) {
        return -1;
    }
    table_lock();
    table_copy_view(box, ret);
    table_unlock();
    table_release(box);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct box_view *left = a, *right = b;

    if (left->started_ms != right->started_ms) {
        return left->started_ms < right->started_ms ? 1 : -1;
    }
    return strcmp(right->id, left->id);
}

void box_list(struct box_view **ret, size_t *ret_count)
{
    size_t count = 0, room = 0;

    table_lock();
    for (struct box *box = table_first(); box != NULL; box = box->next) {
        room++;
    }
    *ret = xcalloc(room + 1, sizeof(**ret));
    for (struct box *box = table_first(); box != NULL; box = box->next) {
        if (box->view.state == BOX_RUNNING || box->view.state == BOX_PAUSED) {
            table_copy_view(box, &(*ret)[count++]);
        }
    }
    table_unlock();
    qsort(*ret, count, sizeof(**ret), newest_first);
    *ret_count = count;
}

int box_journal(const char *id, struct journal *ret, struct error *err)
{
    struct box *box = table_take(id, err);

    if (box == NULL) {
        return -1;
    }
    table_lock();
    journal_copy(&box->journal, ret);
    table_unlock();
    table_release(box);
    return 0;
}

int box_meter(const char *id, struct meter_sample **ret, size_t *ret_count, struct error *err)
{
    struct box *box = table_take(id, err);
    struct error unmeasured = ERROR_INIT; /* then the list ends with the last one */
    struct meter_sample now;
    bool measured;

    if (box == NULL) {
        return -1;
    }
    table_lock();
    measured = box->view.state == BOX_RUNNING;
    table_unlock();
    measured = measured && meter_take(id, box->processes.init.pid, &now, &unmeasured) == 0;
    table_lock();
    if (measured) {
        meter_add(&box->meter, now);
        box->measured_ms = clock_mono_ms();
    }
    *ret_count = box->meter.count;
    *ret = xcalloc(*ret_count + 1, sizeof(**ret));
    for (size_t i = 0; i < *ret_count; i++) {
        (*ret)[i] = *meter_at(&box->meter, i);
    }
    table_unlock();
    table_release(box);
    return 0;
}
