/* kernel_file - see kernel_file.h. */
#include "deploy/sandbox-host/isolation/kernel_file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 320 };

int kernel_file_write(const char *folder, const char *file, const char *text)
{
    char path[PATH_BYTES];
    int fd, status;

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    status = write(fd, text, strlen(text)) < 0 ? -1 : 0;
    close(fd);
    return status;
}

int kernel_file_write_number(const char *folder, const char *file, int64_t value)
{
    char text[32];

    snprintf(text, sizeof(text), "%lld", (long long)value);
    return kernel_file_write(folder, file, text);
}

int kernel_file_read(const char *folder, const char *file, char *out, size_t size)
{
    char path[PATH_BYTES];
    int fd;
    ssize_t n;

    snprintf(path, sizeof(path), "%s/%s", folder, file);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    n = read(fd, out, size - 1);
    close(fd);
    out[n > 0 ? n : 0] = '\0';
    return n < 0 ? -1 : 0;
}
