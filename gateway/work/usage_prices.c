/* usage_prices - see usage_prices.h. */
#include "gateway/work/usage_prices.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "common/domain/providers.h"

enum { AMOUNT_BYTES = 24, NAME_BYTES = 48 };

/* A provider, or a provider and .paused. */
static bool is_name(const char *name)
{
    char provider[NAME_BYTES];
    const char *dot = strchr(name, '.');
    enum provider_kind kind;

    snprintf(provider, sizeof(provider), "%.*s", (int)strcspn(name, "."), name);
    return provider_kind_parse(provider, &kind) == 0 &&
           (dot == NULL || strcmp(dot, ".paused") == 0);
}

/* Digits, perhaps with a point between; a JSON number and one of PostgreSQL's. */
static bool is_amount(const char *amount)
{
    size_t whole = strspn(amount, "0123456789"), length = strlen(amount);
    size_t part = amount[whole] == '.' ? strspn(amount + whole + 1, "0123456789") : 0;

    return whole > 0 && (whole == 1 || amount[0] != '0') &&
           (amount[whole] == '.' ? part > 0 && whole + 1 + part == length : whole == length);
}

int usage_prices_json(const char *list, struct strbuf *ret, struct error *err)
{
    const char *cursor = list != NULL ? list : "";
    char entry[NAME_BYTES + AMOUNT_BYTES];
    bool first = true;

    strbuf_puts(ret, "{");
    for (int found; (found = provider_list_next(&cursor, entry, sizeof(entry))) != 0;) {
        char *amount = strchr(entry, ':'), *unit;

        if (found < 0 || amount == NULL || (unit = strchr(amount, '/')) == NULL) {
            return error_set(err, ERR_CONFIG,
                             "USAGE_PRICES: each entry is PROVIDER:AMOUNT/s or "
                             "PROVIDER.paused:AMOUNT/s");
        }
        *amount++ = '\0';
        *unit++ = '\0';
        if (!is_name(entry) || !is_amount(amount) || strcmp(unit, "s") != 0) {
            return error_set(err, ERR_CONFIG, "USAGE_PRICES: %.40s: no provider, or no AMOUNT/s",
                             entry);
        }
        strbuf_printf(ret, "%s\"%s\":%s", first ? "" : ",", entry, amount);
        first = false;
    }
    strbuf_puts(ret, "}");
    return 0;
}
