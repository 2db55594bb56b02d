/* sandbox - see sandbox.h. */
#include "deploy/sandbox-host/sandbox/sandbox.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/egress.h"
#include "deploy/sandbox-host/isolation/image.h"
#include "deploy/sandbox-host/sandbox/cleaner.h"
#include "deploy/sandbox-host/sandbox/record.h"
#include "deploy/sandbox-host/sandbox/sandbox_copy.h"
#include "deploy/sandbox-host/sandbox/sandbox_disk.h"
#include "deploy/sandbox-host/sandbox/sandbox_start.h"
#include "deploy/sandbox-host/sandbox/sandbox_table.h"
#include "deploy/sandbox-host/sandbox/template.h"

enum { TOKEN_BYTES = 32, TRAFFIC_RESUME_MS = 300000, CLOSED_MAX_BYTES = 96 * 1024 };

static const struct host_config *config;

void sandbox_init(const struct host_config *host_config)
{
    config = host_config;
}

static int check_timeout(int64_t timeout_ms, struct error *err)
{
    if (timeout_ms <= 0) {
        return error_set(err, ERR_INVALID, "Timeout must be greater than 0");
    }
    if (timeout_ms > config->max_timeout_s * 1000) {
        return error_set(err, ERR_INVALID, "Timeout cannot be greater than %lld hours",
                         (long long)config->max_timeout_s / 3600);
    }
    return 0;
}

/* ---- create ---- */

static void make_token(char out[SANDBOX_TEXT_BYTES])
{
    unsigned char token[TOKEN_BYTES];

    randombytes_buf(token, sizeof(token));
    sodium_bin2hex(out, SANDBOX_TEXT_BYTES, token, sizeof(token));
}

static void describe(struct sandbox *sandbox, const struct sandbox_options *options,
                     const struct template *template)
{
    struct sandbox_view *view = &sandbox->view;

    table_lock();
    str_copy(view->template_id, sizeof(view->template_id), template->id);
    str_copy(view->alias, sizeof(view->alias), template->alias);
    view->auto_pause = options->auto_pause;
    str_copy(view->base_id, sizeof(view->base_id),
             template->base[0] != '\0' ? template->base : template->id);
    view->auto_resume = options->auto_resume;
    view->auto_pause_drops = options->auto_pause_drops;
    view->internal = options->internal;
    view->envs = options->envs != NULL ? cJSON_Duplicate(options->envs, true) : NULL;
    view->internet = options->internet;
    view->metadata = options->metadata != NULL ? cJSON_Duplicate(options->metadata, true) : NULL;
    view->network = options->network != NULL ? cJSON_Duplicate(options->network, true) : NULL;
    sandbox->timeout_ms = options->timeout_ms;
    if (options->secure) {
        make_token(view->token);
    }
    if (options->private_traffic) {
        make_token(view->traffic_token);
    }
    table_unlock();
}

/* On failure its processes are killed: to be removed. */
static int start_sandbox(struct sandbox *sandbox, const struct sandbox_options *options,
                         const struct template *template, const char *closed, bool connected,
                         struct error *err)
{
    const char *disk = options->disk != NULL ? options->disk : template->image;
    int64_t now;

    if (sandbox_start_processes(sandbox, template, disk, closed, connected, err) < 0) {
        return -1;
    }
    now = clock_wall_ms();
    table_lock();
    sandbox->view.started_ms = now;
    sandbox->lived_from_ms = now;
    sandbox->view.end_ms = now + options->timeout_ms;
    table_unlock();
    if (record_write(sandbox, err) < 0) {
        spawn_kill(sandbox->view.id, &sandbox->processes);
        return -1;
    }
    return 0;
}

static int create_from(const struct sandbox_options *options, const struct template *template,
                       const char *closed, bool connected, struct sandbox_view *ret,
                       struct error *err)
{
    struct sandbox *sandbox = table_add(err);

