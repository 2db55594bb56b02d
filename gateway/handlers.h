/*
 * handlers - prototypes of every handler, made from the route table.
 *
 * A handler answers exactly once. It runs on a CivetWeb thread with a small stack: no big arrays.
 */
#ifndef GATEWAY_HANDLERS_H
#define GATEWAY_HANDLERS_H

#include "gateway/request.h"

#define X(method, path, flags, handler) void handler(struct request *request);
#include "gateway/routes.def"
#undef X

#endif
