/*
 * servers - the idle connections to servers of one event loop, kept for the next exchange with an
 * equal key.
 *
 * Owns: the connections while they are idle; one that its server closes, or writes to, is closed.
 * Does not own: connecting, whether a connection may be used again (relay.h). Threads: the loop's.
 */
#ifndef PROXY_SERVERS_H
#define PROXY_SERVERS_H

#include <stdint.h>

#include "common/proxy/loop.h"
#include "common/proxy/relay.h"

struct servers;

/* One connection to a server, watched by the loop from its opening to its close. */
struct server {
    struct loop_watch watch;
    struct relay_ready ready;
    struct servers *servers;
    char *key;
    /* Called when the socket is ready for something; NULL while idle. */
    void (*on_ready)(void *owner);
    void *owner;
    int64_t idle_since_ms;
    struct server *older, *newer, *next_closed;
};

/* Keeps at most `max`, each for at most idle_ms: less than the servers keep theirs. */
struct servers *servers_new(struct loop *loop, int max, int64_t idle_ms);
void servers_free(struct servers *servers); /* NULL-safe */
/* NULL: there is none. */
struct server *servers_take(struct servers *servers, const char *key);
/* Takes over `fd`. NULL: it cannot be watched, and is closed. */
struct server *servers_add(struct servers *servers, const char *key, int fd);
void servers_put_back(struct server *server);
void servers_close(struct server *server);
/* Closes what has been idle for too long, and frees what was closed. Call it when no events are at
 * hand. false: there is nothing idle. */
bool servers_sweep(struct servers *servers, int64_t now_ms);

#endif
