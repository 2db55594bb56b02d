/* command_state - see command_state.h. */
#include "common/domain/command_state.h"

#include <string.h>

static const struct {
    const char *name;
    bool terminal;
} states[COMMAND_STATE_COUNT] = {
#define X(name, wire, terminal) [name] = {wire, terminal},
#include "common/domain/command_states.def"
#undef X
};

const char *command_state_name(enum command_state state)
{
    return states[state].name;
}

int command_state_parse(const char *name)
{
    for (int i = 0; i < COMMAND_STATE_COUNT; i++) {
        if (strcmp(states[i].name, name) == 0) {
            return i;
        }
    }
    return -1;
}

bool command_state_is_end(enum command_state state)
{
    return states[state].terminal;
}
