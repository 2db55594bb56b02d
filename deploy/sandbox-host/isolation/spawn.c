/* spawn - see spawn.h. */
#include "deploy/sandbox-host/isolation/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/log.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/isolation/bwrap_argv.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/disk.h"
#include "deploy/sandbox-host/isolation/egress.h"
#include "deploy/sandbox-host/isolation/files.h"
#include "deploy/sandbox-host/isolation/filter.h"
#include "deploy/sandbox-host/isolation/layers.h"
#include "deploy/sandbox-host/isolation/proc_files.h"
#include "deploy/sandbox-host/isolation/sandbox_tools.h"
#include "deploy/sandbox-host/isolation/warden_client.h"

enum {
    /* where the warden puts the descriptors of an order; 3, 4 and 5 are the agent's contract */
    INFO_FD = 6,
    FILTER_FD = 7,
    AGENT_CONFIG_MAX_BYTES = 8 << 20,
    RELAY_BACKLOG = 256,
    INFO_MAX_BYTES = 4096,
    COMMAND_LINE_BYTES = 256 * 1024,
    GONE_MS = 2000, /* for killed processes to be gone; then it is tried again */
    /* what the agent and its company (bubblewrap, slirp4netns) need on top of what the sandbox may
     * have: a thread for each connection it serves, and a few */
    AGENT_THREADS = 128,
    OWN_TASKS = AGENT_THREADS + 32,
    LEAST_FILES = 1024, /* what every program may expect */
};

static const struct host_config *config;
static struct sandbox_tools tools;
static int64_t open_files; /* of one process of a sandbox */

void spawn_dir(char out[SPAWN_PATH_BYTES], const char *id)
{
    snprintf(out, SPAWN_PATH_BYTES, "%.60s/s/%.31s", config->state_dir, id);
}

/* Nothing counts the open files of a user id, so what each process may have bounds those of all. */
static int64_t files_of_a_process(void)
{
    struct error unknown = ERROR_INIT; /* then the setting alone counts */
    struct strbuf text;
    int64_t share = config->open_files;

    strbuf_init(&text, 64);
    if (files_read("/proc/sys/fs/file-max", &text, &unknown) == 0) {
        share = strtoll(text.data, NULL, 10) / 2 / (config->processes + OWN_TASKS);
    }
    strbuf_done(&text);
    share = share < LEAST_FILES ? LEAST_FILES : share;
    return share < config->open_files ? share : config->open_files;
}

int spawn_init(const struct host_config *host_config, struct error *err)
{
    char all[SPAWN_PATH_BYTES];

    config = host_config;
    open_files = files_of_a_process();
    proc_files_init(config);
    snprintf(all, sizeof(all), "%.60s/s", config->state_dir);
    if (files_make_dir(config->state_dir, 0711, err) < 0 || files_make_dir(all, 0711, err) < 0) {
        err->code = ERR_CONFIG;
        return error_prefix(err, "SANDBOX_HOST_STATE_DIR");
    }
    return sandbox_tools_init(config, &tools, err);
}

/* ---- processes ---- */

/* When a process started, in clock ticks since boot; -1 when it is not there. */
static int64_t start_time(pid_t pid)
{
    char path[64], text[1024], *after_name;
    int fd, field = 2;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%ld/stat", (long)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    n = read(fd, text, sizeof(text) - 1);
    close(fd);
    text[n > 0 ? n : 0] = '\0';
    after_name = strrchr(text, ')');
    while (after_name != NULL && field < 22) {
        after_name = strchr(after_name + 1, ' ');
        field++;
    }
    return after_name != NULL ? strtoll(after_name, NULL, 10) : -1;
}

/* Opens a descriptor for the process `pid`, which is the right one if it started at `start_at`. */
static int find_process(struct spawn_process *process, struct error *err)
{
    process->fd = (int)syscall(SYS_pidfd_open, process->pid, 0);
    if (process->fd >= 0 && start_time(process->pid) == process->start_at) {
        return 0;
    }
    if (process->fd >= 0) {
        close(process->fd);
        process->fd = -1;
    }
    return error_set(err, ERR_NOT_FOUND, "process %ld is gone", (long)process->pid);
}

