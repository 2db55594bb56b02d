/*
 * told - a listener to a listing, which writes down what it is told.
 */
#ifndef TESTS_TOLD_H
#define TESTS_TOLD_H

#include <stdio.h>
#include <string.h>

#include "common/provider/provider.h"

static char told[256]; /* name:type:bytes of each, in order */
static int told_max;   /* entries after which it has enough; 0 = never */

/* One byte more than is taken. Static: the server may still be sending it when the test is over. */
static char told_too_much[PROVIDER_LIST_MAX_BYTES + 2];

static const char *too_much(void)
{
    memset(told_too_much, ' ', sizeof(told_too_much) - 1);
    return told_too_much;
}

static void told_start(int max)
{
    told[0] = '\0';
    told_max = max;
}

static int tell(void *arg, const struct dir_entry *entry)
{
    const size_t used = strlen(told);

    (void)arg;
    snprintf(told + used, sizeof(told) - used, "%s:%d:%lld ", entry->name, (int)entry->type,
             (long long)entry->bytes);
    return --told_max == 0;
}

#endif
