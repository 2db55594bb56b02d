/* spawn - see spawn.h. */
#include "deploy/sandbox-host/spawn.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/close_range.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/cgroup.h"
#include "deploy/sandbox-host/files.h"
#include "deploy/sandbox-host/kit.h"
#include "deploy/sandbox-host/view.h"

enum {
    RELAY_FD = 3, /* the agent's contract */
    CONFIG_FD = 4,
    INFO_FD = 5,
    AGENT_CONFIG_MAX_BYTES = 8 << 20,
    RELAY_BACKLOG = 256,
    INFO_MAX_BYTES = 4096,
    FILES_MAX = 65536,
};

static const struct host_config *config;
static struct kit kit;

/* ---- the spawner thread: takes one order at a time
 * ------------------------------------------------ */

struct order {
    char *const *argv;
    const char *id;
    int relay_fd, config_fd, info_fd;
    uid_t uid; /* 0 = keep ours */
    pid_t pid;
    int error;
    bool done;
};

static pthread_t spawner;
static pthread_mutex_t order_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t order_changed = PTHREAD_COND_INITIALIZER;
static struct order *order;
static bool stopping;

/* In the child, between fork and exec: only system calls. */
static void become_sandbox(const struct order *o)
{
    struct rlimit processes = {.rlim_cur = (rlim_t)config->processes,
                               .rlim_max = (rlim_t)config->processes};
    struct rlimit files = {.rlim_cur = FILES_MAX, .rlim_max = FILES_MAX};
    struct rlimit no_core = {0, 0};
    sigset_t none;

    cgroup_enter(o->id);
    /* above the three targets first, so that no dup2 overwrites a source */
    int relay = fcntl(o->relay_fd, F_DUPFD, 16), settings = fcntl(o->config_fd, F_DUPFD, 16);
    int info = fcntl(o->info_fd, F_DUPFD, 16), null = open("/dev/null", O_RDWR);

    dup2(null, 0);
    dup2(null, 1);
    dup2(relay, RELAY_FD);
    dup2(settings, CONFIG_FD);
    dup2(info, INFO_FD);
    close_range(INFO_FD + 1, ~0U, 0);
    if (o->uid != 0) {
        if (setgroups(0, NULL) < 0 || setresgid(o->uid, o->uid, o->uid) < 0 ||
            setresuid(o->uid, o->uid, o->uid) < 0) {
            _exit(126);
        }
        /* of this user id alone, so it counts this sandbox alone */
        setrlimit(RLIMIT_NPROC, &processes);
    }
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_CORE, &no_core);
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    execvp(o->argv[0], o->argv);
    _exit(127);
}

static void *spawn_orders(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&order_lock);
    while (!stopping) {
        if (order == NULL || order->done) {
            pthread_cond_wait(&order_changed, &order_lock);
            continue;
        }
        order->pid = fork();
        if (order->pid == 0) {
            become_sandbox(order);
        }
        order->error = order->pid < 0 ? errno : 0;
        order->done = true;
        pthread_cond_broadcast(&order_changed);
    }
    pthread_mutex_unlock(&order_lock);
    return NULL;
}

static int place_order(struct order *mine, struct error *err)
{
    pthread_mutex_lock(&order_lock);
    while (order != NULL && !stopping) {
        pthread_cond_wait(&order_changed, &order_lock);
    }
    order = mine;
    pthread_cond_broadcast(&order_changed);
    while (!mine->done && !stopping) {
        pthread_cond_wait(&order_changed, &order_lock);
    }
    order = NULL;
    pthread_cond_broadcast(&order_changed);
    pthread_mutex_unlock(&order_lock);
    if (!mine->done) {
        return error_set(err, ERR_DRAINING, "the host is stopping");
    }
    return mine->error != 0 ? error_set_errno(err, ERR_INTERNAL, mine->error, "fork") : 0;
}

/* ---- folders
 * ------------------------------------------------------------------------------------------ */

