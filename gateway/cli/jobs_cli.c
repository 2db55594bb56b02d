/* jobs_cli - see jobs_cli.h. */
#include "gateway/cli/jobs_cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/store/store_events.h"

enum { LIST_MAX = 100, EVENTS_MAX = 200 };

static const char usage[] =
    "usage: sandbox-gateway jobs list [STATE] | show JOB_ID | redrive JOB_ID";

static void print_job(const struct job *job)
{
    char created[CLOCK_RFC3339_BYTES];

    printf("%s  %-10s %-9s attempt %d/%d  sandbox %s  seq %lld  %s  %s\n", job->id,
           job_state_name(job->state), job_op_name(job->op), job->attempt, job->max_attempts,
           job->sandbox_id, (long long)job->seq, clock_format_rfc3339(job->created_at_ms, created),
           job->error);
}

static int list_jobs(int argc, char **argv, struct store *store, struct error *err)
{
    enum job_state state = JOB_STATE_DEAD;
    struct job *jobs;
    size_t count;

    if (argc > 1 && job_state_parse(argv[1], &state) < 0) {
        return error_set(err, ERR_INVALID, "%.40s is no job state", argv[1]);
    }
    if (store_jobs_list(store, argc > 1 ? (int)state : -1, LIST_MAX, &jobs, &count, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        print_job(&jobs[i]);
        job_done(&jobs[i]);
    }
    free(jobs);
    return 0;
}

/* Prints a job and the history of its sandbox. */
static int show_job(const char *job_id, struct store *store, struct error *err)
{
    struct store_event *events;
    struct job job;
    size_t count;

    if (store_job_get(store, job_id, &job, err) < 0) {
        return -1;
    }
    print_job(&job);
    printf("origin %s, request %s, crashes %d, last outcome %s, provider status %d\n", job.origin,
           job.request_id[0] != '\0' ? job.request_id : "-", job.crashes, outcome_name(job.outcome),
           job.provider_http_status);
    const struct store_event_cursor oldest = {0};

    if (store_events(store, job.sandbox_id, &oldest, EVENTS_MAX, true, &events, &count, err) < 0) {
        job_done(&job);
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        char at[CLOCK_RFC3339_BYTES];

        printf("  %s  %s -> %s  %s  (%s, job %s)\n", clock_format_rfc3339(events[i].at_ms, at),
               events[i].from[0] != '\0' ? events[i].from : "-", events[i].to, events[i].reason,
               events[i].actor, events[i].job_id);
    }
    free(events);
    job_done(&job);
    return 0;
}

static int redrive_job(const char *job_id, struct store *store, const struct queue_options *redis,
                       struct error *err)
{
    struct queue *queue;
    struct wakeup wakeup;
    struct error wake_err = ERROR_INIT;
    char new_id[UUID_BYTES];

    id_uuid(new_id);
    if (store_job_redrive(store, job_id, new_id, &wakeup, err) < 0) {
        return -1;
    }
    queue = queue_new(redis);
    if (queue_add(queue, &wakeup, 1, &wake_err) < 0) {
        fprintf(stderr, "the queue is away (%s); the reaper will wake the job\n", wake_err.message);
    }
    queue_free(queue);
    printf("%s\n", new_id);
    return 0;
}

int jobs_cli_run(int argc, char **argv, struct store *store, const struct queue_options *redis,
                 struct error *err)
{
    if (argc >= 1 && argc <= 2 && strcmp(argv[0], "list") == 0) {
        return list_jobs(argc, argv, store, err);
    }
    if (argc == 2 && !id_is_uuid(argv[1])) {
        return error_set(err, ERR_INVALID, "%.40s is no job id", argv[1]);
    }
    if (argc == 2 && strcmp(argv[0], "show") == 0) {
        return show_job(argv[1], store, err);
    }
    if (argc == 2 && strcmp(argv[0], "redrive") == 0) {
        return redrive_job(argv[1], store, redis, err);
    }
    return error_set(err, ERR_INVALID, "%s", usage);
}
