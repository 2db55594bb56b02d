/* claims - see claims.h. */
#include "deploy/sandbox-host/sandbox/claims.h"

#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/cgroup.h"
#include "deploy/sandbox-host/isolation/disk.h"
#include "deploy/sandbox-host/isolation/egress.h"
#include "deploy/sandbox-host/isolation/filter.h"
#include "deploy/sandbox-host/isolation/layers.h"

enum { REASON_BYTES = ERROR_MESSAGE_BYTES };

static const struct {
    const char *name, *lost;
} list[CLAIM_COUNT] = {
#define X(claim, name_, lost_) [claim] = {name_, lost_},
#include "deploy/sandbox-host/sandbox/claims.def"
#undef X
};

static struct {
    bool kept, waived;
    char reason[REASON_BYTES]; /* why not, when there is more to say than what is lost */
} claims[CLAIM_COUNT];

static int read_waived(const char *text, struct error *err)
{
    while (text != NULL && *(text += strspn(text, ", ")) != '\0') {
        size_t length = strcspn(text, ", ");
        bool found = false;

        for (int i = 0; i < CLAIM_COUNT; i++) {
            if (strlen(list[i].name) == length && strncmp(list[i].name, text, length) == 0) {
                claims[i].waived = found = true;
            }
        }
        if (!found) {
            return error_set(err, ERR_CONFIG,
                             "SANDBOX_HOST_WITHOUT: '%.*s' is none of users, memory, cpu, "
                             "processes, disk, syscalls",
                             length > 40 ? 40 : (int)length, text);
        }
        text += length;
    }
    return 0;
}

static void keep(enum claim claim, bool kept, const struct error *why)
{
    claims[claim].kept = kept;
    str_copy(claims[claim].reason, REASON_BYTES, kept || why == NULL ? "" : why->message);
}

int claims_find(const struct host_config *config, struct error *err)
{
    struct error disk = ERROR_INIT, filter = ERROR_INIT;
    const bool root = geteuid() == 0;

    memset(claims, 0, sizeof(claims));
    if (read_waived(config->without, err) < 0) {
        return -1;
    }
    cgroup_detect();
    keep(CLAIM_USERS, root, NULL);
    keep(CLAIM_MEMORY, cgroup_limits_memory(), NULL);
    keep(CLAIM_CPU, cgroup_limits_cpu(), NULL);
    /* a user id of its own counts its own processes */
    keep(CLAIM_PROCESSES, root || cgroup_limits_processes(), NULL);
    keep(CLAIM_DISK, disk_init(config, &disk) == 0, &disk);
    if (disk.code == ERR_INVALID) {
        disk.code = ERR_CONFIG;
        *err = disk;
        return -1;
    }
    keep(CLAIM_SYSCALLS, filter_init(&filter) == 0, &filter);
    return 0;
}

int claims_require(struct error *err)
{
    char missing[ERROR_MESSAGE_BYTES / 2] = "";

    for (int i = 0; i < CLAIM_COUNT; i++) {
        if (claims[i].kept) {
            continue;
        }
        log_event(LOG_WARN, "sandbox_host.not_enforced", LOG_S("claim", list[i].name),
                  LOG_S("what", list[i].lost),
                  LOG_S("why", claims[i].reason[0] != '\0' ? claims[i].reason : NULL));
        if (!claims[i].waived) {
            size_t used = strlen(missing);

            snprintf(missing + used, sizeof(missing) - used, "%s%s", used > 0 ? "," : "",
                     list[i].name);
        }
    }
    return missing[0] == '\0' ? 0
                              : error_set(err, ERR_CONFIG,
                                          "this machine cannot keep: %s (see sandbox-host doctor). "
                                          "SANDBOX_HOST_WITHOUT=%s starts without",
                                          missing, missing);
}

void claims_report(FILE *out)
{
    static const char *const disks[] = {"plain folders", "memory", "an image each"};

    for (int i = 0; i < CLAIM_COUNT; i++) {
        fprintf(out, "%-15s %s%s%s%s\n", list[i].name,
                claims[i].kept ? "enforced" : "NOT ENFORCED: ", claims[i].kept ? "" : list[i].lost,
                claims[i].reason[0] != '\0' ? "; " : "", claims[i].reason);
    }
    fprintf(out, "%-15s %s\n", "disks", disks[disk_mode()]);
    fprintf(out, "%-15s %s%s%s\n", "system",
            layers_available() ? "writable, a private layer each" : "read-only",
            layers_reason()[0] != '\0' ? ": " : "", layers_reason());
    fprintf(out, "%-15s %s\n", "internet",
            egress_available() ? "slirp4netns, where a sandbox may"
                               : "none (SANDBOX_HOST_INTERNET, slirp4netns, /dev/net/tun)");
    cgroup_report(out);
}
