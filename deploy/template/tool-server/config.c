/* config - see config.h. */
#include "deploy/template/tool-server/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/alloc.h"
#include "common/base/config.h"

#define AT(field) offsetof(struct tool_config, field)
#define COUNT     (sizeof(table) / sizeof(table[0]))

static const struct config_entry table[] = {
    {"MCP_LISTEN", CONFIG_STRING, AT(listen), 1, 255, "0.0.0.0:6060", false, false,
     "IPv4 address:port to serve on"},
    {"MCP_THREADS", CONFIG_INT, AT(threads), 2, 512, "24", false, false,
     "connections served at once; a call that waits for a command holds one"},
    {"MCP_KEEP_ALIVE_MS", CONFIG_INT, AT(keep_alive_ms), 100, 600000, "5000", false, false,
     "idle time after which a connection is closed"},
    {"MCP_REQUEST_TIMEOUT_MS", CONFIG_INT, AT(request_timeout_ms), 100, 600000, "30000", false,
     false, "time for a request's head, and again for its body, to arrive"},
    {"MCP_DRAIN_MS", CONFIG_INT, AT(drain_ms), 0, 60000, "2000", false, false,
     "time for running calls after SIGTERM; then their commands are killed"},
    {"MCP_TOKEN", CONFIG_STRING, AT(token), 1, 512, NULL, false, true,
     "when set, every call needs Authorization: Bearer with it"},
    {"MCP_TOKEN_PATH", CONFIG_STRING, AT(token_path), 1, 4096, NULL, false, false,
     "the same, from a file looked at on every call, so that it can be changed while running; no "
     "file = no token"},
    {"MCP_ALLOWED_ORIGINS", CONFIG_STRING, AT(origins), 1, 4096, NULL, false, false,
     "comma list of Origin values of web pages that may call, beside those of localhost; * = any"},
    {"MCP_WORKDIR", CONFIG_STRING, AT(workdir), 1, 4096, NULL, false, false,
     "where commands run and relative paths start (default: /workspace, else HOME)"},
    {"MCP_MAX_BODY_BYTES", CONFIG_INT, AT(max_body_bytes), 1024, 1 << 28, "16777216", false, false,
     "largest request"},
    {"MCP_SESSIONS", CONFIG_INT, AT(sessions), 1, 4096, "64", false, false,
     "sessions kept; one more ends the one unused longest"},
    {"MCP_COMMAND_TIMEOUT_SECONDS", CONFIG_INT, AT(command_timeout_s), 1, 86400, "120", false,
     false, "timeout of a command that names none"},
    {"MCP_COMMAND_TIMEOUT_MAX_SECONDS", CONFIG_INT, AT(command_timeout_max_s), 1, 86400, "3600",
     false, false, "longest timeout a command in the foreground may name"},
    {"MCP_OUTPUT_BYTES", CONFIG_INT, AT(output_bytes), 1024, 1 << 24, "65536", false, false,
     "kept of a command's output: the first and the last half of this"},
    {"MCP_COMMANDS", CONFIG_INT, AT(commands), 1, 1024, "32", false, false,
     "commands known at once, running or ended"},
    {"MCP_FILE_BYTES", CONFIG_INT, AT(file_bytes), 1024, 1 << 28, "16777216", false, false,
     "largest file that edit_file takes and read_file gives as an image"},
    {"MCP_ENTRIES", CONFIG_INT, AT(entries), 1, 100000, "1000", false, false,
     "entries or matches of one answer"},
    {"MCP_LOG_LEVEL", CONFIG_STRING, AT(log_level), 1, 16, "warn", false, false,
     "debug, info, warn or error"},
};

static bool is_folder(const char *path)
{
    struct stat status;

    return path != NULL && stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

int tool_config_load(struct tool_config *config, struct error *err)
{
    const char *home = getenv("HOME");

    if (config_load(table, COUNT, config, err) != 0) {
        return -1;
    }
    if (config->workdir == NULL) {
        config->workdir = xstrdup(is_folder("/workspace") ? "/workspace"
                                  : is_folder(home)       ? home
                                                          : "/");
    } else if (config->workdir[0] != '/' || !is_folder(config->workdir)) {
        error_set(err, ERR_CONFIG, "MCP_WORKDIR is not the absolute path of a folder");
        tool_config_free(config);
        return -1;
    }
    return 0;
}

void tool_config_free(struct tool_config *config)
{
    config_free(table, COUNT, config);
}

void tool_config_help(FILE *out)
{
    config_print_help(table, COUNT, out);
}
