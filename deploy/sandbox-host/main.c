/*
 * sandbox-host - sandboxes on this machine behind E2B's own API. See README.md beside this file.
 *
 * Verbs: serve (default), doctor; the host itself starts `warden` (warden.h). Settings: config.def.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/service.h"
#include "common/base/service_main.h"
#include "common/proxy/proxy.h"
#include "common/proxy/tls.h"
#include "deploy/sandbox-host/api/api.h"
#include "deploy/sandbox-host/api/upstream.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/egress.h"
#include "deploy/sandbox-host/isolation/files.h"
#include "deploy/sandbox-host/isolation/filter.h"
#include "deploy/sandbox-host/isolation/spawn.h"
#include "deploy/sandbox-host/isolation/warden.h"
#include "deploy/sandbox-host/isolation/warden_client.h"
#include "deploy/sandbox-host/sandbox/build.h"
#include "deploy/sandbox-host/sandbox/claims.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"
#include "deploy/sandbox-host/sandbox/sandboxes.h"
#include "deploy/sandbox-host/sandbox/saved.h"
#include "deploy/sandbox-host/sandbox/template.h"

enum {
    API_THREADS = 64,
    API_QUEUE = 256,
    API_HEAD_BYTES = 16384,
    API_TIMEOUT_MS = 10000,
    KEEP_ALIVE_MS = 30000, /* longer than the proxy keeps its connections to the API */
    WARDEN_LISTENER = 3,   /* where warden_client.c puts it */
};

static _Atomic bool warden_lost;

static void on_warden_lost(void *arg)
{
    (void)arg;
    atomic_store(&warden_lost, true);
    kill(getpid(), SIGTERM); /* every sandbox is gone: end, and be started anew */
}

/* Everything but the API: after it sandboxes can be made. */
static int open_host(struct host_config *config, struct error *err)
{
    const struct warden_events events = {.exited = sandboxes_exited, .lost = on_warden_lost};
    int64_t first_uid;
    bool adopted;

    if (spawn_init(config, err) < 0 || claims_find(config, err) < 0 ||
        egress_init(config, err) < 0 || templates_init(config, err) < 0 ||
        saved_init(config, err) < 0 ||
        warden_open(config, &events, &adopted, &first_uid, err) < 0) {
        return -1;
    }
    if (adopted) {
        log_event(LOG_INFO, "sandbox_host.warden_found");
    }
    return builds_init(config, err) < 0 ? -1 : sandboxes_init(config, first_uid, adopted, err);
}

static void close_host(void)
{
    sandboxes_done();
    builds_done();
    warden_close();
    templates_done();
    filter_done();
}

/* ---- doctor ---- */

/* One sandbox from start to end. */
static int try_sandbox(struct error *err)
{
    const struct sandbox_options options = {.template_id = "base", .timeout_ms = 60000};
    struct sandbox_view view;
    int status;

    if (sandbox_create(&options, &view, err) < 0) {
        printf("%-15s FAILED: %s\n", "sandbox", err->message);
        return -1;
    }
    printf("%-15s starts and answers\n", "sandbox");
    status = sandbox_pause(view.id, true, err);
    printf("%-15s %s\n", "pause", status < 0 ? err->message : "works");
    sandbox_view_done(&view);
    return status;
}

/* Says what this machine can do, in a folder of its own: a host that runs is not disturbed. */
static int doctor(struct host_config *config, struct error *err)
{
    char folder[] = "/tmp/sandbox-doctor-XXXXXX", *own = config->state_dir;
    struct error left = ERROR_INIT;
    int status;

    if (mkdtemp(folder) == NULL || chmod(folder, 0711) < 0) {
        return error_set(err, ERR_INTERNAL, "%s cannot be made", folder);
    }
    config->state_dir = folder;
    status = open_host(config, err);
    if (status == 0) {
        claims_report(stdout);
        status = try_sandbox(err);
        close_host();
    } else {
        printf("%-15s FAILED: %s\n", "start", err->message);
    }
    config->state_dir = own;
    if (files_remove_tree(folder, &left) < 0) {
        printf("%-15s %s\n", "LEFT BEHIND", left.message);
    }
    return status;
}

/* ---- serve ---- */

/* *ret is NULL where no certificate is set. */
static int open_tls(const struct host_config *config, struct tls **ret, struct error *err)
{
    *ret = NULL;
    if ((config->tls_certificate == NULL) != (config->tls_key == NULL)) {
        return error_set(err, ERR_CONFIG,
                         "SANDBOX_HOST_TLS_CERTIFICATE and SANDBOX_HOST_TLS_KEY: one needs the "
                         "other");
    }
    if (config->tls_certificate != NULL) {
        *ret = tls_open(config->tls_certificate, config->tls_key, err);
        return *ret != NULL ? 0 : -1;
    }
    return 0;
}

