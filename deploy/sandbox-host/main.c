/*
 * sandbox-host - sandboxes on this machine behind E2B's own API. See README.md beside this file.
 *
 * Subcommands: serve (default), doctor. Configuration: environment (config.c).
 */
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/base/log.h"
#include "common/base/service.h"
#include "deploy/sandbox-host/api.h"
#include "deploy/sandbox-host/cgroup.h"
#include "deploy/sandbox-host/config.h"
#include "deploy/sandbox-host/front.h"
#include "deploy/sandbox-host/sandbox.h"
#include "deploy/sandbox-host/spawn.h"
#include "deploy/sandbox-host/template.h"
#include "deploy/sandbox-host/uids.h"

enum {
    API_THREADS = 64,
    API_QUEUE = 256,
    API_HEAD_BYTES = 16384,
    API_TIMEOUT_MS = 10000,
    KEEP_ALIVE_MS = 500
};

static const char usage[] = "usage: sandbox-host [serve | doctor | --help | --version]\n";

/* Says what this machine can do, and tries one sandbox. */
static int doctor(const struct host_config *config, struct error *err)
{
    struct box_options options = {.template_id = "base", .timeout_ms = 60000};
    struct box_view view;

    printf("user:           %s\n",
           geteuid() == 0 ? "root: each sandbox gets a user id of its own"
                          : "not root: all sandboxes share this user id, kept apart by namespaces");
    cgroup_report(stdout);
    if (spawn_init(config, err) < 0 || templates_init(config, err) < 0 ||
        boxes_init(config, err) < 0 || box_create(&options, &view, err) < 0) {
        printf("sandbox:        FAILED\n");
        return -1;
    }
    printf("sandbox:        starts and answers\n");
    if (box_pause(view.id, err) < 0) {
        printf("pause:          FAILED\n");
        return -1;
    }
    printf("pause:          works\n");
    box_view_done(&view);
    boxes_done();
    spawn_done();
    templates_done();
    return 0;
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
    struct pollfd stop = {.fd = signal_fd, .events = POLLIN};
    struct httpd *httpd;
    struct front *front;

    if (spawn_init(config, err) < 0) {
        return -1;
    }
    spawn_clean_leftovers();
    if (templates_init(config, err) < 0 || boxes_init(config, err) < 0 ||
        (httpd = httpd_start(&options, err)) == NULL) {
        return -1;
    }
    front = front_start(config, httpd_port(httpd), err);
    if (front == NULL) {
        return -1;
    }
    log_event(LOG_INFO, "sandbox_host.started", LOG_S("listen", config->listen),
              LOG_B("memory_limit", cgroup_limits_memory()));
    if (!cgroup_limits_memory()) {
        log_event(LOG_WARN, "sandbox_host.no_memory_limit",
                  LOG_S("what",
                        "no writable memory cgroup: a sandbox can use all memory of this machine"));
    }
    while (!service_draining()) {
        if (poll(&stop, 1, -1) > 0) {
            service_read_signals(signal_fd);
        }
    }
    boxes_done();
    front_stop(front);
    httpd_stop(httpd);
    spawn_done();
    templates_done();
    log_event(LOG_INFO, "sandbox_host.stopped");
    return 0;
}

static int prepare(struct host_config *config, int *ret_signal_fd, struct error *err)
{
    if (service_init(ret_signal_fd, err) < 0) {
        return -1;
    }
    if (log_init("sandbox-host", config->log_level) < 0) {
        return error_set(err, ERR_CONFIG, "LOG_LEVEL is none of debug info warn error");
    }
    cgroup_detect();
    return geteuid() == 0 ? uids_claim(config->first_uid, &config->first_uid, err) : 0;
}

int main(int argc, char **argv)
{
    struct host_config config;
    struct error err = ERROR_INIT;
    const char *verb = argc > 1 ? argv[1] : "serve";
    int signal_fd = -1, status;

    if (strcmp(verb, "--help") == 0) {
        fputs(usage, stdout);
        host_config_help(stdout);
        return EXIT_OK;
    }
    if (strcmp(verb, "--version") == 0) {
        puts("sandbox-host " VERSION);
        return EXIT_OK;
    }
    if (host_config_load(&config, &err) < 0) {
        fprintf(stderr, "sandbox-host: %s\n", err.message);
        return EXIT_CONFIG;
    }
    status = prepare(&config, &signal_fd, &err);
    if (status < 0) {
        /* said below */
    } else if (strcmp(verb, "serve") == 0) {
        status = serve(&config, signal_fd, &err);
    } else if (strcmp(verb, "doctor") == 0) {
        status = doctor(&config, &err);
    } else {
        status = error_set(&err, ERR_INVALID, "unknown command\n%s", usage);
    }
    if (status < 0) {
        fprintf(stderr, "sandbox-host: %s\n", err.message);
    }
    host_config_free(&config);
    return status == 0 ? EXIT_OK : err.code == ERR_CONFIG ? EXIT_CONFIG : EXIT_RUNTIME;
}
