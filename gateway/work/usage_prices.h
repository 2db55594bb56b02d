/*
 * usage_prices - what a second of a sandbox costs, as USAGE_PRICES says.
 *
 * Threads: any. Failure: ERR_CONFIG with the entry that is wrong.
 */
#ifndef GATEWAY_USAGE_PRICES_H
#define GATEWAY_USAGE_PRICES_H

#include "common/base/error.h"
#include "common/base/strbuf.h"

enum { USAGE_PRICES_BYTES = 1024 };

/* `list`: PROVIDER:AMOUNT/s of a running sandbox, PROVIDER.paused:AMOUNT/s of a paused one, with
 * commas between; NULL = none. ret gets the amounts by these names as a JSON object. */
int usage_prices_json(const char *list, struct strbuf *ret, struct error *err) MUST_CHECK;

#endif
