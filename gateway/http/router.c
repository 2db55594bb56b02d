/* router - see router.h. */
#include "gateway/http/router.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/log.h"
#include "common/base/metrics.h"
#include "gateway/http/bounds.h"
#include "gateway/http/handlers.h"
#include "gateway/http/request_state.h"
#include "gateway/work/work_place.h"

const struct route route_table[] = {
#define X(method, path, flags, handler) {method, path, flags, handler, #handler},
#include "gateway/http/console_routes.def"
#include "gateway/http/routes.def"
#undef X
#define X(method, path, flags, handler) {method, path, (flags) | E2B, handler, #handler},
#include "gateway/http/e2b_routes.def"
#undef X
};
enum { ROUTE_COUNT = sizeof(route_table) / sizeof(route_table[0]) };
const int route_count = ROUTE_COUNT;

enum { MAX_HEADER_VALUE_BYTES = 512 };

/* The last index counts requests that no route matches. */
enum { NO_ROUTE = ROUTE_COUNT, METRIC_ROUTES, STATUS_CLASSES = 6, METRIC_LABEL_BYTES = 128 };
static struct metric answered[METRIC_ROUTES][STATUS_CLASSES];
static struct metric latency[METRIC_ROUTES];
static char answered_labels[METRIC_ROUTES][STATUS_CLASSES][METRIC_LABEL_BYTES];
static char latency_labels[METRIC_ROUTES][METRIC_LABEL_BYTES];

void router_init(void)
{
    for (int r = 0; r < METRIC_ROUTES; r++) {
        const char *method = r == NO_ROUTE ? "" : route_table[r].method;
        const char *path = r == NO_ROUTE ? "" : route_table[r].path;

        for (int c = 1; c < STATUS_CLASSES; c++) {
            snprintf(answered_labels[r][c], METRIC_LABEL_BYTES,
                     "method=\"%s\",route=\"%s\",status=\"%dxx\"", method, path, c);
            answered[r][c] = (struct metric){.name = "sandbox_gateway_requests_total",
                                             .labels = answered_labels[r][c],
                                             .help = "Requests answered.",
                                             .type = METRIC_COUNTER};
            metrics_register(&answered[r][c]);
        }
        snprintf(latency_labels[r], METRIC_LABEL_BYTES, "method=\"%s\",route=\"%s\"", method, path);
        latency[r] = (struct metric){.name = "sandbox_gateway_request_duration_ms",
                                     .labels = latency_labels[r],
                                     .help = "Time from a request's head to its answer.",
                                     .type = METRIC_HISTOGRAM};
        metrics_register(&latency[r]);
    }
}

/* What stands where the pattern has `hole`. */
static bool read_hole(const char *hole, const char *text, size_t length, char ret_id[UUID_BYTES])
{
    if (strncmp(hole, "{name}", strlen("{name}")) == 0 ||
        strncmp(hole, "{port}", strlen("{port}")) == 0) {
        return true;
    }
    if (hole[1] != 's' && length != UUID_BYTES - 1) {
        ret_id[0] = '\0';
        return false;
    }
    if (id_uuid_from_plain(text, length, ret_id)) {
        return true;
    }
    /* E2B's older clients append the id of a client */
    length = strcspn(text, "-/");
    if (hole[1] == 's' && text[length] == '-' && id_uuid_from_plain(text, length, ret_id)) {
        return true;
    }
    ret_id[0] = '\0';
    return false;
}

/* -1 = no match, else the number of malformed ids. */
static int match_segments(const char *pattern, const char *path,
                          char ret_ids[ROUTE_IDS][UUID_BYTES])
{
    int malformed = 0, count = 0;

    while (*pattern != '\0') {
        size_t segment = strcspn(path, "/");

        if (*pattern != '{') {
            if (*pattern++ != *path++) {
                return -1;
            }
            continue;
        }
        if (segment == 0) {
            return -1;
        }
        malformed += !read_hole(pattern, path, segment, ret_ids[count++]);
        pattern += strcspn(pattern, "}") + 1;
        path += segment;
    }
    return *path == '\0' ? malformed : -1;
}

int route_match(const char *pattern, const char *path, char ret_ids[ROUTE_IDS][UUID_BYTES])
{
    int malformed = match_segments(pattern, path, ret_ids);

    for (int i = 0; malformed != 0 && i < ROUTE_IDS; i++) {
        ret_ids[i][0] = '\0';
    }
    return malformed > 0 ? 1 : malformed;
}

