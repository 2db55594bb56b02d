/* disk - see disk.h. */
#include "deploy/sandbox-host/isolation/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/loop.h>
#include <linux/openat2.h>
#include <sched.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/bwrap_argv.h"
#include "deploy/sandbox-host/isolation/files.h"
#include "deploy/sandbox-host/isolation/image.h"
#include "deploy/sandbox-host/isolation/layers.h"

enum { ATTACH_TRIES = 64, BLOCK_BYTES = 4096 };
extern char **environ;

static const struct host_config *config;
static enum disk_mode mode;
static char pristine[PATH_MAX]; /* an image nobody has written to; copied for each sandbox */

/* ---- folders ---- */

static int make_folders(const char *dir, const char *home, uid_t uid, struct error *err)
{
    char path[PATH_MAX];

    for (int i = 0; i < bwrap_argv_folder_count; i++) {
        snprintf(path, sizeof(path), "%s/disk/%s", dir, bwrap_argv_folders[i].name);
        if (access(path, F_OK) == 0) {
            continue; /* of a disk that was used before: as its sandbox left it */
        }
        if (files_make_dir(path, bwrap_argv_folders[i].mode, err) < 0) {
            return -1;
        }
        if (uid != 0 && lchown(path, uid, uid) < 0) {
            return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
        }
    }
    snprintf(path, sizeof(path), "%s/disk/home", dir);
    return home != NULL ? files_copy_home(home, path, uid, err) : 0;
}

/* ---- images ---- */

static int make_pristine(struct error *err)
{
    /* no journal: a disk does not outlive its sandbox; no reserve for a root that is not there */
    char *argv[] = {"mkfs.ext4",
                    "-q",
                    "-F",
                    "-m",
                    "0",
                    "-b",
                    "4096",
                    "-i",
                    "32768",
                    "-O",
                    "^has_journal,^resize_inode",
                    "-E",
                    "lazy_itable_init=1,nodiscard,packed_meta_blocks=1",
                    pristine,
                    NULL};
    posix_spawn_file_actions_t actions;
    int fd, status, failure;
    pid_t pid;

    unlink(pristine);
    fd = open(pristine, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (config->disk_bytes / BLOCK_BYTES) * BLOCK_BYTES) < 0) {
        error_set_errno(err, ERR_CONFIG, errno, "%s", pristine);
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    close(fd);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    failure = posix_spawnp(&pid, "mkfs.ext4", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) {
        return error_set_errno(err, ERR_CONFIG, failure, "mkfs.ext4 (package e2fsprogs)");
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return error_set_errno(err, ERR_INTERNAL, errno, "mkfs.ext4");
        }
    }
    return status == 0 ? 0 : error_set(err, ERR_CONFIG, "mkfs.ext4 failed on %s", pristine);
}

/* Attaches the open image to a free loop device that lets go of it when nobody uses it any more. */
static int attach(int image, char device[DISK_DEVICE_BYTES], struct error *err)
{
    const struct loop_config how = {.fd = (uint32_t)image,
                                    .block_size = BLOCK_BYTES,
                                    .info = {.lo_flags = LO_FLAGS_AUTOCLEAR | LO_FLAGS_DIRECT_IO}};
    int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC), failure = errno;

    for (int i = 0; control >= 0 && i < ATTACH_TRIES; i++) {
        int number = ioctl(control, LOOP_CTL_GET_FREE), fd;

        if (number < 0) {
            failure = errno;
            break;
        }
        snprintf(device, DISK_DEVICE_BYTES, "/dev/loop%d", number);
        fd = open(device, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &how) == 0) {
            close(control);
            return fd;
        }
        failure = errno;
        if (fd >= 0) {
            close(fd);
        }
        if (failure != EBUSY && failure != ENXIO && failure != ENOENT) {
            break;
        }
        /* somebody else took it first */
    }
    if (control >= 0) {
        close(control);
    }
    return error_set_errno(err, ERR_INTERNAL, failure, "attaching a loop device");
}

static int check_room(const char *dir, struct error *err)
{
    struct statvfs room;

    if (statvfs(dir, &room) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", dir);
    }
    if ((int64_t)(room.f_bavail * room.f_frsize) < config->disk_reserve_bytes) {
        return error_set(err, ERR_OVERLOADED,
                         "less than SANDBOX_HOST_DISK_RESERVE_BYTES is free on this host's disk");
    }
    return 0;
}

