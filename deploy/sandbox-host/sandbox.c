/* sandbox - see sandbox.h. */
#include "deploy/sandbox-host/sandbox.h"

#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/id.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/cgroup.h"
#include "deploy/sandbox-host/guest.h"
#include "deploy/sandbox-host/spawn.h"
#include "deploy/sandbox-host/template.h"

enum { TICK_MS = 50, ID_RANDOM = 20, TOKEN_BYTES = 32, TRAFFIC_RESUME_MS = 300000 };

struct box {
    struct box_view view;
    pid_t wrapper_pid, init_pid;
    int uid_index;
    int64_t timeout_ms;    /* asked for at create: what traffic resumes with */
    int64_t lived_from_ms; /* start or resume: the longest life counts from here */
    int references;
    pthread_mutex_t transition; /* held over a pause, resume or end */
    struct box *next;
};

static const struct host_config *config;
static pthread_mutex_t table_lock = PTHREAD_MUTEX_INITIALIZER;
static struct box *boxes;
static int box_count;
static bool *uid_used;
static pthread_t keeper;
static _Atomic bool stopping;

void box_view_done(struct box_view *view)
{
    cJSON_Delete(view->metadata);
    view->metadata = NULL;
}

static void copy_view(const struct box *box, struct box_view *ret)
{
    *ret = box->view;
    ret->metadata = box->view.metadata != NULL ? cJSON_Duplicate(box->view.metadata, true) : NULL;
}

/* ---- the table
 * ------------------------------------------------------------------------------------- */

static void release(struct box *box)
{
    bool last;

    pthread_mutex_lock(&table_lock);
    last = --box->references == 0;
    pthread_mutex_unlock(&table_lock);
    if (last) {
        box_view_done(&box->view);
        pthread_mutex_destroy(&box->transition);
        free(box);
    }
}

static int no_such(const char *id, struct error *err)
{
    return error_set(err, ERR_NOT_FOUND,
                     "sandbox \"%.40s\" doesn't exist or you don't have access to it", id);
}

/* A reference to a sandbox that runs or is paused. */
static struct box *take(const char *id, struct error *err)
{
    struct box *box;

    pthread_mutex_lock(&table_lock);
    for (box = boxes; box != NULL; box = box->next) {
        if (strcmp(box->view.id, id) == 0 &&
            (box->view.state == BOX_RUNNING || box->view.state == BOX_PAUSED)) {
            box->references++;
            break;
        }
    }
    pthread_mutex_unlock(&table_lock);
    if (box == NULL) {
        no_such(id, err);
    }
    return box;
}

/* As take(), with the transition lock held and the sandbox still alive. */
static struct box *take_locked(const char *id, struct error *err)
{
    struct box *box = take(id, err);

    if (box == NULL) {
        return NULL;
    }
    pthread_mutex_lock(&box->transition);
    if (box->view.state == BOX_ENDING) {
        pthread_mutex_unlock(&box->transition);
        release(box);
        no_such(id, err);
        return NULL;
    }
    return box;
}

static void give_back(struct box *box)
{
    pthread_mutex_unlock(&box->transition);
    release(box);
}

static void set_state(struct box *box, enum box_state state)
{
    pthread_mutex_lock(&table_lock);
    box->view.state = state;
    pthread_mutex_unlock(&table_lock);
}

/* Out of the table; the table's own reference goes with it. */
static void unlink_box(struct box *box)
{
    pthread_mutex_lock(&table_lock);
    for (struct box **at = &boxes; *at != NULL; at = &(*at)->next) {
        if (*at == box) {
            *at = box->next;
            box_count--;
            uid_used[box->uid_index] = false;
            break;
        }
    }
    pthread_mutex_unlock(&table_lock);
    release(box);
}

/* ---- lives
 * ---------------------------------------------------------------------------------------------- */

