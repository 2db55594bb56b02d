/*
 * daytona - the Daytona backend: private interface of its files, and its entry in the registry.
 *
 * Owns: daytona.c configuration, port URLs; daytona_wire.c requests and what an answer
 * says; daytona_control.c the lifecycle step machines; daytona_data.c files; daytona_exec.c
 * commands. Does not own: I/O (http.h), when to retry (domain/retry). Protocol facts: Daytona's
 * OpenAPI files and server 0.190. Threads: struct daytona is const after open.
 *
 * A row's `domain` holds the base URL of the sandbox's toolbox, as the API told it. No token is
 * kept: the toolbox takes the API key, and a port's URL is asked for when it is wanted, because
 * its token changes with every start.
 */
#ifndef PROVIDER_DAYTONA_H
#define PROVIDER_DAYTONA_H

#include "common/provider/http.h"
#include "common/provider/provider.h"
#include "common/provider/text.h"

struct daytona_config {
    char *api_key;
    char *api_url;
    char *server_url;
    char *target;
    char *snapshot;
    int64_t request_timeout_ms;
    int64_t create_timeout_ms;
    int64_t auto_archive_minutes;
};

struct daytona {
    struct provider provider; /* first member, because the operations cast it to the whole */
    struct daytona_config config;
    char *api_base; /* without a trailing slash */
    int64_t max_lifetime_ms;
};

extern const struct provider_ops daytona_provider_ops;

/* ---- daytona_wire.c ---- */

/* Starts a request to the API: method, base URL, key, limits. */
void daytona_api_request(const struct daytona *daytona, const char *method,
                         struct http_request *ret);
/* The body of POST /sandbox; the caller deletes it. NULL: the user's metadata is not a JSON object.
 */
cJSON *daytona_create_body(const struct daytona *daytona, const struct provider_call *call);
/* ERR_UNSUPPORTED: Daytona has a list of at most DAYTONA_NETWORKS_MAX IPv4 networks that a sandbox
 * may reach, or everything, or nothing. */
enum { DAYTONA_NETWORKS_MAX = 10 };
int daytona_network_check(const cJSON *network, bool no_internet, struct error *err) MUST_CHECK;
/* The idle minutes for Daytona, rounded up so that they never end before our deadline and are never
 * 0, which means no limit. */
int64_t daytona_autostop_minutes(const struct provider_call *call);

enum daytona_kind {
    DAYTONA_UNKNOWN,  /* a state that this version does not know */
    DAYTONA_CHANGING, /* changing to another state */
    DAYTONA_STARTED,
    DAYTONA_STOPPED, /* has its disk and can be started: stopped, archived, archiving, paused */
    DAYTONA_FAILED,  /* error, build_failed */
    DAYTONA_GONE     /* destroying, destroyed */
};
enum daytona_kind daytona_kind_of(const char *state);

/* A Sandbox of the API. */
struct daytona_box {
    char id[PROVIDER_ID_BYTES];
    enum daytona_kind kind;
    char state[32];
    char toolbox_url[DOMAIN_BYTES]; /* without a trailing slash; "" = not sent */
    char reason[180];               /* errorReason, cleaned */
    bool ours;                      /* carries the deployment's and the sandbox's tags */
    bool recoverable;
    bool is_vm;               /* a virtual machine: its pause keeps memory */
    int64_t autostop_minutes; /* -1 = not told */
    int64_t created_at_ms;    /* 0 = not told */
};
/* -1: no usable id, or a value that must not be put into a URL. */
int daytona_box_take(const cJSON *root, const char *deployment_id, const char *sandbox_id,
                     struct daytona_box *ret) MUST_CHECK;

/* The error text of the API or the toolbox, without secrets; "" if there is none. */
void daytona_error_text(const struct daytona *daytona, const struct http_response *response,
                        char *out, size_t size);
/* Classifies an answer that is not a success. `starting`: the request was a create or a start. Sets
 * *retry_after_ms when a hold is due and the answer had no Retry-After. */
enum outcome daytona_classify(int status, const char *text, bool starting, int64_t *retry_after_ms);

/* True when a proxy refused, or a router without such a path: the answer says nothing about the
 * sandbox. */
bool daytona_is_foreign(const struct http_response *response);
/* True for the API's own answer that the sandbox does not exist. */
bool daytona_is_not_found(const struct http_response *response);

/* ---- daytona_list.c ---- */
void daytona_list_step(const struct daytona *daytona, struct provider_call *call,
                       const struct http_response *last, struct http_request *request,
                       struct provider_step *ret);

/* ---- daytona_control.c ---- */
void daytona_step(struct provider *provider, struct provider_call *call,
                  const struct http_response *last, struct http_request *ret_request,
                  struct provider_step *ret);
/* ---- daytona_data.c ---- */

/* Starts a request to the sandbox's toolbox; `path` starts with a slash and is encoded.
 * ERR_INVALID: the target cannot be put into a URL. ERR_PROVIDER: its toolbox is unknown. */
int daytona_toolbox_request(const struct daytona *daytona, const struct provider_target *target,
                            const char *method, const char *path, struct http_request *ret,
                            struct error *err) MUST_CHECK;
/* -1 + err unless the answer is a 2xx. `what` names the operation in the message. */
int daytona_toolbox_check(const struct daytona *daytona, const struct http_response *response,
                          const char *what, struct error *err);
int daytona_file_get(struct provider *, struct http_client *, const struct provider_target *,
                     const struct file_get *get, struct error *err);
int daytona_file_put(struct provider *, struct http_client *, const struct provider_target *,
                     const char *path, file_read_fn, void *arg, int64_t bytes, struct error *err);
int daytona_run_script(struct provider *, struct http_client *, const struct provider_target *,
                       const char *const *argv, int64_t timeout_ms, struct strbuf *ret,
                       struct error *err);
int daytona_run_program(struct provider *, struct http_client *, const struct provider_target *,
                        const struct program_run *, struct error *err);
int daytona_start_request(struct provider *, const struct provider_target *, const char *command,
                          struct http_request *ret, struct error *err);
int daytona_start_check(struct provider *, const struct provider_target *,
                        const struct http_response *, struct error *err);
int daytona_port_request(struct provider *, struct http_client *, const struct provider_target *,
                         int port, const char *path, struct http_request *ret, struct error *err);
int daytona_port_url(struct provider *, struct http_client *, const struct provider_target *,
                     int port, struct strbuf *ret, struct error *err);

/* ---- daytona_exec.c ---- */
int daytona_exec(struct provider *, struct http_client *, const struct provider_target *,
                 const struct exec_request *, exec_output_fn, void *arg, struct exec_result *ret,
                 struct error *err);

#endif
