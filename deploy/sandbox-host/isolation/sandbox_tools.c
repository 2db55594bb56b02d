/* sandbox_tools - see sandbox_tools.h. */
#include "deploy/sandbox-host/isolation/sandbox_tools.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/strbuf.h"
#include "deploy/sandbox-host/isolation/files.h"

enum { LDD_MAX_BYTES = 65536 };
extern char **environ;

/* E2B's sandboxes have a sudo without a password. Here nothing is setuid, so it is a user namespace
 * in which the caller is root over what is its own anyway. The agent's program makes it, for a
 * template need not have one that can. */
static const char sudo_script[] =
    "#!/bin/bash\n"
    "# root over this sandbox's own files; see sandbox-host's README\n"
    "login=\n"
    "while [ $# -gt 0 ]; do\n"
    "    case $1 in\n"
    "        -u|-g|-p|-h) [ \"$1\" != -u ] || [ \"${2:-}\" = root ] || [ \"${2:-}\" != user ] || "
    "{ shift 2; exec env -- \"$@\"; }; shift 2 ;;\n"
    "        -i|-s) login=1; shift ;;\n"
    "        --) shift; break ;;\n"
    "        -*) shift ;;\n"
    "        *=*) export \"$1\"; shift ;;\n"
    "        *) break ;;\n"
    "    esac\n"
    "done\n"
    "PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin\n"
    "export HOME=/root USER=root LOGNAME=root SUDO_USER=user SUDO_UID=1000 SUDO_GID=1000\n"
    "if [ $# -eq 0 ]; then\n"
    "    [ -n \"$login\" ] || exit 0\n"
    "    set -- /bin/bash -l\n"
    "elif [ -n \"$login\" ]; then\n"
    "    set -- /bin/bash -l -c '\"$0\" \"$@\"' \"$@\"\n"
    "fi\n"
    "if [ \"$(id -u)\" = 0 ]; then exec \"$@\"; fi\n"
    "exec %s/.sandbox/agent --as-root -- \"$@\"\n";

/* The agent program: configured, or beside this one. */
static int find_agent(const struct host_config *config, char out[PATH_MAX], struct error *err)
{
    ssize_t n;

    if (config->agent != NULL) {
        str_copy(out, PATH_MAX, config->agent);
    } else {
        n = readlink("/proc/self/exe", out, PATH_MAX - 32);
        if (n < 0) {
            return error_set_errno(err, ERR_INTERNAL, errno, "/proc/self/exe");
        }
        out[n] = '\0';
        *(strrchr(out, '/') + 1) = '\0';
        str_copy(out + strlen(out), PATH_MAX - strlen(out), "sandbox-agent");
    }
    return access(out, R_OK | X_OK) == 0
               ? 0
               : error_set_errno(err, ERR_CONFIG, errno, "SANDBOX_HOST_AGENT: %s", out);
}

/* What `ldd program` prints; empty for a static one, at which ldd fails. */
static int ask_ldd(const char *program, struct strbuf *out, struct error *err)
{
    char *argv[] = {"ldd", (char *)program, NULL};
    posix_spawn_file_actions_t actions;
    char buffer[4096];
    int ends[2], failure;
    ssize_t n;
    pid_t pid;

    if (pipe2(ends, O_CLOEXEC) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "pipe");
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    failure = posix_spawnp(&pid, "ldd", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    while (failure == 0 && (n = read(ends[0], buffer, sizeof(buffer))) > 0) {
        strbuf_append(out, buffer, (size_t)n);
    }
    close(ends[0]);
    if (failure != 0) {
        return error_set_errno(err, ERR_CONFIG, failure, "ldd, to find the agent's libraries");
    }
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    return 0;
}

/* One line of ldd: "name => /path (0x...)" or "/path/of/loader (0x...)". */
static int copy_library(struct sandbox_tools *tools, char *line, struct error *err)
{
    char *arrow = strstr(line, "=> "), *path = arrow != NULL ? arrow + 3 : line, *name;
    char real[PATH_MAX], to[SANDBOX_TOOLS_PATH_BYTES + NAME_MAX + 2];

    path += strspn(path, " \t");
    path[strcspn(path, " \t")] = '\0';
    if (path[0] != '/' || realpath(path, real) == NULL) {
        return 0; /* linux-vdso, which is no file */
    }
    name = strrchr(path, '/') + 1;
    snprintf(to, sizeof(to), "%s/lib/%s", tools->folder, name);
    if (arrow == NULL) {
        str_copy(tools->loader, sizeof(tools->loader), name);
    }
    return files_copy_public(real, to, err) < 0 || chmod(to, 0755) < 0 ? -1 : 0;
}

static int copy_libraries(struct sandbox_tools *tools, struct error *err)
{
    char agent[SANDBOX_TOOLS_PATH_BYTES + 16];
    struct strbuf text;
    char *save = NULL;
    int status;

    strbuf_init(&text, LDD_MAX_BYTES);
    snprintf(agent, sizeof(agent), "%s/agent", tools->folder);
    status = ask_ldd(agent, &text, err);
    if (status == 0) {
        for (char *line = strtok_r(text.data, "\n", &save); line != NULL && status == 0;
             line = strtok_r(NULL, "\n", &save)) {
            status = copy_library(tools, line, err);
        }
    }
    strbuf_done(&text);
    return status;
}

int sandbox_tools_init(const struct host_config *config, struct sandbox_tools *ret,
                       struct error *err)
{
    char source[PATH_MAX], agent[SANDBOX_TOOLS_PATH_BYTES + 16], bin[SANDBOX_TOOLS_PATH_BYTES + 16];
    char lib[SANDBOX_TOOLS_PATH_BYTES + 16], sudo[SANDBOX_TOOLS_PATH_BYTES + 16];
    char loader[SANDBOX_TOOLS_NAME_BYTES + 64] = "", script[sizeof(sudo_script) + sizeof(loader)];

    *ret = (struct sandbox_tools){.loader = ""};
    snprintf(ret->folder, sizeof(ret->folder), "%.60s/kit", config->state_dir);
    snprintf(agent, sizeof(agent), "%s/agent", ret->folder);
    snprintf(bin, sizeof(bin), "%s/bin", ret->folder);
    snprintf(lib, sizeof(lib), "%s/lib", ret->folder);
    snprintf(sudo, sizeof(sudo), "%s/bin/sudo", ret->folder);
    /* copies, because a sandbox's user may not be able to reach the originals */
    if (find_agent(config, source, err) < 0 || files_make_dir(ret->folder, 0755, err) < 0 ||
        files_make_dir(bin, 0755, err) < 0 || files_make_dir(lib, 0755, err) < 0 ||
        files_copy(source, agent, 0755, err) < 0 || copy_libraries(ret, err) < 0) {
        return -1;
    }
    if (ret->loader[0] != '\0') {
        snprintf(loader, sizeof(loader), "/.sandbox/lib/%s --library-path /.sandbox/lib ",
                 ret->loader);
    }
    snprintf(script, sizeof(script), sudo_script, loader);
    return files_write(sudo, script, strlen(script), 0755, err);
}
