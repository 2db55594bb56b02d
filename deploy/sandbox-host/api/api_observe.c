/*
 * api_observe - what a sandbox uses and what was logged of it: /metrics, /logs.
 */
#include "deploy/sandbox-host/api/api_observe.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "deploy/sandbox-host/sandbox/sandbox_query.h"

enum { LOGS_MAX = 1000, SEARCH_BYTES = 257, IDS_BYTES = 8192 };

/* ---- metrics ---- */

static cJSON *sample_tree(const struct call *call, const struct meter_sample *sample)
{
    const struct host_config *config = call->config;
    cJSON *tree = cJSON_CreateObject();

    json_add_time(tree, "timestamp", sample->at_ms);
    json_add_int64(tree, "timestampUnix", sample->at_ms / 1000);
    json_add_int64(tree, "cpuCount", (config->cpu_percent + 99) / 100);
    cJSON_AddNumberToObject(tree, "cpuUsedPct", sample->cpu_percent);
    json_add_int64(tree, "memUsed", sample->memory_bytes);
    json_add_int64(tree, "memTotal", config->memory_bytes);
    json_add_int64(tree, "memCache", sample->cache_bytes);
    json_add_int64(tree, "diskUsed", sample->disk_bytes);
    json_add_int64(tree, "diskTotal", sample->disk_total_bytes);
    return tree;
}

