/*
 * provider - what a sandbox provider is to us, with all I/O taken out.
 *
 * A lifecycle operation is a pure step machine: step(call, last response) says which request to
 * send next, how long to wait, or how it ended. The worker drives many over one curl multi handle,
 * the gateway drives one over a blocking handle, a unit test drives it with literals. A backend is
 * one file that fills struct provider_ops, plus one line in domain/providers.def. Threads: backends
 * are const after provider_new(); a call belongs to its driver.
 */
#ifndef PROVIDER_PROVIDER_H
#define PROVIDER_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "common/base/config.h"
#include "common/base/egress_guard.h"
#include "common/base/error.h"
#include "common/base/json.h"
#include "common/base/strbuf.h"
#include "common/domain/types.h"

/* ---- HTTP as data --------------------------------------------------------------------------- */

struct http_request {
    char method[8];
    struct strbuf url;
    struct strbuf headers; /* "Name: value\n" lines; may hold secrets: never logged */
    struct strbuf body;    /* sent only if has_body */
    bool has_body;
    bool once;          /* must not be re-sent by the transport: fresh connection, no reuse */
    int64_t timeout_ms; /* whole exchange */
    size_t max_response_bytes;
    /* borrowed, of a URL that a caller has given: only what it allows is connected to, by a fresh
     * connection and no proxy; NULL = any address */
    const struct egress_guard *guard;
};
void http_request_init(struct http_request *request);
void http_request_done(struct http_request *request);

enum http_transport {
    HTTP_ANSWERED,  /* status and (whole) body are there */
    HTTP_NOT_SENT,  /* certainly never reached the server: resolve, connect, TLS */
    HTTP_AMBIGUOUS, /* sent or partly sent, no whole answer: timeout, reset, truncated, body too big
                     */
};
struct http_response {
    enum http_transport transport;
    int status;
    int64_t retry_after_ms; /* 0 = none given; Retry-After in any spelling, the longest of all */
    int64_t date_ms;        /* the server's clock, to the second: its Date; 0 = not told */
    char next_token[1024];  /* X-Next-Token, or "" */
    char content_type[128];
    int64_t content_length; /* -1 = not told */
    const char *body;       /* not NUL-terminated; valid during the call it is passed to */
    size_t body_bytes;
    bool too_large;  /* HTTP_AMBIGUOUS because of max_response_bytes */
    bool stopped;    /* HTTP_AMBIGUOUS because a function of the stream ended it */
    char error[256]; /* transport's own words, secret-free (no URL) */
};

/* How far the server's clock is ahead of the one that shows now_ms; 0 without a Date, and when what
 * a Date can tell (a second, and the time its answer took) shows no difference. */
int64_t http_clock_ahead_ms(const struct http_response *response, int64_t now_ms);

/* ---- lifecycle step machines ----------------------------------------------------------------- */

enum provider_op {
    PROVIDER_CREATE,
    PROVIDER_GET, /* what is it? found / absent, running / paused, end */
    PROVIDER_PAUSE,
    PROVIDER_RESUME,  /* also extends the provider's end */
    PROVIDER_DELETE,  /* by provider id, or, when that is unknown, all that carry our sandbox id */
    PROVIDER_TIMEOUT, /* move the provider's own end, read back what it granted */
    PROVIDER_LIST     /* all that carry our deployment's tag, every page; done = all of them */
};

enum provider_state {
    PROVIDER_STATE_UNKNOWN,
    PROVIDER_STATE_RUNNING,
    PROVIDER_STATE_PAUSED,
    PROVIDER_STATE_ABSENT
};

struct provider_result {
    enum provider_state state;
    char provider_sandbox_id[PROVIDER_ID_BYTES];
    char domain[DOMAIN_BYTES];
    char access_token[SECRET_BYTES];
    char traffic_token[SECRET_BYTES];
    char agent_version[AGENT_VERSION_BYTES]; /* "" = not told */
    int64_t started_at_ms, expires_at_ms;    /* on the clock of now_ms; 0 = not told */
    bool adopted;                            /* create found one made by an earlier attempt */
    int extras_killed;
};

