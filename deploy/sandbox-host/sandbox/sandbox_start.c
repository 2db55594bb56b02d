/* sandbox_start - see sandbox_start.h. */
#include "deploy/sandbox-host/sandbox/sandbox_start.h"

#include "common/base/clock.h"
#include "deploy/sandbox-host/isolation/egress.h"
#include "deploy/sandbox-host/sandbox/guest.h"

static void note_output(struct box *box, const struct strbuf *output)
{
    table_lock();
    journal_add_lines(&box->journal, clock_wall_ms(), JOURNAL_INFO, output->data, output->length);
    table_unlock();
}

int sandbox_start_processes(struct box *box, const struct template *template, const char *disk,
                            const char *closed, bool connected, struct error *err)
{
    const char *token = box->view.token[0] != '\0' ? box->view.token : NULL;
    const struct userland userland = {.template_id = template->id,
                                      .root = template->root,
                                      .etc = template->etc,
                                      .envs = template->envs,
                                      .mounts = template->mounts,
                                      .user = template->user,
                                      .workdir = template->workdir};
    const struct spawn_request request = {.id = box->view.id,
                                          .userland = &userland,
                                          .access_token = token,
                                          .envs = box->view.envs,
                                          .uid = box->uid,
                                          .connected = connected,
                                          .closed = closed,
                                          .disk = disk};
    struct spawn_box processes;
    struct strbuf output;
    int status = spawn_start(&request, &processes, err);

    table_lock(); /* the warden's news are looked up by them */
    box->processes = processes;
    table_unlock();
    if (status < 0) {
        return -1;
    }
    strbuf_init(&output, GUEST_OUTPUT_BYTES);
    status = guest_bring_up(box->view.id, token, template, &output, err);
    note_output(box, &output);
    strbuf_done(&output);
    if (status < 0) {
        spawn_kill(box->view.id, &box->processes);
    }
    return status;
}

int sandbox_start_plan_network(enum box_internet internet, const cJSON *network,
                               struct strbuf *closed, bool *ret_connected, struct error *err)
{
    const struct egress_wish wish = {
        .internet = internet != BOX_INTERNET_NO,
        .allow_out = cJSON_GetObjectItemCaseSensitive(network, "allowOut"),
        .deny_out = cJSON_GetObjectItemCaseSensitive(network, "denyOut")};

    return egress_plan(&wish, closed, ret_connected, err);
}