void api_metrics(struct call *call)
{
    struct error err = ERROR_INIT;
    struct meter_sample *samples;
    int64_t start_s = 0, end_s = INT64_MAX;
    size_t count;
    cJSON *tree;

    if (api_query_number(call, "start", 0, 0, INT64_MAX, &start_s, &err) < 0 ||
        api_query_number(call, "end", INT64_MAX, 0, INT64_MAX, &end_s, &err) < 0 ||
        sandbox_meter(call->id, &samples, &count, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    tree = cJSON_CreateArray();
    for (size_t i = 0; i < count; i++) {
        if (samples[i].at_ms / 1000 >= start_s && samples[i].at_ms / 1000 <= end_s) {
            cJSON_AddItemToArray(tree, sample_tree(call, &samples[i]));
        }
    }
    free(samples);
    api_send_tree(call->http, 200, "", tree);
}

void api_metrics_of_many(struct call *call)
{
    char ids[IDS_BYTES], *save = NULL;
    cJSON *tree, *sandboxes;

    if (http_query_param(call->http, "sandbox_ids", ids, sizeof(ids)) != 1) {
        api_send_error(call->http, 400, "sandbox_ids is required");
        return;
    }
    tree = cJSON_CreateObject();
    sandboxes = cJSON_AddObjectToObject(tree, "sandboxes");
    for (char *id = strtok_r(ids, ",", &save); id != NULL; id = strtok_r(NULL, ",", &save)) {
        struct error absent = ERROR_INIT; /* then it is not in the answer */
        struct meter_sample *samples;
        size_t count;

        if (!cJSON_HasObjectItem(sandboxes, id) &&
            sandbox_meter(id, &samples, &count, &absent) == 0) {
            if (count > 0) {
                cJSON_AddItemToObject(sandboxes, id, sample_tree(call, &samples[count - 1]));
            }
            free(samples);
        }
    }
    api_send_tree(call->http, 200, "", tree);
}

/* ---- logs ---- */

static cJSON *entry_tree(const struct journal_line *line)
{
    cJSON *tree = cJSON_CreateObject();

    json_add_time(tree, "timestamp", line->at_ms);
    cJSON_AddStringToObject(tree, "level", journal_level_name(line->level));
    cJSON_AddStringToObject(tree, "message", line->text);
    cJSON_AddObjectToObject(tree, "fields");
    return tree;
}

/* The whole line as E2B's own logger writes it, which E2B's CLI parses. */
static void add_line(cJSON *log, const struct call *call, const struct journal_line *line)
{
    cJSON *tree = cJSON_CreateObject();
    struct strbuf text;

    cJSON_AddStringToObject(tree, "level", journal_level_name(line->level));
    cJSON_AddStringToObject(tree, "logger", "sandbox");
    cJSON_AddStringToObject(tree, "message", line->text);
    cJSON_AddStringToObject(tree, "sandboxID", call->id);
    strbuf_init(&text, 8 * JOURNAL_LINE_BYTES); /* each byte may need an escape */
    json_print(tree, &text);
    cJSON_Delete(tree);
    cJSON_AddStringToObject(log, "line", text.data);
    strbuf_done(&text);
}

void api_logs(struct call *call)
{
    struct error err = ERROR_INIT;
    struct journal journal;
    int64_t start_ms = 0, limit = LOGS_MAX, taken = 0;
    cJSON *tree, *logs, *entries;

    if (api_query_number(call, "start", 0, 0, INT64_MAX, &start_ms, &err) < 0 ||
        api_query_number(call, "limit", LOGS_MAX, 0, INT32_MAX, &limit, &err) < 0 ||
        sandbox_journal(call->id, &journal, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    tree = cJSON_CreateObject();
    logs = cJSON_AddArrayToObject(tree, "logs");
    entries = cJSON_AddArrayToObject(tree, "logEntries");
    for (size_t i = 0; i < journal.count && taken < limit; i++) {
        const struct journal_line *line = journal_at(&journal, i);
        cJSON *log;

        if (line->at_ms < start_ms) {
            continue;
        }
        log = cJSON_CreateObject();
        json_add_time(log, "timestamp", line->at_ms);
        add_line(log, call, line);
        cJSON_AddItemToArray(logs, log);
        cJSON_AddItemToArray(entries, entry_tree(line));
        taken++;
    }
    journal_done(&journal);
    api_send_tree(call->http, 200, "", tree);
}

struct log_filter {
    int64_t cursor_ms, limit;
    bool backward;
    enum journal_level level;
    char search[SEARCH_BYTES];
};

static int read_log_filter(const struct call *call, struct log_filter *ret, struct error *err)
{
    char text[32];
    int found;

    *ret = (struct log_filter){.level = JOURNAL_DEBUG};
    found = http_query_param(call->http, "direction", text, sizeof(text));
    ret->backward = found == 1 && strcmp(text, "backward") == 0;
    if (found < 0 || (found == 1 && !ret->backward && strcmp(text, "forward") != 0)) {
        return error_set(err, ERR_INVALID, "direction is neither forward nor backward");
    }
    found = http_query_param(call->http, "level", text, sizeof(text));
    while (found == 1 && strcmp(text, journal_level_name(ret->level)) != 0) {
        if (ret->level++ == JOURNAL_ERROR) {
            found = -1;
        }
    }
    if (found < 0) {
        return error_set(err, ERR_INVALID, "level is none of debug, info, warn, error");
    }
    if (http_query_param(call->http, "search", ret->search, sizeof(ret->search)) < 0) {
        return error_set(err, ERR_INVALID, "search is longer than 256 characters");
    }
    return api_query_number(call, "cursor", ret->backward ? INT64_MAX : 0, 0, INT64_MAX,
                            &ret->cursor_ms, err) < 0 ||
                   api_query_number(call, "limit", LOGS_MAX, 0, LOGS_MAX, &ret->limit, err) < 0
               ? -1
               : 0;
}

void api_logs_v2(struct call *call)
{
    struct error err = ERROR_INIT;
    struct log_filter filter;
    struct journal journal;
    int64_t taken = 0;
    cJSON *tree, *logs;

    if (read_log_filter(call, &filter, &err) < 0 || sandbox_journal(call->id, &journal, &err) < 0) {
        api_send_failure(call->http, &err);
        return;
    }
    tree = cJSON_CreateObject();
    logs = cJSON_AddArrayToObject(tree, "logs");
    for (size_t n = 0; n < journal.count && taken < filter.limit; n++) {
        const struct journal_line *line =
            journal_at(&journal, filter.backward ? journal.count - 1 - n : n);

        if ((filter.backward ? line->at_ms <= filter.cursor_ms : line->at_ms >= filter.cursor_ms) &&
            line->level >= filter.level && strstr(line->text, filter.search) != NULL) {
            cJSON_AddItemToArray(logs, entry_tree(line));
            taken++;
        }
    }
    journal_done(&journal);
    api_send_tree(call->http, 200, "", tree);
}
