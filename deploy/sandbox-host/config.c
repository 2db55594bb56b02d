/* config - see config.h. */
#include "deploy/sandbox-host/config.h"

#include <stddef.h>

#include "common/base/config.h"

#define AT(field) offsetof(struct host_config, field)
#define COUNT     (sizeof(table) / sizeof(table[0]))

static const struct config_entry table[] = {
    {"SANDBOX_HOST_LISTEN", CONFIG_STRING, AT(listen), 1, 255, "127.0.0.1:3900", false, false,
     "IPv4 address:port of the API and of every sandbox's ports"},
    {"SANDBOX_HOST_API_KEY", CONFIG_STRING, AT(api_key), 8, 255, NULL, true, true,
     "the key clients send as X-API-Key (E2B's SDKs want e2b_ and hex digits)"},
    {"SANDBOX_HOST_DOMAIN", CONFIG_STRING, AT(domain), 1, 255, "localhost:3900", false, false,
     "port host names are {port}-{id}.<this>"},
    {"SANDBOX_HOST_STATE_DIR", CONFIG_STRING, AT(state_dir), 1, 60, "/var/lib/sandbox-host", false,
     false, "folder for homes and sockets; every user must be able to enter it"},
    {"SANDBOX_HOST_AGENT", CONFIG_STRING, AT(agent), 1, 4096, NULL, false, false,
     "the agent program (default: sandbox-agent beside this program)"},
    {"SANDBOX_HOST_TEMPLATES", CONFIG_STRING, AT(templates), 1, 4096, NULL, false, false,
     "folder of templates: name/, name.tar and name.json in it make the template `name`"},
    {"SANDBOX_HOST_ANY_TEMPLATE", CONFIG_BOOL, AT(any_template), 0, 0, "0", false, false,
     "take base for a template id that is not known"},
    {"SANDBOX_HOST_MAX_SANDBOXES", CONFIG_INT, AT(max_sandboxes), 1, 4096, "100", false, false,
     "sandboxes at once; one more is answered 429 as E2B does"},
    {"SANDBOX_HOST_MAX_CONNECTIONS", CONFIG_INT, AT(max_connections), 4, 65536, "1024", false,
     false, "client connections at once"},
    {"SANDBOX_HOST_MAX_TIMEOUT_SECONDS", CONFIG_INT, AT(max_timeout_s), 60, 31536000, "86400",
     false, false, "longest life of a sandbox from start or resume"},
    {"SANDBOX_HOST_START_TIMEOUT_MS", CONFIG_INT, AT(start_timeout_ms), 100, 600000, "10000", false,
     false, "time for a sandbox's agent to answer"},
    {"SANDBOX_HOST_HEAD_TIMEOUT_MS", CONFIG_INT, AT(head_timeout_ms), 100, 600000, "10000", false,
     false, "time for a request's head to arrive"},
    {"SANDBOX_HOST_IDLE_TIMEOUT_MS", CONFIG_INT, AT(idle_timeout_ms), 100, 3600000, "60000", false,
     false, "how long a client's connection may wait for its next request"},
    {"SANDBOX_HOST_STALL_TIMEOUT_MS", CONFIG_INT, AT(stall_timeout_ms), 100, 3600000, "60000",
     false, false, "a client that takes nothing of its answer for so long is cut"},
    {"SANDBOX_HOST_MEMORY_BYTES", CONFIG_INT, AT(memory_bytes), 1 << 24, INT64_C(1) << 50,
     "1073741824", false, false, "memory of one sandbox, where cgroups allow it"},
    {"SANDBOX_HOST_PROCESSES", CONFIG_INT, AT(processes), 32, 100000, "512", false, false,
     "processes and threads of one sandbox"},
    {"SANDBOX_HOST_CPU_PERCENT", CONFIG_INT, AT(cpu_percent), 1, 100000, "200", false, false,
     "CPU of one sandbox, 100 = one core, where cgroups allow it"},
    {"SANDBOX_HOST_TMP_BYTES", CONFIG_INT, AT(tmp_bytes), 1 << 20, INT64_C(1) << 50, "268435456",
     false, false, "size of each folder of a sandbox that lives in memory: /run, /dev/shm"},
    {"SANDBOX_HOST_FIRST_UID", CONFIG_INT, AT(first_uid), 1000, 2000000000, "210000", false, false,
     "as root: each sandbox runs under a user id of its own, from this one on (the next 4096 where "
     "another host uses these)"},
    {"LOG_LEVEL", CONFIG_STRING, AT(log_level), 1, 16, "info", false, false,
     "debug, info, warn or error"},
};

int host_config_load(struct host_config *config, struct error *err)
{
    return config_load(table, COUNT, config, err);
}

void host_config_free(struct host_config *config)
{
    config_free(table, COUNT, config);
}

void host_config_help(FILE *out)
{
    config_print_help(table, COUNT, out);
}
