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

bool box_keeps_disks(void)
{
    return disk_mode() == DISK_IMAGE && layers_available();
}

/* Its processes are gone, and nobody has its disk mounted. */
static int end_processes(struct box *box, struct error *err)
{
    char image[IMAGE_PATH_BYTES];

    spawn_kill(box->view.id, &box->processes);
    if (spawn_wait_gone(box->view.id, &box->processes, err) < 0) {
        return -1;
    }
    table_lock();
    box->processes = (struct spawn_box)SPAWN_NOTHING;
    table_unlock();
    spawn_image(image, box->view.id);
    return image_wait_free(image, err);
}

int disk_alone_locked(struct box *box, struct error *err)
{
    table_lock();
    box->view.cold = true; /* first: the end of its processes is no end of it */
    table_unlock();
    if (end_processes(box, err) < 0 || spawn_keep(box->view.id, true, err) < 0) {
        return -1;
    }
    return 0;
}

int disk_alone_boot(struct box *box, struct error *err)
{
    const struct template *template;
    struct error failed = ERROR_INIT;
    struct strbuf closed;
    bool connected;
    int status;

    if (template_take(box->view.template_id, &template, &failed) < 0 &&
        template_take(box->view.base_id, &template, err) < 0) {
        return -1;
    }
    strbuf_init(&closed, CLOSED_MAX_BYTES);
    status =
        sandbox_start_plan_network(box->view.internet, box->view.network, &closed, &connected, err);
    if (status == 0) {
        status = sandbox_start_processes(box, template, "", closed.data, connected, err);
    }
    strbuf_done(&closed);
    template_release(template);
    if (status < 0) {
        failed = (struct error)ERROR_INIT;
        if (end_processes(box, &failed) < 0) {
            log_error(LOG_ERROR, "sandbox.not_ended", &failed);
        }
        return -1;
    }
    table_lock();
    box->view.cold = false;
    box->died = !spawn_alive(&box->processes); /* an end before this was nobody's to notice */
    table_unlock();
    return 0;
}

int disk_alone_adopt(struct box *box, struct error *err)
{
    if (end_processes(box, err) < 0 ||
        (!table_adopt_alone(box) && error_set(err, ERR_CONFLICT, "no user id is free") < 0)) {
        return -1;
    }
    table_lock();
    box->view.cold = true;
    table_unlock();
    return record_write(box, err);
}

int disk_alone_put_away(const char *id, struct error *err)
{
    struct box *box = table_take_locked(id, err);
    int status;

    if (box == NULL) {
        return -1;
    }
    status = box->view.cold ? 0 : disk_alone_locked(box, err);
    if (status == 0) {
        status = record_write(box, err);
    }
    if (status == 0) {
        box_note(box, JOURNAL_INFO, "sandbox.put_away", "its disk stays for the next start");
        table_set_state(box, BOX_ENDING);
        table_remove(box);
    }
    table_give_back(box);
    return status;
}

/* ---- copies ---- */

/* While nothing of it runs. */
static int copy_still(struct box *box, const char *to, struct error *err)
{
    char image[IMAGE_PATH_BYTES];
    int fd;

    spawn_image(image, box->view.id);
    if (!box->view.cold && image_sync(box->processes.init.pid, err) < 0) {
        return -1;
    }
    fd = image_copy(image, to, err);
    if (fd < 0) {
        return -1;
    }
    close(fd);
    return 0;
}

int box_copy_disk(const char *id, const char *to, struct box_view *ret, struct error *err)
{
    struct box *box = table_take_locked(id, err);
    struct error thawed = ERROR_INIT;
    bool runs;
    int status;

    if (box == NULL) {
        return -1;
    }
    if (!box_keeps_disks()) {
        table_give_back(box);
        return error_set(err, ERR_INVALID,
                         "this host's disks are no images: they cannot be copied");
    }
    runs = box->view.state == BOX_RUNNING;
    status = runs ? cgroup_freeze(id, box->processes.init.pid, true, err) : 0;
    if (status == 0) {
        status = copy_still(box, to, err);
    }
    if (runs && cgroup_freeze(id, box->processes.init.pid, false, &thawed) < 0) {
        log_error(LOG_ERROR, "sandbox.not_thawed", &thawed);
        status = status < 0 ? status : (*err = thawed, -1);
    }
    if (status == 0) {
        table_lock();
        table_copy_view(box, ret);
        table_unlock();
    }
    table_give_back(box);
    if (status == 0 && image_check(to, err) < 0) {
        box_view_done(ret);
        status = -1;
    }
    if (status < 0) {
        unlink(to);
    }
    return status;
}
