/* cleaner - see cleaner.h. */
#include "deploy/sandbox-host/sandbox/cleaner.h"

#include "common/base/clock.h"
#include "common/base/log.h"

enum { DEAD_MAX = 8192, AGAIN_MS = 1000, TICK_MS = 50, IDLE_MS = 60000 };

static pthread_t thread;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct sandbox *list[DEAD_MAX];
    size_t count;
    bool draining; /* no more will come */
} dead = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* -1, with the reason in the log: something of it stays, and with it its place in the table and its
 * user id. */
static int remove_sandbox(struct sandbox *sandbox)
{
    struct error err = ERROR_INIT;

    if (spawn_remove(sandbox->view.id, &sandbox->processes, &err) < 0) {
        /* once: it is tried again and again */
        log_event(sandbox->removal_tries++ == 0 ? LOG_ERROR : LOG_DEBUG, "sandbox.not_removed",
                  LOG_S("sandbox", sandbox->view.id), LOG_S("why", err.message));
        return -1;
    }
    if (sandbox->removal_tries > 0) {
        log_event(LOG_INFO, "sandbox.removed", LOG_S("sandbox", sandbox->view.id),
                  LOG_I("tries", sandbox->removal_tries + 1));
    }
    table_remove(sandbox);
    return 0;
}

void cleaner_hand_over(struct sandbox *sandbox)
{
    pthread_mutex_lock(&dead.lock);
    while (dead.count == DEAD_MAX) {
        pthread_cond_wait(&dead.changed, &dead.lock);
    }
    sandbox->remove_at_ms = sandbox->removal_tries == 0 ? 0 : clock_mono_ms() + AGAIN_MS;
    dead.list[dead.count++] = sandbox;
    pthread_cond_broadcast(&dead.changed);
    pthread_mutex_unlock(&dead.lock);
}

/* Usually nothing is left when the caller gets its answer; what takes longer does not keep it
 * waiting. Takes the transition lock and the reference. */
void cleaner_end(struct sandbox *sandbox)
{
    if (remove_sandbox(sandbox) == 0) {
        table_give_back(sandbox);
        return;
    }
    pthread_mutex_unlock(&sandbox->transition);
    cleaner_hand_over(sandbox);
}

/* With the lock held: the first whose time has come, or any when all is to end. */
static struct sandbox *take_dead(int64_t now_ms)
{
    for (size_t i = 0; i < dead.count; i++) {
        struct sandbox *sandbox = dead.list[i];

        if (dead.draining || sandbox->remove_at_ms <= now_ms) {
            dead.list[i] = dead.list[--dead.count];
            return sandbox;
        }
    }
    return NULL;
}

static void *clean(void *arg)
{
    (void)arg;
    for (;;) {
        struct sandbox *sandbox;
        bool last;

        pthread_mutex_lock(&dead.lock);
        while ((sandbox = take_dead(clock_mono_ms())) == NULL && !dead.draining) {
            const struct timespec until = clock_cond_until(dead.count > 0 ? TICK_MS : IDLE_MS);

            pthread_cond_timedwait(&dead.changed, &dead.lock, &until);
        }
        last = dead.draining;
        pthread_cond_broadcast(&dead.changed);
        pthread_mutex_unlock(&dead.lock);
        if (sandbox == NULL) {
            return NULL;
        }
        pthread_mutex_lock(&sandbox->transition);
        if (remove_sandbox(sandbox) == 0) {
            table_give_back(sandbox);
        } else if (last) {
            /* the warden tries once more as it ends, and then the next start of the host */
            table_remove(sandbox);
            table_give_back(sandbox);
        } else {
            pthread_mutex_unlock(&sandbox->transition);
            cleaner_hand_over(sandbox);
        }
    }
}

void cleaner_init(void)
{
    clock_cond_init(&dead.changed);
}

int cleaner_start(struct error *err)
{
    const int status = pthread_create(&thread, NULL, clean, NULL);

    return status == 0 ? 0 : error_set_errno(err, ERR_INTERNAL, status, "starting the cleaner");
}

void cleaner_drain(void)
{
    pthread_mutex_lock(&dead.lock);
    dead.draining = true;
    pthread_cond_broadcast(&dead.changed);
    pthread_mutex_unlock(&dead.lock);
    pthread_join(thread, NULL);
}
