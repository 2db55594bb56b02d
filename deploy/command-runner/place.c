/* place - see place.h. */
#include "deploy/command-runner/place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/base/alloc.h"

#define PLACE_ROOT "/tmp/.sandbox-commands"

enum { ID_LENGTH = 36, SPARES = 3 /* states written in a life: it runs, it ended, all of it */ };

static const char *const phase_names[PHASE_COUNT] = {"running", "exited", "timed_out", "killed",
                                                     "lost"};

static int64_t now_ms(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t place_wall_ms(void)
{
    return now_ms(CLOCK_REALTIME);
}

int64_t place_mono_ms(void)
{
    return now_ms(CLOCK_MONOTONIC);
}

bool place_is_id(const char *id)
{
    return strlen(id) == ID_LENGTH && strspn(id, "0123456789abcdef-") == ID_LENGTH;
}

void place_path(char ret[PLACE_BYTES], const char *id, const char *name)
{
    snprintf(ret, PLACE_BYTES, PLACE_ROOT "/%s%s%s", id, name[0] != '\0' ? "/" : "", name);
}

static void remove_folder(const char *path)
{
    DIR *folder = opendir(path);
    struct dirent *entry;

    while (folder != NULL && (entry = readdir(folder)) != NULL) {
        unlinkat(dirfd(folder), entry->d_name, 0); /* "." and ".." refuse */
    }
    if (folder != NULL) {
        closedir(folder);
    }
    rmdir(path);
}

/* Writes the spare states, and allocates blocks behind the end of the first output file. */
static int reserve(const char *folder)
{
    static const char empty[PLACE_STATE_MAX_BYTES];
    char path[PLACE_BYTES + 32];
    int fd, status = 0;

    for (int i = 1; i <= SPARES && status == 0; i++) {
        snprintf(path, sizeof(path), "%s/spare.%d", folder, i);
        fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) {
            return -1;
        }
        status = write(fd, empty, sizeof(empty)) == (ssize_t)sizeof(empty) ? 0 : -1;
        close(fd);
    }
    if (status < 0) {
        return -1;
    }
    snprintf(path, sizeof(path), "%s/o.0", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return -1;
    }
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, PLACE_OUTPUT_BYTES) < 0 && errno == ENOSPC) {
        status = -1; /* another error: a file system that cannot reserve */
    }
    close(fd);
    errno = status < 0 ? ENOSPC : 0;
    return status;
}

int place_make(const char *id)
{
    char making[PLACE_BYTES + 16], path[PLACE_BYTES], lock[PLACE_BYTES + 32];
    int fd, failed;

    place_path(path, id, "");
    snprintf(making, sizeof(making), "%s.%d", path, (int)getpid());
    if (place_exists(id)) {
        errno = EEXIST;
        return -1;
    }
    if (mkdir(making, 0700) < 0) {
        /* the first command of this sandbox; the folder is everybody's, as /tmp is */
        if (errno != ENOENT || mkdir(PLACE_ROOT, 01777) < 0 || chmod(PLACE_ROOT, 01777) < 0 ||
            mkdir(making, 0700) < 0) {
            return -1;
        }
    }
    snprintf(lock, sizeof(lock), "%s/lock", making);
    fd = open(lock, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && reserve(making) == 0 &&
        rename(making, path) == 0) {
        return fd;
    }
    failed = errno == ENOTEMPTY ? EEXIST : errno;
    if (fd >= 0) {
        close(fd);
    }
    remove_folder(making);
    errno = failed;
    return -1;
}

