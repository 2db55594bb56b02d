/*
 * httpd_libc - see httpd_libc.h. Debian's libcivetweb calls listen in set_ports_option, accept in
 * accept_new_connection, recv in pull_inner, send in push_inner and pthread_attr_setstacksize in
 * mg_start_thread_with_id.
 */
#include "common/httpd/httpd_libc.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static _Thread_local const struct httpd_libc_calls *replaced; /* NULL = libc's own */

/* ---- libc's own ----------------------------------------------------------------------------- */

static struct {
    int (*listen)(int, int);
    int (*accept)(int, struct sockaddr *, socklen_t *);
    ssize_t (*recv)(int, void *, size_t, int);
    ssize_t (*send)(int, const void *, size_t, int);
    int (*setstacksize)(pthread_attr_t *, size_t);
} libc;

/* Prefers a sanitizer's interceptor: the sanitizer learns from it which thread waited for which. */
static void look_up(const char *name, void *ret_function)
{
    char interceptor[64];
    void *symbol;

    snprintf(interceptor, sizeof(interceptor), "__interceptor_%s", name);
    symbol = dlsym(RTLD_DEFAULT, interceptor);
    if (symbol == NULL) {
        symbol = dlsym(RTLD_NEXT, name);
    }
    if (symbol == NULL) {
        abort();
    }
    /* ISO C has no cast from object to function pointer */
    memcpy(ret_function, &symbol, sizeof(symbol));
}

static void look_up_all(void)
{
    look_up("listen", &libc.listen);
    look_up("accept", &libc.accept);
    look_up("recv", &libc.recv);
    look_up("send", &libc.send);
    look_up("pthread_attr_setstacksize", &libc.setstacksize);
}

static void need_libc(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, look_up_all);
}

void httpd_libc_replace(const struct httpd_libc_calls *calls)
{
    replaced = calls;
}

/* ---- what libcivetweb calls instead --------------------------------------------------------- */

int listen(int fd, int backlog)
{
    need_libc();
    if (replaced != NULL && replaced->listening != NULL) {
        replaced->listening(fd);
    }
    return libc.listen(fd, backlog);
}

int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes)
{
    const bool other = replaced != NULL && replaced->stack_bytes > 0;

    need_libc();
    return libc.setstacksize(attributes, other ? replaced->stack_bytes : bytes);
}

int accept(int fd, struct sockaddr *address, socklen_t *bytes)
{
    need_libc();
    if (replaced != NULL && replaced->accept != NULL) {
        return replaced->accept();
    }
    return libc.accept(fd, address, bytes);
}

ssize_t recv(int fd, void *buf, size_t bytes, int flags)
{
    ssize_t got;

    need_libc();
    if (replaced != NULL && replaced->recv != NULL && replaced->recv(buf, bytes, &got)) {
        return got;
    }
    return libc.recv(fd, buf, bytes, flags);
}

ssize_t send(int fd, const void *data, size_t bytes, int flags)
{
    ssize_t sent;

    need_libc();
    if (replaced != NULL && replaced->send != NULL && replaced->send(data, bytes, &sent)) {
        return sent;
    }
    return libc.send(fd, data, bytes, flags);
}

bool httpd_libc_is_exported(void)
{
    static const struct {
        const char *name;
        void (*function)(void);
    } own[] = {{"listen", (void (*)(void))listen},
               {"accept", (void (*)(void))accept},
               {"recv", (void (*)(void))recv},
               {"send", (void (*)(void))send},
               {"pthread_attr_setstacksize", (void (*)(void))pthread_attr_setstacksize}};

    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++) {
        void *symbol = dlsym(RTLD_DEFAULT, own[i].name);

        if (memcmp(&symbol, &own[i].function, sizeof(symbol)) != 0) {
            return false;
        }
    }
    return true;
}
