/* Fuzz target: what Daytona's API answers to lifecycle calls. See step_machine.h. */
#include "common/provider/daytona.h"
#include "tests/fuzz/step_machine.h"

/* The toolbox's base URL, or none. */
static bool is_base_url(const char *domain)
{
    char copy[DOMAIN_BYTES];

    memcpy(copy, domain, sizeof(copy));
    return domain[0] == '\0' || (provider_normalize_url(copy) && strcmp(copy, domain) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct step_target target = {&daytona_provider_ops, "DAYTONA_API_KEY",
                                              "dtn_5ec2e75ec2e75ec2e7", is_base_url};

    return step_fuzz(&target, data, size);
}
