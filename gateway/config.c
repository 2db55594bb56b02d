/* config - see config.h. */
#include "gateway/config.h"

#include <stddef.h>

#include "common/base/cidr.h"
#include "common/base/config.h"
#include "common/base/log.h"
#include "common/base/memory_limit.h"
#include "common/provider/provider.h"
#include "common/provider/sandbox_files.h"
#include "common/store/store_config.h"
#include "gateway/data/services.h"
#include "gateway/work/budget.h"
#include "gateway/work/usage_prices.h"

#define AT(field) offsetof(struct gateway_config, field)
#define COUNT     (sizeof(table) / sizeof(table[0]))

enum {
    LISTING_BODY_BYTES = 8192,   /* body of a list call: the longest path, partly escaped */
    JSON_OVERHEAD_BYTES = 65536, /* a file's JSON body without the content */
    JSON_GROWTH = 2              /* growth of content in JSON: base64, or text with escapes */
};

static const struct config_entry table[] = {
    {"GATEWAY_LISTEN", CONFIG_STRING, AT(listen), 1, 255, "0.0.0.0:8000", false, false,
     "address:port to serve on"},
    {"GATEWAY_SANDBOX_LISTEN", CONFIG_STRING, AT(sandbox_listen), 1, 255, NULL, false, false,
     "address:port for traffic into sandboxes; off = none (default: that of GATEWAY_LISTEN, and "
     "the next port)"},
    {"SANDBOX_DOMAIN", CONFIG_STRING, AT(sandbox_domain), 1, 200, NULL, false, false,
     "domain below which clients reach sandboxes there: host or host:port (default: localhost and "
     "the port of GATEWAY_SANDBOX_LISTEN)"},
    {"SANDBOX_PORTS", CONFIG_STRING, AT(sandbox_ports), 1, 16, NULL, false, false,
     "whose URLs for ports are handed out: gateway (private, expiring, revocable) or direct (the "
     "provider's; default: gateway where SANDBOX_DOMAIN is set, else direct)"},
    {"GATEWAY_PORTS_PER_SANDBOX", CONFIG_INT, AT(max_ports), 1, 65535, "64", false, false,
     "ports that one sandbox may expose at a time; one more is answered 429"},
    {"GATEWAY_THREADS", CONFIG_INT, AT(threads), 4, 8192, "512", false, false,
     "requests served at once; a waiting request holds one"},
    {"GATEWAY_CONNECTION_QUEUE", CONFIG_INT, AT(connection_queue), 1, 65535, "1024", false, false,
     "whole requests that may wait for a thread; one more is answered 503 at once"},
    {"GATEWAY_CONNECTIONS", CONFIG_INT, AT(connections), 16, 1000000, "8192", false, false,
     "open connections; one more closes the oldest that has no request to answer"},
    {"GATEWAY_ADDRESS_CONNECTIONS", CONFIG_INT, AT(address_connections), 4, 1000000, "2048", false,
     false, "the same for one address that is none of TRUSTED_PROXIES"},
    {"GATEWAY_ADDRESS_BODY_PERCENT", CONFIG_INT, AT(address_body_percent), 1, 100, "12", false,
     false,
     "share of the threads that may wait for long bodies of one client address, and of one user; "
     "one more is answered 503"},
    {"GATEWAY_BODY_BYTES_PER_SECOND", CONFIG_INT, AT(body_bytes_per_s), 0, 1 << 30, "1024", false,
     false,
     "least rate of a body that is waited for longer than GATEWAY_REQUEST_TIMEOUT_MS; 0 = none"},
    {"TRUSTED_PROXIES", CONFIG_STRING, AT(trusted_proxies), 1, 4096, NULL, false, false,
     "comma list of IPv4 networks whose X-Forwarded-For or Forwarded names the client (default: "
     "none)"},
    {"GATEWAY_WORK_PERCENT", CONFIG_INT, AT(work_percent), 10, 100, "90", false, false,
     "share of the threads that calls which wait for a sandbox may hold; one more is answered 503"},
    {"GATEWAY_USER_SHARE_PERCENT", CONFIG_INT, AT(user_share_percent), 1, 100, "50", false, false,
     "share of these calls, and of GATEWAY_BUFFER_BYTES, that one user may hold; one more is "
     "answered 429, a lifecycle call 202 at once"},
    {"GATEWAY_EVENT_FOLLOWER_PERCENT", CONFIG_INT, AT(event_follower_percent), 1, 100, "25", false,
     false,
     "share of these calls that may follow /api/v1/events as streams; one more is answered 503"},
    {"GATEWAY_BUFFER_BYTES", CONFIG_INT, AT(buffer_bytes), 1 << 20, INT64_C(1) << 40, NULL, false,
     false,
     "bodies, files and outputs of all requests together; one more is answered 503 (default: two "
     "fifths of the control group's memory limit, else an eighth of the machine's memory)"},
    {"GATEWAY_KEEP_ALIVE_MS", CONFIG_INT, AT(keep_alive_ms), 100, 600000, "5000", false, false,
     "idle time after which a connection is closed"},
    {"GATEWAY_REQUEST_TIMEOUT_MS", CONFIG_INT, AT(request_timeout_ms), 100, 600000, "30000", false,
     false, "time for a request's head, and again for its body, to arrive"},
    {"GATEWAY_DRAIN_MS", CONFIG_INT, AT(drain_ms), 0, 600000, "25000", false, false,
     "time for running requests after SIGTERM"},
    {"GATEWAY_MAX_BODY_BYTES", CONFIG_INT, AT(max_body_bytes), 1024, 1 << 30, "1048576", false,
     false, "largest JSON body of a call that carries no file"},
    {"GATEWAY_MAX_FILE_BYTES", CONFIG_INT, AT(max_file_bytes), 1024, 1 << 30, "16777216", false,
     false, "largest file of write-file and read-file"},
    {"GATEWAY_LIST_MAX_ENTRIES", CONFIG_INT, AT(list_max_entries), 1, 100000, "1000", false, false,
     "entries that list-files answers with; the rest is left out and said so"},
    {"GATEWAY_STRICT_HEADERS", CONFIG_BOOL, AT(strict_headers), 0, 0, "1", false, false,
     "require User-Agent and X-Request-ID as the contract says"},
    STORE_CONFIG_ENTRY(AT(database_url)),
    {"DATABASE_POOL", CONFIG_INT, AT(database_pool), 1, 256, "8", false, false,
     "connections to PostgreSQL"},
    QUEUE_CONFIG_ENTRIES(AT(redis)),
    {"JWT_ALGORITHM", CONFIG_STRING, AT(jwt_algorithm), 5, 5, "HS256", false, false,
     "HS256, RS256 or ES256: the only one accepted"},
    {"JWT_SECRET_KEY", CONFIG_STRING, AT(jwt_secret), 32, 4096, NULL, false, true,
     "HS256: the key, at least 32 bytes"},
    {"JWT_PUBLIC_KEY_FILE", CONFIG_STRING, AT(jwt_public_key_file), 1, 4096, NULL, false, false,
     "RS256, ES256: PEM file that verifies tokens"},
    {"JWT_PRIVATE_KEY_FILE", CONFIG_STRING, AT(jwt_private_key_file), 1, 4096, NULL, false, false,
     "RS256, ES256: PEM file that signs tokens; without it there is no login here"},
    {"JWT_ISSUER", CONFIG_STRING, AT(jwt_issuer), 0, 255, NULL, false, false,
     "when set, tokens must have this iss"},
    {"JWT_AUDIENCE", CONFIG_STRING, AT(jwt_audience), 0, 255, NULL, false, false,
     "when set, tokens must have this aud"},
    {"JWT_ADMIN_CLAIM", CONFIG_STRING, AT(jwt_admin_claim), 0, 255, NULL, false, false,
     "claim that makes an admin in another issuer's token, nested names with dots between them "
     "(default: none does)"},
    {"JWT_ADMIN_VALUES", CONFIG_STRING, AT(jwt_admin_values), 0, 1023, "admin", false, false,
     "comma list of the values of JWT_ADMIN_CLAIM that do"},
    {"JWT_TTL_SECONDS", CONFIG_INT, AT(jwt_ttl_s), 60, 31536000, "86400", false, false,
     "life of a token from login"},
    {"LOGIN_PARALLEL", CONFIG_INT, AT(login_parallel), 1, 64, "2", false, false,
     "password checks at once; each takes about 20 MB and 50 ms of a core"},
    {"LOGIN_USER_MAX", CONFIG_INT, AT(login_user_max), 1, 100000, "10", false, false,
     "failed logins of one user from one address within the window; more are slowed down"},
    {"LOGIN_ADDRESS_MAX", CONFIG_INT, AT(login_address_max), 1, 100000, "100", false, false,
     "failed logins from one address within the window; more are slowed down"},
    {"API_KEY_ADDRESS_MAX", CONFIG_INT, AT(key_address_max), 1, 100000, "100", false, false,
     "unknown API keys from one address within the window; more are slowed down"},
    {"LOGIN_WINDOW_SECONDS", CONFIG_INT, AT(login_window_s), 1, 86400, "300", false, false,
     "the window"},
    {"LOGIN_DELAY_MAX_SECONDS", CONFIG_INT, AT(login_delay_max_s), 1, 3600, "30", false, false,
     "longest wait between the slowed ones, which doubles from 1 s"},
    {"SANDBOX_PROVIDERS", CONFIG_STRING, AT(providers), 1, 255, "e2b", false, false,
     "comma list; a create goes to the first, and on to the next where that one cannot take it"},
    {"SANDBOX_TEMPLATES", CONFIG_STRING, AT(templates), 0, 65535, NULL, false, false,
     "what a sandbox_template_id is called at each provider: "
     "name=e2b:TEMPLATE,daytona:SNAPSHOT;..."},
    {"SANDBOX_WAIT_SECONDS", CONFIG_INT, AT(wait_s), 1, 3600, "60", false, false,
     "how long a lifecycle call waits for its result before it answers 202"},
    {"SANDBOX_IDEMPOTENCY_SECONDS", CONFIG_INT, AT(idempotency_s), 60, 31536000, "86400", false,
     false, "how long an Idempotency-Key is remembered"},
    {"SANDBOX_IDEMPOTENCY_CLAIM_MS", CONFIG_INT, AT(idempotency_claim_ms), 100, 3600000, "30000",
     false, false, "age at which a request that holds a key and has no job lost its gateway"},
    {"SANDBOX_PAUSED_TTL_SECONDS", CONFIG_INT, AT(paused_ttl_s), 0, 315360000, "0", false, false,
     "time of one pause after which a new sandbox is deleted, unless its create says another; 0 = "
     "never"},
    {"SANDBOX_MAX_LIFETIME_SECONDS", CONFIG_INT, AT(max_life_s), 0, 315360000, "0", false, false,
     "time after its create at which a new sandbox is deleted, whatever it does; 0 = never"},
    {"SANDBOX_TIMEOUT_SECONDS", CONFIG_INT, AT(idle_timeout_s), 1, 86400, "3000", false, false,
     "idle time after which a sandbox is paused"},
    {"SANDBOX_JOB_ATTEMPTS", CONFIG_INT, AT(job_attempts), 1, 1000, "8", false, false,
     "attempts of a job before it fails"},
    {"SANDBOX_DELETE_ATTEMPTS", CONFIG_INT, AT(delete_attempts), 1, 1000000, "1000", false, false,
     "attempts of a delete: giving up would leave a sandbox behind"},
    {"SANDBOX_MCP_SERVER_PORT", CONFIG_INT, AT(mcp_port), 1, 65535, "6060", false, false,
     "port of the MCP server in a sandbox"},
    {"SANDBOX_CODE_SERVER_PORT", CONFIG_INT, AT(code_server_port), 1, 65535, "9000", false, false,
     "port of code-server in a sandbox"},
    {"SANDBOX_SERVICES", CONFIG_STRING, AT(services), 1, 64, NULL, false, false,
     "what sandboxes come up with: comma list of mcp, vscode; create and connect wait for these "
     "and "
     "tell their state (default: none, nothing is asked)"},
    {"SANDBOX_SERVICES_TEMPLATES", CONFIG_STRING, AT(services_templates), 1, 4096, NULL, false,
     false,
     "comma list of the templates that have them; * = all (default: each provider's default "
     "template)"},
    {"SANDBOX_SERVICES_WAIT_MS", CONFIG_INT, AT(services_wait_ms), 0, 60000, "5000", false, false,
     "how long they are waited for; 0 = asked once"},
    {"RUN_CMD_TIMEOUT_SECONDS", CONFIG_INT, AT(command_timeout_s), 1, 86400, "60", false, false,
     "timeout of a command that names none"},
    {"RUN_CMD_TIMEOUT_MAX_SECONDS", CONFIG_INT, AT(command_timeout_max_s), 1, 86400, "3600", false,
     false, "longest timeout a command may name"},
    {"RUN_CMD_MAX_OUTPUT_BYTES", CONFIG_INT, AT(command_output_bytes), 1024, 1 << 28, "1048576",
     false, false, "kept of the beginning of each of output, stdout and stderr"},
    {"RUN_CMD_MAX_TAIL_BYTES", CONFIG_INT, AT(command_tail_bytes), 0, 1 << 26, "65536", false,
     false, "kept of their ends, when there is more; what is between is left out and said so"},
    {"COMMAND_OUTPUT_BYTES", CONFIG_INT, AT(command_kept_bytes), 65536, INT64_C(1) << 40,
     "67108864", false, false,
     "most that a sandbox keeps of a command's output: its beginning and its end, half each"},
    {"COMMAND_RETENTION_SECONDS", CONFIG_INT, AT(command_retention_s), 1, 2592000, "3600", false,
     false, "how long a command and its output can be asked for after its end"},
    {"COMMANDS_KEPT", CONFIG_INT, AT(commands_kept), 1, 100000, "1000", false, false,
     "outputs of ended commands that a sandbox keeps; the oldest go first"},
    {"COMMANDS_OPEN", CONFIG_INT, AT(commands_open), 0, 1000000, "1000", false, false,
     "commands of one sandbox that have not ended; 0 = no limit"},
    {"SANDBOX_MAX_PER_USER", CONFIG_INT, AT(max_sandboxes), 0, 1000000000, "1000", false, false,
     "sandboxes of one user that are neither paused, failed nor deleted; 0 = no limit"},
    {"SANDBOX_MAX_PAUSED_PER_USER", CONFIG_INT, AT(max_paused), 0, 1000000000, "10000", false,
     false,
     "paused sandboxes of one user at which its creates and pauses are refused; 0 = no limit"},
    {"SANDBOX_CREATES_PER_MINUTE", CONFIG_INT, AT(creates_per_minute), 0, 1000000000, "0", false,
     false, "sandboxes that one user may create within a minute; 0 = no limit"},
    {"GATEWAY_CALLS_PER_SECOND", CONFIG_INT, AT(calls_per_second), 0, 1000000, "1000", false, false,
     "calls a second of one user, over all gateways; twice as many at once; 0 = no limit"},
    {"GATEWAY_AUDIT_DAYS", CONFIG_INT, AT(audit_days), 0, 36500, "90", false, false,
     "days that the audit log is kept; 0 = for ever"},
    {"GATEWAY_AUDIT_COMMANDS", CONFIG_BOOL, AT(audit_commands), 0, 0, "0", false, false,
     "keep command lines in the audit log, which may hold secrets; else their SHA-256"},
    {"GATEWAY_KEYS_PER_USER", CONFIG_INT, AT(max_keys), 0, 1000000, "100", false, false,
     "API keys of one user; 0 = no limit"},
    {"ADMISSION_QUEUE_DEPTH", CONFIG_INT, AT(admission_depth), 1, 100000000, "20000", false, false,
     "unfinished jobs at which creates are answered 503"},
    {"ADMISSION_QUEUE_MAX", CONFIG_INT, AT(admission_max), 1, 100000000, "40000", false, false,
     "unfinished jobs at which connect, pause and schedule-timeout are answered 503, too"},
    {"ADMISSION_QUEUE_AGE_MS", CONFIG_INT, AT(admission_age_ms), 100, 86400000, "120000", false,
     false, "age of the oldest queued job at which creates are answered 503"},
    {"USAGE_PRICES", CONFIG_STRING, AT(usage_prices), 1, USAGE_PRICES_BYTES, NULL, false, false,
     "what a second costs, for /api/v1/usage: PROVIDER:AMOUNT/s of a running sandbox, "
     "PROVIDER.paused:AMOUNT/s of a paused one, with commas between (default: no costs)"},
    LOG_CONFIG_ENTRY(AT(log_level)),
};

