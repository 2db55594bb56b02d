/* types - names of the enums, see types.h. */
#include "common/domain/types.h"

#include <stdlib.h>
#include <string.h>

static const char *const status_names[SANDBOX_STATUS_COUNT] = {
#define X(code, name, terminal) [code] = name,
#include "common/domain/states.def"
#undef X
};
static const char *const op_names[JOB_OP_COUNT] = {
#define X(code, name) [code] = name,
#include "common/domain/ops.def"
#undef X
};
static const struct {
    const char *name;
    bool terminal;
} job_states[JOB_STATE_COUNT] = {
#define X(code, wire_name, is_terminal) [code] = {wire_name, is_terminal},
#include "common/domain/job_states.def"
#undef X
};
static const char *const outcome_names[OUTCOME_COUNT] = {
#define X(code, name) [code] = name,
#include "common/domain/outcomes.def"
#undef X
};

/* Index of name among count names, or -1. */
static int find_name(const char *const *names, int count, const char *name)
{
    for (int i = 0; i < count; i++) {
        if (strcmp(names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

const char *sandbox_status_name(enum sandbox_status status)
{
    return status_names[status];
}

int sandbox_status_parse(const char *name, enum sandbox_status *ret)
{
    int i = find_name(status_names, SANDBOX_STATUS_COUNT, name);

    if (i >= 0) {
        *ret = (enum sandbox_status)i;
    }
    return i < 0 ? -1 : 0;
}

const char *job_op_name(enum job_op op)
{
    return op_names[op];
}

int job_op_parse(const char *name, enum job_op *ret)
{
    int i = find_name(op_names, JOB_OP_COUNT, name);

    if (i >= 0) {
        *ret = (enum job_op)i;
    }
    return i < 0 ? -1 : 0;
}

const char *job_state_name(enum job_state state)
{
    return job_states[state].name;
}

int job_state_parse(const char *name, enum job_state *ret)
{
    for (int i = 0; i < JOB_STATE_COUNT; i++) {
        if (strcmp(job_states[i].name, name) == 0) {
            *ret = (enum job_state)i;
            return 0;
        }
    }
    return -1;
}

bool job_state_is_terminal(enum job_state state)
{
    return job_states[state].terminal;
}

const char *outcome_name(enum outcome outcome)
{
    return outcome_names[outcome];
}

const char *on_timeout_name(enum on_timeout value)
{
    return value == ON_TIMEOUT_DELETE ? "delete" : "pause";
}

int on_timeout_parse(const char *name, enum on_timeout *ret)
{
    if (strcmp(name, "pause") == 0) {
        *ret = ON_TIMEOUT_PAUSE;
    } else if (strcmp(name, "delete") == 0) {
        *ret = ON_TIMEOUT_DELETE;
    } else {
        return -1;
    }
    return 0;
}

void sandbox_done(struct sandbox *sandbox)
{
    if (sandbox != NULL) {
        free(sandbox->metadata_json);
        sandbox->metadata_json = NULL;
    }
}

void job_done(struct job *job)
{
    if (job != NULL) {
        free(job->params_json);
        free(job->result_json);
        job->params_json = NULL;
        job->result_json = NULL;
    }
}
