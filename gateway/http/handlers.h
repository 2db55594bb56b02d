/*
 * handlers - prototypes of all handlers, made from the lists of routes.
 *
 * A handler answers exactly once. It runs on a thread with a stack of 512 KiB: no big arrays.
 */
#ifndef GATEWAY_HANDLERS_H
#define GATEWAY_HANDLERS_H

#include "gateway/http/request.h"

#define X(method, path, flags, handler) void handler(struct request *request);
#include "gateway/http/console_routes.def"
#include "gateway/http/e2b_routes.def"
#include "gateway/http/routes.def"
#undef X

#endif
