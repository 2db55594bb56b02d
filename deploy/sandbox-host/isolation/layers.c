/* layers - see layers.h. */
#include "deploy/sandbox-host/isolation/layers.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "deploy/sandbox-host/isolation/files.h"

enum {
    HOLDER_STACK_BYTES = 16384,
    KEEP_CAPABILITIES = 4, /* SECBIT_NO_SETUID_FIXUP */
    OPTIONS_BYTES = 4000,  /* mount(2) takes one page */
    SYSTEM_IDS = 1000,     /* ids below are the distribution's; those of sandboxes are above */
    READ_BY_ALL = S_IROTH,
    ENTER_BY_ALL = S_IROTH | S_IXOTH,
};
#define PACKAGES "/var/lib/dpkg"
#define PEP_668  "EXTERNALLY-MANAGED"

static char hidden[PATH_MAX / 2]; /* layer of whiteouts over this machine's /usr */
static bool available;
static char reason[ERROR_MESSAGE_BYTES];

/* ---- what is hidden ---- */

struct scan {
    char inside[PATH_MAX]; /* below /usr, "" for itself */
    struct error *err;
};

/* A character device 0/0 in a layer hides what lies below it (overlayfs.rst, "whiteouts"). */
static int hide(const char *inside, struct error *err)
{
    char path[PATH_MAX * 2], *slash;

    snprintf(path, sizeof(path), "%s%s", hidden, inside);
    for (slash = path + strlen(hidden); (slash = strchr(slash + 1, '/')) != NULL; *slash = '/') {
        *slash = '\0';
        if (mkdir(path, 0755) < 0 && errno != EEXIST) {
            return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
        }
    }
    return mknod(path, S_IFCHR, makedev(0, 0)) < 0 && errno != EEXIST
               ? error_set_errno(err, ERR_CONFIG, errno, "%s", path)
               : 0;
}

static int scan_folder(struct scan *scan, int at, const char *name);

static int scan_entry(struct scan *scan, int folder, const struct dirent *entry)
{
    const size_t length = strlen(scan->inside);
    struct stat status;
    bool open_to_all;
    int result = 0;

    if (entry->d_type == DT_LNK || strcmp(entry->d_name, ".") == 0 ||
        strcmp(entry->d_name, "..") == 0 ||
        fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) < 0 ||
        S_ISLNK(status.st_mode)) {
        return 0; /* a link says nothing by itself; an entry that went is hidden by its absence */
    }
    if (snprintf(scan->inside + length, sizeof(scan->inside) - length, "/%s", entry->d_name) >=
        (int)(sizeof(scan->inside) - length)) {
        result = error_set(scan->err, ERR_CONFIG, "/usr%.100s...: path too long", scan->inside);
    } else {
        open_to_all = S_ISDIR(status.st_mode) ? (status.st_mode & ENTER_BY_ALL) == ENTER_BY_ALL
                                              : (status.st_mode & READ_BY_ALL) != 0;
        if (!open_to_all || strcmp(entry->d_name, PEP_668) == 0) {
            result = hide(scan->inside, scan->err);
        } else if (S_ISDIR(status.st_mode)) {
            result = scan_folder(scan, folder, entry->d_name);
        }
    }
    scan->inside[length] = '\0';
    return result;
}

static int scan_folder(struct scan *scan, int at, const char *name)
{
    const int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *folder = fd >= 0 ? fdopendir(fd) : NULL;
    const struct dirent *entry;
    int status = 0;

    if (folder == NULL) {
        status = errno == ENOENT ? 0 : error_set_errno(scan->err, ERR_CONFIG, errno, "%s", name);
        if (fd >= 0) {
            close(fd);
        }
        return status;
    }
    while (status == 0 && (entry = readdir(folder)) != NULL) {
        status = scan_entry(scan, fd, entry);
    }
    closedir(folder);
    return status;
}

static int find_hidden(struct error *err)
{
    struct scan *scan = xcalloc(1, sizeof(*scan));
    int status;

    scan->err = err;
    status = files_remove_tree(hidden, err) < 0 || files_make_dir(hidden, 0755, err) < 0 ||
                     scan_folder(scan, AT_FDCWD, "/usr") < 0
                 ? -1
                 : 0;
    free(scan);
    return status;
}

/* ---- the plan ---- */

