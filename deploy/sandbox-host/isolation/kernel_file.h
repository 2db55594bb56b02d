/*
 * kernel_file - reads and writes one small file of /sys or /proc.
 *
 * Threads: any. Failure: -1 with errno.
 */
#ifndef SANDBOX_HOST_KERNEL_FILE_H
#define SANDBOX_HOST_KERNEL_FILE_H

#include <stddef.h>
#include <stdint.h>

int kernel_file_write(const char *folder, const char *file, const char *text);
int kernel_file_write_number(const char *folder, const char *file, int64_t value);
/* At most size - 1 bytes; `out` is a string also after a failed read. */
int kernel_file_read(const char *folder, const char *file, char *out, size_t size);

#endif