/* Below the names that E2B's API has at the root. */
static bool is_e2b_path(const char *path)
{
    static const char *const names[] = {"sandboxes", "templates", "snapshots"};

    if (*path == '/' && path[1] == 'v' && isdigit((unsigned char)path[2]) && path[3] == '/') {
        path += 3;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        size_t length = strlen(names[i]);

        if (*path == '/' && strncmp(path + 1, names[i], length) == 0 &&
            (path[length + 1] == '\0' || path[length + 1] == '/')) {
            return true;
        }
    }
    return false;
}

/* Finds the route of this method and path. NULL: err is set and, for 405, `allow`. */
static const struct route *find_route(struct request *request, char *allow, size_t allow_bytes,
                                      struct error *err)
{
    const char *method = http_method(request->http), *path = http_path(request->http);
    const struct route *malformed_id = NULL;

    allow[0] = '\0';
    for (int i = 0; i < ROUTE_COUNT; i++) {
        char ids[ROUTE_IDS][UUID_BYTES] = {"", ""};
        int match = route_match(route_table[i].path, path, ids);

        if (match < 0) {
            continue;
        }
        if (strcmp(route_table[i].method, method) == 0 ||
            (strcmp(method, "HEAD") == 0 && strcmp(route_table[i].method, "GET") == 0)) {
            if (match == 0) {
                str_copy(request->path_id, sizeof(request->path_id), ids[0]);
                str_copy(request->command_id, sizeof(request->command_id), ids[1]);
                return &route_table[i];
            }
            malformed_id = &route_table[i];
        } else if (match == 0 && strstr(allow, route_table[i].method) == NULL) {
            size_t used = strlen(allow);

            snprintf(allow + used, allow_bytes - used, "%s%s%s", used > 0 ? ", " : "",
                     route_table[i].method,
                     strcmp(route_table[i].method, "GET") == 0 ? ", HEAD" : "");
        }
    }
    if (malformed_id != NULL && (malformed_id->flags & E2B) != 0) {
        error_set(err, ERR_INVALID, "Invalid sandbox ID");
    } else if (allow[0] != '\0') {
        error_set(err, ERR_METHOD, "%.16s is not allowed here; allowed: %s", method, allow);
    } else if (malformed_id != NULL && strstr(malformed_id->path, "/sandboxes/") != NULL) {
        error_set(err, ERR_SANDBOX_NOT_FOUND, "no such sandbox");
    } else if (malformed_id != NULL) {
        error_set(err, ERR_NOT_FOUND, "nothing has this id");
    } else {
        error_set(err, ERR_ROUTE_NOT_FOUND, "no such route");
    }
    return NULL;
}

/* Takes the caller's X-Request-ID if it is valid, else makes one: every answer has one. */
static void take_request_id(const struct http_exchange *http, char ret[UUID_BYTES])
{
    const char *given = http != NULL ? http_header(http, "X-Request-ID") : NULL;

    if (given != NULL && id_is_uuid(given)) {
        str_copy(ret, UUID_BYTES, given);
    } else {
        id_uuid(ret);
    }
}

/* version-trace-parent-flags in lower-case hexadecimal (W3C Trace Context, level 1) */
static void take_traceparent(struct request *request)
{
    static const char shape[] = "hh-hhhhhhhhhhhhhhhhhhhhhhhhhhhhhhhh-hhhhhhhhhhhhhhhh-hh";
    const char *given = http_header(request->http, "traceparent");

    if (given == NULL || strlen(given) != sizeof(shape) - 1) {
        return;
    }
    for (size_t i = 0; shape[i] != '\0'; i++) {
        if (shape[i] == 'h' ? strchr("0123456789abcdef", given[i]) == NULL : given[i] != '-') {
            return;
        }
    }
    str_copy(request->state->traceparent, sizeof(request->state->traceparent), given);
}

