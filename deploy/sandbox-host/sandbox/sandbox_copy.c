/* sandbox_copy - see sandbox_copy.h. */
#include "deploy/sandbox-host/sandbox/sandbox_copy.h"

#include <unistd.h>

#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/disk.h"
#include "deploy/sandbox-host/isolation/image.h"
#include "deploy/sandbox-host/isolation/layers.h"
#include "deploy/sandbox-host/sandbox/sandbox_table.h"

enum { IMAGE_PATH_BYTES = SPAWN_PATH_BYTES + 16 };

bool sandbox_keeps_disks(void)
{
    return disk_mode() == DISK_IMAGE && layers_available();
}

/* Its processes are frozen, or it has none. */
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