static void sandbox_dir(char out[SPAWN_PATH_BYTES], const char *id)
{
    snprintf(out, SPAWN_PATH_BYTES, "%.60s/s/%.31s", config->state_dir, id);
}

int spawn_init(const struct host_config *host_config, struct error *err)
{
    char all[SPAWN_PATH_BYTES];
    int status;

    config = host_config;
    snprintf(all, sizeof(all), "%s/s", config->state_dir);
    if (files_make_dir(config->state_dir, 0711, err) < 0 || files_make_dir(all, 0711, err) < 0) {
        err->code = ERR_CONFIG;
        return error_prefix(err, "SANDBOX_HOST_STATE_DIR");
    }
    if (kit_init(config, &kit, err) < 0) {
        return -1;
    }
    /* a sandbox's first process becomes our child when bubblewrap dies first, and is waited for */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    status = pthread_create(&spawner, NULL, spawn_orders, NULL);
    return status != 0 ? error_set_errno(err, ERR_INTERNAL, status, "starting the spawner") : 0;
}

void spawn_done(void)
{
    pthread_mutex_lock(&order_lock);
    stopping = true;
    pthread_cond_broadcast(&order_changed);
    pthread_mutex_unlock(&order_lock);
    pthread_join(spawner, NULL);
}

/* ---- starting
 * ---------------------------------------------------------------------------------------------- */

static int listen_relay(const char *dir, uid_t uid, struct error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    (void)uid;
    snprintf(address.sun_path, sizeof(address.sun_path), "%s/relay", dir);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
        listen(fd, RELAY_BACKLOG) < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "%s", address.sun_path);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    chmod(address.sun_path, 0600);
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
    cJSON *tree = cJSON_CreateObject();
    struct strbuf text;
    size_t sent = 0;
    int status = 0;

    json_add_string_or_null(tree, "access_token", request->access_token);
    cJSON_AddItemToObject(tree, "envs", merge(request->template->envs, request->envs));
    cJSON_AddStringToObject(tree, "sandbox_id", request->id);
    cJSON_AddStringToObject(tree, "template_id", request->template->id);
    cJSON_AddStringToObject(tree, "user", "user");
    cJSON_AddStringToObject(tree, "home", "/home/user");
    cJSON_AddStringToObject(tree, "workdir", "/home/user");
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

static int wait_healthy(const char *id, pid_t wrapper_pid, struct error *err)
{
    int64_t until_ms = clock_mono_ms() + config->start_timeout_ms;

    while (!healthy(id)) {
        int status;

        if (waitpid(wrapper_pid, &status, WNOHANG) == wrapper_pid) {
            return error_set(err, ERR_INTERNAL, "the sandbox ended at once (status %d)", status);
        }
        if (clock_mono_ms() > until_ms) {
            return error_set(err, ERR_TIMEOUT, "the sandbox's agent did not answer in time");
        }
        clock_sleep_ms(2);
    }
    return 0;
}

/* The folders of the sandbox's own disk, and what the template has in its home. */
static int make_folders(const char *dir, const struct template *template, uid_t uid,
                        struct error *err)
{
    char path[PATH_MAX], skeleton[PATH_MAX];

    snprintf(path, sizeof(path), "%s/disk", dir);
    if (files_make_dir(dir, 0711, err) < 0 || files_make_dir(path, 0711, err) < 0) {
        return -1;
    }
    for (int i = 0; i < view_folder_count; i++) {
        snprintf(path, sizeof(path), "%s/disk/%s", dir, view_folders[i].name);
        if (files_make_dir(path, view_folders[i].mode, err) < 0) {
            return -1;
        }
        if (uid != 0 && lchown(path, uid, uid) < 0) {
            return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
        }
    }
    if (template->root != NULL) {
        snprintf(skeleton, sizeof(skeleton), "%s/home/user", template->root);
        snprintf(path, sizeof(path), "%s/disk/home", dir);
        if (access(skeleton, F_OK) == 0) {
            return files_copy_home(skeleton, path, uid, err);
        }
    }
    return 0;
}

