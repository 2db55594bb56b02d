/* terminal_url - see terminal_url.h. */
#include "gateway/data/terminal_url.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "common/base/clock.h"
#include "common/httpd/httpd.h"
#include "common/proxy/head.h"
#include "gateway/data/port_urls.h"
#include "gateway/http/bounds.h"

enum { HOST_BYTES = 272, PATH_BYTES = 256, QUERY_BYTES = 256, SIGNED_BYTES = UUID_BYTES + 24 };

static const char label[] = "terminal.";

static int make_mac(const struct gateway *gateway, const char *command_id, int64_t end_s,
                    char ret[SANDBOX_TOKEN_BYTES], struct error *err)
{
    char text[SIGNED_BYTES];

    snprintf(text, sizeof(text), "%s %lld", command_id, (long long)end_s);
    return sandbox_token_make(gateway->sandbox_tokens, text, SANDBOX_TOKEN_TERMINAL, ret, err);
}

int terminal_url_put(const struct gateway *gateway, const char *command_id, int64_t expires_at_ms,
                     struct strbuf *out, struct error *err)
{
    char mac[SANDBOX_TOKEN_BYTES];

    if (gateway->sandbox_domain[0] == '\0') {
        return error_set(err, ERR_NOT_IMPLEMENTED, "terminals need GATEWAY_SANDBOX_LISTEN");
    }
    if (make_mac(gateway, command_id, expires_at_ms / 1000, mac, err) < 0) {
        return -1;
    }
    strbuf_printf(out, "%s://%s%s/%s/%lld/%s", port_urls_is_local(gateway) ? "ws" : "wss", label,
                  gateway->sandbox_domain, command_id, (long long)(expires_at_ms / 1000), mac);
    return 0;
}

bool terminal_url_is(const char *head)
{
    char host[HOST_BYTES];

    return head_value(head, "Host", host, sizeof(host)) &&
           strncasecmp(host, label, sizeof(label) - 1) == 0;
}

static int read_after(const char *query, int64_t *ret, struct error *err)
{
    char text[24], *end;
    const int found = http_form_param(query, "after", text, sizeof(text));

    *ret = 0;
    if (found > 0) {
        *ret = strtoll(text, &end, 10);
    }
    return found < 0 || (found > 0 && (text[0] < '0' || text[0] > '9' || *end != '\0' ||
                                       *ret > COMMAND_OFFSET_MAX))
               ? error_set(err, ERR_INVALID, "after is no offset")
               : 0;
}

int terminal_url_check(const struct gateway *gateway, const char *head, struct terminal_url *ret,
                       struct error *err)
{
    char path[PATH_BYTES], query[QUERY_BYTES], text[SIGNED_BYTES];
    char given[SANDBOX_TOKEN_BYTES];
    bool right = false;
    long long end_s;
    int used = 0;

    if (!head_target(head, path, sizeof(path), query, sizeof(query)) ||
        sscanf(path, "/%36[0-9a-f-]/%lld/%64[0-9a-f]%n", ret->command_id, &end_s, given, &used) !=
            3 ||
        path[used] != '\0' || !id_is_uuid_lower(ret->command_id)) {
        return error_set(err, ERR_FORBIDDEN, "this is not the URL of a terminal");
    }
    snprintf(text, sizeof(text), "%s %lld", ret->command_id, end_s);
    if (sandbox_token_check(gateway->sandbox_tokens, text, SANDBOX_TOKEN_TERMINAL, given, &right,
                            err) < 0) {
        return -1;
    }
    if (!right || end_s * 1000 <= clock_wall_ms()) {
        return error_set(err, ERR_FORBIDDEN, "the URL of this terminal has ended");
    }
    return read_after(query, &ret->after, err);
}
