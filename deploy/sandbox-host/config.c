/* config - see config.h. */
#include "deploy/sandbox-host/config.h"

#include <stddef.h>

#include "common/base/config.h"
#include "common/base/log.h"

#define AT(field) offsetof(struct host_config, field)
#define COUNT     (sizeof(table) / sizeof(table[0]))

static const struct config_entry table[] = {
    {"SANDBOX_HOST_LISTEN", CONFIG_STRING, AT(listen), 1, 255, "127.0.0.1:3900", false, false,
     "IPv4 address:port of the API and of every sandbox's ports"},
    {"SANDBOX_HOST_API_KEY", CONFIG_STRING, AT(api_key), 8, 255, NULL, true, true,
     "the key clients send as X-API-Key (E2B's SDKs want e2b_ and hex digits)"},
    {"SANDBOX_HOST_DOMAIN", CONFIG_STRING, AT(domain), 1, 255, "localhost:3900", false, false,
     "port host names are {port}-{id}.<this>"},
    {"SANDBOX_HOST_TLS_CERTIFICATE", CONFIG_STRING, AT(tls_certificate), 1, 4096, NULL, false,
     false,
     "PEM file with the certificate and its chain, for the domain and *.domain: the listener then "
     "takes HTTPS beside HTTP"},
    {"SANDBOX_HOST_TLS_KEY", CONFIG_STRING, AT(tls_key), 1, 4096, NULL, false, false,
     "PEM file with the key of that certificate"},
    {"SANDBOX_HOST_STATE_DIR", CONFIG_STRING, AT(state_dir), 1, 60, "/var/lib/sandbox-host", false,
     false, "folder for homes and sockets; every user must be able to enter it"},
    {"SANDBOX_HOST_AGENT", CONFIG_STRING, AT(agent), 1, 4096, NULL, false, false,
     "the agent program (default: sandbox-agent beside this program)"},
    {"SANDBOX_HOST_TEMPLATES", CONFIG_STRING, AT(templates), 1, 4096, NULL, false, false,
     "folder of templates: name/, name.tar and name.json in it make the template `name`"},
    {"SANDBOX_HOST_ANY_TEMPLATE", CONFIG_BOOL, AT(any_template), 0, 0, "0", false, false,
     "take base for a template id that is not known"},
    {"SANDBOX_HOST_BASE_ALIASES", CONFIG_STRING, AT(base_aliases), 1, 1024, NULL, false, false,
     "further names of the template base, with commas between"},
    {"SANDBOX_HOST_BUILDS", CONFIG_INT, AT(builds), 1, 64, "2", false, false,
     "template builds at once; others wait"},
    {"SANDBOX_HOST_BUILD_TIMEOUT_SECONDS", CONFIG_INT, AT(build_timeout_s), 1, 86400, "3600", false,
     false, "time of one template build"},
    {"SANDBOX_HOST_UPLOAD_BYTES", CONFIG_INT, AT(upload_bytes), 1024, INT64_C(1) << 40,
     "1073741824", false, false, "size of one archive that a template build copies from"},
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
    {"SANDBOX_HOST_OPEN_FILES", CONFIG_INT, AT(open_files), 1024, 1048576, "16384", false, false,
     "open files of one process of a sandbox; fewer where all its processes together could take "
     "more "
     "than half of the machine's fs.file-max"},
    {"SANDBOX_HOST_CPU_PERCENT", CONFIG_INT, AT(cpu_percent), 1, 100000, "200", false, false,
     "CPU of one sandbox, 100 = one core, where cgroups allow it"},
    {"SANDBOX_HOST_TMP_BYTES", CONFIG_INT, AT(tmp_bytes), 1 << 20, INT64_C(1) << 50, "268435456",
     false, false, "size of each folder of a sandbox that lives in memory: /run, /dev/shm"},
    {"SANDBOX_HOST_DISK", CONFIG_STRING, AT(disk), 1, 16, "image", false, false,
     "a sandbox's disk (/home/user, /root, /tmp): image (a file system of its own, needs root), "
     "memory, or folder (no limit)"},
    {"SANDBOX_HOST_DISK_BYTES", CONFIG_INT, AT(disk_bytes), 1 << 24, INT64_C(1) << 44, "4294967296",
     false, false, "size of a sandbox's disk; of each of its folders with memory"},
    {"SANDBOX_HOST_DISK_RESERVE_BYTES", CONFIG_INT, AT(disk_reserve_bytes), 0, INT64_C(1) << 50,
     "1073741824", false, false,
     "no sandbox is made while less is free where the state folder is (answered 503)"},
    {"SANDBOX_HOST_INTERNET", CONFIG_BOOL, AT(internet), 0, 0, "1", false, false,
     "a sandbox that asks for it (E2B's default) reaches the internet, where slirp4netns is there"},
    {"SANDBOX_HOST_EGRESS_DENY", CONFIG_STRING, AT(egress_deny), 1, 16384,
     "0.0.0.0/8,10.0.0.0/8,100.64.0.0/10,127.0.0.0/8,169.254.0.0/16,172.16.0.0/12,192.0.0.0/24,"
     "192.168.0.0/16,198.18.0.0/15,224.0.0.0/3",
     false, false, "networks no sandbox reaches, nor this machine's own addresses"},
    {"SANDBOX_HOST_EGRESS_ALLOW", CONFIG_STRING, AT(egress_allow), 1, 16384, NULL, false, false,
     "networks that are reached all the same"},
    {"SANDBOX_HOST_NAMESERVERS", CONFIG_STRING, AT(nameservers), 7, 255, "8.8.8.8,1.1.1.1", false,
     false,
     "resolvers sandboxes ask where this machine's own is in a network that no sandbox reaches"},
    {"SANDBOX_HOST_WITHOUT", CONFIG_STRING, AT(without), 1, 255, NULL, false, false,
     "protections that may be missing on this machine (doctor lists them); else the host refuses "
     "to "
     "start without one"},
    {"SANDBOX_HOST_ADOPT_SECONDS", CONFIG_INT, AT(adopt_s), 0, 86400, "30", false, false,
     "how long sandboxes outlive a host that crashed, for the next one to find them"},
    {"SANDBOX_HOST_FIRST_UID", CONFIG_INT, AT(first_uid), 1000, 2000000000, "210000", false, false,
     "as root: each sandbox runs under a user id of its own, from this one on (the next 4096 where "
     "another host uses these)"},
    LOG_CONFIG_ENTRY(AT(log_level)),
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