static struct proxy *start_proxy(const struct host_config *config, struct tls *tls,
                                 struct upstream *upstream, struct error *err)
{
    const struct proxy_options options = {.listen = config->listen,
                                          .listen_name = "SANDBOX_HOST_LISTEN",
                                          .tls = tls,
                                          .max_connections = config->max_connections,
                                          .head_timeout_ms = config->head_timeout_ms,
                                          .idle_timeout_ms = config->idle_timeout_ms,
                                          .stall_timeout_ms = config->stall_timeout_ms,
                                          .callbacks = upstream_callbacks,
                                          .arg = upstream};

    return proxy_start(&options, err);
}

static int serve(struct host_config *config, int signal_fd, struct error *err)
{
    const struct httpd_options options = {.listen = "127.0.0.1:0",
                                          .threads = API_THREADS,
                                          .connection_queue = API_QUEUE,
                                          .keep_alive_ms = KEEP_ALIVE_MS,
                                          .request_timeout_ms = API_TIMEOUT_MS,
                                          .max_head_bytes = API_HEAD_BYTES,
                                          .handler = api_handle,
                                          .bad_request = api_bad_request,
                                          .arg = config};
    struct httpd *httpd;
    struct upstream upstream;
    struct proxy *proxy = NULL;
    struct tls *tls;
    int status = -1;

    if (open_tls(config, &tls, err) < 0) {
        return -1;
    }
    if (open_host(config, err) < 0) {
        tls_close(tls);
        return -1;
    }
    httpd = claims_require(err) < 0 ? NULL : httpd_start(&options, err);
    if (httpd != NULL) {
        upstream.api_port = httpd_port(httpd);
        proxy = start_proxy(config, tls, &upstream, err);
    }
    if (proxy != NULL) {
        log_event(LOG_INFO, "sandbox_host.started", LOG_S("listen", config->listen),
                  LOG_B("internet", egress_available()));
        service_wait_for_stop(signal_fd);
        status = atomic_load(&warden_lost)
                     ? error_set(err, ERR_INTERNAL, "the warden died, and all sandboxes with it")
                     : 0;
    }
    if (atomic_load(&warden_lost)) {
        spawn_kill_strays();
    }
    close_host();
    proxy_stop(proxy);
    httpd_stop(httpd);
    tls_close(tls);
    if (status == 0) {
        log_event(LOG_INFO, "sandbox_host.stopped");
    }
    return status;
}

/* Sandboxes cost descriptors, and connections two each. */
static void raise_descriptor_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files); /* then it stays as it was */
    }
}

/* Its user ids and its state folder are those of the host that started it, which the environment
 * need not say: what the warden removes at its end is in that folder. */
static int run_warden(const struct service_call *call, struct error *err)
{
    struct host_config *config = call->config;
    char *own = config->state_dir;
    int status;

    if (call->argc != 4) {
        return error_set(err, ERR_INVALID, "warden is started by the host");
    }
    (void)log_init("sandbox-warden", config->log_level); /* a level that service_main() took */
    config->first_uid = strtoll(call->argv[2], NULL, 10);
    config->state_dir = call->argv[3];
    cgroup_detect();
    fcntl(WARDEN_LISTENER, F_SETFD, FD_CLOEXEC);
    fcntl(WARDEN_LISTENER + 1, F_SETFD, FD_CLOEXEC);
    status = warden_main(config, WARDEN_LISTENER);
    config->state_dir = own;
    return status;
}

static int run_serve(const struct service_call *call, struct error *err)
{
    raise_descriptor_limit();
    return serve(call->config, call->signal_fd, err);
}

static int run_doctor(const struct service_call *call, struct error *err)
{
    raise_descriptor_limit();
    return doctor(call->config, err);
}

static const struct service_verb verbs[] = {
    {.name = "serve", .run = run_serve},
    {.name = "doctor", .run = run_doctor},
    {.name = "warden", .run = run_warden, .takes_words = true, .no_signals = true},
};

static const struct service_program program = {
    .name = "sandbox-host",
    .log_name = "sandbox-host",
    .event_name = "sandbox_host",
    .usage = "usage: sandbox-host [serve | doctor | --help | --version]\n",
    .about = "",
    .log_level_name = "LOG_LEVEL",
    .log_level_at = offsetof(struct host_config, log_level),
    .settings = &host_config_schema,
    .verbs = verbs,
    .verb_count = sizeof(verbs) / sizeof(verbs[0]),
};

int main(int argc, char **argv)
{
    struct host_config config;

    return service_main(&program, &config, argc, argv);
}
