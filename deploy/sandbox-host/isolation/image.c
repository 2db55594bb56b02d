/* image - see image.h. */
#include "deploy/sandbox-host/isolation/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/clock.h"

enum { FREE_MS = 5000, MENDED = 1 /* e2fsck: errors were corrected */ };
extern char **environ;

/* The parts of the image that hold something; the rest stays a hole. */
static int copy_sparse(int from, int to)
{
    struct stat status;
    off_t at = 0;

    if (fstat(from, &status) < 0 || ftruncate(to, status.st_size) < 0) {
        return -1;
    }
    while ((at = lseek(from, at, SEEK_DATA)) >= 0) {
        off_t end = lseek(from, at, SEEK_HOLE);

        if (end < 0 || lseek(from, at, SEEK_SET) < 0 || lseek(to, at, SEEK_SET) < 0) {
            return -1;
        }
        while (at < end) {
            ssize_t n = sendfile(to, from, NULL, (size_t)(end - at));

            if (n <= 0) {
                return -1;
            }
            at += n;
        }
    }
    return errno == ENXIO ? 0 : -1; /* no data behind the last hole */
}

int image_copy(const char *path_from, const char *path_to, struct error *err)
{
    int from = open(path_from, O_RDONLY | O_CLOEXEC);
    int to = open(path_to, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600), failure = 0;

    if (from < 0 || to < 0 || (ioctl(to, FICLONE, from) < 0 && copy_sparse(from, to) < 0)) {
        failure = errno;
    }
    if (from >= 0) {
        close(from);
    }
    if (failure != 0) {
        if (to >= 0) {
            close(to);
            unlink(path_to);
        }
        return error_set_errno(err, ERR_INTERNAL, failure, "%s", path_to);
    }
    return to;
}

int image_sync(pid_t init_pid, struct error *err)
{
    char root[64];
    int fd, status = 0;

    snprintf(root, sizeof(root), "/proc/%ld/root", (long)init_pid);
    fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || syncfs(fd) < 0) {
        status = error_set_errno(err, ERR_INTERNAL, errno, "writing the sandbox's disk");
    }
    if (fd >= 0) {
        close(fd);
    }
    return status;
}

int image_check(const char *path, struct error *err)
{
    char *argv[] = {"e2fsck", "-p", (char *)path, NULL};
    posix_spawn_file_actions_t actions;
    int status, failure;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    failure = posix_spawnp(&pid, "e2fsck", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (failure != 0) {
        return error_set_errno(err, ERR_INTERNAL, failure, "e2fsck (package e2fsprogs)");
    }
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            return error_set_errno(err, ERR_INTERNAL, errno, "e2fsck");
        }
    }
    return WIFEXITED(status) && WEXITSTATUS(status) <= MENDED
               ? 0
               : error_set(err, ERR_INTERNAL, "%s is damaged (e2fsck status %d)", path,
                           WIFEXITED(status) ? WEXITSTATUS(status) : -1);
}

/* Whether a loop device is over the file. */
static bool is_held(const char *path)
{
    DIR *devices = opendir("/sys/block");
    const struct dirent *entry;
    bool held = false;

    while (devices != NULL && !held && (entry = readdir(devices)) != NULL) {
        char file[NAME_MAX + 64], text[PATH_MAX];
        ssize_t n = -1;
        int fd;

        if (strncmp(entry->d_name, "loop", 4) != 0) {
            continue;
        }
        snprintf(file, sizeof(file), "/sys/block/%s/loop/backing_file", entry->d_name);
        fd = open(file, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            n = read(fd, text, sizeof(text) - 1);
            close(fd);
        }
        text[n > 0 ? n : 0] = '\0';
        text[strcspn(text, "\n")] = '\0';
        held = strcmp(text, path) == 0;
    }
    if (devices != NULL) {
        closedir(devices);
    }
    return held;
}

int image_wait_free(const char *path, struct error *err)
{
    const int64_t until_ms = clock_mono_ms() + FREE_MS;

    while (is_held(path)) {
        if (clock_mono_ms() > until_ms) {
            return error_set(err, ERR_TIMEOUT, "%s is still mounted", path);
        }
        clock_sleep_ms(2);
    }
    return 0;
}
