/*
 * console - the files of the page for people, built into the gateway.
 *
 * Owns: which files there are, their media types. Does not own: routes and headers
 * (gateway/http/handlers_ops.c). Const: any thread.
 */
#ifndef GATEWAY_CONSOLE_H
#define GATEWAY_CONSOLE_H

#include <stddef.h>

struct console_asset {
    const char *name;         /* file name: "main.js" */
    const char *content_type; /* media type with its charset */
    const char *data;         /* not NUL-terminated */
    size_t bytes;
};

/* Finds a file by its name. Returns NULL when there is none. `ret` is filled otherwise and
 * returned. */
const struct console_asset *console_asset_find(const char *name, struct console_asset *ret);

#endif