/* A page of a PROVIDER_LIST. A sandbox comes with the 64 entries of metadata its user may give it,
 * 1152 bytes each and up to six times that when escaped: no user may make the list too large to
 * read. */
enum { PROVIDER_PAGE_ITEMS = 50, PROVIDER_PAGE_MAX_BYTES = 24 * 1024 * 1024 };

/* A sandbox that carries this deployment's tag and a sandbox id as we make them. */
struct provider_listed {
    char provider_sandbox_id[PROVIDER_ID_BYTES];
    char sandbox_id[UUID_BYTES];
    enum provider_state state; /* RUNNING, PAUSED; UNKNOWN = on its way to another */
};

/* Input of one operation; plain data, filled by the worker. Strings are borrowed. */
struct provider_call {
    enum provider_op op;
    const char *deployment_id;
    const char *sandbox_id;
    const char *job_id;
    const char *provider_sandbox_id; /* "" = unknown */
    const char *template_id;
    int64_t timeout_ms; /* provider's own lifetime wanted, from now (create, resume, timeout) */
    const char *metadata_json; /* the user's; object of strings or NULL */
    const cJSON *envs;         /* or NULL */
    const cJSON *network;      /* create: rules of outgoing traffic in E2B's form, or NULL */
    bool no_internet;          /* create: no outgoing traffic */
    bool maybe_sent;           /* create/delete: an earlier create may have had its effect */
    int64_t settle_until_ms; /* on the clock of now_ms; before it, an empty lookup proves nothing */
    int64_t unproven_until_ms; /* create: the same while no list shows any sandbox of ours */
    bool settle_only;          /* create: look up only; PROVIDER_STATE_ABSENT = it never happened */
    int64_t now_ms;         /* the driver's clock; provider_call_tick() sets it before each step */
    bool clock_told;        /* some answer had a Date */
    int64_t clock_ahead_ms; /* of the provider, by its Date; 0 within what a Date can tell */
    /* backend's own progress; zero at start */
    int phase;
    int scratch;
    struct strbuf page; /* next page token; inited by provider_call_init */
    struct provider_result result;
    char extras[4][PROVIDER_ID_BYTES]; /* copies to kill */
    /* list: owned; the page of the last answer. One that moves between pages may be on two. */
    struct provider_listed *listed;
    size_t listed_count, listed_capacity;
};
void provider_call_init(struct provider_call *call);
void provider_call_done(struct provider_call *call);
/* Before each step: the driver's clock shows now_ms, and `last` (or NULL) has just come. */
void provider_call_tick(struct provider_call *call, int64_t now_ms,
                        const struct http_response *last);
/* A time by the provider's clock, put on the driver's, however wrong either is; 0 stays 0. */
int64_t provider_call_time(const struct provider_call *call, int64_t provider_ms);

/* PROVIDER_WAIT: step again, with no response, after retry_after_ms. */
enum provider_verdict { PROVIDER_SEND, PROVIDER_WAIT, PROVIDER_DONE, PROVIDER_FAILED };
struct provider_step {
    enum provider_verdict verdict;
    /* PROVIDER_FAILED (OUTCOME_SNOOZE = poll again after retry_after_ms) */
    enum outcome outcome;
    int64_t retry_after_ms;
    int http_status;
    bool may_exist; /* create: whatever the outcome, something of it may be at the provider */
    bool looked;    /* create: not answered, but the look for what it made was: there is none yet */
    char error[256]; /* for people, secret-free, bounded */
};

/* ---- data plane -------------------------------------------------------------------------------
 */

/* Where a running sandbox is reached; filled from its row. Borrowed strings. */
struct provider_target {
    const char *provider_sandbox_id;
    const char *domain;        /* or "" */
    const char *access_token;  /* or "" */
    const char *traffic_token; /* or "" */
    const char *agent_version; /* of the provider's agent in the sandbox, or "" = not known */
};