void layers_plan(const struct userland *userland, struct strbuf *out)
{
    if (!available) {
        return;
    }
    if (userland->root != NULL) {
        strbuf_printf(out, "root\t%s\n", userland->root);
    } else {
        strbuf_printf(out, "usr\t%s:/usr\n", hidden);
        if (access(PACKAGES, F_OK) == 0) {
            strbuf_puts(out, "dpkg\t" PACKAGES "\n");
        }
    }
    strbuf_printf(out, "etc\t%s\n", userland->etc);
}

bool layers_available(void)
{
    return available;
}

const char *layers_reason(void)
{
    return reason;
}

/* One line of a plan, cut into its parts in `line`; the rest of the plan, or NULL at its end. */
struct layer {
    char line[OPTIONS_BYTES];
    const char *name;
    char *lowers;
};

static const char *next_layer(const char *plan, struct layer *ret)
{
    size_t length = plan != NULL ? strcspn(plan, "\n") : 0;
    char *tab;

    if (length == 0 || length >= sizeof(ret->line)) {
        return NULL;
    }
    memcpy(ret->line, plan, length);
    ret->line[length] = '\0';
    tab = strchr(ret->line, '\t');
    if (tab == NULL) {
        return NULL;
    }
    *tab = '\0';
    ret->name = ret->line;
    ret->lowers = tab + 1;
    return plan + length + (plan[length] == '\n');
}

int layers_make_folders(const char *dir, const char *plan, struct error *err)
{
    struct layer *layer = xmalloc(sizeof(*layer));
    char path[PATH_MAX];
    int status = 0;

    if (plan != NULL && *plan != '\0') {
        snprintf(path, sizeof(path), "%s/disk/sys", dir);
        status = files_make_dir(path, 0711, err);
    }
    while (status == 0 && (plan = next_layer(plan, layer)) != NULL) {
        snprintf(path, sizeof(path), "%s/disk/sys/%s", dir, layer->name);
        status = files_make_dir(path, 0755, err);
        if (status == 0) {
            snprintf(path, sizeof(path), "%s/disk/sys/%s.work", dir, layer->name);
            status = files_make_dir(path, 0700, err);
        }
    }
    free(layer);
    return status;
}

/* ---- the mounts ---- */

static int write_map(pid_t pid, const char *file, uid_t uid, struct error *err)
{
    char path[64], text[64];
    int fd;
    ssize_t n;

    snprintf(path, sizeof(path), "/proc/%ld/%s", (long)pid, file);
    /* the distribution's other ids stay what they are: a folder of root:staff is still writable by
     * its owner only when its group is some group */
    snprintf(text, sizeof(text), "0 %u 1\n1 1 %d\n", (unsigned)uid, SYSTEM_IDS - 1);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    n = write(fd, text, strlen(text));
    if (n != (ssize_t)strlen(text)) {
        error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    close(fd);
    return n == (ssize_t)strlen(text) ? 0 : -1;
}

/* Keeps its user namespace until its parent has opened that or is gone. It shares its parent's
 * memory, so it does no more than this. */
static int hold_namespace(void *arg)
{
    const int *let_go = arg;
    char byte;

    close(let_go[1]); /* the parent's alone: its end is seen here */
    (void)!read(let_go[0], &byte, 1);
    return 0;
}

int layers_open_mapping(uid_t uid, struct error *err)
{
    char *stack = xmalloc(HOLDER_STACK_BYTES), path[64];
    int let_go[2], fd = -1;
    pid_t pid;

    if (pipe2(let_go, O_CLOEXEC) < 0) {
        free(stack);
        return error_set_errno(err, ERR_INTERNAL, errno, "pipe");
    }
    /* memory is shared to save its copy: this is on the way of every start */
    pid = clone(hold_namespace, stack + HOLDER_STACK_BYTES, CLONE_VM | CLONE_NEWUSER | SIGCHLD,
                let_go);
    if (pid < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "a user namespace for a sandbox's files");
    } else if (write_map(pid, "uid_map", uid, err) == 0 &&
               write_map(pid, "gid_map", uid, err) == 0) {
        snprintf(path, sizeof(path), "/proc/%ld/ns/user", (long)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
        }
    }
    close(let_go[1]);
    while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
    close(let_go[0]);
    free(stack);
    return fd;
}

