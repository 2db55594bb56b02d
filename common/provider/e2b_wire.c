/*
 * e2b_wire - how E2B's addresses and filters are written.
 *
 * Threads: no state. Failure: an overflow of the buffer, as strbuf reports it.
 */
#include <string.h>

#include "common/provider/e2b.h"

static const char *domain_of(const struct e2b *e2b, const struct provider_target *target)
{
    return target->domain && target->domain[0] ? target->domain : e2b->config.domain;
}

int e2b_put_port_base(const struct e2b *e2b, const struct provider_target *target, int port,
                      struct strbuf *out)
{
    return strbuf_printf(out, "%s://%d-%s.%s", e2b->scheme, port, target->provider_sandbox_id,
                         domain_of(e2b, target));
}

int e2b_put_envd_base(const struct e2b *e2b, const struct provider_target *target,
                      struct strbuf *out)
{
    /* domains where E2B has one host name for all sandboxes and routes by headers */
    static const char *const shared[] = {"e2b.app", "e2b.dev", "e2b.pro", "e2b-staging.dev"};
    if (e2b->config.sandbox_url) {
        return strbuf_puts(out, e2b->config.sandbox_url);
    }
    const char *domain = domain_of(e2b, target);
    for (size_t i = 0; i < sizeof(shared) / sizeof(shared[0]); i++) {
        if (strcmp(domain, shared[i]) == 0) {
            return strbuf_printf(out, "https://sandbox.%s", domain);
        }
    }
    return e2b_put_port_base(e2b, target, E2B_ENVD_PORT, out);
}

void e2b_put_metadata_filter(struct strbuf *out, const char *const pairs[][2], size_t count)
{
    struct strbuf once, twice;
    strbuf_init(&once, 64 * 1024);
    strbuf_init(&twice, 64 * 1024);
    for (size_t i = 0; i < count; i++) {
        for (int j = 0; j < 2; j++) {
            strbuf_reset(&once);
            strbuf_put_urlencoded(&once, pairs[i][j], false);
            if (j == 1 || i > 0) {
                strbuf_putc(&twice, j == 1 ? '=' : '&');
            }
            strbuf_put_urlencoded(&twice, once.data, false);
        }
    }
    strbuf_puts(out, "metadata=");
    strbuf_put_urlencoded(out, twice.data, false);
    strbuf_done(&once);
    strbuf_done(&twice);
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool e2b_is_domain(const char *text)
{
    if (strlen(text) >= DOMAIN_BYTES) {
        return false;
    }
    for (const char *c = text; *c; c++) {
        if (!is_alnum(*c) && *c != '-' && *c != '.' && *c != ':') {
            return false;
        }
    }
    return true;
}
