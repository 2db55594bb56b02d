/*
 * config - the tool server's settings, one table of environment variables (config.c).
 */
#ifndef TOOL_SERVER_CONFIG_H
#define TOOL_SERVER_CONFIG_H

#include <stdint.h>

#include "common/base/config.h"

struct tool_config {
#define X(...) CONFIG_FIELD(__VA_ARGS__)
#include "deploy/template/tool-server/config.def"
#undef X
};

/* workdir is resolved: MCP_WORKDIR, else /workspace if there is one, else HOME, else /. */
extern const struct config_schema tool_config_schema;

#endif