static int check_timeout(int64_t timeout_ms, struct error *err)
{
    if (timeout_ms <= 0) {
        return error_set(err, ERR_INVALID, "Timeout must be greater than 0");
    }
    if (timeout_ms > config->max_timeout_s * 1000) {
        return error_set(err, ERR_INVALID, "Timeout cannot be greater than %lld hours",
                         (long long)config->max_timeout_s / 3600);
    }
    return 0;
}

/* A new entry in the table, starting; NULL when there are too many. */
static struct box *add_box(const struct box_options *options, const struct template *template,
                           struct error *err)
{
    struct box *box = xcalloc(1, sizeof(*box));
    unsigned char token[TOKEN_BYTES];

    box->view.id[0] = 'i';
    id_random_alnum(box->view.id + 1, ID_RANDOM);
    str_copy(box->view.template_id, sizeof(box->view.template_id), template->id);
    str_copy(box->view.alias, sizeof(box->view.alias), template->alias);
    box->view.state = BOX_STARTING;
    box->view.auto_pause = options->auto_pause;
    box->view.auto_resume = options->auto_resume;
    box->view.metadata =
        options->metadata != NULL ? cJSON_Duplicate(options->metadata, true) : NULL;
    box->timeout_ms = options->timeout_ms;
    if (options->secure) {
        randombytes_buf(token, sizeof(token));
        sodium_bin2hex(box->view.token, sizeof(box->view.token), token, sizeof(token));
    }
    box->references = 2; /* the table's and the caller's */
    pthread_mutex_init(&box->transition, NULL);
    pthread_mutex_lock(&table_lock);
    if (box_count >= config->max_sandboxes) {
        pthread_mutex_unlock(&table_lock);
        error_set(err, ERR_RATE_LIMITED,
                  "you have reached the maximum number of concurrent sandboxes (%lld)",
                  (long long)config->max_sandboxes);
        box_view_done(&box->view);
        pthread_mutex_destroy(&box->transition);
        free(box);
        return NULL;
    }
    while (uid_used[box->uid_index]) {
        box->uid_index++;
    }
    uid_used[box->uid_index] = true;
    box_count++;
    box->next = boxes;
    boxes = box;
    pthread_mutex_unlock(&table_lock);
    return box;
}

/* Starts its processes and the template's command; nothing of it is left on failure. */
static int start_box(struct box *box, const struct box_options *options,
                     const struct template *template, struct error *err)
{
    const char *token = box->view.token[0] != '\0' ? box->view.token : NULL;
    const struct spawn_request request = {.id = box->view.id,
                                          .template = template,
                                          .access_token = token,
                                          .envs = options->envs,
                                          .uid_index = box->uid_index};
    struct strbuf output;
    int status;

    if (spawn_start(&request, &box->wrapper_pid, &box->init_pid, err) < 0) {
        return -1;
    }
    strbuf_init(&output, GUEST_OUTPUT_BYTES);
    status = guest_bring_up(box->view.id, token, template, &output, err);
    strbuf_done(&output);
    if (status < 0) {
        spawn_kill(box->view.id, box->wrapper_pid, box->init_pid);
    }
    return status;
}

int box_create(const struct box_options *options, struct box_view *ret, struct error *err)
{
    const struct template *template;
    struct box *box;
    int64_t now;
    int status;

    if (check_timeout(options->timeout_ms, err) < 0 ||
        template_take(options->template_id, &template, err) < 0) {
        return -1;
    }
    box = add_box(options, template, err);
    if (box == NULL) {
        template_release(template);
        return -1;
    }
    status = start_box(box, options, template, err);
    template_release(template);
    if (status < 0) {
        unlink_box(box);
        release(box);
        return -1;
    }
    now = clock_wall_ms();
    pthread_mutex_lock(&table_lock);
    box->view.started_ms = now;
    box->lived_from_ms = now;
    box->view.end_ms = now + options->timeout_ms;
    box->view.state = BOX_RUNNING;
    copy_view(box, ret);
    pthread_mutex_unlock(&table_lock);
    log_event(LOG_INFO, "sandbox.started", LOG_S("sandbox", box->view.id));
    release(box);
    return 0;
}

