/* doctor - see doctor.h. */
#include "gateway/cli/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/clock.h"
#include "common/provider/http.h"
#include "common/provider/provider.h"

enum {
    CLOCK_WARN_MS = 1000, /* deadlines hold to within a second */
    CLOCK_FAIL_MS = 15000,
    CONNECTIONS_SPARE = 10,
    OLDEST_WARN_MS = 30000,
    OVERDUE_WARN_MS = 2000,
    KEY_SYMBOLS_MIN = 12, /* distinct bytes in a key; a random key of 32 bytes has about 30 */
    LINE_BYTES = 512
};

enum verdict { FINE, WARN, FAIL, VERDICT_COUNT };
static const char *const verdict_names[VERDICT_COUNT] = {"ok", "warn", "FAIL"};

struct doctor {
    const struct gateway_config *config;
    struct store *store;
    const struct queue_options *redis;
    const char *check; /* name of the running check */
    int count[VERDICT_COUNT];
};

/* Prints one line: the finding and, unless it is good, the advice. */
static void tell(struct doctor *doctor, enum verdict verdict, const char *advice,
                 const char *format, ...) __attribute__((format(printf, 4, 5)));
static void tell(struct doctor *doctor, enum verdict verdict, const char *advice,
                 const char *format, ...)
{
    char text[LINE_BYTES];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    doctor->count[verdict]++;
    printf("%-4s  %-13s %s\n", verdict_names[verdict], doctor->check, text);
    if (verdict != FINE) {
        printf("%21s-> %s\n", "", advice);
    }
}

/* ---- configuration ------------------------------------------------------------------------ */

static bool looks_random(const char *key)
{
    bool seen[256] = {false};
    int different = 0;

    for (const char *c = key; *c != '\0'; c++) {
        different += !seen[(unsigned char)*c];
        seen[(unsigned char)*c] = true;
    }
    return different >= KEY_SYMBOLS_MIN;
}

/* Values were already checked when they were read: a bad one stops every program. */
static void check_configuration(struct doctor *doctor)
{
    const struct gateway_config *config = doctor->config;

    tell(doctor, FINE, NULL, "every variable is readable and in its range");
    if (config->jwt_secret != NULL && strcmp(config->jwt_algorithm, "HS256") == 0) {
        if (looks_random(config->jwt_secret)) {
            tell(doctor, FINE, NULL, "JWT_SECRET_KEY: %zu bytes, HS256",
                 strlen(config->jwt_secret));
        } else {
            tell(doctor, WARN, "make one with `openssl rand -hex 32`; tokens in use become invalid",
                 "JWT_SECRET_KEY looks like something that can be guessed");
        }
    }
}

static void check_clock(struct doctor *doctor, const char *whose, int64_t their_ms, int64_t our_ms)
{
    int64_t off_ms = their_ms > our_ms ? their_ms - our_ms : our_ms - their_ms;

    if (off_ms < CLOCK_WARN_MS) {
        tell(doctor, FINE, NULL, "clock agrees with ours within %lld ms", (long long)off_ms);
        return;
    }
    tell(doctor, off_ms < CLOCK_FAIL_MS ? WARN : FAIL,
         "run NTP (chrony, systemd-timesyncd) on both hosts; deadlines and tokens count on it",
         "%s's clock is %lld ms %s ours", whose, (long long)off_ms,
         their_ms > our_ms ? "ahead of" : "behind");
}

/* ---- the clocks of others ------------------------------------------------------------------ */

/* Deadlines use the database's clock, so a wrong clock elsewhere affects only logs. */
static void tell_other_clock(struct doctor *doctor, const char *whose, int64_t ahead_ms,
                             const char *than)
{
    tell(doctor, WARN,
         "run NTP (chrony, systemd-timesyncd) there; deadlines do not depend on it, the times in "
         "logs do",
         "%s's clock is %lld ms %s %s", whose, (long long)(ahead_ms < 0 ? -ahead_ms : ahead_ms),
         ahead_ms < 0 ? "behind" : "ahead of", than);
}

/* Checks the clock of every process with a fresh heartbeat in PostgreSQL. */
static void check_processes(struct doctor *doctor)
{
    struct error err = ERROR_INIT;
    struct store_process *live = NULL;
    size_t count = 0;
    int workers = 0, reapers = 0;

    if (store_processes_live(doctor->store, &live, &count, &err) < 0) {
        return; /* reported by an earlier check */
    }
    for (size_t i = 0; i < count; i++) {
        int64_t ahead_ms = live[i].clock_offset_ms;

        workers += live[i].role == STORE_ROLE_WORKER;
        reapers += live[i].role == STORE_ROLE_REAPER;
        if (ahead_ms >= CLOCK_WARN_MS || ahead_ms <= -CLOCK_WARN_MS) {
            tell_other_clock(doctor, live[i].name, ahead_ms, "PostgreSQL's");
        }
    }
    free(live);
    if (workers == 0) {
        tell(doctor, FAIL, "start sandbox-worker: lifecycle calls are accepted and stay queued",
             "no live worker");
    }
    if (reapers == 0) {
        tell(doctor, FAIL, "start sandbox-reaper: no deadline is kept without one",
             "no live reaper");
    }
    if (workers > 0 && reapers > 0) {
        tell(doctor, FINE, NULL, "%d workers, %d reapers", workers, reapers);
    }
}

