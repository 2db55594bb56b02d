/* session - see session.h. */
#include "deploy/template/tool-server/session.h"

#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/id.h"

struct session {
    char id[SESSION_ID_BYTES]; /* "" = free */
    const char *version;
    uint64_t used; /* number of the use that was the last */
};

struct sessions {
    pthread_mutex_t lock;
    struct flight *flights;
    int max;
    uint64_t uses;
    struct session list[];
};

struct sessions *sessions_new(int max)
{
    struct sessions *sessions =
        xcalloc(1, sizeof(*sessions) + (size_t)max * sizeof(sessions->list[0]));

    sessions->max = max;
    pthread_mutex_init(&sessions->lock, NULL);
    return sessions;
}

void sessions_free(struct sessions *sessions)
{
    if (sessions != NULL) {
        pthread_mutex_destroy(&sessions->lock);
        free(sessions);
    }
}

/* The lock is held. */
static struct session *find(struct sessions *sessions, const char *id)
{
    for (int i = 0; i < sessions->max && id[0] != '\0'; i++) {
        if (strcmp(sessions->list[i].id, id) == 0) {
            return &sessions->list[i];
        }
    }
    return NULL;
}

/* The lock is held. */
static void cancel(struct flight *flight)
{
    flight->cancelled = true;
    if (flight->command != NULL) {
        command_kill(flight->command, SIGKILL);
    }
}

/* The lock is held. */
static void end(struct sessions *sessions, struct session *session)
{
    for (struct flight *flight = sessions->flights; flight != NULL; flight = flight->next) {
        if (session->id[0] != '\0' && strcmp(flight->session, session->id) == 0) {
            cancel(flight);
        }
    }
    memset(session, 0, sizeof(*session));
}

void session_begin(struct sessions *sessions, const char *version, char ret_id[SESSION_ID_BYTES])
{
    struct session *oldest = &sessions->list[0];

    id_random_alnum(ret_id, SESSION_ID_BYTES - 1);
    pthread_mutex_lock(&sessions->lock);
    for (int i = 1; i < sessions->max && oldest->id[0] != '\0'; i++) {
        struct session *session = &sessions->list[i];

        if (session->id[0] == '\0' || session->used < oldest->used) {
            oldest = session;
        }
    }
    end(sessions, oldest);
    memcpy(oldest->id, ret_id, SESSION_ID_BYTES);
    oldest->version = version;
    oldest->used = ++sessions->uses;
    pthread_mutex_unlock(&sessions->lock);
}

const char *session_version(struct sessions *sessions, const char *id)
{
    const char *version = NULL;

    pthread_mutex_lock(&sessions->lock);
    struct session *session = find(sessions, id);
    if (session != NULL) {
        session->used = ++sessions->uses;
        version = session->version;
    }
    pthread_mutex_unlock(&sessions->lock);
    return version;
}

bool session_end(struct sessions *sessions, const char *id)
{
    pthread_mutex_lock(&sessions->lock);
    struct session *session = find(sessions, id);
    if (session != NULL) {
        end(sessions, session);
    }
    pthread_mutex_unlock(&sessions->lock);
    return session != NULL;
}

void flight_begin(struct flight *flight, struct sessions *sessions, const char *session,
                  const cJSON *id)
{
    *flight = (struct flight){.sessions = sessions, .id = id};
    str_copy(flight->session, sizeof(flight->session), session);
    pthread_mutex_lock(&sessions->lock);
    flight->next = sessions->flights;
    sessions->flights = flight;
    pthread_mutex_unlock(&sessions->lock);
}

void flight_end(struct flight *flight)
{
    struct sessions *sessions = flight->sessions;

    pthread_mutex_lock(&sessions->lock);
    for (struct flight **at = &sessions->flights; *at != NULL; at = &(*at)->next) {
        if (*at == flight) {
            *at = flight->next;
            break;
        }
    }
    pthread_mutex_unlock(&sessions->lock);
}

bool flight_await(struct flight *flight, struct command *command)
{
    pthread_mutex_lock(&flight->sessions->lock);
    const bool free_to_go = !flight->cancelled;
    flight->command = free_to_go ? command : NULL;
    pthread_mutex_unlock(&flight->sessions->lock);
    return free_to_go;
}

bool flight_cancelled(struct flight *flight)
{
    pthread_mutex_lock(&flight->sessions->lock);
    const bool cancelled = flight->cancelled;
    pthread_mutex_unlock(&flight->sessions->lock);
    return cancelled;
}

void flights_cancel(struct sessions *sessions, const char *session, const cJSON *id)
{
    pthread_mutex_lock(&sessions->lock);
    for (struct flight *flight = sessions->flights; flight != NULL && session[0] != '\0';
         flight = flight->next) {
        if (strcmp(flight->session, session) == 0 && cJSON_Compare(flight->id, id, true)) {
            cancel(flight);
        }
    }
    pthread_mutex_unlock(&sessions->lock);
}