    if (sandbox == NULL) {
        return -1;
    }
    describe(sandbox, options, template);
    if (start_sandbox(sandbox, options, template, closed, connected, err) < 0) {
        log_error(LOG_WARN, "sandbox.start_failed", err);
        pthread_mutex_lock(&sandbox->transition);
        table_set_state(sandbox, SANDBOX_ENDING);
        cleaner_end(sandbox);
        return -1;
    }
    table_lock();
    sandbox->view.state = SANDBOX_RUNNING;
    /* an end before this was nobody's to notice */
    sandbox->died = sandbox->died || !spawn_alive(&sandbox->processes);
    table_copy_view(sandbox, ret);
    table_unlock();
    sandbox_note(sandbox, JOURNAL_INFO, "sandbox.started", "started");
    table_release(sandbox);
    return 0;
}

int sandbox_create(const struct sandbox_options *options, struct sandbox_view *ret,
                   struct error *err)
{
    const struct template *template;
    struct strbuf closed;
    bool connected;
    int status;

    if (check_timeout(options->timeout_ms, err) < 0) {
        return -1;
    }
    strbuf_init(&closed, CLOSED_MAX_BYTES);
    status =
        sandbox_start_plan_network(options->internet, options->network, &closed, &connected, err);
    if (status == 0) {
        status = template_take(options->template_id, &template, err);
        if (status < 0 && err->code == ERR_NOT_FOUND && options->base_id != NULL) {
            *err = (struct error)ERROR_INIT;
            status = template_take(options->base_id, &template, err);
        }
    }
    if (status == 0) {
        status = create_from(options, template, closed.data, connected, ret, err);
        template_release(template);
    }
    strbuf_done(&closed);
    return status;
}

/* ---- the end ---- */

void sandbox_end_locked(struct sandbox *sandbox, const char *why)
{
    table_set_state(sandbox, SANDBOX_ENDING);
    spawn_kill(sandbox->view.id, &sandbox->processes);
    sandbox_note(sandbox, JOURNAL_INFO, "sandbox.ended", why);
}

int sandbox_kill(const char *id, struct error *err)
{
    struct sandbox *sandbox = table_take_locked(id, err);

    if (sandbox == NULL) {
        return -1;
    }
    sandbox_end_locked(sandbox, "killed");
    cleaner_end(sandbox);
    return 0;
}

/* ---- pause and resume ---- */

/* A record that cannot be written does not undo what happened: a restarted host may see it one
 * change behind. */
static void keep_record(const struct sandbox *sandbox)
{
    struct error err = ERROR_INIT;

    if (record_write(sandbox, &err) < 0) {
        log_error(LOG_ERROR, "sandbox.record_failed", &err);
    }
}

/* So that the disk is whole if the machine stops before the sandbox goes on. A disk that cannot be
 * kept is no reason not to pause. */
static void secure_disk(struct sandbox *sandbox)
{
    struct error err = ERROR_INIT;

    if (!sandbox->view.cold && (image_sync(sandbox->processes.init.pid, &err) < 0 ||
                                spawn_keep(sandbox->view.id, true, &err) < 0)) {
        log_error(LOG_ERROR, "sandbox.disk_not_kept", &err);
    }
}

int sandbox_pause_locked(struct sandbox *sandbox, bool keeps_memory, struct error *err)
{
    if ((keeps_memory ? cgroup_freeze(sandbox->view.id, sandbox->processes.init.pid, true, err)
                      : disk_alone_locked(sandbox, err)) < 0) {
        return -1;
    }
    table_lock();
    sandbox->view.state = SANDBOX_PAUSED;
    sandbox->view.end_ms = clock_wall_ms();
    sandbox->view.explicit_resume = !keeps_memory;
    table_unlock();
    if (sandbox_keeps_disks()) {
        secure_disk(sandbox);
    }
    keep_record(sandbox);
    sandbox_note(sandbox, JOURNAL_INFO, "sandbox.paused",
                 keeps_memory ? "paused" : "paused without memory");
    return 0;
}

