/* build - see build.h. */
#include "deploy/sandbox-host/sandbox/build.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/base/log.h"
#include "deploy/sandbox-host/isolation/files.h"
#include "deploy/sandbox-host/sandbox/build_steps.h"

enum { KNOWN_MAX = 256, STACK_BYTES = 1 << 20, DONE_MS = 10000, IDLE_MS = 1000 };

static const struct host_config *config;
static struct build *builds;
static int known, running, threads;
static bool stopping;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;

static const char *const status_names[] = {[BUILD_NEW] = "waiting",
                                           [BUILD_WAITING] = "waiting",
                                           [BUILD_RUNNING] = "building",
                                           [BUILD_READY] = "ready",
                                           [BUILD_FAILED] = "error"};

int builds_init(const struct host_config *host_config, struct error *err)
{
    char folder[SAVED_PATH_BYTES];

    config = host_config;
    stopping = false;
    clock_cond_init(&changed);
    /* archives serve builds of this host alone */
    snprintf(folder, sizeof(folder), "%.60s/u", config->state_dir);
    return files_remove_tree(folder, err) < 0 ? -1 : files_make_dir(folder, 0700, err);
}

static void build_free(struct build *build)
{
    cJSON_Delete(build->tags);
    cJSON_Delete(build->body);
    cJSON_Delete(build->logs);
    cJSON_Delete(build->envs);
    free(build->user);
    free(build->workdir);
    free(build);
}

void builds_done(void)
{
    const int64_t until_ms = clock_mono_ms() + DONE_MS;

    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_cond_broadcast(&changed);
    while (threads > 0 && clock_mono_ms() < until_ms) {
        const struct timespec until = clock_cond_until(IDLE_MS);

        pthread_cond_timedwait(&changed, &lock, &until);
    }
    while (threads == 0 && builds != NULL) {
        struct build *first = builds;

        builds = first->next;
        build_free(first);
    }
    known = 0;
    pthread_mutex_unlock(&lock);
}

static bool is_stopping(void)
{
    bool is;

    pthread_mutex_lock(&lock);
    is = stopping;
    pthread_mutex_unlock(&lock);
    return is;
}

/* ---- logs ---- */

static void add_log(struct build *build, const char *level, const char *text, size_t length)
{
    cJSON *entry;
    char *copy;

    pthread_mutex_lock(&lock);
    if (cJSON_GetArraySize(build->logs) < BUILD_LOG_LINES) {
        copy = xstrndup(text, length < BUILD_LINE_BYTES ? length : BUILD_LINE_BYTES);
        length = strlen(copy);
        for (size_t at = 0; (at += utf8_valid_prefix(copy + at, length - at)) < length;) {
            copy[at++] = '?';
        }
        entry = cJSON_CreateObject();
        json_add_time(entry, "timestamp", clock_wall_ms());
        cJSON_AddStringToObject(entry, "level", level);
        cJSON_AddStringToObject(entry, "message", copy);
        cJSON_AddStringToObject(entry, "step", build->step);
        cJSON_AddItemToArray(build->logs, entry);
        free(copy);
    }
    pthread_mutex_unlock(&lock);
}

static void set_step(struct build *build, const char *step)
{
    pthread_mutex_lock(&lock);
    str_copy(build->step, sizeof(build->step), step);
    pthread_mutex_unlock(&lock);
}

static const struct build_reporter reporter = {
    .log = add_log, .set_step = set_step, .is_stopping = is_stopping};

/* ---- the list ---- */

/* With the lock held. */
static struct build *find(const char *template_id, const char *build_id, struct error *err)
{
    for (struct build *build = builds; build != NULL; build = build->next) {
        if (strcmp(build->id, template_id) == 0 && strcmp(build->build_id, build_id) == 0) {
            return build;
        }
    }
    error_set(err, ERR_NOT_FOUND, "build '%.64s' of template '%.64s' not found", build_id,
              template_id);
    return NULL;
}

/* With the lock held: forgets the oldest one that is not at work, when there are many. */
static void forget_oldest(void)
{
    struct build **oldest = NULL;

    for (struct build **at = &builds; *at != NULL; at = &(*at)->next) {
        if ((*at)->status == BUILD_READY || (*at)->status == BUILD_FAILED ||
            (*at)->status == BUILD_NEW) {
            oldest = at;
        }
    }
    if (known >= KNOWN_MAX && oldest != NULL) {
        struct build *gone = *oldest;

        *oldest = gone->next;
        known--;
        if (gone->status == BUILD_NEW) {
            saved_abandon(gone->id);
        }
        build_free(gone);
    }
}

