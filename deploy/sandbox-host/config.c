/* config - see config.h. */
#include "deploy/sandbox-host/config.h"

#include <stddef.h>

#include "common/base/config.h"
#include "common/base/log.h"

#define AT(field) offsetof(struct host_config, field)

static const struct config_entry table[] = {
#define X(...) CONFIG_ENTRY(struct host_config, __VA_ARGS__)
#include "deploy/sandbox-host/config.def"
#undef X
    LOG_CONFIG_ENTRY(AT(log_level)),
};

const struct config_schema host_config_schema = {.table = table,
                                                 .count = sizeof(table) / sizeof(table[0])};
