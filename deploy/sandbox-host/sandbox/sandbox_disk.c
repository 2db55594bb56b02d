/*
 * sandbox_disk - sandboxes that are a disk alone: paused without memory, or left over by a host
 * that ended or a machine that stopped; and copies of disks.
 *
 * A resumed one boots anew over its disk: new processes, a new boot id, the template's start
 * command again. Its layers are ID-mapped, so it may get another user id than it had.
 */
#include "deploy/sandbox-host/sandbox/sandbox_disk.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/disk.h"
#include "deploy/sandbox-host/isolation/image.h"
#include "deploy/sandbox-host/isolation/layers.h"
#include "deploy/sandbox-host/sandbox/record.h"
#include "deploy/sandbox-host/sandbox/sandbox_start.h"

enum { CLOSED_MAX_BYTES = 96 * 1024, IMAGE_PATH_BYTES = SPAWN_PATH_BYTES + 16 };

bool sandbox_keeps_disks(void)
{
    return disk_mode() == DISK_IMAGE && layers_available();
}

/* Its processes are gone, and nobody has its disk mounted. */
static int end_processes(struct sandbox *sandbox, struct error *err)
{
    char image[IMAGE_PATH_BYTES];

    spawn_kill(sandbox->view.id, &sandbox->processes);
    if (spawn_wait_gone(sandbox->view.id, &sandbox->processes, err) < 0) {
        return -1;
    }
    table_lock();
    sandbox->processes = (struct spawn_processes)SPAWN_NOTHING;
    table_unlock();
    spawn_image(image, sandbox->view.id);
    return image_wait_free(image, err);
}

int disk_alone_locked(struct sandbox *sandbox, struct error *err)
{
    table_lock();
    sandbox->view.cold = true; /* first: the end of its processes is no end of it */
    table_unlock();
    if (end_processes(sandbox, err) < 0 || spawn_keep(sandbox->view.id, true, err) < 0) {
        return -1;
    }
    return 0;
}

int disk_alone_boot(struct sandbox *sandbox, struct error *err)
{
    const struct template *template;
    struct error failed = ERROR_INIT;
    struct strbuf closed;
    bool connected;
    int status;

    if (template_take(sandbox->view.template_id, &template, &failed) < 0 &&
        template_take(sandbox->view.base_id, &template, err) < 0) {
        return -1;
    }
    strbuf_init(&closed, CLOSED_MAX_BYTES);
    status = sandbox_start_plan_network(sandbox->view.internet, sandbox->view.network, &closed,
                                        &connected, err);
    if (status == 0) {
        status = sandbox_start_processes(sandbox, template, "", closed.data, connected, err);
    }
    strbuf_done(&closed);
    template_release(template);
    if (status < 0) {
        failed = (struct error)ERROR_INIT;
        if (end_processes(sandbox, &failed) < 0) {
            log_error(LOG_ERROR, "sandbox.not_ended", &failed);
        }
        return -1;
    }
    table_lock();
    sandbox->view.cold = false;
    sandbox->died =
        !spawn_alive(&sandbox->processes); /* an end before this was nobody's to notice */
    table_unlock();
    return 0;
}

int disk_alone_adopt(struct sandbox *sandbox, struct error *err)
{
    if (end_processes(sandbox, err) < 0 ||
        (!table_adopt_alone(sandbox) && error_set(err, ERR_CONFLICT, "no user id is free") < 0)) {
        return -1;
    }
    table_lock();
    sandbox->view.cold = true;
    table_unlock();
    return record_write(sandbox, err);
}

int disk_alone_put_away(const char *id, struct error *err)
{
    struct sandbox *sandbox = table_take_locked(id, err);
    int status;

    if (sandbox == NULL) {
        return -1;
    }
    status = sandbox->view.cold ? 0 : disk_alone_locked(sandbox, err);
    if (status == 0) {
        status = record_write(sandbox, err);
    }
    if (status == 0) {
        sandbox_note(sandbox, JOURNAL_INFO, "sandbox.put_away",
                     "its disk stays for the next start");
        table_set_state(sandbox, SANDBOX_ENDING);
        table_remove(sandbox);
    }
    table_give_back(sandbox);
    return status;
}

/* ---- copies ---- */

/* While nothing of it runs. */
static int copy_still(struct sandbox *sandbox, const char *to, struct error *err)
{
    char image[IMAGE_PATH_BYTES];
    int fd;

    spawn_image(image, sandbox->view.id);
    if (!sandbox->view.cold && image_sync(sandbox->processes.init.pid, err) < 0) {
        return -1;
    }
    fd = image_copy(image, to, err);
    if (fd < 0) {
        return -1;
    }
    close(fd);
    return 0;
}

int sandbox_copy_disk(const char *id, const char *to, struct sandbox_view *ret, struct error *err)
{
    struct sandbox *sandbox = table_take_locked(id, err);
    struct error thawed = ERROR_INIT;
    bool runs;
    int status;

    if (sandbox == NULL) {
        return -1;
    }
    if (!sandbox_keeps_disks()) {
        table_give_back(sandbox);
        return error_set(err, ERR_INVALID,
                         "this host's disks are no images: they cannot be copied");
    }
    runs = sandbox->view.state == SANDBOX_RUNNING;
    status = runs ? cgroup_freeze(id, sandbox->processes.init.pid, true, err) : 0;
    if (status == 0) {
        status = copy_still(sandbox, to, err);
    }
    if (runs && cgroup_freeze(id, sandbox->processes.init.pid, false, &thawed) < 0) {
        log_error(LOG_ERROR, "sandbox.not_thawed", &thawed);
        status = status < 0 ? status : (*err = thawed, -1);
    }
    if (status == 0) {
        table_lock();
        table_copy_view(sandbox, ret);
        table_unlock();
    }
    table_give_back(sandbox);
    if (status == 0 && image_check(to, err) < 0) {
        sandbox_view_done(ret);
        status = -1;
    }
    if (status < 0) {
        unlink(to);
    }
    return status;
}