int sandbox_pause(const char *id, bool keeps_memory, struct error *err)
{
    struct sandbox *sandbox = table_take_locked(id, err);
    int status;

    if (sandbox == NULL) {
        return -1;
    }
    status = sandbox->view.state == SANDBOX_PAUSED
                 ? error_set(err, ERR_CONFLICT, "Sandbox '%s' is already paused", id)
             : !keeps_memory && !sandbox_keeps_disks()
                 ? error_set(err, ERR_INVALID,
                             "memory: this host always keeps it (its disks are no images)")
                 : sandbox_pause_locked(sandbox, keeps_memory, err);
    table_give_back(sandbox);
    return status;
}

/* With the transition lock held. */
static int resume(struct sandbox *sandbox, int64_t timeout_ms, const char *why, struct error *err)
{
    struct error kept = ERROR_INIT;
    int64_t now;

    if ((sandbox->view.cold
             ? disk_alone_boot(sandbox, err)
             : cgroup_freeze(sandbox->view.id, sandbox->processes.init.pid, false, err)) < 0) {
        return -1;
    }
    if (spawn_keep(sandbox->view.id, false, &kept) < 0) { /* its end removes it */
        log_error(LOG_WARN, "sandbox.mark_not_removed", &kept);
    }
    now = clock_wall_ms();
    table_lock();
    sandbox->view.state = SANDBOX_RUNNING;
    sandbox->view.explicit_resume = false;
    sandbox->lived_from_ms = now;
    sandbox->view.started_ms = now;
    sandbox->view.end_ms = now + timeout_ms;
    table_unlock();
    keep_record(sandbox);
    sandbox_note(sandbox, JOURNAL_INFO, "sandbox.resumed", why);
    return 0;
}

/* Moves the end, within the longest life. */
static void move_end(struct sandbox *sandbox, int64_t timeout_ms, bool extend_only)
{
    int64_t end_ms = clock_wall_ms() + timeout_ms;
    int64_t last_ms = sandbox->lived_from_ms + config->max_timeout_s * 1000;
    bool moved = false;

    table_lock();
    if (end_ms > last_ms) {
        end_ms = last_ms;
    }
    if (!extend_only || end_ms > sandbox->view.end_ms) {
        sandbox->view.end_ms = end_ms;
        moved = true;
    }
    table_unlock();
    if (moved) {
        keep_record(sandbox);
    }
}

int sandbox_connect(const char *id, int64_t timeout_ms, bool *ret_resumed, struct sandbox_view *ret,
                    struct error *err)
{
    struct sandbox *sandbox;
    int status = 0;

    if (check_timeout(timeout_ms, err) < 0 || (sandbox = table_take_locked(id, err)) == NULL) {
        return -1;
    }
    *ret_resumed = sandbox->view.state == SANDBOX_PAUSED;
    if (*ret_resumed) {
        status = resume(sandbox, timeout_ms, "resumed", err);
    } else {
        move_end(sandbox, timeout_ms, true);
    }
    if (status == 0) {
        table_lock();
        table_copy_view(sandbox, ret);
        table_unlock();
    }
    table_give_back(sandbox);
    return status;
}

int sandbox_set_timeout(const char *id, int64_t timeout_ms, bool extend_only, struct error *err)
{
    struct sandbox *sandbox;
    int status = 0;

    if (timeout_ms < 0) {
        return error_set(err, ERR_INVALID, "Timeout must not be negative");
    }
    sandbox = table_take_locked(id, err);
    if (sandbox == NULL) {
        return -1;
    }
    if (sandbox->view.state == SANDBOX_PAUSED) {
        status = table_no_such(id, err);
    } else {
        move_end(sandbox, timeout_ms, extend_only);
    }
    table_give_back(sandbox);
    return status;
}

/* ---- where it may go ---- */

static void describe_network(struct sandbox *sandbox, enum sandbox_internet internet,
                             const cJSON *network)
{
    static const char *const fields[] = {"allowOut", "denyOut"};

    table_lock();
    sandbox->view.internet = internet;
    if (sandbox->view.network == NULL) {
        sandbox->view.network = cJSON_CreateObject();
    }
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        const cJSON *field = cJSON_GetObjectItemCaseSensitive(network, fields[i]);

        cJSON_DeleteItemFromObjectCaseSensitive(sandbox->view.network, fields[i]);
        if (field != NULL) {
            cJSON_AddItemToObject(sandbox->view.network, fields[i], cJSON_Duplicate(field, true));
        }
    }
    table_unlock();
}