bool place_exists(const char *id)
{
    char path[PLACE_BYTES];
    struct stat info;

    place_path(path, id, "");
    return lstat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool place_is_locked(const char *id)
{
    char path[PLACE_BYTES];
    bool locked;
    int fd;

    place_path(path, id, "lock");
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return false;
    }
    locked = flock(fd, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK;
    close(fd);
    return locked;
}

int place_print_state(const struct command_state *state, char *out, size_t size)
{
    int length = snprintf(
        out, size, "%s %d %d %d %d %lld %lld %lld %lld %lld %lld", phase_names[state->phase],
        (int)state->pid, state->code, state->signal, state->background ? 1 : 0,
        (long long)state->end_offset, (long long)state->out_bytes, (long long)state->err_bytes,
        (long long)state->started_ms, (long long)state->ended_ms, (long long)state->ran_ms);

    for (int i = 0; i < state->survivor_count && length < (int)size; i++) {
        length += snprintf(out + length, size - (size_t)length, " %d", (int)state->survivors[i]);
    }
    return length;
}

int place_write_state(const char *id, const struct command_state *state)
{
    char line[PLACE_STATE_MAX_BYTES], path[PLACE_BYTES], next[PLACE_BYTES];
    int length = place_print_state(state, line, sizeof(line) - 1), status = -1, fd = -1;

    line[length++] = '\n';
    place_path(path, id, "state");
    for (int i = 1; i <= SPARES && fd < 0; i++) {
        char name[16];

        snprintf(name, sizeof(name), "spare.%d", i);
        place_path(next, id, name);
        fd = open(next, O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
    }
    if (fd < 0) {
        place_path(next, id, "state.new");
        fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
    if (fd < 0) {
        return -1;
    }
    if (write(fd, line, (size_t)length) == length) {
        status = rename(next, path);
    }
    close(fd);
    return status;
}

int place_read_state(const char *id, struct command_state *ret)
{
    char line[PLACE_STATE_MAX_BYTES], path[PLACE_BYTES], phase[16];
    long long end, out, err, started, ended, ran;
    int pid, background, used = 0, fd;
    ssize_t got;

    place_path(path, id, "state");
    fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return -1;
    }
    got = read(fd, line, sizeof(line) - 1);
    close(fd);
    line[got > 0 ? got : 0] = '\0';
    memset(ret, 0, sizeof(*ret));
    if (sscanf(line, "%15s %d %d %d %d %lld %lld %lld %lld %lld %lld%n", phase, &pid, &ret->code,
               &ret->signal, &background, &end, &out, &err, &started, &ended, &ran, &used) != 11) {
        return -1;
    }
    while (ret->phase < PHASE_COUNT && strcmp(phase, phase_names[ret->phase]) != 0) {
        ret->phase++;
    }
    if (ret->phase == PHASE_COUNT) {
        return -1;
    }
    ret->pid = pid;
    ret->background = background != 0;
    ret->end_offset = end;
    ret->out_bytes = out;
    ret->err_bytes = err;
    ret->started_ms = started;
    ret->ended_ms = ended;
    ret->ran_ms = ran;
    for (const char *text = line + used; ret->survivor_count < PLACE_SURVIVORS_MAX;) {
        if (sscanf(text, " %d%n", &pid, &used) != 1) {
            break;
        }
        ret->survivors[ret->survivor_count++] = pid;
        text += used;
    }
    return 0;
}

void place_remove(const char *id)
{
    char path[PLACE_BYTES];

    place_path(path, id, "");
    remove_folder(path);
}

/* ---- sweeping ---- */

struct ended {
    char id[ID_LENGTH + 1];
    int64_t at_ms;
};

int place_count(void)
{
    DIR *root = opendir(PLACE_ROOT);
    struct dirent *entry;
    int count = 0;

    while (root != NULL && (entry = readdir(root)) != NULL) {
        count += place_is_id(entry->d_name);
    }
    if (root != NULL) {
        closedir(root);
    }
    return count;
}

static int by_age(const void *a, const void *b)
{
    const struct ended *left = a, *right = b;

    return left->at_ms < right->at_ms ? -1 : left->at_ms > right->at_ms;
}

/* Commands of this user whose supervisor is gone; a heap array. */
static struct ended *find_ended(size_t *ret_count)
{
    DIR *root = opendir(PLACE_ROOT);
    struct dirent *entry;
    struct ended *list = NULL;
    size_t count = 0, room = 0;

    while (root != NULL && (entry = readdir(root)) != NULL) {
        struct stat info;

        if (!place_is_id(entry->d_name) ||
            fstatat(dirfd(root), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) < 0 ||
            info.st_uid != geteuid() || !S_ISDIR(info.st_mode) || place_is_locked(entry->d_name)) {
            continue;
        }
        if (count == room) {
            room = room > 0 ? room * 2 : 64;
            list = xrealloc(list, room * sizeof(*list));
        }
        snprintf(list[count].id, sizeof(list[count].id), "%.36s", entry->d_name);
        list[count++].at_ms = (int64_t)info.st_mtim.tv_sec * 1000 + info.st_mtim.tv_nsec / 1000000;
    }
    if (root != NULL) {
        closedir(root);
    }
    *ret_count = count;
    return list;
}

int64_t place_sweep(int64_t retention_s, int keep)
{
    size_t count, first = 0;
    struct ended *list = find_ended(&count);
    int64_t now = place_wall_ms(), next = -1;

    if (count > 0) {
        qsort(list, count, sizeof(*list), by_age);
    }
    while (first < count &&
           (now - list[first].at_ms >= retention_s * 1000 || count - first > (size_t)keep)) {
        place_remove(list[first++].id);
    }
    if (first < count) {
        next = list[first].at_ms + retention_s * 1000 - now;
    }
    free(list);
    return next;
}
