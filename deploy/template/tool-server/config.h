/*
 * config - the tool server's settings, one table of environment variables (config.c).
 */
#ifndef TOOL_SERVER_CONFIG_H
#define TOOL_SERVER_CONFIG_H

#include <stdint.h>
#include <stdio.h>

#include "common/base/error.h"

struct tool_config {
    char *listen;
    int64_t threads, keep_alive_ms, request_timeout_ms, drain_ms;
    char *token, *token_path, *origins;
    char *workdir;
    int64_t max_body_bytes, sessions;
    int64_t command_timeout_s, command_timeout_max_s, output_bytes, commands;
    int64_t file_bytes, entries;
    char *log_level;
};

/* workdir is resolved: MCP_WORKDIR, else /workspace if there is one, else HOME, else /. */
int tool_config_load(struct tool_config *config, struct error *err) MUST_CHECK;
void tool_config_free(struct tool_config *config);
void tool_config_help(FILE *out);

#endif