/* The image of the sandbox in `dir`, open; see disk_make() for `source`. */
static int open_image(const char *dir, const char *source, struct error *err)
{
    char path[PATH_MAX];
    int image;

    snprintf(path, sizeof(path), "%s/disk.img", dir);
    if (source == NULL || *source != '\0') {
        return image_copy(source != NULL ? source : pristine, path, err);
    }
    if (image_wait_free(path, err) < 0 || image_check(path, err) < 0) {
        return -1;
    }
    image = open(path, O_RDWR | O_CLOEXEC);
    return image < 0 ? error_set_errno(err, ERR_INTERNAL, errno, "%s", path) : image;
}

int disk_make(const char *dir, const char *source, const char *home, uid_t uid,
              char device[DISK_DEVICE_BYTES], int *ret_fd, struct error *err)
{
    char path[PATH_MAX];
    int image;

    *ret_fd = -1;
    device[0] = '\0';
    snprintf(path, sizeof(path), "%s/disk", dir);
    if (check_room(dir, err) < 0 || files_make_dir(path, 0711, err) < 0) {
        return -1;
    }
    if (mode == DISK_MEMORY) {
        return 0;
    }
    if (mode == DISK_FOLDER) {
        return make_folders(dir, home, uid, err);
    }
    image = open_image(dir, source, err);
    if (image < 0) {
        return -1;
    }
    *ret_fd = attach(image, device, err);
    close(image);
    return *ret_fd < 0 ? -1 : 0;
}

/* Of a disk that was used before: a link at the top where something of the system will be put. The
 * sandbox may have made it, and bubblewrap would follow it. */
