/*
 * sandbox_view - the public description of one sandbox.
 *
 * Owns: the memory of a description. Threads: any; a copy belongs to its caller.
 */
#ifndef SANDBOX_HOST_SANDBOX_VIEW_H
#define SANDBOX_HOST_SANDBOX_VIEW_H

#include <stdbool.h>
#include <stdint.h>

#include "common/base/json.h"

enum sandbox_state { SANDBOX_STARTING, SANDBOX_RUNNING, SANDBOX_PAUSED, SANDBOX_ENDING };
enum sandbox_internet { SANDBOX_INTERNET_UNSET, SANDBOX_INTERNET_YES, SANDBOX_INTERNET_NO };

enum { SANDBOX_ID_BYTES = 32, SANDBOX_TEXT_BYTES = 128 };

struct sandbox_view {
    char id[SANDBOX_ID_BYTES];
    char template_id[SANDBOX_TEXT_BYTES];
    char base_id[SANDBOX_TEXT_BYTES]; /* template whose system lies below the sandbox's layer */
    char alias[SANDBOX_TEXT_BYTES];   /* of the template, or "" */
    char token[SANDBOX_TEXT_BYTES];   /* for the agent; "" when not secure */
    char traffic_token[SANDBOX_TEXT_BYTES]; /* for every other port; "" when they are public */
    enum sandbox_state state;
    enum sandbox_internet internet;
    bool auto_pause, auto_resume;
    bool auto_pause_drops; /* an automatic pause keeps only the disk */
    bool cold;             /* paused without memory: only its disk exists */
    bool explicit_resume;  /* traffic does not resume it */
    bool internal;         /* the host made it for a build */
    int64_t started_ms;    /* wall clock */
    int64_t end_ms;        /* wall clock; of a paused one, when it was paused */
    cJSON *metadata;       /* owned by the view, or NULL */
    cJSON *network;        /* as the create requested it; likewise */
    cJSON *envs;           /* environment of its commands, from its create; likewise */
};

void sandbox_view_copy(const struct sandbox_view *view, struct sandbox_view *ret);
void sandbox_view_done(struct sandbox_view *view);

#endif
