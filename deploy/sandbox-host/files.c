/* files - see files.h. */
#include "deploy/sandbox-host/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 65536, WALK_FDS = 32, COPY_DEPTH_MAX = 32 };

int files_make_dir(const char *path, mode_t mode, struct error *err)
{
    if (mkdir(path, mode) < 0 && errno != EEXIST) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    if (chmod(path, mode) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
    }
    return 0;
}

static int write_all(int fd, const char *data, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, data, length);

        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

int files_write(const char *path, const char *text, size_t length, mode_t mode, struct error *err)
{
    char temporary[PATH_MAX];
    int fd, failure;

    if (snprintf(temporary, sizeof(temporary), "%s.new", path) >= (int)sizeof(temporary)) {
        return error_set(err, ERR_INTERNAL, "%.100s...: path too long", path);
    }
    unlink(temporary);
    fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", temporary);
    }
    failure = write_all(fd, text, length) < 0 || fchmod(fd, mode) < 0 ? errno : 0;
    if (close(fd) < 0 && failure == 0) {
        failure = errno;
    }
    if (failure == 0 && rename(temporary, path) < 0) {
        failure = errno;
    }
    if (failure != 0) {
        unlink(temporary);
        return error_set_errno(err, ERR_INTERNAL, failure, "%s", path);
    }
    return 0;
}

int files_read(const char *path, struct strbuf *out, struct error *err)
{
    char buffer[8192];
    int fd = open(path, O_RDONLY | O_CLOEXEC), status = 0;
    ssize_t n;

    if (fd < 0) {
        return error_set_errno(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_INTERNAL, errno, "%s",
                               path);
    }
    while (status == 0 && (n = read(fd, buffer, sizeof(buffer))) != 0) {
        if (n < 0) {
            status = error_set_errno(err, ERR_INTERNAL, errno, "%s", path);
        } else if (strbuf_append(out, buffer, (size_t)n) < 0) {
            status =
                error_set(err, ERR_TOO_LARGE, "%s: larger than %zu bytes", path, out->max_bytes);
        }
    }
    close(fd);
    return status;
}

/* ---- copying ---- */

struct copy {
    bool public_only;
    uid_t uid; /* owner of the copies; 0 = us */
};

static int own(const struct copy *how, const char *path, struct error *err)
{
    return how->uid != 0 && lchown(path, how->uid, how->uid) < 0
               ? error_set_errno(err, ERR_INTERNAL, errno, "%s", path)
               : 0;
}

static int copy_file(const char *from, const char *to, mode_t mode, struct error *err)
{
    char buffer[COPY_BYTES];
    int in = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW), out, failure = 0;
    ssize_t n;

    if (in < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", from);
    }
    unlink(to);
    out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (out < 0) {
        failure = errno;
        close(in);
        return error_set_errno(err, ERR_INTERNAL, failure, "%s", to);
    }
    while (failure == 0 && (n = read(in, buffer, sizeof(buffer))) != 0) {
        failure = n < 0 || write_all(out, buffer, (size_t)n) < 0 ? errno : 0;
    }
    if (failure == 0 && fchmod(out, mode) < 0) {
        failure = errno;
    }
    close(in);
    if (close(out) < 0 && failure == 0) {
        failure = errno;
    }
    return failure == 0 ? 0 : error_set_errno(err, ERR_INTERNAL, failure, "%s", to);
}

static int copy_link(const char *from, const char *to, struct error *err)
{
    char target[PATH_MAX];
    ssize_t n = readlink(from, target, sizeof(target) - 1);

    if (n < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", from);
    }
    target[n] = '\0';
    unlink(to);
    return symlink(target, to) < 0 ? error_set_errno(err, ERR_INTERNAL, errno, "%s", to) : 0;
}

static int copy_entry(const struct copy *how, const char *from, const char *to, int depth,
                      struct error *err);

