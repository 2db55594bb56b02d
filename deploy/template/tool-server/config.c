/* config - see config.h. */
#include "deploy/template/tool-server/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common/base/alloc.h"
#include "common/base/config.h"

static const struct config_entry table[] = {
#define X(...) CONFIG_ENTRY(struct tool_config, __VA_ARGS__)
#include "deploy/template/tool-server/config.def"
#undef X
};

static bool is_folder(const char *path)
{
    struct stat status;

    return path != NULL && stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

static int check(void *arg, struct error *err)
{
    struct tool_config *config = arg;
    const char *home = getenv("HOME");

    if (config->workdir == NULL) {
        config->workdir = xstrdup(is_folder("/workspace") ? "/workspace"
                                  : is_folder(home)       ? home
                                                          : "/");
        return 0;
    }
    return config->workdir[0] == '/' && is_folder(config->workdir)
               ? 0
               : error_set(err, ERR_CONFIG, "MCP_WORKDIR is not the absolute path of a folder");
}

const struct config_schema tool_config_schema = {
    .table = table, .count = sizeof(table) / sizeof(table[0]), .check = check};