int spawn_find(struct spawn_processes *sandbox, struct error *err)
{
    sandbox->wrapper.fd = sandbox->init.fd = -1;
    if (find_process(&sandbox->wrapper, err) < 0) {
        return -1;
    }
    return find_process(&sandbox->init, err);
}

/* A pidfd is readable once its process has ended. */
static bool has_ended(int fd, int wait_ms)
{
    struct pollfd ended = {.fd = fd, .events = POLLIN};

    return fd < 0 || poll(&ended, 1, wait_ms) > 0;
}

bool spawn_alive(const struct spawn_processes *sandbox)
{
    return !has_ended(sandbox->wrapper.fd, 0) && !has_ended(sandbox->init.fd, 0);
}

/* ---- starting ---- */

static int listen_relay(const char *dir, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(address.sun_path, sizeof(address.sun_path), "%s/relay", dir);
    unlink(address.sun_path); /* of an earlier start */
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, RELAY_BACKLOG) < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "%s", address.sun_path);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    if (chmod(address.sun_path, 0600) < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "%s", address.sun_path);
        close(fd);
        return -1;
    }
    return fd;
}

/* The template's variables under those of this sandbox. */
static cJSON *merge(const cJSON *under, const cJSON *over)
{
    cJSON *both = over != NULL ? cJSON_Duplicate(over, true) : cJSON_CreateObject();
    const cJSON *item;

    cJSON_ArrayForEach(item, under)
    {
        if (!cJSON_HasObjectItem(both, item->string)) {
            cJSON_AddStringToObject(both, item->string, item->valuestring);
        }
    }
    return both;
}

/* The agent's settings through a socket pair, so that they are in no file, argument or environment.
 */
static int send_settings(int fd, const struct spawn_request *request, struct error *err)
{
    const char *user = request->userland->user != NULL ? request->userland->user : "user";
    const char *home = strcmp(user, "root") == 0 ? "/root" : "/home/user";
    const char *workdir = request->userland->workdir;
    cJSON *tree = cJSON_CreateObject();
    struct strbuf text;
    size_t sent = 0;
    int status = 0;

    json_add_string_or_null(tree, "access_token", request->access_token);
    cJSON_AddItemToObject(tree, "envs", merge(request->userland->envs, request->envs));
    cJSON_AddStringToObject(tree, "sandbox_id", request->id);
    cJSON_AddStringToObject(tree, "template_id", request->userland->template_id);
    cJSON_AddStringToObject(tree, "user", user);
    cJSON_AddStringToObject(tree, "home", home);
    cJSON_AddStringToObject(tree, "workdir", workdir != NULL ? workdir : home);
    strbuf_init(&text, AGENT_CONFIG_MAX_BYTES);
    json_print(tree, &text);
    cJSON_Delete(tree);
    while (status == 0 && sent < text.length) {
        ssize_t n = send(fd, text.data + sent, text.length - sent, MSG_NOSIGNAL);

        if (n < 0) {
            status = error_set_errno(err, ERR_INTERNAL, errno, "the agent's settings");
        } else {
            sent += (size_t)n;
        }
    }
    strbuf_done(&text);
    return status;
}

/* bubblewrap's {"child-pid": N}: the first process, as this side counts. */
static int read_child_pid(int fd, pid_t *ret, struct error *err)
{
    char text[INFO_MAX_BYTES];
    struct pollfd readable = {.fd = fd, .events = POLLIN};
    size_t length = 0;
    int64_t until_ms = clock_mono_ms() + config->start_timeout_ms;
    const char *found = NULL;

    while (found == NULL && length < sizeof(text) - 1) {
        int64_t left = until_ms - clock_mono_ms();
        ssize_t n;

        if (left <= 0 || poll(&readable, 1, (int)left) <= 0) {
            return error_set(err, ERR_INTERNAL, "bubblewrap did not start in time");
        }
        n = read(fd, text + length, sizeof(text) - 1 - length);
        if (n <= 0) {
            return error_set(err, ERR_INTERNAL,
                             "bubblewrap failed (does this machine allow user namespaces?)");
        }
        length += (size_t)n;
        text[length] = '\0';
        if (strchr(text, '}') != NULL) {
            found = strstr(text, "\"child-pid\":");
        }
    }
    if (found == NULL) {
        return error_set(err, ERR_INTERNAL, "bubblewrap said nothing of its child");
    }
    *ret = (pid_t)strtol(found + strlen("\"child-pid\":"), NULL, 10);
    return *ret > 0 ? 0 : error_set(err, ERR_INTERNAL, "bubblewrap gave no child pid");
}