int64_t gateway_config_file_body(const struct gateway_config *config)
{
    return config->max_file_bytes * JSON_GROWTH + JSON_OVERHEAD_BYTES;
}

static int check_proxies(const struct gateway_config *config, struct error *err)
{
    struct cidr_set set = {.list = NULL};
    int status = 0;

    if (config->trusted_proxies != NULL &&
        cidr_set_add_list(&set, config->trusted_proxies, err) < 0) {
        err->code = ERR_CONFIG;
        error_prefix(err, "TRUSTED_PROXIES");
        status = -1;
    }
    cidr_set_done(&set);
    return status;
}

static int check_prices(const struct gateway_config *config, struct error *err)
{
    struct strbuf json;
    int status;

    strbuf_init(&json, USAGE_PRICES_BYTES * 2);
    status = usage_prices_json(config->usage_prices, &json, err);
    strbuf_done(&json);
    return status;
}

/* The rest is for threads, connections and other memory of requests. */
static int64_t default_buffer_bytes(void)
{
    const int64_t limit = memory_limit_cgroup("");

    return limit > 0 ? limit / 5 * 2 : memory_limit_machine() / 8;
}

int gateway_config_load(struct gateway_config *config, struct error *err)
{
    if (config_load(table, COUNT, config, err) < 0) {
        return -1;
    }
    if (services_check(config, err) < 0 || queue_config_check(&config->redis, err) < 0) {
        gateway_config_free(config);
        return -1;
    }
    if (check_proxies(config, err) < 0 || check_prices(config, err) < 0) {
        gateway_config_free(config);
        return -1;
    }
    if (config->buffer_bytes == 0) {
        config->buffer_bytes = default_buffer_bytes();
    }
    if (config->buffer_bytes < budget_json_bytes(gateway_config_file_body(config))) {
        const long long bytes = (long long)config->buffer_bytes;

        gateway_config_free(config);
        return error_set(err, ERR_CONFIG,
                         "GATEWAY_BUFFER_BYTES (%lld) does not take one file of "
                         "GATEWAY_MAX_FILE_BYTES",
                         bytes);
    }
    const int64_t listing = budget_listing_bytes(config->list_max_entries, FILES_LIST_MAX_BYTES) +
                            budget_json_bytes(LISTING_BODY_BYTES);
    if (config->buffer_bytes < listing) {
        gateway_config_free(config);
        return error_set(err, ERR_CONFIG,
                         "GATEWAY_BUFFER_BYTES does not take one listing of "
                         "GATEWAY_LIST_MAX_ENTRIES: at least %lld",
                         (long long)listing);
    }
    return 0;
}

void gateway_config_free(struct gateway_config *config)
{
    config_free(table, COUNT, config);
}

void gateway_config_help(FILE *out)
{
    config_print_help(table, COUNT, out);
    provider_config_help(out);
}