static int check_headers(const struct request *request, struct error *err)
{
    const char *agent = http_header(request->http, "User-Agent");
    const char *id = http_header(request->http, "X-Request-ID");
    bool strict = request->gateway->config->strict_headers && !request->state->e2b;

    if (strict && (agent == NULL || *agent == '\0')) {
        return error_set(err, ERR_HEADER_MISSING, "User-Agent is required");
    }
    if (agent != NULL && strlen(agent) > MAX_HEADER_VALUE_BYTES) {
        return error_set(err, ERR_HEADER_INVALID, "User-Agent is longer than %d bytes",
                         MAX_HEADER_VALUE_BYTES);
    }
    if (strict && id == NULL) {
        return error_set(err, ERR_HEADER_MISSING, "X-Request-ID is required: a UUID");
    }
    if (id != NULL && !id_is_uuid(id)) {
        return error_set(err, ERR_HEADER_INVALID, "X-Request-ID must be a UUID");
    }
    return 0;
}

static bool is_json_type(const char *type)
{
    static const char json[] = "application/json";

    return type != NULL && strncasecmp(type, json, sizeof(json) - 1) == 0 &&
           strchr("; \t", type[sizeof(json) - 1]) != NULL;
}

const char router_refusal_body[] =
    "{\"code\":503,\"msg\":\"too many connections\",\"data\":null,"
    "\"error\":{\"type\":\"overloaded\",\"detail\":\"too many connections\"}}";

/* Takes buffer bytes for a body as it arrives: a declared length costs nothing. */
struct body_charge {
    struct request *request;
    int64_t bytes;
};

static int charge_body(void *arg, size_t length, struct error *err)
{
    struct body_charge *charge = arg;
    const int64_t due = budget_json_bytes((int64_t)length) - charge->bytes;

    if (budget_take(&charge->request->gateway->buffers, &charge->request->state->buffers, due,
                    err) < 0) {
        return -1;
    }
    charge->bytes += due;
    return 0;
}

static int read_json(struct request *request, struct error *err)
{
    const struct gateway_config *config = request->gateway->config;
    unsigned flags = request->state->route->flags;
    int64_t max =
        (flags & FILE_BODY) != 0 ? gateway_config_file_body(config) : config->max_body_bytes;
    struct body_charge charge = {.request = request};
    struct strbuf text;
    int status;

    if ((flags & JSON) == 0 &&
        ((flags & MAYBE_JSON) == 0 || http_body_length(request->http) == 0)) {
        return 0;
    }
    if ((flags & OPEN) != 0 && max > OPEN_BODY_MAX_BYTES) {
        max = OPEN_BODY_MAX_BYTES;
    }
    /* login requires no header, but a Content-Type that is sent must be right */
    if (((flags & OPEN) == 0 || http_header(request->http, "Content-Type") != NULL) &&
        !is_json_type(http_header(request->http, "Content-Type"))) {
        return error_set(err, ERR_MEDIA_TYPE, "Content-Type must be application/json");
    }
    strbuf_init(&text, (size_t)max);
    status = http_read_body_charged(request->http, &text, charge_body, &charge, err);
    if (status == 0) {
        /* too large to be printed again */
        if ((flags & FILE_BODY) != 0 && request->state->idempotency.key[0] != '\0') {
            sha256_hex(text.data, text.length, request->state->idempotency.body_hash);
        }
        request->body = json_parse(text.data, text.length, err);
        status = request->body == NULL ? -1 : 0;
    }
    budget_give(&request->gateway->buffers, &request->state->buffers, (int64_t)text.length);
    strbuf_done(&text);
    if (status == 0 && !cJSON_IsObject(request->body)) {
        status = error_set(err, ERR_JSON, "invalid JSON: the body must be an object");
    }
    return status;
}

/* Writes the header fields of draft-ietf-httpapi-ratelimit-headers: in the current form, and in the
 * form up to its seventh version, which more clients know. */
static int check_rate(struct request *request, struct error *err)
{
    struct rate_state rate;

    if (rates_take(request->gateway->rates, request->principal.subject, &rate, err) == 0) {
        return 0;
    }
    snprintf(request->state->refusal_headers, sizeof(request->state->refusal_headers),
             "RateLimit-Policy: \"user\";q=%lld;w=%lld\r\nRateLimit: \"user\";r=%lld;t=%d\r\n"
             "RateLimit-Limit: %lld\r\nRateLimit-Remaining: %lld\r\nRateLimit-Reset: %d\r\n",
             (long long)rate.burst, (long long)(rate.burst / rate.per_second), (long long)rate.left,
             err->retry_after_s, (long long)rate.burst, (long long)rate.left, err->retry_after_s);
    return -1;
}

