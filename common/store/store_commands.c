/* store_commands - see store_commands.h. */
#include "common/store/store_commands.h"

#include <stdlib.h>

#include "common/base/alloc.h"
#include "common/store/store_internal.h"

static void read_command(const PGresult *result, int row, void *arg)
{
    struct store_command *ret = arg;
    char state[16];
    int parsed;

    *ret = (struct store_command){.background = row_int(result, row, 5) != 0,
                                  .tty = row_int(result, row, 6) != 0,
                                  .kept = row_int(result, row, 8) != 0,
                                  .timeout_ms = row_int(result, row, 9),
                                  .pid = row_int(result, row, 10),
                                  .exit_code = (int)row_int(result, row, 11),
                                  .signal = (int)row_int(result, row, 12),
                                  .background_processes = row_int(result, row, 13) != 0,
                                  .stdout_bytes = row_int(result, row, 14),
                                  .stderr_bytes = row_int(result, row, 15),
                                  .ran_ms = row_int(result, row, 16),
                                  .created_at_ms = row_int(result, row, 18),
                                  .ended_at_ms = row_int(result, row, 19),
                                  .created_at_us = row_int(result, row, 20)};
    row_text(result, row, 0, ret->id, sizeof(ret->id));
    row_text(result, row, 1, ret->sandbox_id, sizeof(ret->sandbox_id));
    row_text(result, row, 2, ret->actor, sizeof(ret->actor));
    row_text(result, row, 3, ret->request_hash, sizeof(ret->request_hash));
    row_text(result, row, 4, state, sizeof(state));
    row_text(result, row, 7, ret->run_as, sizeof(ret->run_as));
    row_text(result, row, 17, ret->survivors, sizeof(ret->survivors));
    parsed = command_state_parse(state);
    ret->state = parsed < 0 ? COMMAND_LOST : (enum command_state)parsed;
}

int store_command_begin(struct store *store, const struct store_command *command, int64_t max_open,
                        bool *ret_new, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;
    bool full;

    param_text(&p, command->id);
    param_text(&p, command->sandbox_id);
    param_text(&p, command->actor);
    param_text(&p, command->request_hash);
    param_int(&p, command->background ? 1 : 0);
    param_int(&p, command->tty ? 1 : 0);
    param_text(&p, command->run_as);
    param_int(&p, command->timeout_ms);
    param_int(&p, max_open);
    if (store_query(store, Q_COMMAND_BEGIN, &p, &result, err) < 0) {
        return -1;
    }
    *ret_new = row_int(result, 0, 0) != 0;
    full = row_int(result, 0, 1) != 0;
    PQclear(result);
    return full ? error_set(err, ERR_QUOTA,
                            "this sandbox has %lld commands that have not ended, which is all it "
                            "may have",
                            (long long)max_open)
                : 0;
}

static void put_seen(struct params *p, const struct store_command *command)
{
    param_text(p, command->id);
    param_text(p, command_state_name(command->state));
    param_int(p, command->pid);
    param_int(p, command->stdout_bytes);
    param_int(p, command->stderr_bytes);
    param_int(p, command->ran_ms);
    param_int(p, command->kept ? 1 : 0);
    param_int(p, command->background_processes ? 1 : 0);
}

int store_command_see(struct store *store, const struct store_command *command, struct error *err)
{
    struct params p = {.count = 0};

    put_seen(&p, command);
    return store_execute(store, Q_COMMAND_SEE, &p, err);
}

int store_command_end(struct store *store, const struct store_command *command, int64_t retention_s,
                      bool *ret_first, struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    put_seen(&p, command);
    param_int(&p, command->exit_code);
    param_int(&p, command->signal);
    param_text(&p, command->survivors);
    param_int(&p, retention_s * 1000);
    if (store_query(store, Q_COMMAND_END, &p, &result, err) < 0) {
        return -1;
    }
    *ret_first = PQntuples(result) > 0;
    PQclear(result);
    return 0;
}

int store_command_forget(struct store *store, const char *id, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, id);
    return store_execute(store, Q_COMMAND_FORGET, &p, err);
}

static const struct row_type command_rows = {sizeof(struct store_command), read_command};

int store_command_get(struct store *store, const char *id, struct store_command *ret,
                      struct error *err)
{
    struct params p = {.count = 0};
    bool found;

    param_text(&p, id);
    if (select_row(store, Q_COMMAND_GET, &p, &command_rows, ret, &found, err) < 0) {
        return -1;
    }
    return found ? 0 : error_set(err, ERR_NOT_FOUND, "no such command");
}

int store_command_take_terminal(struct store *store, const char *id, const char *session,
                                struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, id);
    param_text(&p, session);
    return store_execute(store, Q_COMMAND_TERMINAL_TAKE, &p, err);
}

int store_command_has_terminal(struct store *store, const char *id, const char *session, bool *ret,
                               struct error *err)
{
    struct params p = {.count = 0};
    PGresult *result;

    param_text(&p, id);
    param_text(&p, session);
    if (store_query(store, Q_COMMAND_TERMINAL_HELD, &p, &result, err) < 0) {
        return -1;
    }
    *ret = PQntuples(result) > 0;
    PQclear(result);
    return 0;
}

int store_command_list(struct store *store, const char *sandbox_id, int64_t before_us,
                       const char *before_id, int limit, struct store_command **ret,
                       size_t *ret_count, struct error *err)
{
    struct params p = {.count = 0};

    param_text(&p, sandbox_id);
    param_int(&p, before_us);
    param_text(&p, before_id);
    param_int(&p, limit);
    return select_rows(store, Q_COMMAND_LIST, &p, &command_rows, ret, ret_count, err);
}
