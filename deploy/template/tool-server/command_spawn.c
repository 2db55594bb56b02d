/* command_spawn - see command_spawn.h. */
#include "deploy/template/tool-server/command_spawn.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

enum { KILL_ROUNDS = 40, KILL_PAUSE_MS = 5, ENVIRON_BYTES = 256 * 1024 };

/* ---- start ---- */

static bool named(const char *entry, const char *name)
{
    const size_t length = strlen(name);

    return strncmp(entry, name, length) == 0 && entry[length] == '=';
}

static bool overridden(const char *entry, const cJSON *env)
{
    const cJSON *item;

    cJSON_ArrayForEach(item, env)
    {
        if (named(entry, item->string)) {
            return true;
        }
    }
    return strncmp(entry, "MCP_", 4) == 0;
}

static char *assignment(const char *name, const char *value)
{
    struct strbuf text;

    strbuf_init(&text, strlen(name) + strlen(value) + 1);
    (void)strbuf_printf(&text, "%s=%s", name, value);
    return strbuf_take(&text);
}

/* A NULL-ended heap array of heap strings. */
static char **make_environment(const cJSON *env, const char *id)
{
    size_t count = 0, at = 0;
    const cJSON *item;
    char **list;

    while (environ[count] != NULL) {
        count++;
    }
    list = xcalloc(count + (size_t)cJSON_GetArraySize(env) + 2, sizeof(*list));
    for (size_t i = 0; i < count; i++) {
        if (!overridden(environ[i], env)) {
            list[at++] = xstrdup(environ[i]);
        }
    }
    cJSON_ArrayForEach(item, env)
    {
        if (strcmp(item->string, COMMAND_MARK) != 0) {
            list[at++] = assignment(item->string, item->valuestring);
        }
    }
    list[at] = assignment(COMMAND_MARK, id);
    return list;
}

static void free_environment(char **list)
{
    for (char **entry = list; *entry != NULL; entry++) {
        free(*entry);
    }
    free(list);
}

/* 0 or an errno. The child gets the pipe's end `out` and nothing else of ours. */
static int spawn_child(const struct command_spec *spec, char **environment, int out, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none, all;
    int status;

    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_init(&actions);
    posix_spawnattr_setflags(&attributes,
                             POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    status = posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (status == 0) {
        status = posix_spawn_file_actions_adddup2(&actions, out, 1);
    }
    if (status == 0) {
        status = posix_spawn_file_actions_adddup2(&actions, out, 2);
    }
    if (status == 0) {
        status = posix_spawn_file_actions_addclosefrom_np(&actions, 3);
    }
    if (status == 0) {
        status = posix_spawn_file_actions_addchdir_np(&actions, spec->cwd);
    }
    if (status == 0) {
        /* its own prototype lacks the const; nothing is written */
        union {
            const char *const *given;
            char *const *taken;
        } argv = {.given = spec->argv};

        status =
            posix_spawnp(ret_pid, spec->argv[0], &actions, &attributes, argv.taken, environment);
    }
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return status;
}

int command_spawn(const struct command_spec *spec, const char *id, struct command_spawned *ret,
                  struct error *err)
{
    int ends[2], failure;
    char **environment;

    if (pipe2(ends, O_CLOEXEC) != 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "cannot start the command");
    }
    (void)fcntl(ends[0], F_SETFL, O_NONBLOCK);
    environment = make_environment(spec->env, id);
    failure = spawn_child(spec, environment, ends[1], &ret->pid);
    free_environment(environment);
    close(ends[1]);
    if (failure == 0) {
        ret->pidfd = pidfd_open(ret->pid, 0); /* close-on-exec by itself */
        failure = ret->pidfd < 0 ? errno : 0;
        if (failure != 0) {
            (void)kill(-ret->pid, SIGKILL);
            (void)waitpid(ret->pid, NULL, 0);
        }
    }
    if (failure != 0) {
        close(ends[0]);
        return error_set_errno(err, ERR_INTERNAL, failure, "cannot start %s", spec->argv[0]);
    }
    ret->out = ends[0];
    return 0;
}

/* ---- death ---- */

/* Whether the process has the mark in the environment it was started with; a zombie has none. */
static bool carries(const char *pid, const char *mark, char *buffer)
{
    size_t length = 0;
    char path[64];
    ssize_t n;
    int fd;

    snprintf(path, sizeof(path), "/proc/%.20s/environ", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false; /* gone, or another user's */
    }
    while (length < ENVIRON_BYTES && (n = read(fd, buffer + length, ENVIRON_BYTES - length)) > 0) {
        length += (size_t)n;
    }
    close(fd);
    return memmem(buffer, length, mark, strlen(mark) + 1) != NULL;
}

static int kill_marked(const char *mark, char *buffer)
{
    DIR *folder = opendir("/proc");
    const struct dirent *entry;
    int found = 0;

    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        if (isdigit((unsigned char)entry->d_name[0]) && carries(entry->d_name, mark, buffer)) {
            (void)kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
            found++;
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return found;
}

void command_spawn_kill(pid_t pid, const char *id)
{
    char *mark = assignment(COMMAND_MARK, id);
    char *buffer = xmalloc(ENVIRON_BYTES);

    if (pid > 0) {
        (void)kill(-pid, SIGKILL);
    }
    /* one that forked away meanwhile is found by the next round */
    for (int round = 0; round < KILL_ROUNDS && kill_marked(mark, buffer) > 0; round++) {
        clock_sleep_ms(KILL_PAUSE_MS);
    }
    free(buffer);
    free(mark);
}