int build_new(const char *name, const cJSON *tags, char template_id[SAVED_ID_BYTES],
              char build_id[UUID_BYTES], struct error *err)
{
    struct build *build = xcalloc(1, sizeof(*build));

    build->reporter = &reporter;
    if (saved_begin(build->id, build->image, err) < 0) {
        free(build);
        return -1;
    }
    id_uuid(build->build_id);
    str_copy(build->name, sizeof(build->name), name);
    build->tags = tags != NULL ? cJSON_Duplicate(tags, true) : cJSON_CreateArray();
    build->logs = cJSON_CreateArray();
    build->envs = cJSON_CreateObject();
    str_copy(template_id, SAVED_ID_BYTES, build->id);
    str_copy(build_id, UUID_BYTES, build->build_id);
    pthread_mutex_lock(&lock);
    forget_oldest();
    if (known >= KNOWN_MAX) {
        pthread_mutex_unlock(&lock);
        saved_abandon(build->id);
        build_free(build);
        return error_set(err, ERR_RATE_LIMITED, "%d template builds are under way", KNOWN_MAX);
    }
    known++;
    build->next = builds;
    builds = build;
    pthread_mutex_unlock(&lock);
    return 0;
}

static void finish(struct build *build, int status, const struct error *err)
{
    if (status < 0) {
        saved_abandon(build->id);
        add_log(build, "error", err->message, strlen(err->message));
    }
    pthread_mutex_lock(&lock);
    build->status = status < 0 ? BUILD_FAILED : BUILD_READY;
    str_copy(build->reason, sizeof(build->reason), status < 0 ? err->message : "");
    pthread_mutex_unlock(&lock);
    log_event(status < 0 ? LOG_WARN : LOG_INFO, "template.built", LOG_S("template", build->id),
              LOG_S("name", build->name), LOG_B("ready", status == 0),
              LOG_S("why", status < 0 ? err->message : NULL));
}

static void *run_build(void *arg)
{
    struct build *build = arg;
    struct error err = ERROR_INIT;
    int status;
    bool runs;

    pthread_mutex_lock(&lock);
    while (running >= config->builds && !stopping) {
        pthread_cond_wait(&changed, &lock);
    }
    runs = !stopping;
    running += runs;
    build->status = BUILD_RUNNING;
    pthread_mutex_unlock(&lock);
    status = runs ? build_run(build, config, &err)
                  : error_set(&err, ERR_DRAINING, "the host is stopping");
    finish(build, status, &err);
    pthread_mutex_lock(&lock);
    running -= runs;
    threads--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
    return NULL;
}

int build_start(const char *template_id, const char *build_id, const cJSON *body, struct error *err)
{
    struct build *build;
    pthread_attr_t attributes;
    pthread_t thread;
    int status = 0;

    if (build_check(body, err) < 0) {
        return -1;
    }
    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_mutex_lock(&lock);
    build = find(template_id, build_id, err);
    if (build == NULL) {
        status = -1;
    } else if (build->status != BUILD_NEW) {
        status = error_set(err, ERR_CONFLICT, "the build was started before");
    } else {
        build->body = body != NULL ? cJSON_Duplicate(body, true) : cJSON_CreateObject();
        build->status = BUILD_WAITING;
        threads++;
        if (pthread_create(&thread, &attributes, run_build, build) != 0) {
            threads--;
            build->status = BUILD_NEW;
            cJSON_Delete(build->body);
            build->body = NULL;
            status = error_set(err, ERR_INTERNAL, "a thread for the build");
        }
    }
    pthread_mutex_unlock(&lock);
    pthread_attr_destroy(&attributes);
    return status;
}

cJSON *build_info(const char *template_id, const char *build_id, int64_t offset, int64_t limit,
                  struct error *err)
{
    cJSON *tree = NULL, *logs, *entries;
    struct build *build;

    pthread_mutex_lock(&lock);
    build = find(template_id, build_id, err);
    if (build != NULL) {
        const cJSON *entry;
        int64_t number = 0;

        tree = cJSON_CreateObject();
        cJSON_AddStringToObject(tree, "templateID", build->id);
        cJSON_AddStringToObject(tree, "buildID", build->build_id);
        cJSON_AddStringToObject(tree, "status", status_names[build->status]);
        logs = cJSON_AddArrayToObject(tree, "logs");
        entries = cJSON_AddArrayToObject(tree, "logEntries");
        cJSON_ArrayForEach(entry, build->logs)
        {
            if (number >= offset && number < offset + limit) {
                cJSON_AddItemToArray(entries, cJSON_Duplicate(entry, true));
                cJSON_AddItemToArray(logs, cJSON_CreateString(json_text(entry, "message")));
            }
            number++;
        }
        if (build->status == BUILD_FAILED) {
            cJSON *reason = cJSON_AddObjectToObject(tree, "reason");

            cJSON_AddStringToObject(reason, "message", build->reason);
            cJSON_AddStringToObject(reason, "step", build->step);
            cJSON_AddArrayToObject(reason, "logEntries");
        }
    }
    pthread_mutex_unlock(&lock);
    return tree;
}
