/* Fuzz target: what E2B's control plane answers to lifecycle calls. See step_machine.h. */
#include "common/provider/e2b.h"
#include "tests/fuzz/step_machine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct step_target target = {&e2b_provider_ops, "E2B_API_KEY",
                                              "e2b_5ec2e75ec2e75ec2e7", e2b_is_domain};

    return step_fuzz(&target, data, size);
}
