/* sandboxes - see sandboxes.h. */
#include "deploy/sandbox-host/sandbox/sandboxes.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/sandbox/cleaner.h"
#include "deploy/sandbox-host/sandbox/deadlines.h"
#include "deploy/sandbox-host/sandbox/record.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"
#include "deploy/sandbox-host/sandbox/sandbox_copy.h"
#include "deploy/sandbox-host/sandbox/sandbox_disk.h"
#include "deploy/sandbox-host/sandbox/sandbox_query.h"
#include "deploy/sandbox-host/sandbox/sandbox_table.h"

/* The sandbox as an earlier host left it: running and thawed, or paused and frozen. Without the
 * warden that started it, it is dead or, when it is frozen, will be as soon as it is thawed. */
static int adopt(const char *id, bool warden_lives, struct error *err)
{
    struct sandbox *sandbox = xcalloc(1, sizeof(*sandbox));
    struct error gone = ERROR_INIT;
    int status;

    sandbox->processes = (struct spawn_processes)SPAWN_NOTHING;
    sandbox->references = 1; /* the table's */
    pthread_mutex_init(&sandbox->transition, NULL);
    status = record_read(id, sandbox, err);
    if (status == 0 && sandbox->view.state == SANDBOX_PAUSED && sandbox_keeps_disks() &&
        spawn_is_kept(id) &&
        (sandbox->view.cold || spawn_find(&sandbox->processes, &gone) < 0 || !warden_lives)) {
        status = disk_alone_adopt(sandbox, err);
        if (status == 0) {
            sandbox_note(sandbox, JOURNAL_INFO, "sandbox.adopted",
                         "found again, as its disk alone");
            return 0;
        }
    }
    /* the earlier host may have been killed between the freezer and the record */
    if (status < 0 || spawn_find(&sandbox->processes, err) < 0 ||
        (sandbox->view.internal && error_set(err, ERR_NOT_FOUND, "its build ended") < 0) ||
        (!warden_lives && error_set(err, ERR_NOT_FOUND, "its warden is gone") < 0) ||
        cgroup_freeze(id, sandbox->processes.init.pid, sandbox->view.state == SANDBOX_PAUSED, err) <
            0 ||
        (!table_adopt(sandbox) && error_set(err, ERR_CONFLICT, "its user id is another's") < 0)) {
        str_copy(sandbox->view.id, sizeof(sandbox->view.id), id); /* there may be no record of it */
        spawn_kill(id, &sandbox->processes);
        sandbox->references++;
        pthread_mutex_lock(&sandbox->transition);
        cleaner_end(sandbox);
        return -1;
    }
    sandbox_note(sandbox, JOURNAL_INFO, "sandbox.adopted", "found again by a restarted host");
    return 0;
}

static int adopt_all(bool warden_lives, struct error *err)
{
    char all[SPAWN_PATH_BYTES];
    struct dirent *entry;
    DIR *folder;

    spawn_dir(all, "");
    folder = opendir(all);
    if (folder == NULL) {
        return error_set_errno(err, ERR_CONFIG, errno, "%s", all);
    }
    while ((entry = readdir(folder)) != NULL) {
        struct error gone = ERROR_INIT;

        if (entry->d_name[0] != '.' && adopt(entry->d_name, warden_lives, &gone) < 0) {
            log_event(LOG_INFO, "sandbox.cleaned", LOG_S("sandbox", entry->d_name),
                      LOG_S("why", gone.message));
        }
    }
    closedir(folder);
    return 0;
}

int sandboxes_init(const struct host_config *config, int64_t first_uid, bool warden_lives,
                   struct error *err)
{
    sandbox_init(config);
    table_init(config, first_uid);
    cleaner_init();
    cgroup_thaw_killed();
    if (!warden_lives) {
        spawn_kill_strays();
    }
    if (adopt_all(warden_lives, err) < 0) {
        return -1;
    }
    return cleaner_start(err) < 0 ? -1 : deadlines_start(err);
}

void sandboxes_exited(void *arg, pid_t pid, int wait_status)
{
    (void)arg;
    (void)wait_status;
    table_lock();
    for (struct sandbox *sandbox = table_first(); sandbox != NULL; sandbox = sandbox->next) {
        if (sandbox->processes.wrapper.pid == pid && !sandbox->view.cold) {
            sandbox->died = true; /* the deadlines do the rest */
        }
    }
    table_unlock();
}

void sandboxes_done(void)
{
    struct error ignored = ERROR_INIT; /* somebody else ended it first */
    struct sandbox_view *views;
    size_t count;

    deadlines_stop();
    sandbox_list(&views, &count);
    for (size_t i = 0; i < count; i++) {
        if (views[i].state != SANDBOX_PAUSED || !sandbox_keeps_disks() ||
            disk_alone_put_away(views[i].id, &ignored) < 0) {
            (void)!sandbox_kill(views[i].id, &ignored);
        }
        sandbox_view_done(&views[i]);
    }
    free(views);
    cleaner_drain();
    table_done();
}
