/*
 * command_state - the states of a command.
 *
 * Owns: their names, which of them are ends. Pure: no I/O.
 */
#ifndef DOMAIN_COMMAND_STATE_H
#define DOMAIN_COMMAND_STATE_H

#include <stdbool.h>

enum command_state {
#define X(name, wire, terminal) name,
#include "common/domain/command_states.def"
#undef X
    COMMAND_STATE_COUNT
};

const char *command_state_name(enum command_state state);
/* -1 when there is no such state. */
int command_state_parse(const char *name);
bool command_state_is_end(enum command_state state);

#endif