struct exec_request {
    const char *command;
    const char *cwd;    /* NULL = default */
    const cJSON *envs;  /* or NULL */
    int64_t timeout_ms; /* of running time, after which the command is killed; 0 = unlimited */
    bool background;    /* return once it runs; its output is lost */
    bool any_output;    /* what comes too fast may be skipped: its beginning and end are wanted */
    /* Called about every second, with on_output's arg; may be NULL. Non-zero: leave the command
     * alone and return at once (exec_result.left). */
    int (*on_tick)(void *arg);
};
enum exec_stream { EXEC_STDOUT, EXEC_STDERR };
enum { EXEC_SURVIVORS_MAX = 32 };
struct exec_result {
    int64_t pid;
    bool started;
    bool exited;
    int exit_code;             /* 128+n for a signal */
    bool background_processes; /* exited, and left some that live on */
    bool timed_out;
    bool left; /* on_tick asked for it, or the way to the sandbox broke: it may go on */
    int64_t
        survivors[EXEC_SURVIVORS_MAX]; /* timed_out: pids that could not be killed; 0 = unknown */
    int survivor_count;
};
/* `data` NULL: so many bytes were skipped. Return non-zero to stop early (the command is then
 * killed). */
typedef int (*exec_output_fn)(void *arg, enum exec_stream stream, const void *data, size_t bytes);
/* Streams: consume / produce file bytes. read_fn returns bytes written to buf, 0 = end, -1 = fail.
 */
typedef int (*file_write_fn)(void *arg, const void *data, size_t bytes);
typedef long (*file_read_fn)(void *arg, void *buf, size_t bytes);

/* Which bytes of a file are wanted, and who takes them. */
struct file_get {
    const char *path; /* absolute, of a regular file */
    int64_t offset;
    int64_t bytes; /* -1 = to the end */
    /* Called once, before the first byte and for an empty file, too. `first` is the offset of the
     * byte that comes first (a provider may send the whole file instead), `bytes` how many come (-1
     * = not told). Non-zero stops. */
    int (*on_begin)(void *arg, int64_t first, int64_t bytes);
    file_write_fn on_data;
    void *arg;
};

struct provider_e2b_call {
    const char *method;
    const char *version; /* "" or "/v2": what comes before /sandboxes */
    const char *path;    /* with its query */
    const char *body;    /* JSON, or NULL */
};

/* A program run inside a sandbox, with no input. */
struct program_run {
    const char *user;        /* "" = whom commands run as */
    const char *const *argv; /* `/bin/sh -c argv[0] sh argv[1] ...`; NULL ends */
    const cJSON *envs;       /* or NULL */
    int64_t wait_ms;         /* how long it takes by itself, at most */
    /* Takes what it prints; non-zero: no more is wanted, and it is left alone. */
    int (*on_data)(void *arg, const void *data, size_t bytes);
    int (*on_tick)(void *arg); /* about every second while it runs, or NULL; non-zero as on_data */
    void *arg;
};

struct http_client; /* blocking handle, see http.h */
struct provider;

/* A backend. All slots are required unless marked optional. */
struct provider_ops {
    const char *name;
    bool create_by_name;     /* a repeated create is refused, not doubled */
    bool pause_keeps_memory; /* else the disk only: processes and what is in memory are lost */
    const struct config_entry *config; /* what open reads, beside its provider_lifetime_config */
    size_t config_count;
    /* Reads its own environment (E2B_API_KEY ...). NULL + ERR_CONFIG names the variable; NULL +
     * ERR_NOT_FOUND: not configured here (no key). */
    struct provider *(*open)(struct error *err);
    void (*close)(struct provider *provider);

    /* `last` is NULL on the first step and after a wait. Fills *ret_request when the verdict is
     * PROVIDER_SEND, call->result when PROVIDER_DONE. Never fails itself: bad answers are outcomes.
     */
    void (*step)(struct provider *provider, struct provider_call *call,
                 const struct http_response *last, struct http_request *ret_request,
                 struct provider_step *ret);