static int clear_places(const char *dir, const char *plan, struct error *err)
{
    static const char *const deeper[] = {"home/user", "var/tmp", "var/lib", "var/lib/dpkg"};
    const char *root = strncmp(plan, "root\t", 5) == 0 ? plan + 5 : NULL;
    char path[PATH_MAX], below[PATH_MAX];
    struct dirent *entry;
    struct stat status;
    DIR *top;
    int result = 0;

    snprintf(path, sizeof(path), "%s/disk/%s", dir, bwrap_argv_folders[0].name);
    top = opendir(path);
    if (top == NULL) {
        return errno == ENOENT ? 0 : error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    while (result == 0 && (entry = readdir(top)) != NULL) {
        const bool is_link =
            fstatat(dirfd(top), entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 &&
            S_ISLNK(status.st_mode);

        if (is_link && bwrap_argv_is_place(root, entry->d_name) &&
            unlinkat(dirfd(top), entry->d_name, 0) < 0) {
            result = error_set_errno(err, ERR_INTERNAL, errno, "%s/%s", path, entry->d_name);
        }
    }
    /* what is above them is no link any more */
    for (size_t i = 0; i < sizeof(deeper) / sizeof(deeper[0]) && result == 0; i++) {
        snprintf(below, sizeof(below), "%.4000s/%s", path, deeper[i]);
        if (lstat(below, &status) == 0 && S_ISLNK(status.st_mode) && unlink(below) < 0) {
            result = error_set_errno(err, ERR_INTERNAL, errno, "%s", below);
        }
    }
    closedir(top);
    return result;
}

int disk_mount(const char *device, const char *dir, const char *home, uid_t uid, const char *plan,
               struct error *err)
{
    char path[PATH_MAX];
    int mapping, status;

    snprintf(path, sizeof(path), "%s/disk", dir);
    /* discard gives the room of deleted files back to this machine; noinit_itable leaves the image
     * as sparse as it is */
    if (mount(device, path, "ext4", MS_NOSUID | MS_NODEV | MS_NOATIME, "discard,noinit_itable") <
        0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "mounting %s", device);
    }
    if (chmod(path, 0711) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    if (plan == NULL || *plan == '\0') {
        return make_folders(dir, home, uid, err);
    }
    /* what root owns on the disk is the sandbox's, once it is mapped */
    if (clear_places(dir, plan, err) < 0 || make_folders(dir, home, 0, err) < 0 ||
        layers_make_folders(dir, plan, err) < 0) {
        return -1;
    }
    mapping = layers_open_mapping(uid, err);
    status = mapping < 0 || layers_map(path, mapping, err) < 0 ||
                     layers_mount(dir, plan, mapping, uid, err) < 0
                 ? -1
                 : 0;
    if (mapping >= 0) {
        close(mapping);
    }
    return status;
}

/* A folder as the process sees it. The links on the way are the sandbox's: none leads out of it. */
static int open_inside(pid_t pid, const char *folder)
{
    const struct open_how how = {.flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT};
    char root[64];
    int top, fd, failure;

    snprintf(root, sizeof(root), "/proc/%ld/root", (long)pid);
    top = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (top < 0) {
        return -1;
    }
    fd = (int)syscall(SYS_openat2, top, folder, &how, sizeof(how));
    failure = errno;
    close(top);
    errno = failure;
    return fd;
}

int disk_usage(pid_t init_pid, int64_t *ret_used, int64_t *ret_total, struct error *err)
{
    /* in memory each folder is a file system of its own */
    int fd = open_inside(init_pid, mode == DISK_MEMORY ? "home/user" : "."), failure;
    struct statvfs disk;

    failure = fd < 0 || fstatvfs(fd, &disk) < 0 ? errno : 0;
    if (fd >= 0) {
        close(fd);
    }
    if (failure != 0) {
        return error_set_errno(err, ERR_INTERNAL, failure, "the disk of process %ld",
                               (long)init_pid);
    }
    *ret_used = (int64_t)((disk.f_blocks - disk.f_bfree) * disk.f_frsize);
    *ret_total = mode == DISK_FOLDER ? 0 : (int64_t)(disk.f_blocks * disk.f_frsize);
    return 0;
}

/* ---- what works here ---- */

/* One disk from start to end, as a sandbox has it. */
static int try_image(const char *plan, uid_t uid, struct error *err)
{
    char dir[PATH_MAX], device[DISK_DEVICE_BYTES];
    struct error left = ERROR_INIT;
    int fd = -1, status;
    pid_t pid;

    snprintf(dir, sizeof(dir), "%s/disk-check", config->state_dir);
    status = files_remove_tree(dir, err) < 0 ? -1 : files_make_dir(dir, 0711, err);
    if (status == 0) {
        mode = DISK_IMAGE;
        status = disk_make(dir, NULL, NULL, uid, device, &fd, err);
        mode = DISK_FOLDER;
    }
    if (status == 0) {
        pid = fork();
        if (pid == 0) {
            struct error failure = ERROR_INIT; /* the exit status says enough */

            _exit(unshare(CLONE_NEWNS) < 0 ||
                          mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
                          disk_mount(device, dir, NULL, uid, plan, &failure) < 0
                      ? 1
                      : 0);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0) {
            status = error_set(err, ERR_CONFIG,
                               plan == NULL ? "an image cannot be mounted here"
                                            : "no overlay with ID-mapped mounts here (Linux 5.19)");
        }
    }
    if (fd >= 0) {
        close(fd);
    }
    if (files_remove_tree(dir, &left) < 0 && status == 0) {
        *err = left;
        status = -1;
    }
    return status;
}

static int try_layers(const char *plan, struct error *err)
{
    return try_image(plan, (uid_t)config->first_uid, err);
}

int disk_init(const struct host_config *host_config, struct error *err)
{
    struct error read_only =
        ERROR_INIT; /* then sudo cannot change the system; all else is the same */

    config = host_config;
    mode = DISK_FOLDER;
    snprintf(pristine, sizeof(pristine), "%s/disk.img", config->state_dir);
    if (strcmp(config->disk, "memory") == 0) {
        mode = DISK_MEMORY;
        return 0;
    }
    if (strcmp(config->disk, "folder") == 0) {
        return error_set(err, ERR_CONFIG, "SANDBOX_HOST_DISK is folder, which nothing limits");
    }
    if (strcmp(config->disk, "image") != 0) {
        return error_set(err, ERR_INVALID, "SANDBOX_HOST_DISK: none of image, memory, folder");
    }
    if (geteuid() != 0) {
        return error_set(err, ERR_CONFIG, "only root can mount an image");
    }
    if (make_pristine(err) < 0 || try_image(NULL, 0, err) < 0) {
        return -1;
    }
    if (layers_init(config, try_layers, &read_only) < 0) {
        log_error(LOG_WARN, "sandbox_host.system_read_only", &read_only);
    }
    mode = DISK_IMAGE;
    return 0;
}

enum disk_mode disk_mode(void)
{
    return mode;
}