/* One GET /health through the relay. */
static bool healthy(const char *id)
{
    static const char ask[] =
        "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    struct error ignored = ERROR_INIT; /* "not yet" is all that matters */
    struct timeval patience = {.tv_sec = 1};
    char answer[16] = "";
    int fd = spawn_connect(id, SPAWN_ENVD_PORT, &ignored);
    bool well;

    if (fd < 0) {
        return false;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    well = send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(ask) - 1 &&
           recv(fd, answer, sizeof(answer) - 1, MSG_WAITALL) > 12 &&
           strncmp(answer + 9, "204", 3) == 0;
    close(fd);
    return well;
}

static int wait_healthy(const char *id, const struct spawn_processes *sandbox, struct error *err)
{
    int64_t until_ms = clock_mono_ms() + config->start_timeout_ms;

    while (!healthy(id)) {
        if (!spawn_alive(sandbox)) {
            return error_set(err, ERR_INTERNAL, "the agent ended");
        }
        if (clock_mono_ms() > until_ms) {
            return error_set(err, ERR_TIMEOUT, "the sandbox's agent did not answer in time");
        }
        clock_sleep_ms(2);
    }
    return 0;
}

/* Descriptors of a start; -1 = none. */
struct ends {
    int relay, settings[2], info[2], filter, disk;
};

static void close_fd(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
        *fd = -1;
    }
}

static void close_ends(struct ends *ends)
{
    close_fd(&ends->relay);
    close_fd(&ends->settings[0]);
    close_fd(&ends->settings[1]);
    close_fd(&ends->info[0]);
    close_fd(&ends->info[1]);
    close_fd(&ends->filter);
    close_fd(&ends->disk);
}

/* The folder with its disk, and everything the first process is to inherit. */
static int prepare(const struct spawn_request *request, const char *dir, const char *home,
                   char device[DISK_DEVICE_BYTES], bool *ret_memory, struct ends *ends,
                   struct error *err)
{
    if (files_make_dir(dir, 0711, err) < 0 || proc_files_make(dir, ret_memory, err) < 0 ||
        disk_make(dir, request->disk, home, request->uid, device, &ends->disk, err) < 0) {
        return -1;
    }
    ends->relay = listen_relay(dir, err);
    if (ends->relay < 0) {
        return -1;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends->settings) < 0 ||
        pipe2(ends->info, O_CLOEXEC) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "pipes");
    }
    ends->filter = filter_open();
    return 0;
}

static int run_wrapper(const struct spawn_request *request, const char *dir, const char *home,
                       const char *device, bool memory, const struct strbuf *plan,
                       const struct ends *ends, struct spawn_process *wrapper, struct error *err)
{
    char memory_info[PROC_FILES_PATH_BYTES], boot_id[PROC_FILES_PATH_BYTES];
    const struct bwrap_argv_request seen = {.userland = request->userland,
                                            .dir = dir,
                                            .tools = &tools,
                                            .memory_folder_bytes = config->tmp_bytes,
                                            .memory_disk_bytes =
                                                disk_mode() == DISK_MEMORY ? config->disk_bytes : 0,
                                            .info_fd = INFO_FD,
                                            .layered = plan->length > 0,
                                            .memory_info = memory ? memory_info : NULL,
                                            .boot_id = boot_id,
                                            .agent_threads = AGENT_THREADS,
                                            .filter_fd = ends->filter >= 0 ? FILTER_FD : -1};
    struct bwrap_argv argv;
    int status;

    snprintf(memory_info, sizeof(memory_info), "%s/meminfo", dir);
    snprintf(boot_id, sizeof(boot_id), "%s/boot_id", dir);
    bwrap_argv_build(&argv, &seen);
    const struct warden_order order = {
        .kind = WARDEN_SANDBOX,
        .id = request->id,
        .argv = argv.list,
        .fds = {ends->relay, ends->settings[1], ends->info[1], ends->filter},
        .fd_count = ends->filter >= 0 ? 4 : 3,
        .uid = request->uid,
        .processes = config->processes + OWN_TASKS,
        .files = open_files,
        .disk = device[0] != '\0' ? device : NULL,
        .dir = dir,
        .text = home,
        .layers = plan->data,
        .pid = &wrapper->pid,
        .pidfd = &wrapper->fd};
    status = warden_run(&order, err);
    bwrap_argv_free(&argv);
    return status;
}