    /* Blocking data plane. Errors: ERR_INVALID, ERR_PROVIDER (it refused), ERR_PROVIDER_DOWN
     * (unreachable, stream broke), and ERR_SANDBOX_NOT_FOUND when the provider's edge says the
     * sandbox is not there (gone OR paused: ask PROVIDER_GET). */
    int (*exec)(struct provider *, struct http_client *, const struct provider_target *,
                const struct exec_request *, exec_output_fn, void *arg, struct exec_result *ret,
                struct error *err);
    /* What sandbox_files.h is made of. file_owner: the user new files belong to, where run_script
     * runs as another; "" = it does not. */
    const char *file_owner;
    /* Runs `/bin/sh -c argv[0] sh argv[1] ...` (NULL ends) with the rights that the provider's own
     * file routes have, with no input; appends its output. ERR_PROVIDER when it did not exit 0,
     * ERR_TOO_LARGE when its output is more than *ret takes. */
    int (*run_script)(struct provider *, struct http_client *, const struct provider_target *,
                      const char *const *argv, int64_t timeout_ms, struct strbuf *ret,
                      struct error *err);
    /* 0: it came to its end, whatever its exit status, or no more was wanted. ERR_INVALID: there is
     * no such user. */
    int (*run_program)(struct provider *, struct http_client *, const struct provider_target *,
                       const struct program_run *, struct error *err);
    /* Its output comes as it is printed, byte for byte; else at its end, as text. */
    bool program_streams;
    int (*file_get)(struct provider *, struct http_client *, const struct provider_target *,
                    const struct file_get *get, struct error *err);
    /* Writes a file that is not there yet, in a directory that is. ERR_NO_SPACE. */
    int (*file_put)(struct provider *, struct http_client *, const struct provider_target *,
                    const char *path, file_read_fn, void *arg, int64_t bytes /* -1 = unknown */,
                    struct error *err);
    /* Writes the public URL of a port; may ask the provider for it. ERR_SANDBOX_NOT_FOUND,
     * ERR_PROVIDER, ERR_PROVIDER_DOWN, ERR_INTERNAL (longer than *ret takes). */
    int (*port_url)(struct provider *, struct http_client *, const struct provider_target *,
                    int port, struct strbuf *ret, struct error *err);
    /* Fills a GET of `path` at that port, the way the provider is reached from here (which need not
     * be the public one). Errors as port_url. */
    int (*port_request)(struct provider *, struct http_client *, const struct provider_target *,
                        int port, const char *path, struct http_request *ret, struct error *err);

    /* The request that starts a command in the background of a sandbox and does not wait for it,
     * and whether its answer is a good one. No I/O in them. */
    int (*start_request)(struct provider *, const struct provider_target *, const char *command,
                         struct http_request *ret, struct error *err);
    int (*start_check)(struct provider *, const struct provider_target *,
                       const struct http_response *, struct error *err);

    /* Optional: a call of E2B's API about this sandbox, for a provider that speaks it; `path` is
     * what comes behind /sandboxes/<id>. Appends the body of its success. ERR_INVALID and
     * ERR_CONFLICT say what the provider refused. */
    int (*e2b_call)(struct provider *, struct http_client *, const struct provider_target *,
                    const struct provider_e2b_call *, struct strbuf *ret, struct error *err);

    /* Whether a create here keeps these rules of outgoing traffic (E2B's form, or NULL) and
     * no_internet. ERR_UNSUPPORTED says what it cannot keep. No I/O in it. */
    int (*network_check)(const cJSON *network, bool no_internet, struct error *err);
    int64_t (*max_lifetime_ms)(struct provider *); /* longest life from start or resume */
    const char *(*default_template)(struct provider *);
};
struct provider {
    const struct provider_ops *ops;
    const char *label; /* what operators call it (E2B_NAME); set and owned by the registry */
};

/* ---- registry ----------------------------------------------------------------------------------
 */

struct provider_set; /* those configured, in SANDBOX_PROVIDERS order */
/* `order`: comma list of names. ERR_CONFIG for an unknown or unconfigured name. */
struct provider_set *provider_set_open(const char *order, struct error *err) MUST_CHECK;
void provider_set_close(struct provider_set *set);
size_t provider_set_count(const struct provider_set *set);
/* How many of `total` places one provider may hold: three quarters where there are several, so that
 * one that answers nothing leaves room for the others. */
int provider_set_share(const struct provider_set *set, int total);
/* The providers in configured order; NULL behind the last one. */
struct provider *provider_set_at(struct provider_set *set, size_t index);
struct provider *provider_set_default(struct provider_set *set);
struct provider *provider_set_find(struct provider_set *set, const char *name); /* or NULL */
/* Every variable of every provider, for a program's --help. */
void provider_config_help(FILE *out);

#endif
