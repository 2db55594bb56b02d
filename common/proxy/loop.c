/* loop - see loop.h. */
#include "common/proxy/loop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"

enum { EVENTS = 128, STACK_BYTES = 256 * 1024 };

struct task_queue {
    struct loop_task *first, **last;
};

struct loop {
    int epoll, wake_fd;
    bool (*tick)(void *arg);
    void *arg;
    pthread_t thread;
    atomic_bool stopping;
    pthread_mutex_t lock;
    struct task_queue posted; /* under the lock */
    struct task_queue later;
};

static void queue_add(struct task_queue *queue, struct loop_task *task)
{
    task->next = NULL;
    *queue->last = task;
    queue->last = &task->next;
}

static struct loop_task *queue_take_all(struct task_queue *queue)
{
    struct loop_task *first = queue->first;

    queue->first = NULL;
    queue->last = &queue->first;
    return first;
}

static void run_tasks(struct loop_task *task)
{
    while (task != NULL) {
        struct loop_task *next = task->next; /* it may post itself again */

        task->run(task);
        task = next;
    }
}

static void run_posted(struct loop *loop)
{
    struct loop_task *first;
    uint64_t count;

    (void)!read(loop->wake_fd, &count, sizeof(count)); /* nonblocking; the count does not matter */
    pthread_mutex_lock(&loop->lock);
    first = queue_take_all(&loop->posted);
    pthread_mutex_unlock(&loop->lock);
    run_tasks(first);
}

static void run_batch(struct loop *loop, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    const int count = epoll_wait(loop->epoll, events, EVENTS, timeout_ms);
    bool posted = false;

    for (int i = 0; i < count; i++) {
        struct loop_watch *watch = events[i].data.ptr;

        if (watch == NULL) {
            posted = true;
        } else {
            watch->ready(watch, events[i].events);
        }
    }
    if (posted) {
        run_posted(loop);
    }
}

static void *run_loop(void *arg)
{
    struct loop *loop = arg;
    int64_t next_tick_ms = 0;
    bool ticks = false;

    while (!atomic_load(&loop->stopping)) {
        run_batch(loop, loop->later.first != NULL ? 0 : ticks ? LOOP_TICK_MS : -1);
        run_tasks(queue_take_all(&loop->later));
        const int64_t now_ms = clock_mono_ms();
        if (!ticks || now_ms >= next_tick_ms) {
            ticks = loop->tick(loop->arg);
            next_tick_ms = now_ms + LOOP_TICK_MS;
        }
    }
    return NULL;
}

static int start_thread(struct loop *loop)
{
    pthread_attr_t attributes;
    int status;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    status = pthread_create(&loop->thread, &attributes, run_loop, loop);
    pthread_attr_destroy(&attributes);
    return status;
}

void loop_free(struct loop *loop)
{
    if (loop->epoll >= 0) {
        close(loop->epoll);
    }
    if (loop->wake_fd >= 0) {
        close(loop->wake_fd);
    }
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}

struct loop *loop_new(bool (*tick)(void *arg), void *arg, struct error *err)
{
    struct loop *loop = xcalloc(1, sizeof(*loop));
    struct epoll_event event = {.events = EPOLLIN};

    loop->tick = tick;
    loop->arg = arg;
    pthread_mutex_init(&loop->lock, NULL);
    queue_take_all(&loop->posted);
    queue_take_all(&loop->later);
    loop->epoll = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->epoll < 0 || loop->wake_fd < 0 ||
        epoll_ctl(loop->epoll, EPOLL_CTL_ADD, loop->wake_fd, &event) < 0) {
        error_set_errno(err, ERR_INTERNAL, errno, "making an event loop");
        loop_free(loop);
        return NULL;
    }
    return loop;
}

int loop_start(struct loop *loop, struct error *err)
{
    const int status = start_thread(loop);

    return status == 0 ? 0 : error_set_errno(err, ERR_INTERNAL, status, "starting an event loop");
}

static void wake(struct loop *loop)
{
    const uint64_t one = 1;

    (void)!write(loop->wake_fd, &one, sizeof(one)); /* fails only while it is readable anyway */
}

void loop_stop(struct loop *loop)
{
    atomic_store(&loop->stopping, true);
    wake(loop);
    pthread_join(loop->thread, NULL);
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    bool first;

    pthread_mutex_lock(&loop->lock);
    first = loop->posted.first == NULL;
    queue_add(&loop->posted, task);
    pthread_mutex_unlock(&loop->lock);
    if (first) {
        wake(loop);
    }
}

void loop_later(struct loop *loop, struct loop_task *task)
{
    queue_add(&loop->later, task);
}

int loop_watch(struct loop *loop, struct loop_watch *watch)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET,
                                .data.ptr = watch};

    return epoll_ctl(loop->epoll, EPOLL_CTL_ADD, watch->fd, &event);
}

void loop_unwatch(struct loop *loop, struct loop_watch *watch)
{
    (void)epoll_ctl(loop->epoll, EPOLL_CTL_DEL, watch->fd, NULL);
}
