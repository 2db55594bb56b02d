/* files - see files.h. */
#include "deploy/sandbox-host/isolation/files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { COPY_BYTES = 65536, COPY_DEPTH_MAX = 32 };

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

/* Whoever made the tree chose how deep it is and what it is called. So no path is as long and no
 * stack as high as the tree: what a folder holds is first moved up beside it, and then it goes. */
struct removal {
    int top;
    dev_t device;
    unsigned long long moved; /* gives the folders that move up their names */
    bool progress;            /* in this round */
    int failure;              /* errno of the first entry that stayed in this round */
};

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static bool is_folder(int at, const char *name)
{
    struct stat status;

    return fstatat(at, name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(status.st_mode);
}

static void stays(struct removal *removal)
{
    if (removal->failure == 0) {
        removal->failure = errno;
    }
}

/* Beside the others at the top. */
static void move_up(struct removal *removal, int from, const char *name)
{
    char up[32];

    do {
        snprintf(up, sizeof(up), ".removing-%llu", removal->moved++);
        if (renameat(from, name, removal->top, up) == 0) {
            removal->progress = true;
            return;
        }
    } while (errno == ENOTEMPTY || errno == EEXIST || errno == ENOTDIR);
    stays(removal);
}

/* False: a folder with something in it, which we now may enter and move if anybody may. */
static bool remove_entry(struct removal *removal, int at, const char *name)
{
    bool folder = is_folder(at, name);

    if (unlinkat(at, name, folder ? AT_REMOVEDIR : 0) == 0) {
        removal->progress = true;
        return true;
    }
    if (!folder || (errno != ENOTEMPTY && errno != EEXIST)) {
        stays(removal);
        return true;
    }
    /* closed by its owner, as whom we run; when not, the next call tells */
    (void)!fchmodat(at, name, 0700, 0);
    return false;
}

/* Calls for each entry of the folder; takes fd. */
static void each_entry(struct removal *removal, int fd,
                       void (*visit)(struct removal *removal, int at, const char *name))
{
    DIR *folder = fdopendir(fd);
    struct dirent *entry;

    if (folder == NULL) {
        stays(removal);
        close(fd);
        return;
    }
    while ((entry = readdir(folder)) != NULL) {
        if (!is_dots(entry->d_name)) {
            visit(removal, fd, entry->d_name);
        }
    }
    closedir(folder);
}

static void clear_inner(struct removal *removal, int at, const char *name)
{
    if (!remove_entry(removal, at, name)) {
        move_up(removal, at, name);
    }
}

static int open_folder(int at, const char *name)
{
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

static void clear_top(struct removal *removal, int at, const char *name)
{
    struct stat status;
    int fd;

    if (remove_entry(removal, at, name)) {
        return;
    }
    fd = open_folder(at, name);
    if (fd < 0) {
        stays(removal);
        return;
    }
    if (fstat(fd, &status) < 0 || (status.st_dev != removal->device && (errno = EBUSY) != 0)) {
        stays(removal);
        close(fd);
        return;
    }
    each_entry(removal, fd, clear_inner);
    if (unlinkat(at, name, AT_REMOVEDIR) == 0) {
        removal->progress = true;
    } else {
        stays(removal);
    }
}

int files_remove_tree(const char *path, struct error *err)
{
    struct removal removal = {.progress = true};
    struct stat status;
    int again;

    if (unlink(path) == 0 || errno == ENOENT) {
        return 0;
    }
    (void)!chmod(path, 0700); /* as in remove_entry() */
    removal.top = open_folder(AT_FDCWD, path);
    if (removal.top < 0 || fstat(removal.top, &status) < 0) {
        removal.failure = errno;
        removal.progress = false;
    } else {
        removal.device = status.st_dev;
    }
    while (removal.progress) {
        removal.progress = false;
        removal.failure = 0;
        /* a description of its own, so that each round begins at the first entry */
        again = open_folder(removal.top, ".");
        if (again < 0) {
            stays(&removal);
        } else {
            each_entry(&removal, again, clear_top);
        }
    }
    if (removal.top >= 0) {
        close(removal.top);
    }
    if (removal.failure == 0 && rmdir(path) < 0) {
        removal.failure = errno;
    }
    return removal.failure == 0
               ? 0
               : error_set_errno(err, ERR_INTERNAL, removal.failure, "removing %s", path);
}
