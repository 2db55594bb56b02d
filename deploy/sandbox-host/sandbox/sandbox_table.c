/* sandbox_table - the table of sandboxes, references and user ids; see sandbox_internal.h. */
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
static struct box *boxes;
static int box_count;
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

struct box *table_first(void)
{
    return boxes;
}

void box_view_done(struct box_view *view)
{
    cJSON_Delete(view->metadata);
    cJSON_Delete(view->network);
    cJSON_Delete(view->envs);
    view->metadata = view->network = view->envs = NULL;
}

void table_copy_view(const struct box *box, struct box_view *ret)
{
    *ret = box->view;
    ret->metadata = box->view.metadata != NULL ? cJSON_Duplicate(box->view.metadata, true) : NULL;
    ret->network = box->view.network != NULL ? cJSON_Duplicate(box->view.network, true) : NULL;
    ret->envs = box->view.envs != NULL ? cJSON_Duplicate(box->view.envs, true) : NULL;
}

void box_free(struct box *box)
{
    box_view_done(&box->view);
    journal_done(&box->journal);
    meter_done(&box->meter);
    pthread_mutex_destroy(&box->transition);
    free(box);
}

void table_release(struct box *box)
{
    bool last;

    table_lock();
    last = --box->references == 0;
    table_unlock();
    if (last) {
        box_free(box);
    }
}

int table_no_such(const char *id, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND,
                     "sandbox \"%.40s\" doesn't exist or you don't have access to it", id);
}

struct box *table_take(const char *id, struct error *err)
{
    struct box *box;

    table_lock();
    for (box = boxes; box != NULL; box = box->next) {
        if (strcmp(box->view.id, id) == 0 &&
            (box->view.state == BOX_RUNNING || box->view.state == BOX_PAUSED)) {
            box->references++;
            break;
        }
    }
    table_unlock();
    if (box == NULL) {
        table_no_such(id, err);
    }
    return box;
}

struct box *table_take_locked(const char *id, struct error *err)
{
    struct box *box = table_take(id, err);

    if (box == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&box->transition);
    if (box->view.state == BOX_ENDING) {
        table_give_back(box);
        table_no_such(id, err);
        return NULL;
    }
    return box;
}

void table_give_back(struct box *box)
{
    pthread_mutex_unlock(&box->transition);
    table_release(box);
}

void table_set_state(struct box *box, enum box_state state)
{
    table_lock();
    box->view.state = state;
    table_unlock();
}

void table_remove(struct box *box)
{
    table_lock();
    for (struct box **at = &boxes; *at != NULL; at = &(*at)->next) {
        if (*at == box) {
            *at = box->next;
            box_count--;
            uid_used[box->uid_index] = false;
            break;
        }
    }
    table_unlock();
    table_release(box);
}

/* With the lock held. */
static void link_box(struct box *box)
{
    uid_used[box->uid_index] = true;
    box_count++;
    box->next = boxes;
    boxes = box;
}

struct box *table_add(struct error *err)
{
    struct box *box = xcalloc(1, sizeof(*box));

    box->view.id[0] = 'i';
    id_random_alnum(box->view.id + 1, ID_RANDOM);
    box->view.state = BOX_STARTING;
    box->processes = (struct spawn_box)SPAWN_NOTHING;
    box->references = 2; /* the table's and the caller's */
    pthread_mutex_init(&box->transition, NULL);
    table_lock();
    if (box_count >= config->max_sandboxes) {
        table_unlock();
        error_set(err, ERR_RATE_LIMITED,
                  "you have reached the maximum number of concurrent sandboxes (%lld)",
                  (long long)config->max_sandboxes);
        box_free(box);
        return NULL;
    }
    while (uid_used[box->uid_index]) {
        box->uid_index++; /* max_sandboxes is at most UIDS_RANGE */
    }
    box->uid = geteuid() == 0 ? (uid_t)(uid_first + box->uid_index) : 0;
    link_box(box);
    table_unlock();
    return box;
}

bool table_adopt(struct box *box)
{
    bool fits;

    box->uid_index = geteuid() == 0 ? (int)((int64_t)box->uid - uid_first) : box_count;
    table_lock();
    fits = box->uid_index >= 0 && box->uid_index < UIDS_RANGE && !uid_used[box->uid_index];
    if (fits) {
        link_box(box);
    }
    table_unlock();
    return fits;
}

bool table_adopt_alone(struct box *box)
{
    bool fits;

    box->uid_index = 0;
    table_lock();
    while (box->uid_index < UIDS_RANGE && uid_used[box->uid_index]) {
        box->uid_index++;
    }
    fits = box->uid_index < UIDS_RANGE;
    if (fits) {
        box->uid = geteuid() == 0 ? (uid_t)(uid_first + box->uid_index) : 0;
        link_box(box);
    }
    table_unlock();
    return fits;
}

void box_note(struct box *box, enum journal_level level, const char *event, const char *text)
{
    table_lock();
    journal_add(&box->journal, clock_wall_ms(), level, text, strlen(text));
    table_unlock();
    log_event(level == JOURNAL_ERROR  ? LOG_ERROR
              : level == JOURNAL_WARN ? LOG_WARN
                                      : LOG_INFO,
              event, LOG_S("sandbox", box->view.id), LOG_S("what", text));
}
