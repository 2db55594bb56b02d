/* key_owner - see key_owner.h. */
#include "gateway/work/key_owner.h"

#include <stdatomic.h>

bool key_owner_known(struct queue_owner *owner, struct store *store)
{
    struct error err = ERROR_INIT;
    char id[UUID_BYTES];

    if (!atomic_load(&owner->known) && store_deployment_id(store, id, &err) == 0) {
        queue_owner_set(owner, id);
    }
    return atomic_load(&owner->known);
}