/* From the running wrapper to an agent that answers. */
static int bring_up(const struct spawn_request *request, struct ends *ends,
                    struct spawn_processes *sandbox, struct error *err)
{
    /* the sandbox's ends are its own now: when it dies, ours see it at once */
    close_fd(&ends->info[1]);
    close_fd(&ends->settings[1]);
    close_fd(&ends->relay);
    if (send_settings(ends->settings[0], request, err) < 0) {
        return -1;
    }
    close_fd(&ends->settings[0]);
    if (read_child_pid(ends->info[0], &sandbox->init.pid, err) < 0) {
        return -1;
    }
    close_fd(&ends->disk); /* mounted by now, or never */
    sandbox->wrapper.start_at = start_time(sandbox->wrapper.pid);
    sandbox->init.start_at = start_time(sandbox->init.pid);
    if (find_process(&sandbox->init, err) < 0) {
        return -1;
    }
    /* the agent starts meanwhile */
    const struct egress_sandbox outward = {.id = request->id,
                                           .init_pid = sandbox->init.pid,
                                           .init_fd = sandbox->init.fd,
                                           .uid = request->uid};
    if (request->connected && egress_start(&outward, request->closed, err) < 0) {
        return -1;
    }
    return wait_healthy(request->id, sandbox, err);
}

int spawn_start(const struct spawn_request *request, struct spawn_processes *ret, struct error *err)
{
    const struct cgroup_limits limits = {.memory_bytes = config->memory_bytes,
                                         .processes = config->processes + OWN_TASKS,
                                         .cpu_percent = config->cpu_percent};
    struct ends ends = {
        .relay = -1, .settings = {-1, -1}, .info = {-1, -1}, .filter = -1, .disk = -1};
    char dir[SPAWN_PATH_BYTES], home[PATH_MAX], device[DISK_DEVICE_BYTES];
    const char *skeleton = NULL;
    struct strbuf plan;
    bool memory = false;
    int status;

    *ret = (struct spawn_processes)SPAWN_NOTHING;
    spawn_dir(dir, request->id);
    if (request->userland->root != NULL && request->disk == NULL) {
        snprintf(home, sizeof(home), "%s/home/user", request->userland->root);
        skeleton = access(home, F_OK) == 0 ? home : NULL;
    }
    strbuf_init(&plan, LAYERS_TEXT_BYTES);
    layers_plan(request->userland, &plan);
    cgroup_create(request->id, &limits);
    status = prepare(request, dir, skeleton, device, &memory, &ends, err) < 0 ||
                     run_wrapper(request, dir, skeleton, device, memory, &plan, &ends,
                                 &ret->wrapper, err) < 0 ||
                     bring_up(request, &ends, ret, err) < 0
                 ? -1
                 : 0;
    close_ends(&ends);
    strbuf_done(&plan);
    if (status < 0) {
        if (ret->wrapper.fd >= 0 && has_ended(ret->wrapper.fd, 0)) {
            error_set(err, ERR_INTERNAL, "the sandbox ended at once (the host's log says why)");
        }
        spawn_kill(request->id, ret);
    }
    return status;
}

/* ---- the end ---- */

static void kill_process(const struct spawn_process *process)
{
    if (process->fd >= 0) {
        (void)syscall(SYS_pidfd_send_signal, process->fd, SIGKILL, NULL, 0);
    }
}

void spawn_kill(const char *id, const struct spawn_processes *sandbox)
{
    cgroup_let_die(id);
    /* the first process of a pid namespace takes all others with it */
    kill_process(&sandbox->init);
    kill_process(&sandbox->wrapper);
    warden_kill(id);
}

int spawn_wait_gone(const char *id, struct spawn_processes *sandbox, struct error *err)
{
    if (!has_ended(sandbox->init.fd, GONE_MS) || !has_ended(sandbox->wrapper.fd, GONE_MS)) {
        return error_set(err, ERR_INTERNAL, "its processes do not end");
    }
    close_fd(&sandbox->init.fd);
    close_fd(&sandbox->wrapper.fd);
    return cgroup_remove(id, err);
}

