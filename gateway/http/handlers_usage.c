/*
 * handlers_usage - what an owner's sandboxes have used, as JSON or CSV.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/base/clock.h"
#include "common/store/store_usage.h"
#include "gateway/http/handlers.h"
#include "gateway/work/usage_prices.h"

enum {
    DATE_BYTES = 11, /* YYYY-MM-DD */
    ROWS_MAX = 5000,
    DAYS_MAX = 366,
    DAY_S = 86400,
    CSV_MAX_BYTES = 4 << 20,
    GROUPS_BYTES = 64
};

static const struct group {
    const char *name;
    enum store_usage_group bit;
    size_t offset;
} groups[] = {{"day", USAGE_BY_DAY, offsetof(struct store_usage, day)},
              {"provider", USAGE_BY_PROVIDER, offsetof(struct store_usage, provider)},
              {"template", USAGE_BY_TEMPLATE, offsetof(struct store_usage, template_id)},
              {"label", USAGE_BY_LABEL, offsetof(struct store_usage, label)},
              {"owner", USAGE_BY_OWNER, offsetof(struct store_usage, owner)}};
enum { GROUP_COUNT = sizeof(groups) / sizeof(groups[0]) };

struct usage_ask {
    struct store_usage_ask store;
    char from[DATE_BYTES], to[DATE_BYTES], owner[OWNER_BYTES];
    struct strbuf prices;
};

static const char *group_value(const struct store_usage *row, const struct group *group)
{
    return (const char *)row + group->offset;
}

/* ---- what is asked ------------------------------------------------------------------------- */

static void print_date(time_t at, char out[DATE_BYTES])
{
    struct tm day;

    gmtime_r(&at, &day);
    strftime(out, DATE_BYTES, "%Y-%m-%d", &day);
}

/* A day of the years 2000 to 2999; *ret_s is its first second. */
static int parse_date(const char *name, const char *text, time_t *ret_s, struct error *err)
{
    struct tm day = {.tm_mday = 0};
    char back[DATE_BYTES];
    const char *end =
        strlen(text) == DATE_BYTES - 1 && text[0] == '2' ? strptime(text, "%Y-%m-%d", &day) : NULL;

    if (end != NULL && *end == '\0') {
        *ret_s = timegm(&day);
        print_date(*ret_s, back);
        if (strcmp(back, text) == 0) {
            return 0;
        }
    }
    return error_set(err, ERR_INVALID, "%s must be a day as YYYY-MM-DD", name);
}

static int read_date(const struct request *request, const char *name, time_t fallback_s,
                     char out[DATE_BYTES], time_t *ret_s, struct error *err)
{
    bool given;

    if (request_query(request, name, out, DATE_BYTES, &given, err) < 0) {
        return -1;
    }
    if (!given) {
        print_date(fallback_s, out);
    }
    return parse_date(name, out, ret_s, err);
}

/* Default: this month up to now. */
static int read_days(const struct request *request, struct usage_ask *ask, struct error *err)
{
    const time_t now_s = (time_t)(clock_wall_ms() / 1000);
    struct tm month;
    time_t from_s, to_s;

    gmtime_r(&now_s, &month);
    month.tm_mday = 1;
    if (read_date(request, "from", timegm(&month), ask->from, &from_s, err) < 0 ||
        read_date(request, "to", now_s + DAY_S, ask->to, &to_s, err) < 0) {
        return -1;
    }
    if (to_s <= from_s || to_s - from_s > (time_t)DAYS_MAX * DAY_S) {
        return error_set(err, ERR_INVALID, "to must be 1 to %d days behind from", DAYS_MAX);
    }
    ask->store.from = ask->from;
    ask->store.to = ask->to;
    return 0;
}

static int read_groups(const struct request *request, unsigned *ret, struct error *err)
{
    char text[GROUPS_BYTES], *rest = text, *name;
    bool given;

    *ret = USAGE_BY_PROVIDER;
    if (request_query(request, "group_by", text, sizeof(text), &given, err) < 0 || !given) {
        return err->code != ERR_OK ? -1 : 0;
    }
    *ret = 0;
    while ((name = strsep(&rest, ",")) != NULL) {
        int i = 0;

        while (i < GROUP_COUNT && strcmp(groups[i].name, name) != 0) {
            i++;
        }
        if (i == GROUP_COUNT) {
            return error_set(err, ERR_INVALID,
                             "group_by is one or more of day, provider, template, label, owner");
        }
        *ret |= (unsigned)groups[i].bit;
    }
    return 0;
}