/* ---- PostgreSQL --------------------------------------------------------------------------- */

static void check_postgresql(struct doctor *doctor)
{
    struct error err = ERROR_INIT;
    struct store_facts facts;
    struct store_stats stats;

    if (store_ping(doctor->store, &err) < 0) {
        tell(doctor, FAIL,
             err.code == ERR_CONFIG ? "run `sandbox-gateway migrate`"
                                    : "check DATABASE_URL, and that the server runs and lets us in",
             "%s", err.message);
        return;
    }
    int64_t before_ms = clock_wall_ms();
    if (store_facts_read(doctor->store, &facts, &err) < 0 ||
        store_stats(doctor->store, &stats, &err) < 0) {
        tell(doctor, FAIL, "look into PostgreSQL's log", "%s", err.message);
        return;
    }
    tell(doctor, FINE, NULL, "version %s, schema %d, answers in %lld ms", facts.version,
         facts.schema_version, (long long)(clock_wall_ms() - before_ms));
    check_clock(doctor, "PostgreSQL", facts.wall_ms, (before_ms + clock_wall_ms()) / 2);
    if (stats.missing > 0) {
        tell(doctor, WARN,
             "check URL and key of every provider at every worker; nothing is lost meanwhile",
             "%lld sandboxes are not known to their provider at the moment",
             (long long)stats.missing);
    }
    if (facts.in_recovery) {
        tell(doctor, FAIL, "name the primary, or all hosts with target_session_attrs=read-write",
             "DATABASE_URL leads to a standby that takes no writes");
    }
    if (!facts.fsync || strcmp(facts.synchronous_commit, "off") == 0) {
        tell(doctor, WARN, "turn both on: PostgreSQL is the only truth of this system",
             "fsync is %s, synchronous_commit is %s: a power cut loses accepted work",
             facts.fsync ? "on" : "off", facts.synchronous_commit);
    }
    if (facts.connections + CONNECTIONS_SPARE > facts.max_connections) {
        tell(doctor, WARN,
             "raise max_connections, or lower DATABASE_POOL (each gateway takes that many, each "
             "worker and reaper one)",
             "%d of %d connections are in use", facts.connections, facts.max_connections);
    } else {
        tell(doctor, FINE, NULL, "%d of %d connections in use", facts.connections,
             facts.max_connections);
    }

    doctor->check = "jobs";
    if (stats.oldest_queued_ms > OLDEST_WARN_MS) {
        tell(doctor, WARN,
             "start more workers; `redis-cli XINFO GROUPS jobs:create`, the key with REDIS_PREFIX "
             "before it, shows whether any reads",
             "the oldest queued job waits for %lld s", (long long)(stats.oldest_queued_ms / 1000));
    } else {
        tell(doctor, FINE, NULL, "%lld queued, the oldest for %lld ms; %lld running",
             (long long)stats.jobs_by_state[JOB_STATE_QUEUED], (long long)stats.oldest_queued_ms,
             (long long)stats.jobs_by_state[JOB_STATE_RUNNING]);
    }
    if (stats.jobs_by_state[JOB_STATE_DEAD] > 0) {
        tell(doctor, WARN,
             "`sandbox-gateway jobs list dead`, `jobs show ID`, then `jobs redrive ID`",
             "%lld dead jobs", (long long)stats.jobs_by_state[JOB_STATE_DEAD]);
    }
    if (stats.overdue_ms > OVERDUE_WARN_MS) {
        tell(doctor, WARN, "see that a sandbox-reaper and a sandbox-worker run",
             "a deadline passed %lld s ago and nothing has happened",
             (long long)(stats.overdue_ms / 1000));
    }
}

/* ---- Redis -------------------------------------------------------------------------------- */

