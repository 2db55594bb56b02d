/* sandbox_start - see sandbox_start.h. */
#include "deploy/sandbox-host/sandbox/sandbox_start.h"

#include "common/base/clock.h"
#include "deploy/sandbox-host/isolation/egress.h"
#include "deploy/sandbox-host/sandbox/agent_client.h"

static void note_output(struct sandbox *sandbox, const struct strbuf *output)
{
    table_lock();
    journal_add_lines(&sandbox->journal, clock_wall_ms(), JOURNAL_INFO, output->data,
                      output->length);
    table_unlock();
}

int sandbox_start_processes(struct sandbox *sandbox, const struct template *template,
                            const char *disk, const char *closed, bool connected, struct error *err)
{
    const char *token = sandbox->view.token[0] != '\0' ? sandbox->view.token : NULL;
    const struct userland userland = {.template_id = template->id,
                                      .root = template->root,
                                      .etc = template->etc,
                                      .envs = template->envs,
                                      .mounts = template->mounts,
                                      .user = template->user,
                                      .workdir = template->workdir};
    const struct spawn_request request = {.id = sandbox->view.id,
                                          .userland = &userland,
                                          .access_token = token,
                                          .envs = sandbox->view.envs,
                                          .uid = sandbox->uid,
                                          .connected = connected,
                                          .closed = closed,
                                          .disk = disk};
    struct spawn_processes processes;
    struct strbuf output;
    int status = spawn_start(&request, &processes, err);

    table_lock(); /* the warden's news are looked up by them */
    sandbox->processes = processes;
    table_unlock();
    if (status < 0) {
        return -1;
    }
    strbuf_init(&output, AGENT_CLIENT_OUTPUT_BYTES);
    status = agent_client_bring_up(sandbox->view.id, token, template, &output, err);
    note_output(sandbox, &output);
    strbuf_done(&output);
    if (status < 0) {
        spawn_kill(sandbox->view.id, &sandbox->processes);
    }
    return status;
}

int sandbox_start_plan_network(enum sandbox_internet internet, const cJSON *network,
                               struct strbuf *closed, bool *ret_connected, struct error *err)
{
    const struct egress_request request = {
        .internet = internet != SANDBOX_INTERNET_NO,
        .allow_out = cJSON_GetObjectItemCaseSensitive(network, "allowOut"),
        .deny_out = cJSON_GetObjectItemCaseSensitive(network, "denyOut")};

    return egress_plan(&request, closed, ret_connected, err);
}
