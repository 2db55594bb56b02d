/* sandbox_disk - see sandbox_disk.h. */
#include "deploy/sandbox-host/sandbox/sandbox_disk.h"

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/image.h"
#include "deploy/sandbox-host/sandbox/record.h"
#include "deploy/sandbox-host/sandbox/sandbox_start.h"

enum { CLOSED_MAX_BYTES = 96 * 1024, IMAGE_PATH_BYTES = SPAWN_PATH_BYTES + 16 };

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