static void check_redis(struct doctor *doctor)
{
    struct queue_owner owner = {.known = false};
    struct queue_options redis = *doctor->redis;
    struct error err = ERROR_INIT;
    struct queue_facts facts;
    char id[UUID_BYTES], condition[QUEUE_CONDITION_BYTES];

    if (store_deployment_id(doctor->store, id, &err) == 0) {
        queue_owner_set(&owner, id);
        redis.owner = &owner;
    }
    struct queue *queue = queue_new(&redis);
    int64_t before_ms = clock_wall_ms();

    if (queue_facts_read(queue, &facts, &err) < 0) {
        tell(doctor, FAIL,
             err.code == ERR_CONFIG
                 ? "no two deployments may use the same keys: they take each other's jobs"
                 : "check REDIS_HOST, REDIS_PORT and REDIS_PASSWORD, and that it runs",
             "%s", err.message);
        queue_free(queue);
        return;
    }
    if (queue_condition(queue, condition, &err) == 0 && condition[0] != '\0') {
        tell(doctor, FAIL,
             "raise maxmemory; look whose a key of another type is and delete it: until then jobs "
             "go by PostgreSQL, and sweeps may wait",
             "%s", condition);
    }
    queue_free(queue);
    tell(doctor, FINE, NULL, "version %s, %lld MB used, answers in %lld ms", facts.version,
         (long long)(facts.used_memory_bytes >> 20), (long long)(clock_wall_ms() - before_ms));
    check_clock(doctor, "Redis", facts.wall_ms, (before_ms + clock_wall_ms()) / 2);
    if (strcmp(facts.role, "master") != 0) {
        tell(doctor, FAIL, "REDIS_HOST must name the master", "this Redis is a %s", facts.role);
    }
    if (!facts.aof) {
        tell(doctor, WARN,
             "set `appendonly yes`: without it every restart makes the reaper "
             "enqueue all open jobs again (nothing is lost, but it takes seconds)",
             "the append-only file is off");
    }
    if (strcmp(facts.maxmemory_policy, "noeviction") != 0) {
        tell(doctor, WARN, "set `maxmemory-policy noeviction`: an evicted stream is lost wake-ups",
             "maxmemory-policy is %s", facts.maxmemory_policy);
    }
    if (facts.maxmemory_bytes > 0 && facts.used_memory_bytes > facts.maxmemory_bytes / 10 * 8) {
        tell(doctor, WARN, "raise maxmemory: at the limit Redis refuses new jobs",
             "%lld of %lld MB are used", (long long)(facts.used_memory_bytes >> 20),
             (long long)(facts.maxmemory_bytes >> 20));
    }
}

/* ---- providers ---------------------------------------------------------------------------- */

static const char *provider_advice(enum outcome outcome)
{
    if (outcome == OUTCOME_AUTH) {
        return "the key is wrong, revoked or of another account: put a valid one into its variable "
               "or file and restart gateway and workers";
    }
    if (outcome == OUTCOME_RATE_LIMITED) {
        return "wait; workers hold by themselves until the provider lets them";
    }
    return "check its URL, the network's way out and the provider's status page";
}

/* Queries a sandbox that cannot exist: this checks the key and creates nothing. */
static void check_provider(struct doctor *doctor, struct provider *provider)
{
    static const char nobody[] = "doctordoctordoctor00";
    struct http_client *client = http_client_new();
    struct provider_call call;
    struct provider_step step;
    int64_t before_ms = clock_mono_ms();

    provider_call_init(&call);
    call.op = PROVIDER_GET;
    call.provider_sandbox_id = nobody;
    call.sandbox_id = call.job_id = call.deployment_id = call.template_id = "";
    http_client_drive(client, provider, &call, &step);
    if (step.verdict == PROVIDER_DONE) {
        tell(doctor, FINE, NULL, "%s takes our key, answers in %lld ms", provider->label,
             (long long)(clock_mono_ms() - before_ms));
    } else {
        tell(doctor, FAIL, provider_advice(step.outcome), "%s: %s (%s)", provider->label,
             step.error, outcome_name(step.outcome));
    }
    if (call.clock_told && call.clock_ahead_ms != 0) {
        tell_other_clock(doctor, provider->label, call.clock_ahead_ms, "ours");
    }
    provider_call_done(&call);
    http_client_free(client);
}

static void check_providers(struct doctor *doctor)
{
    struct error err = ERROR_INIT;
    struct provider_set *set = provider_set_open(doctor->config->providers, &err);

    if (set == NULL) {
        tell(doctor, FAIL, "set the variable, or take the provider out of SANDBOX_PROVIDERS", "%s",
             err.message);
        return;
    }
    for (size_t i = 0; provider_set_at(set, i) != NULL; i++) {
        check_provider(doctor, provider_set_at(set, i));
    }
    provider_set_close(set);
}

/* ---- all of it ---------------------------------------------------------------------------- */

static const struct check {
    const char *name;
    void (*run)(struct doctor *doctor);
} checks[] = {
    {"configuration", check_configuration}, {"postgresql", check_postgresql},
    {"processes", check_processes},         {"redis", check_redis},
    {"provider", check_providers},
};

int doctor_run(const struct gateway_config *config, struct store *store,
               const struct queue_options *redis, struct error *err)
{
    struct doctor doctor = {.config = config, .store = store, .redis = redis};

    if (http_global_init(err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        doctor.check = checks[i].name;
        checks[i].run(&doctor);
    }
    printf("%d ok, %d warnings, %d failures\n", doctor.count[FINE], doctor.count[WARN],
           doctor.count[FAIL]);
    fflush(stdout); /* so that it precedes the message on stderr */
    return doctor.count[FAIL] == 0
               ? 0
               : error_set(err, ERR_INTERNAL, "%d checks failed", doctor.count[FAIL]);
}
