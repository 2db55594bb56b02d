/* sandbox_view - see sandbox_view.h. */
#include "deploy/sandbox-host/sandbox/sandbox_view.h"

static cJSON *copy_of(const cJSON *value)
{
    return value != NULL ? cJSON_Duplicate(value, true) : NULL;
}

void sandbox_view_copy(const struct sandbox_view *view, struct sandbox_view *ret)
{
    *ret = *view;
    ret->metadata = copy_of(view->metadata);
    ret->network = copy_of(view->network);
    ret->envs = copy_of(view->envs);
}

void sandbox_view_done(struct sandbox_view *view)
{
    cJSON_Delete(view->metadata);
    cJSON_Delete(view->network);
    cJSON_Delete(view->envs);
    view->metadata = view->network = view->envs = NULL;
}
