/*
 * queue_internal - what the files that implement queue.h share. Private to common/queue.
 */
#ifndef QUEUE_INTERNAL_H
#define QUEUE_INTERNAL_H

#include "common/queue/link.h"

struct queue {
    struct queue_link link;
    struct queue_args args;
};

/* Starts a command in queue->args, which it returns. */
struct queue_args *queue_begin(struct queue *queue, const char *command);

#endif
