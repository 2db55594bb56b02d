/* sandbox_table - the table of sandboxes, references and user ids; see sandbox_table.h. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/uids.h"
#include "deploy/sandbox-host/sandbox/sandbox_table.h"

enum { ID_RANDOM = 20 };

static const struct host_config *config;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sandbox *sandboxes;
static int sandbox_count;
static bool uid_used[UIDS_RANGE];
static int64_t uid_first;

void table_init(const struct host_config *host_config, int64_t first_uid)
{
    config = host_config;
    uid_first = first_uid;
}

void table_done(void)
{
    table_lock();
    memset(uid_used, 0, sizeof(uid_used));
    table_unlock();
}

void table_lock(void)
{
    pthread_mutex_lock(&lock);
}

void table_unlock(void)
{
    pthread_mutex_unlock(&lock);
}

struct sandbox *table_first(void)
{
    return sandboxes;
}

void table_copy_view(const struct sandbox *sandbox, struct sandbox_view *ret)
{
    sandbox_view_copy(&sandbox->view, ret);
}

void sandbox_free(struct sandbox *sandbox)
{
    sandbox_view_done(&sandbox->view);
    journal_done(&sandbox->journal);
    meter_done(&sandbox->meter);
    pthread_mutex_destroy(&sandbox->transition);
    free(sandbox);
}

void table_release(struct sandbox *sandbox)
{
    bool last;

    table_lock();
    last = --sandbox->references == 0;
    table_unlock();
    if (last) {
        sandbox_free(sandbox);
    }
}

int table_no_such(const char *id, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND,
                     "sandbox \"%.40s\" doesn't exist or you don't have access to it", id);
}

struct sandbox *table_take(const char *id, struct error *err)
{
    struct sandbox *sandbox;

    table_lock();
    for (sandbox = sandboxes; sandbox != NULL; sandbox = sandbox->next) {
        if (strcmp(sandbox->view.id, id) == 0 &&
            (sandbox->view.state == SANDBOX_RUNNING || sandbox->view.state == SANDBOX_PAUSED)) {
            sandbox->references++;
            break;
        }
    }
    table_unlock();
    if (sandbox == NULL) {
        table_no_such(id, err);
    }
    return sandbox;
}

struct sandbox *table_take_locked(const char *id, struct error *err)
{
    struct sandbox *sandbox = table_take(id, err);

    if (sandbox == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&sandbox->transition);
    if (sandbox->view.state == SANDBOX_ENDING) {
        table_give_back(sandbox);
        table_no_such(id, err);
        return NULL;
    }
    return sandbox;
}

void table_give_back(struct sandbox *sandbox)
{
    pthread_mutex_unlock(&sandbox->transition);
    table_release(sandbox);
}

void table_set_state(struct sandbox *sandbox, enum sandbox_state state)
{
    table_lock();
    sandbox->view.state = state;
    table_unlock();
}

void table_remove(struct sandbox *sandbox)
{
    table_lock();
    for (struct sandbox **at = &sandboxes; *at != NULL; at = &(*at)->next) {
        if (*at == sandbox) {
            *at = sandbox->next;
            sandbox_count--;
            uid_used[sandbox->uid_index] = false;
            break;
        }
    }
    table_unlock();
    table_release(sandbox);
}

/* With the lock held. */
static void link_sandbox(struct sandbox *sandbox)
{
    uid_used[sandbox->uid_index] = true;
    sandbox_count++;
    sandbox->next = sandboxes;
    sandboxes = sandbox;
}

struct sandbox *table_add(struct error *err)
{
    struct sandbox *sandbox = xcalloc(1, sizeof(*sandbox));

    sandbox->view.id[0] = 'i';
    id_random_alnum(sandbox->view.id + 1, ID_RANDOM);
    sandbox->view.state = SANDBOX_STARTING;
    sandbox->processes = (struct spawn_processes)SPAWN_NOTHING;
    sandbox->references = 2; /* the table's and the caller's */
    pthread_mutex_init(&sandbox->transition, NULL);
    table_lock();
    if (sandbox_count >= config->max_sandboxes) {
        table_unlock();
        error_set(err, ERR_RATE_LIMITED,
                  "you have reached the maximum number of concurrent sandboxes (%lld)",
                  (long long)config->max_sandboxes);
        sandbox_free(sandbox);
        return NULL;
    }
    while (uid_used[sandbox->uid_index]) {
        sandbox->uid_index++; /* max_sandboxes is at most UIDS_RANGE */
    }
    sandbox->uid = geteuid() == 0 ? (uid_t)(uid_first + sandbox->uid_index) : 0;
    link_sandbox(sandbox);
    table_unlock();
    return sandbox;
}

bool table_adopt(struct sandbox *sandbox)
{
    bool fits;

    sandbox->uid_index = geteuid() == 0 ? (int)((int64_t)sandbox->uid - uid_first) : sandbox_count;
    table_lock();
    fits =
        sandbox->uid_index >= 0 && sandbox->uid_index < UIDS_RANGE && !uid_used[sandbox->uid_index];
    if (fits) {
        link_sandbox(sandbox);
    }
    table_unlock();
    return fits;
}

bool table_adopt_alone(struct sandbox *sandbox)
{
    bool fits;

    sandbox->uid_index = 0;
    table_lock();
    while (sandbox->uid_index < UIDS_RANGE && uid_used[sandbox->uid_index]) {
        sandbox->uid_index++;
    }
    fits = sandbox->uid_index < UIDS_RANGE;
    if (fits) {
        sandbox->uid = geteuid() == 0 ? (uid_t)(uid_first + sandbox->uid_index) : 0;
        link_sandbox(sandbox);
    }
    table_unlock();
    return fits;
}

void sandbox_note(struct sandbox *sandbox, enum journal_level level, const char *event,
                  const char *text)
{
    table_lock();
    journal_add(&sandbox->journal, clock_wall_ms(), level, text, strlen(text));
    table_unlock();
    log_event(level == JOURNAL_ERROR  ? LOG_ERROR
              : level == JOURNAL_WARN ? LOG_WARN
                                      : LOG_INFO,
              event, LOG_S("sandbox", sandbox->view.id), LOG_S("what", text));
}