/* Attaches a copy of the mount of `from` at `to`, under the mapping. */
static int attach_mapped(const char *from, const char *to, int mapping, uint64_t more,
                         struct error *err)
{
    struct mount_attr attributes = {.attr_set = MOUNT_ATTR_IDMAP | more,
                                    .userns_fd = (uint64_t)mapping};
    const int tree = open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
    int status = 0;

    if (tree < 0 || mount_setattr(tree, "", AT_EMPTY_PATH, &attributes, sizeof(attributes)) < 0) {
        status = error_set_errno(err, ERR_CONFIG, errno, "an ID-mapped mount of %s", from);
    } else if (move_mount(tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) < 0) {
        status = error_set_errno(err, ERR_INTERNAL, errno, "mounting %s", to);
    }
    if (tree >= 0) {
        close(tree);
    }
    return status;
}

int layers_map(const char *path, int mapping, struct error *err)
{
    /* over it: taking away what is below would cost each start a grace period of the kernel */
    return attach_mapped(path, path, mapping, 0, err);
}

/* Who mounts an overlay is who it later makes copies as: that must be an id the mapping knows, with
 * root's capabilities. */
static int mount_overlay_as(uid_t uid, const char *at, const char *options, struct error *err)
{
    int status = 0;

    if (prctl(PR_SET_SECUREBITS, KEEP_CAPABILITIES, 0, 0, 0) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "secure bits");
    }
    setfsgid(uid);
    setfsuid(uid);
    if (mount("overlay", at, "overlay", MS_NOSUID | MS_NODEV, options) < 0) {
        status = error_set_errno(err, ERR_CONFIG, errno, "an overlay at %s", at);
    }
    setfsuid(geteuid());
    setfsgid(getegid());
    if (prctl(PR_SET_SECUREBITS, 0, 0, 0, 0) < 0) {
        status = error_set_errno(err, ERR_INTERNAL, errno, "secure bits");
    }
    return status;
}

static int mount_layer(const char *dir, struct layer *layer, int mapping, uid_t uid,
                       struct error *err)
{
    char path[PATH_MAX], options[OPTIONS_BYTES], *save = NULL;
    size_t used = (size_t)snprintf(options, sizeof(options), "lowerdir=");
    int number = 0;

    for (char *lower = strtok_r(layer->lowers, ":", &save); lower != NULL;
         lower = strtok_r(NULL, ":", &save)) {
        snprintf(path, sizeof(path), "%s/sys/%s.%d", dir, layer->name, number);
        if (files_make_dir(path, 0700, err) < 0 ||
            attach_mapped(lower, path, mapping, MOUNT_ATTR_RDONLY, err) < 0) {
            return -1;
        }
        used += (size_t)snprintf(options + used, sizeof(options) - used, "%s%s",
                                 number++ > 0 ? ":" : "", path);
    }
    used += (size_t)snprintf(options + used, sizeof(options) - used,
                             ",upperdir=%s/disk/sys/%s,workdir=%s/disk/sys/%s.work,index=off,"
                             "metacopy=off",
                             dir, layer->name, dir, layer->name);
    snprintf(path, sizeof(path), "%s/sys/%s", dir, layer->name);
    if (used >= sizeof(options) || files_make_dir(path, 0755, err) < 0) {
        return used >= sizeof(options) ? error_set(err, ERR_CONFIG, "%s: too long", dir) : -1;
    }
    return mount_overlay_as(uid, path, options, err);
}

int layers_mount(const char *dir, const char *plan, int mapping, uid_t uid, struct error *err)
{
    struct layer *layer = xmalloc(sizeof(*layer));
    char path[PATH_MAX];
    int status = 0;

    if (plan != NULL && *plan != '\0') {
        snprintf(path, sizeof(path), "%s/sys", dir);
        status = files_make_dir(path, 0711, err);
    }
    while (status == 0 && (plan = next_layer(plan, layer)) != NULL) {
        status = mount_layer(dir, layer, mapping, uid, err);
    }
    free(layer);
    return status;
}

/* ---- what works here ---- */

int layers_init(const struct host_config *config, int (*try_plan)(const char *, struct error *),
                struct error *err)
{
    char plan[PATH_MAX];

    snprintf(hidden, sizeof(hidden), "%s/hidden", config->state_dir);
    snprintf(plan, sizeof(plan), "usr\t%s:/usr\n", hidden);
    available = find_hidden(err) == 0 && try_plan(plan, err) == 0;
    str_copy(reason, sizeof(reason), available ? "" : err->message);
    return available ? 0 : -1;
}