int sandbox_set_network(const char *id, enum sandbox_internet internet, const cJSON *network,
                        struct error *err)
{
    struct sandbox *sandbox = table_take_locked(id, err);
    struct strbuf closed;
    bool connected;
    int status;

    if (sandbox == NULL) {
        return -1;
    }
    strbuf_init(&closed, CLOSED_MAX_BYTES);
    status = sandbox->view.state == SANDBOX_PAUSED
                 ? table_no_such(id, err)
                 : sandbox_start_plan_network(internet, network, &closed, &connected, err);
    if (status == 0) {
        const struct egress_sandbox outward = {.id = id,
                                               .init_pid = sandbox->processes.init.pid,
                                               .init_fd = sandbox->processes.init.fd,
                                               .uid = sandbox->uid};

        status = egress_change(&outward, closed.data, connected, err);
    }
    if (status == 0) {
        describe_network(sandbox, internet, network);
        keep_record(sandbox);
        sandbox_note(sandbox, JOURNAL_INFO, "sandbox.network_changed", "network changed");
    }
    strbuf_done(&closed);
    table_give_back(sandbox);
    return status;
}

/* ---- traffic ---- */

/* In constant time; `right` "" = none is asked for. */
static bool token_is(const char *right, const char *given)
{
    size_t length = strlen(right);

    return given != NULL && strlen(given) == length && sodium_memcmp(right, given, length) == 0;
}

static int check_tokens(const struct sandbox *sandbox, int port, const char *access_token,
                        const char *traffic_token, bool paused, struct error *err)
{
    const char *right = sandbox->view.traffic_token, *given = traffic_token;

    if (port == SPAWN_ENVD_PORT) {
        /* the agent checks its callers itself, but cannot while it is frozen */
        right = paused ? sandbox->view.token : "";
        given = access_token;
    }
    if (right[0] == '\0' || token_is(right, given)) {
        return 0;
    }
    return given == NULL ? error_set(err, ERR_TOKEN_MISSING, "the sandbox's token is missing")
                         : error_set(err, ERR_TOKEN_SIGNATURE, "the sandbox's token is wrong");
}

/* network.maskRequestHost, which is the agent's port's no more than the traffic token is. With the
 * table's lock held. */
static void mask_host(const struct sandbox *sandbox, int port, char ret_host[ROUTE_MASK_BYTES])
{
    const char *mask = json_text(sandbox->view.network, "maskRequestHost");

    ret_host[0] = '\0';
    if (port != SPAWN_ENVD_PORT) {
        route_mask_host(mask, port, ret_host);
    }
}

int sandbox_admit(const char *id, int port, const char *access_token, const char *traffic_token,
                  bool may_resume, char ret_host[ROUTE_MASK_BYTES], struct error *err)
{
    struct sandbox *sandbox = table_take(id, err);
    bool paused, resumes;
    int status;

    if (sandbox == NULL) {
        return -1;
    }
    table_lock();
    paused = sandbox->view.state == SANDBOX_PAUSED;
    resumes = sandbox->view.auto_resume && !sandbox->view.explicit_resume;
    mask_host(sandbox, port, ret_host);
    table_unlock();
    status = paused && !resumes
                 ? table_no_such(id, err)
                 : check_tokens(sandbox, port, access_token, traffic_token, paused, err);
    table_release(sandbox);
    if (status < 0 || !paused) {
        return status;
    }
    if (!may_resume) {
        return error_set(err, ERR_CONFLICT, "the sandbox is paused");
    }
    sandbox = table_take_locked(id, err);
    if (sandbox == NULL) {
        return -1;
    }
    if (sandbox->view.state == SANDBOX_PAUSED) {
        status = resume(sandbox,
                        sandbox->timeout_ms > TRAFFIC_RESUME_MS ? sandbox->timeout_ms
                                                                : TRAFFIC_RESUME_MS,
                        "resumed by traffic", err);
    }
    table_give_back(sandbox);
    return status;
}
