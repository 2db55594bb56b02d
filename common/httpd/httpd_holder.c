/*
 * httpd_holder - what one address or one owner holds: connections, and threads that wait for its
 * bodies.
 *
 * Owns: the table of holders, the places among those that wait for bodies. A holder exists while it
 * holds something. Threads: the table is under httpd->lock.
 */
#include "common/httpd/httpd_holder.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "common/base/alloc.h"
#include "common/base/cidr.h"
#include "common/httpd/httpd_internal.h"
#include "common/httpd/httpd_peer.h"

enum { BUCKETS = 4096 };

int httpd_holders_init(struct httpd *httpd, struct error *err)
{
    httpd->holders = xcalloc(BUCKETS, sizeof(struct httpd_holder *));
    if (getrandom(&httpd->hash_seed, sizeof(httpd->hash_seed), 0) !=
        (ssize_t)sizeof(httpd->hash_seed)) {
        return error_set_errno(err, ERR_INTERNAL, errno, "getrandom");
    }
    httpd->hash_seed |= 1;
    return 0;
}

struct httpd_holder *holder_take(struct httpd *httpd, uint64_t key)
{
    struct httpd_holder **bucket = &httpd->holders[(key * httpd->hash_seed) >> 52];
    struct httpd_holder *holder = *bucket;

    _Static_assert(BUCKETS == 1 << (64 - 52), "the hash has as many bits as there are buckets");
    while (holder != NULL && holder->key != key) {
        holder = holder->next;
    }
    if (holder == NULL) {
        holder = xcalloc(1, sizeof(*holder));
        holder->key = key;
        for (int c = 0; c < CONN_CLASSES; c++) {
            TAILQ_INIT(&holder->parked[c]);
        }
        holder->next = *bucket;
        *bucket = holder;
    }
    holder->references++;
    return holder;
}

void holder_give(struct httpd *httpd, struct httpd_holder *holder)
{
    struct httpd_holder **at = &httpd->holders[(holder->key * httpd->hash_seed) >> 52];

    if (--holder->references > 0) {
        return;
    }
    while (*at != holder) {
        at = &(*at)->next;
    }
    *at = holder->next;
    free(holder);
}

void httpd_holders_free(struct httpd *httpd)
{
    for (int i = 0; httpd->holders != NULL && i < BUCKETS; i++) {
        for (struct httpd_holder *holder = httpd->holders[i], *next; holder != NULL;
             holder = next) {
            next = holder->next;
            free(holder);
        }
    }
    free(httpd->holders);
}

/* FNV-1a over a secret start: two texts collide by chance only, and share a bound then. */
static uint64_t text_key(const struct httpd *httpd, char kind, const char *text)
{
    uint64_t hash = httpd->hash_seed ^ (uint64_t)(unsigned char)kind;

    for (; *text != '\0'; text++) {
        hash = (hash ^ (uint64_t)(unsigned char)*text) * UINT64_C(0x100000001b3);
    }
    return hash | UINT64_C(1) << 63; /* no IPv4 address */
}

/* Caller holds the lock. */
static struct httpd_holder *wait_take(struct httpd *httpd, char kind, const char *text)
{
    struct httpd_holder *holder = holder_take(httpd, text_key(httpd, kind, text));

    if (holder->waiting_bodies >= httpd->max_holder_body_waits) {
        holder_give(httpd, holder);
        return NULL;
    }
    holder->waiting_bodies++;
    return holder;
}

static void wait_give(struct httpd *httpd, struct httpd_holder *holder)
{
    if (holder != NULL) {
        holder->waiting_bodies--;
        holder_give(httpd, holder);
    }
}

bool httpd_body_wait_begin(struct http_exchange *exchange)
{
    struct httpd *httpd = exchange->httpd;
    char client[CIDR_CLIENT_BYTES];
    bool good = false;

    if (httpd->max_holder_body_waits == 0 || exchange->wait_holders[0] != NULL) {
        return true;
    }
    cidr_client(http_peer(exchange), client);
    pthread_mutex_lock(&httpd->lock);
    if (httpd->body_waits < httpd->max_body_waits) {
        exchange->wait_holders[0] = wait_take(httpd, 'a', client);
        good = exchange->wait_holders[0] != NULL;
        if (good && exchange->owner != NULL) {
            exchange->wait_holders[1] = wait_take(httpd, 'o', exchange->owner);
            good = exchange->wait_holders[1] != NULL;
        }
        if (good) {
            httpd->body_waits++;
        } else {
            wait_give(httpd, exchange->wait_holders[0]);
            exchange->wait_holders[0] = NULL;
        }
    }
    pthread_mutex_unlock(&httpd->lock);
    return good;
}

void httpd_body_wait_end(struct http_exchange *exchange)
{
    struct httpd *httpd = exchange->httpd;

    if (exchange->wait_holders[0] == NULL) {
        return;
    }
    pthread_mutex_lock(&httpd->lock);
    httpd->body_waits--;
    for (int i = 0; i < 2; i++) {
        wait_give(httpd, exchange->wait_holders[i]);
        exchange->wait_holders[i] = NULL;
    }
    pthread_mutex_unlock(&httpd->lock);
}