static int check_rights(const struct request *request, struct error *err)
{
    const struct principal *principal = &request->principal;
    unsigned flags = request->state->route->flags;
    unsigned needed = flags >> ROUTE_SCOPE_SHIFT & SCOPE_ALL;

    if ((flags & ADMINS) != 0 && !principal->admin && !principal->by_key) {
        return error_set(err, ERR_FORBIDDEN, "this call is for admins");
    }
    if (!principal->by_key || (flags & ANY_KEY) != 0) {
        return 0;
    }
    for (int i = 0; i < SCOPE_COUNT; i++) {
        if ((needed & ~principal->scopes & 1U << i) != 0) {
            return error_set(err, ERR_FORBIDDEN, "this key lacks the scope %s", scope_name(i));
        }
    }
    if (needed == 0) {
        return error_set(err, ERR_FORBIDDEN, "this call takes no API key, but a token from login");
    }
    return (flags & ADMINS) != 0 && !principal->admin
               ? error_set(err, ERR_FORBIDDEN, "this call is for admins")
               : 0;
}

static int prepare(struct request *request, struct error *err)
{
    bool open = (request->state->route->flags & OPEN) != 0;

    if ((!open && check_headers(request, err) < 0) || idempotency_read(request, err) < 0) {
        return -1;
    }
    if (!open &&
        (auth_authenticate(request->gateway->auth, http_peer(request->http),
                           http_header(request->http, "Authorization"),
                           http_header(request->http, "X-API-Key"), &request->principal, err) < 0 ||
         check_rate(request, err) < 0 || check_rights(request, err) < 0)) {
        return -1;
    }
    if (!open) {
        http_body_owner(request->http, request->principal.subject);
    }
    if ((!open && work_place_open(request, err) < 0) ||
        ((request->state->route->flags & WORK) != 0 && work_place_enter(request, err) < 0)) {
        return -1;
    }
    return read_json(request, err) < 0 ? -1 : bounds_check(request, err);
}

/* What the call was about: the target set by its handler, the path's id, or the body's sandbox_id.
 */
static const char *audit_target(const struct request *request)
{
    const char *id = request->path_id;

    if (request->state->audit_target[0] != '\0') {
        return request->state->audit_target;
    }
    if (id[0] == '\0' && request->body != NULL) {
        id = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request->body, "sandbox_id"));
    }
    return id != NULL && strlen(id) < LABEL_BYTES ? id : "";
}

/* Writes the call's details without contents: a path as it is, a command line as its hash unless
 * AUDIT_COMMANDS is set. */
static void put_audit_detail(const struct request *request, char out[AUDIT_DETAIL_BYTES])
{
    static const char *const paths[] = {"file_path", "directory_path", "path"};
    const char *command, *path = NULL;
    char hash[SHA256_HEX_BYTES];

    out[0] = '\0';
    if (request->body == NULL) {
        return;
    }
    command = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request->body, "command"));
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]) && path == NULL; i++) {
        path = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request->body, paths[i]));
    }
    if (command != NULL && !request->gateway->config->audit_commands) {
        sha256_hex(command, strlen(command), hash);
        snprintf(out, AUDIT_DETAIL_BYTES, "command sha256:%s", hash);
    } else if (command != NULL || path != NULL) {
        snprintf(out, AUDIT_DETAIL_BYTES, "%s %s", command != NULL ? "command" : "path",
                 command != NULL ? command : path);
        out[utf8_valid_prefix(out, strlen(out))] = '\0';
    }
}

/* Writes every call that is not a read to the audit log, also if it was refused. */
static void write_audit(const struct request *request)
{
    const struct principal *principal = &request->principal;
    struct store_audit *record;

    if (request->state->route == NULL || strcmp(request->state->route->method, "GET") == 0) {
        return;
    }
    record = xcalloc(1, sizeof(*record));
    record->at_ms = clock_wall_ms();
    str_copy(record->actor, sizeof(record->actor), principal->subject);
    str_copy(record->actor_name, sizeof(record->actor_name), principal->username);
    str_copy(record->key_id, sizeof(record->key_id), principal->by_key ? principal->jti : "");
    str_copy(record->address, sizeof(record->address), http_peer(request->http));
    str_copy(record->action, sizeof(record->action),
             request->state->route->handler_name + strlen("handle_"));
    str_copy(record->target, sizeof(record->target), audit_target(request));
    record->status = request->state->status;
    str_copy(record->error, sizeof(record->error),
             request->state->error_type != NULL ? request->state->error_type : "");
    str_copy(record->request_id, sizeof(record->request_id), request->request_id);
    put_audit_detail(request, record->detail);
    audit_add(request->gateway->audit, record);
}

