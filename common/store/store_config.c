/* store_config - see store_config.h. */
#include "common/store/store_config.h"

enum { CONNECT_TIMEOUT_S = 3, STATEMENT_TIMEOUT_MS = 5000, POOL_WAIT_MS = 2000 };

struct store_options store_config_options(const char *database_url, const char *application,
                                          int pool_size)
{
    return (struct store_options){
        .conninfo = database_url,
        .application = application,
        .pool_size = pool_size,
        .connect_timeout_s = CONNECT_TIMEOUT_S,
        .statement_timeout_ms = STATEMENT_TIMEOUT_MS,
        .pool_wait_ms = POOL_WAIT_MS,
    };
}