int spawn_start(const struct spawn_request *request, pid_t *ret_wrapper_pid, pid_t *ret_init_pid,
                struct error *err)
{
    const struct cgroup_limits limits = {.memory_bytes = config->memory_bytes,
                                         .processes = config->processes,
                                         .cpu_percent = config->cpu_percent};
    struct order mine = {
        .id = request->id, .relay_fd = -1, .config_fd = -1, .info_fd = -1, .pid = -1};
    int settings[2] = {-1, -1}, info[2] = {-1, -1}, status = -1;
    struct view_argv argv = {.list = NULL};
    char dir[SPAWN_PATH_BYTES];
    const struct view_request seen = {.template = request->template,
                                      .dir = dir,
                                      .kit = &kit,
                                      .memory_folder_bytes = config->tmp_bytes,
                                      .info_fd = INFO_FD};

    if (geteuid() == 0) {
        mine.uid = (uid_t)(config->first_uid + request->uid_index);
    }
    sandbox_dir(dir, request->id);
    if (make_folders(dir, request->template, mine.uid, err) < 0 ||
        (mine.relay_fd = listen_relay(dir, mine.uid, err)) < 0) {
        goto out;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, settings) < 0 ||
        pipe2(info, O_CLOEXEC) < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "pipes");
        goto out;
    }
    cgroup_create(request->id, &limits);
    view_build(&argv, &seen);
    mine.argv = argv.list;
    mine.config_fd = settings[1];
    mine.info_fd = info[1];
    if (place_order(&mine, err) < 0) {
        goto out;
    }
    close(info[1]);
    info[1] = -1;
    close(settings[1]);
    settings[1] = -1;
    if (send_settings(settings[0], request, err) < 0) {
        goto out;
    }
    close(settings[0]);
    settings[0] = -1;
    if (read_child_pid(info[0], ret_init_pid, err) < 0 ||
        wait_healthy(request->id, mine.pid, err) < 0) {
        goto out;
    }
    *ret_wrapper_pid = mine.pid;
    status = 0;
out:
    for (int i = 0; i < 2; i++) {
        if (settings[i] >= 0) {
            close(settings[i]);
        }
        if (info[i] >= 0) {
            close(info[i]);
        }
    }
    if (mine.relay_fd >= 0) {
        close(mine.relay_fd);
    }
    view_free(&argv);
    if (status < 0) {
        spawn_kill(request->id, mine.pid, 0);
    }
    return status;
}

void spawn_kill(const char *id, pid_t wrapper_pid, pid_t init_pid)
{
    char dir[SPAWN_PATH_BYTES];

    if (init_pid > 0) {
        /* the first process of a pid namespace takes all others with it */
        kill(init_pid, SIGKILL);
    }
    if (wrapper_pid > 0) {
        kill(wrapper_pid, SIGKILL);
    }
    cgroup_let_die(id);
    if (wrapper_pid > 0) {
        waitpid(wrapper_pid, NULL, 0);
    }
    if (init_pid > 0) {
        /* ours when its parent died before it; otherwise bubblewrap has waited for it */
        waitpid(init_pid, NULL, 0);
    }
    cgroup_remove(id);
    sandbox_dir(dir, id);
    files_remove_tree(dir);
}

void spawn_clean_leftovers(void)
{
    char all[SPAWN_PATH_BYTES];
    struct dirent *entry;
    DIR *folder;

    snprintf(all, sizeof(all), "%s/s", config->state_dir);
    folder = opendir(all);
    if (folder == NULL) {
        return;
    }
    while ((entry = readdir(folder)) != NULL) {
        if (entry->d_name[0] != '.') {
            /* its processes died with the process that started them (--die-with-parent) */
            spawn_kill(entry->d_name, 0, 0);
        }
    }
    closedir(folder);
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

    sandbox_dir(dir, id);
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
