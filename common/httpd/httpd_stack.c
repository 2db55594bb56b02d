/*
 * httpd_stack - gives CivetWeb's threads a usable stack.
 *
 * Debian's libcivetweb asks for 102,400 bytes a thread, fixed when the library was built; 78 KB are
 * left in a handler. libjwt (jansson, OpenSSL), libpq connecting and curl each take a good part of
 * that, and sanitizer builds several times more. There is no run-time option, so the program
 * defines pthread_attr_setstacksize itself: a request for exactly that size becomes
 * HTTPD_STACK_BYTES, any other goes through unchanged. Memory is committed by use, so RSS does not
 * change. The linker must export the symbol: -Wl,--export-dynamic-symbol=pthread_attr_setstacksize.
 * Threads: stateless but for the looked-up address, which is the same for all.
 */
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "common/httpd/httpd_internal.h"

enum { CIVETWEB_STACK_BYTES = 102400, HTTPD_STACK_BYTES = 512 * 1024 };

typedef int setstacksize_fn(pthread_attr_t *attributes, size_t bytes);

int pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes)
{
    static _Atomic(setstacksize_fn *) next;
    setstacksize_fn *call = atomic_load(&next);

    if (call == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "pthread_attr_setstacksize");

        if (symbol == NULL) {
            return ENOSYS;
        }
        /* ISO C has no cast from object to function pointer */
        memcpy(&call, &symbol, sizeof(call));
        atomic_store(&next, call);
    }
    return call(attributes, bytes == CIVETWEB_STACK_BYTES ? (size_t)HTTPD_STACK_BYTES : bytes);
}

bool httpd_stack_is_raised(void)
{
    setstacksize_fn *mine = pthread_attr_setstacksize;
    void *symbol = dlsym(RTLD_DEFAULT, "pthread_attr_setstacksize");
    setstacksize_fn *visible;

    memcpy(&visible, &symbol, sizeof(visible));
    return visible == mine;
}