static void account(const struct request *request, int64_t took_us)
{
    int index =
        request->state->route != NULL ? (int)(request->state->route - route_table) : NO_ROUTE;
    const char *subject = request->principal.subject;
    /* probes arrive every second and tell nothing new */
    bool probe = request->state->route != NULL && request->state->route->flags == OPEN &&
                 strcmp(request->state->route->method, "GET") == 0;

    metric_observe_ms(&latency[index], took_us / 1000);
    if (request->state->status >= 100 && request->state->status < 100 * STATUS_CLASSES) {
        metric_add(&answered[index][request->state->status / 100], 1);
    }
    log_event(
        probe ? LOG_DEBUG : LOG_INFO, "http.request", LOG_S("method", http_method(request->http)),
        LOG_S("route", request->state->route != NULL ? request->state->route->path : "-"),
        LOG_I("status", request->state->status), LOG_F("duration_ms", (double)took_us / 1000.0),
        LOG_I("bytes", (int64_t)request->state->sent_bytes),
        LOG_S("subject", subject[0] != '\0' ? subject : NULL),
        LOG_S("peer", http_peer(request->http)), LOG_S("error", request->state->error_type));
}

static void handle(struct request *request)
{
    struct error err = ERROR_INIT;
    int known = 0;

    if ((request->state->route->flags & (KEYED | FORM)) == KEYED) {
        known = idempotency_begin(request, &err);
    }
    if (known < 0) {
        respond_error(request, &err, 0);
    } else if (known == 0) {
        request->state->route->handler(request);
        idempotency_end(request);
    }
}

void router_handle(void *arg, struct http_exchange *http)
{
    struct request_state state = {.before_answer = idempotency_keep};
    struct request request = {.gateway = arg, .http = http, .state = &state};
    struct error err = ERROR_INIT;
    int64_t start_us = clock_mono_us();
    char allow[64];

    take_request_id(http, request.request_id);
    take_traceparent(&request);
    log_context(request.request_id, NULL, NULL);
    state.e2b = is_e2b_path(http_path(http));
    state.route = find_route(&request, allow, sizeof(allow), &err);
    if (state.route == NULL) {
        char header[96] = "";

        if (err.code == ERR_METHOD) {
            snprintf(header, sizeof(header), "Allow: %s\r\n", allow);
        }
        respond_error_details(&request, &err, 0, NULL, header);
    } else if (prepare(&request, &err) < 0) {
        respond_error_details(&request, &err, 0, NULL, state.refusal_headers);
    } else {
        log_context(request.request_id, NULL, request.path_id[0] != '\0' ? request.path_id : NULL);
        handle(&request);
    }
    write_audit(&request);
    cJSON_Delete(request.body);
    work_place_leave(&request);
    account(&request, clock_mono_us() - start_us);
    log_context_clear();
}

void router_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body)
{
    cJSON *tree = cJSON_CreateObject(), *error = cJSON_CreateObject();
    char id[UUID_BYTES];

    (void)arg;
    take_request_id(exchange, id);
    strbuf_printf(headers, "X-Request-ID: %s\r\n", id);
    cJSON_AddStringToObject(error, "type", error_code_name(code));
    cJSON_AddStringToObject(error, "detail", message);
    cJSON_AddNumberToObject(tree, "code", error_code_http_status(code));
    cJSON_AddStringToObject(tree, "msg", message);
    cJSON_AddNullToObject(tree, "data");
    cJSON_AddItemToObject(tree, "error", error);
    cJSON_AddStringToObject(tree, "request_id", id);
    json_print(tree, body);
    cJSON_Delete(tree);
    metric_add(&answered[NO_ROUTE][error_code_http_status(code) / 100], 1);
    log_event(LOG_INFO, "http.refused", LOG_S("request_id", id), LOG_S("detail", message),
              LOG_S("error", error_code_name(code)));
}