static int read_ask(const struct request *request, struct usage_ask *ask, struct error *err)
{
    bool given;

    if (read_days(request, ask, err) < 0 || read_groups(request, &ask->store.groups, err) < 0 ||
        request_query(request, "owner", ask->owner, sizeof(ask->owner), &given, err) < 0 ||
        usage_prices_json(request->gateway->config->usage_prices, &ask->prices, err) < 0) {
        return -1;
    }
    if (given && !request->principal.admin && strcmp(ask->owner, request->principal.subject) != 0) {
        return error_set(err, ERR_FORBIDDEN, "only admins may ask for another owner");
    }
    ask->store.owner =
        request->principal.admin ? given ? ask->owner : NULL : request->principal.subject;
    ask->store.prices_json = ask->prices.data;
    ask->store.limit = ROWS_MAX + 1;
    return 0;
}

/* ---- the answer ---------------------------------------------------------------------------- */

static cJSON *seconds_json(int64_t ms)
{
    return cJSON_CreateNumber((double)ms / 1000.0);
}

static void answer_json(struct request *request, const struct usage_ask *ask,
                        const struct store_usage *rows, size_t count)
{
    bool priced = request->gateway->config->usage_prices != NULL;
    cJSON *data = cJSON_CreateObject(), *items;

    cJSON_AddTrueToObject(data, "success");
    cJSON_AddStringToObject(data, "from", ask->from);
    cJSON_AddStringToObject(data, "to", ask->to);
    items = cJSON_AddArrayToObject(data, "items");
    for (size_t i = 0; i < count; i++) {
        cJSON *item = cJSON_CreateObject();

        for (int g = 0; g < GROUP_COUNT; g++) {
            if ((ask->store.groups & (unsigned)groups[g].bit) != 0) {
                cJSON_AddStringToObject(item, groups[g].name, group_value(&rows[i], &groups[g]));
            }
        }
        cJSON_AddItemToObject(item, "running_seconds", seconds_json(rows[i].running_ms));
        cJSON_AddItemToObject(item, "paused_seconds", seconds_json(rows[i].paused_ms));
        json_add_string_or_null(item, "cost", priced ? rows[i].cost : "");
        cJSON_AddItemToArray(items, item);
    }
    respond_data(request, 200, data);
}

/* RFC 4180 */
static void put_csv(struct strbuf *text, const char *value)
{
    strbuf_puts(text, "\"");
    for (; *value != '\0'; value++) {
        strbuf_printf(text, *value == '"' ? "\"\"" : "%c", *value);
    }
    strbuf_puts(text, "\"");
}

static void answer_csv(struct request *request, const struct usage_ask *ask,
                       const struct store_usage *rows, size_t count)
{
    bool priced = request->gateway->config->usage_prices != NULL;
    struct strbuf text;

    strbuf_init(&text, CSV_MAX_BYTES);
    for (int g = 0; g < GROUP_COUNT; g++) {
        if ((ask->store.groups & (unsigned)groups[g].bit) != 0) {
            strbuf_printf(&text, "%s,", groups[g].name);
        }
    }
    strbuf_printf(&text, "running_seconds,paused_seconds%s\r\n", priced ? ",cost" : "");
    for (size_t i = 0; i < count; i++) {
        for (int g = 0; g < GROUP_COUNT; g++) {
            if ((ask->store.groups & (unsigned)groups[g].bit) != 0) {
                put_csv(&text, group_value(&rows[i], &groups[g]));
                strbuf_puts(&text, ",");
            }
        }
        strbuf_printf(
            &text, "%lld.%03lld,%lld.%03lld%s%s\r\n", (long long)(rows[i].running_ms / 1000),
            (long long)(rows[i].running_ms % 1000), (long long)(rows[i].paused_ms / 1000),
            (long long)(rows[i].paused_ms % 1000), priced ? "," : "", priced ? rows[i].cost : "");
    }
    respond_text(request, 200, "text/csv; charset=utf-8", &text, NULL);
    strbuf_done(&text);
}

static void answer(struct request *request, const struct usage_ask *ask)
{
    const char *accept = http_header(request->http, "Accept");
    struct error err = ERROR_INIT;
    struct store_usage *rows;
    size_t count;

    if (store_usage(request->gateway->store, &ask->store, &rows, &count, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    if (count > ROWS_MAX) {
        error_set(&err, ERR_INVALID, "more than %d rows: ask for fewer days or groups", ROWS_MAX);
        respond_error(request, &err, 0);
    } else if (accept != NULL && strcasestr(accept, "text/csv") != NULL) {
        answer_csv(request, ask, rows, count);
    } else {
        answer_json(request, ask, rows, count);
    }
    free(rows);
}

void handle_usage(struct request *request)
{
    struct error err = ERROR_INIT;
    struct usage_ask ask = {.store = {.limit = 0}};

    strbuf_init(&ask.prices, USAGE_PRICES_BYTES * 2);
    if (read_ask(request, &ask, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        answer(request, &ask);
    }
    strbuf_done(&ask.prices);
}
