/*
 * replay - runs a fuzz target over kept inputs, without libFuzzer.
 *
 * Usage: replay_<target> FILE|FOLDER... Every input runs once; a finding ends the program the way
 * the target or the sanitizer ends it. Fails when there was nothing to run.
 */
#include <dirent.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PATH_BYTES = 4096 };

static int fail(const char *path, const char *what)
{
    fprintf(stderr, "%s: %s: %s\n", path, what, strerror(errno));
    return -1;
}

/* Each input is a block of its own, so that a read past its end is seen. */
static int run_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(size > 0 ? size : 1);
    int status = 0;

    if (file == NULL || data == NULL || fread(data, 1, size, file) != size) {
        status = fail(path, "cannot read");
    } else {
        /* named before it runs: the last name on stderr is the one that failed */
        fprintf(stderr, "%s\n", path);
        (void)LLVMFuzzerTestOneInput(data, size);
    }
    free(data);
    if (file != NULL) {
        fclose(file);
    }
    return status;
}

static int run_path(const char *path, long *count)
{
    struct stat info;
    struct dirent *entry;
    DIR *folder;
    int status = 0;

    if (stat(path, &info) != 0) {
        return fail(path, "cannot stat");
    }
    if (!S_ISDIR(info.st_mode)) {
        ++*count;
        return run_file(path, (size_t)info.st_size);
    }
    folder = opendir(path);
    if (folder == NULL) {
        return fail(path, "cannot open");
    }
    while (status == 0 && (entry = readdir(folder)) != NULL) {
        char below[PATH_BYTES];

        if (entry->d_name[0] == '.') {
            continue;
        }
        if (snprintf(below, sizeof(below), "%s/%s", path, entry->d_name) >= (int)sizeof(below)) {
            errno = ENAMETOOLONG;
            status = fail(path, "cannot open");
        } else {
            status = run_path(below, count);
        }
    }
    closedir(folder);
    return status;
}

int main(int argc, char **argv)
{
    long count = 0;

    for (int i = 1; i < argc; i++) {
        if (run_path(argv[i], &count) != 0) {
            return 1;
        }
    }
    printf("%ld inputs\n", count);
    return count > 0 ? 0 : 1;
}
