/*
 * httpd_libc - the five libc functions that libcivetweb calls on its sockets and threads.
 *
 * The program defines them itself, and the linker exports them to libcivetweb (see the Makefile).
 * A thread that has set a table of replacements gets those; every other thread gets libc's own.
 * Threads: the table belongs to the thread that set it. Failure: aborts when libc lacks a function.
 */
#ifndef HTTPD_HTTPD_LIBC_H
#define HTTPD_HTTPD_LIBC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What a thread does in place of libc; a NULL member leaves that function to libc. */
struct httpd_libc_calls {
    void (*listening)(int fd); /* is told the descriptor; libc's listen() runs afterwards */
    size_t stack_bytes;        /* stack of every thread that this one creates; 0 = as asked for */
    int (*accept)(void);
    /* Return false to leave this one call to libc. */
    bool (*recv)(void *buf, size_t bytes, ssize_t *ret_got);
    bool (*send)(const void *data, size_t bytes, ssize_t *ret_sent);
};

/* Replaces the functions on the calling thread. NULL = libc's own. `calls` is borrowed. */
void httpd_libc_replace(const struct httpd_libc_calls *calls);
/* True when the linker made the five functions known to libcivetweb. */
bool httpd_libc_is_exported(void);

#endif