/* With the transition lock held. */
static void end_box(struct box *box, const char *why)
{
    set_state(box, BOX_ENDING);
    spawn_kill(box->view.id, box->wrapper_pid, box->init_pid);
    log_event(LOG_INFO, "sandbox.ended", LOG_S("sandbox", box->view.id), LOG_S("reason", why));
    unlink_box(box);
}

int box_kill(const char *id, struct error *err)
{
    struct box *box = take_locked(id, err);

    if (box == NULL) {
        return -1;
    }
    end_box(box, "killed");
    give_back(box);
    return 0;
}

/* With the transition lock held. */
static int pause_box(struct box *box, struct error *err)
{
    if (cgroup_freeze(box->view.id, box->init_pid, true, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&table_lock);
    box->view.state = BOX_PAUSED;
    box->view.end_ms = clock_wall_ms();
    pthread_mutex_unlock(&table_lock);
    return 0;
}

int box_pause(const char *id, struct error *err)
{
    struct box *box = take_locked(id, err);
    int status;

    if (box == NULL) {
        return -1;
    }
    status = box->view.state == BOX_PAUSED
                 ? error_set(err, ERR_CONFLICT, "Sandbox '%s' is already paused", id)
                 : pause_box(box, err);
    give_back(box);
    return status;
}

/* With the transition lock held. */
static int resume_box(struct box *box, int64_t timeout_ms, struct error *err)
{
    int64_t now = clock_wall_ms();

    if (cgroup_freeze(box->view.id, box->init_pid, false, err) < 0) {
        return -1;
    }
    pthread_mutex_lock(&table_lock);
    box->view.state = BOX_RUNNING;
    box->lived_from_ms = now;
    box->view.started_ms = now;
    box->view.end_ms = now + timeout_ms;
    pthread_mutex_unlock(&table_lock);
    return 0;
}

/* Moves the end, within the longest life. */
static void move_end(struct box *box, int64_t timeout_ms, bool extend_only)
{
    int64_t end_ms = clock_wall_ms() + timeout_ms;
    int64_t last_ms = box->lived_from_ms + config->max_timeout_s * 1000;

    pthread_mutex_lock(&table_lock);
    if (end_ms > last_ms) {
        end_ms = last_ms;
    }
    if (!extend_only || end_ms > box->view.end_ms) {
        box->view.end_ms = end_ms;
    }
    pthread_mutex_unlock(&table_lock);
}

int box_connect(const char *id, int64_t timeout_ms, bool *ret_resumed, struct box_view *ret,
                struct error *err)
{
    struct box *box;
    int status = 0;

    if (check_timeout(timeout_ms, err) < 0 || (box = take_locked(id, err)) == NULL) {
        return -1;
    }
    *ret_resumed = box->view.state == BOX_PAUSED;
    if (*ret_resumed) {
        status = resume_box(box, timeout_ms, err);
    } else {
        move_end(box, timeout_ms, true);
    }
    if (status == 0) {
        pthread_mutex_lock(&table_lock);
        copy_view(box, ret);
        pthread_mutex_unlock(&table_lock);
    }
    give_back(box);
    return status;
}

int box_set_timeout(const char *id, int64_t timeout_ms, bool extend_only, struct error *err)
{
    struct box *box;
    int status = 0;

    if (timeout_ms < 0) {
        return error_set(err, ERR_INVALID, "Timeout must not be negative");
    }
    box = take_locked(id, err);
    if (box == NULL) {
        return -1;
    }
    if (box->view.state == BOX_PAUSED) {
        status = no_such(id, err);
    } else {
        move_end(box, timeout_ms, extend_only);
    }
    give_back(box);
    return status;
}

int box_touch(const char *id, struct error *err)
{
    struct box *box = take(id, err);
    bool paused, resumes;
    int status = 0;

    if (box == NULL) {
        return -1;
    }
    pthread_mutex_lock(&table_lock);
    paused = box->view.state == BOX_PAUSED;
    resumes = box->view.auto_resume;
    pthread_mutex_unlock(&table_lock);
    release(box);
    if (!paused) {
        return 0;
    }
    if (!resumes) {
        return no_such(id, err);
    }
    box = take_locked(id, err);
    if (box == NULL) {
        return -1;
    }
    if (box->view.state == BOX_PAUSED) {
        status = resume_box(
            box, box->timeout_ms > TRAFFIC_RESUME_MS ? box->timeout_ms : TRAFFIC_RESUME_MS, err);
    }
    give_back(box);
    return status;
}

int box_get(const char *id, struct box_view *ret, struct error *err)
{
    struct box *box = take(id, err);

    if (box == NULL) {
        return -1;
    }
    pthread_mutex_lock(&table_lock);
    copy_view(box, ret);
    pthread_mutex_unlock(&table_lock);
    release(box);
    return 0;
}

static int newest_first(const void *a, const void *b)
{
    const struct box_view *left = a, *right = b;

    return left->started_ms != right->started_ms ? (left->started_ms < right->started_ms ? 1 : -1)
                                                 : strcmp(left->id, right->id);
}

void box_list(struct box_view **ret, size_t *ret_count)
{
    size_t count = 0;

    pthread_mutex_lock(&table_lock);
    *ret = xcalloc((size_t)box_count, sizeof(**ret));
    for (struct box *box = boxes; box != NULL; box = box->next) {
        if (box->view.state == BOX_RUNNING || box->view.state == BOX_PAUSED) {
            copy_view(box, &(*ret)[count++]);
        }
    }
    pthread_mutex_unlock(&table_lock);
    qsort(*ret, count, sizeof(**ret), newest_first);
    *ret_count = count;
}

/* ---- deadlines
 * ------------------------------------------------------------------------------------------ */

static bool is_due(const struct box *box, int64_t now_ms)
{
    return box->view.state == BOX_RUNNING && now_ms >= box->view.end_ms;
}

/* The next sandbox whose time is up, with a reference. */
static struct box *take_due(int64_t now_ms)
{
    struct box *box;

    pthread_mutex_lock(&table_lock);
    for (box = boxes; box != NULL && !is_due(box, now_ms); box = box->next) {}
    if (box != NULL) {
        box->references++;
    }
    pthread_mutex_unlock(&table_lock);
    return box;
}

static void *keep_deadlines(void *arg)
{
    (void)arg;
    while (!atomic_load(&stopping)) {
        struct box *box = take_due(clock_wall_ms());

        if (box == NULL) {
            clock_sleep_ms(TICK_MS);
            continue;
        }
        pthread_mutex_lock(&box->transition);
        if (is_due(box, clock_wall_ms())) {
            struct error err = ERROR_INIT;

            if (!box->view.auto_pause) {
                end_box(box, "timeout");
            } else if (pause_box(box, &err) < 0) {
                log_error(LOG_ERROR, "sandbox.pause_failed", &err);
                end_box(box, "timeout, and it could not be paused");
            }
        }
        give_back(box);
    }
    return NULL;
}

int boxes_init(const struct host_config *host_config, struct error *err)
{
    int status;

    config = host_config;
    uid_used = xcalloc((size_t)config->max_sandboxes + 1, sizeof(*uid_used));
    status = pthread_create(&keeper, NULL, keep_deadlines, NULL);
    return status != 0 ? error_set_errno(err, ERR_INTERNAL, status, "starting the deadline keeper")
                       : 0;
}

void boxes_done(void)
{
    struct error ignored = ERROR_INIT; /* somebody else ended it first */
    struct box_view *views;
    size_t count;

    atomic_store(&stopping, true);
    pthread_join(keeper, NULL);
    box_list(&views, &count);
    for (size_t i = 0; i < count; i++) {
        (void)!box_kill(views[i].id, &ignored);
        box_view_done(&views[i]);
    }
    free(views);
    free(uid_used);
}
