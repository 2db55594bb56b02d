/* resolver - see resolver.h. */
#include "deploy/sandbox-host/isolation/resolver.h"

#include <string.h>

#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/files.h"

enum { FILE_BYTES = 65536 };

static const struct host_config *config;
static bool own;

static bool covers(const struct cidr_set *set, uint32_t address)
{
    for (size_t i = 0; i < set->count; i++) {
        const int bits = set->list[i].bits;
        const uint32_t mask = bits == 0 ? 0 : ~UINT32_C(0) << (32 - bits);

        if ((address & mask) == (set->list[i].address & mask)) {
            return true;
        }
    }
    return false;
}

/* slirp4netns asks the first one that is listed. */
static const char *first_server(const char *text, size_t *ret_length)
{
    for (; *text != '\0'; text += strcspn(text, "\n"), text += *text == '\n') {
        if (strncmp(text, "nameserver", 10) == 0 && (text[10] == ' ' || text[10] == '\t')) {
            text += 10 + strspn(text + 10, " \t");
            *ret_length = strcspn(text, " \t\r\n");
            return text;
        }
    }
    return NULL;
}

int resolver_init(const struct host_config *host_config, const struct cidr_set *closed,
                  struct error *err)
{
    struct cidr_set servers = {.list = NULL};
    struct error missing = ERROR_INIT; /* then there is none to ask */
    struct cidr address;
    struct strbuf text;
    const char *server = NULL;
    size_t length = 0;
    int status;

    config = host_config;
    status = cidr_set_add_list(&servers, config->nameservers, err);
    cidr_set_done(&servers);
    if (status < 0) {
        return error_prefix(err, "SANDBOX_HOST_NAMESERVERS");
    }
    strbuf_init(&text, FILE_BYTES);
    if (files_read("/etc/resolv.conf", &text, &missing) == 0) {
        server = first_server(text.data, &length);
    }
    own =
        server != NULL && cidr_parse(server, length, &address) && !covers(closed, address.address);
    if (server != NULL && !own && config->internet) {
        log_event(LOG_INFO, "sandbox_host.resolver", LOG_S("sandboxes_ask", config->nameservers),
                  LOG_S("why", "this machine's resolver is in a network that is closed to them; "
                               "SANDBOX_HOST_EGRESS_ALLOW opens it"));
    }
    strbuf_done(&text);
    return 0;
}

bool resolver_is_own(void)
{
    return own;
}

void resolver_write(struct strbuf *out)
{
    if (own) {
        strbuf_puts(out, "nameserver 10.0.2.3\n");
        return;
    }
    for (const char *at = config->nameservers; *(at += strspn(at, ", ")) != '\0';) {
        const size_t length = strcspn(at, ", ");

        strbuf_printf(out, "nameserver %.*s\n", (int)length, at);
        at += length;
    }
}