static int copy_folder(const struct copy *how, const char *from, const char *to, mode_t mode,
                       int depth, struct error *err)
{
    DIR *folder = opendir(from);
    struct dirent *entry;
    int status;

    if (folder == NULL) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", from);
    }
    status = files_make_dir(to, mode | S_IWUSR, err);
    while (status == 0 && (entry = readdir(folder)) != NULL) {
        char source[PATH_MAX], target[PATH_MAX];

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (snprintf(source, sizeof(source), "%s/%s", from, entry->d_name) >= PATH_MAX ||
            snprintf(target, sizeof(target), "%s/%s", to, entry->d_name) >= PATH_MAX) {
            status = error_set(err, ERR_INTERNAL, "%.100s...: path too long", from);
        } else {
            status = copy_entry(how, source, target, depth + 1, err);
        }
    }
    closedir(folder);
    return status;
}

static int copy_entry(const struct copy *how, const char *from, const char *to, int depth,
                      struct error *err)
{
    const mode_t open_folder = S_IROTH | S_IXOTH;
    struct stat status;
    int result = 0;

    if (depth > COPY_DEPTH_MAX) {
        return error_set(err, ERR_INTERNAL, "%.100s: nested too deeply", from);
    }
    if (lstat(from, &status) < 0) {
        return error_set_errno(err, ERR_INTERNAL, errno, "%s", from);
    }
    if (S_ISLNK(status.st_mode)) {
        result = copy_link(from, to, err);
    } else if (S_ISREG(status.st_mode) && (!how->public_only || (status.st_mode & S_IROTH) != 0)) {
        result = copy_file(from, to, status.st_mode & 0777, err);
    } else if (S_ISDIR(status.st_mode) &&
               (!how->public_only || (status.st_mode & open_folder) == open_folder)) {
        result = copy_folder(how, from, to, status.st_mode & 0777, depth, err);
    } else {
        return 0;
    }
    return result < 0 ? -1 : own(how, to, err);
}

int files_copy(const char *from, const char *to, mode_t mode, struct error *err)
{
    char fresh[PATH_MAX];

    if (snprintf(fresh, sizeof(fresh), "%s.new", to) >= (int)sizeof(fresh)) {
        return error_set(err, ERR_INTERNAL, "%.100s...: path too long", to);
    }
    if (copy_file(from, fresh, mode, err) < 0) {
        unlink(fresh);
        return -1;
    }
    return rename(fresh, to) < 0 ? error_set_errno(err, ERR_INTERNAL, errno, "%s", to) : 0;
}

int files_copy_public(const char *from, const char *to, struct error *err)
{
    return copy_entry(&(struct copy){.public_only = true}, from, to, 0, err);
}

int files_copy_home(const char *from, const char *to, uid_t uid, struct error *err)
{
    return copy_entry(&(struct copy){.uid = uid}, from, to, 0, err);
}

/* ---- removing ---- */

static int remove_entry(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)walk;
    if (kind == FTW_DNR || kind == FTW_D) {
        /* a folder its owner closed to everybody: ours to open when we run as its owner */
        chmod(path, 0700);
    }
    remove(path);
    return 0;
}

/* Ends the walk with the reason of the first entry that stays. */
static int remove_or_say(const char *path, const struct stat *status, int kind, struct FTW *walk)
{
    (void)status;
    (void)kind;
    (void)walk;
    return remove(path) == 0 || errno == ENOENT ? 0 : errno;
}

static bool is_gone(const char *path)
{
    return access(path, F_OK) < 0 && errno == ENOENT;
}

int files_remove_tree(const char *path, struct error *err)
{
    int failure;

    /* each round opens one more level of folders that were closed to their own owner */
    for (int round = 0; round < COPY_DEPTH_MAX && !is_gone(path); round++) {
        nftw(path, remove_entry, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    }
    if (is_gone(path)) {
        return 0;
    }
    failure = nftw(path, remove_or_say, WALK_FDS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    if (is_gone(path)) {
        return 0;
    }
    return error_set_errno(err, ERR_INTERNAL, failure > 0 ? failure : errno, "removing %s", path);
}
