/*
 * api_list - the lists of sandboxes.
 */
#ifndef SANDBOX_HOST_API_LIST_H
#define SANDBOX_HOST_API_LIST_H

#include "deploy/sandbox-host/api/api_call.h"

void api_list(struct call *call);    /* GET /sandboxes */
void api_list_v2(struct call *call); /* GET /v2/sandboxes */

#endif