int spawn_remove(const char *id, struct spawn_processes *sandbox, struct error *err)
{
    char dir[SPAWN_PATH_BYTES];

    spawn_dir(dir, id);
    return spawn_wait_gone(id, sandbox, err) < 0 || files_remove_tree(dir, err) < 0 ? -1 : 0;
}

void spawn_image(char out[SPAWN_PATH_BYTES + 16], const char *id)
{
    char dir[SPAWN_PATH_BYTES];

    spawn_dir(dir, id);
    snprintf(out, SPAWN_PATH_BYTES + 16, "%s/disk.img", dir);
}

static void keep_mark(char out[SPAWN_PATH_BYTES + 16], const char *id)
{
    char dir[SPAWN_PATH_BYTES];

    spawn_dir(dir, id);
    snprintf(out, SPAWN_PATH_BYTES + 16, "%s/" SPAWN_KEPT, dir);
}

int spawn_keep(const char *id, bool kept, struct error *err)
{
    char path[SPAWN_PATH_BYTES + 16];

    keep_mark(path, id);
    if (kept) {
        return files_write(path, "", 0, 0600, err);
    }
    return unlink(path) < 0 && errno != ENOENT
               ? error_set_errno(err, ERR_INTERNAL, errno, "%s", path)
               : 0;
}

bool spawn_is_kept(const char *id)
{
    char path[SPAWN_PATH_BYTES + 16];

    keep_mark(path, id);
    return access(path, F_OK) == 0;
}

/* Whether the process is a bubblewrap of this state folder. */
static bool is_ours(const char *pid, char *text, size_t size)
{
    char path[64], mark[SPAWN_PATH_BYTES];
    size_t length, in = 0;
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false; /* it ended meanwhile */
    }
    while ((n = read(fd, text + in, size - 1 - in)) > 0) {
        in += (size_t)n;
    }
    close(fd);
    text[in] = '\0';
    if (strcmp(text, "bwrap") != 0) {
        return false;
    }
    snprintf(mark, sizeof(mark), "%.60s/", config->state_dir);
    length = strlen(mark);
    for (const char *word = text; word < text + in; word += strlen(word) + 1) {
        if (strncmp(word, mark, length) == 0) {
            return true;
        }
    }
    return false;
}

void spawn_kill_strays(void)
{
    char *text = xmalloc(COMMAND_LINE_BYTES);
    DIR *proc = opendir("/proc");
    struct dirent *entry;

    if (proc == NULL) {
        log_event(LOG_ERROR, "sandbox.strays_unseen", LOG_S("what", "/proc cannot be read"));
    }
    while (proc != NULL && (entry = readdir(proc)) != NULL) {
        struct spawn_process stray = {.pid = (pid_t)strtol(entry->d_name, NULL, 10), .fd = -1};

        if (stray.pid <= 0) {
            continue;
        }
        stray.fd = (int)syscall(SYS_pidfd_open, stray.pid, 0);
        if (stray.fd >= 0 && is_ours(entry->d_name, text, COMMAND_LINE_BYTES)) {
            kill_process(&stray);
            log_event(LOG_WARN, "sandbox.stray_killed", LOG_I("pid", stray.pid));
        }
        close_fd(&stray.fd);
    }
    if (proc != NULL) {
        closedir(proc);
    }
    free(text);
}

/* ---- reaching a port inside
 * -------------------------------------------------------------------------------- */

int spawn_connect(const char *id, int port, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = 10};
    unsigned char wanted[2] = {(unsigned char)(port >> 8), (unsigned char)(port & 255)};
    unsigned char answer = 1;
    char dir[SPAWN_PATH_BYTES];
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ssize_t n = -1;

    spawn_dir(dir, id);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/relay", dir);
    if (fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "socket");
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
        send(fd, wanted, sizeof(wanted), MSG_NOSIGNAL) == (ssize_t)sizeof(wanted)) {
        n = recv(fd, &answer, 1, 0);
    }
    if (n != 1) {
        close(fd);
        return error_set(err, ERR_NOT_FOUND, "the sandbox does not answer");
    }
    if (answer != 0) {
        close(fd);
        return error_set(err, ERR_CONFLICT, "nothing listens on port %d", port);
    }
    patience.tv_sec = 0;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    return fd;
}
