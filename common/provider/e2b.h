/*
 * e2b - the E2B backend: private interface of its files, and its entry in the registry.
 *
 * Owns: e2b.c configuration; e2b_wire.c URLs and filters; e2b_control.c the lifecycle step
 * machines; e2b_data.c files; e2b_exec.c commands. Does not own: I/O (http.h), when to retry
 * (domain/retry). Protocol facts: E2B's openapi.yml and envd's process.proto / filesystem.proto;
 * behaviour of server 0.6.13. Threads: struct e2b is const after open.
 */
#ifndef PROVIDER_E2B_H
#define PROVIDER_E2B_H

#include "common/provider/connect_rpc.h"
#include "common/provider/http.h"
#include "common/provider/provider.h"
#include "common/provider/text.h"

enum { E2B_ENVD_PORT = 49983 };

/* The Linux user that runs commands and owns files, sent as Basic auth with an empty password. */
#define E2B_USER        "user"
#define E2B_USER_HEADER "Authorization: Basic dXNlcjo=\n"
#define E2B_ROOT_HEADER "Authorization: Basic cm9vdDo=\n"

struct e2b_config {
    char *api_key;
    char *domain;
    char *api_url;
    char *sandbox_url;
    char *template_id;
    int64_t max_timeout_seconds;
    int64_t request_timeout_ms;
};

struct e2b {
    struct provider provider; /* first member, because the operations cast it to the whole */
    struct e2b_config config;
    char *api_base;     /* without a trailing slash */
    const char *scheme; /* scheme of sandbox URLs */
};

extern const struct provider_ops e2b_provider_ops;

/* Appends the base URL of envd: E2B_SANDBOX_URL, else https://sandbox.<d> for E2B's own domains,
 * else <scheme>://49983-<id>.<d>; d is the sandbox's domain, else E2B_DOMAIN. */
int e2b_put_envd_base(const struct e2b *e2b, const struct provider_target *target,
                      struct strbuf *out);
/* Appends <scheme>://<port>-<id>.<d>. */
int e2b_put_port_base(const struct e2b *e2b, const struct provider_target *target, int port,
                      struct strbuf *out);
/* Appends "metadata=..." for the given pairs, encoded three times as the API decodes it. */
void e2b_put_metadata_filter(struct strbuf *out, const char *const pairs[][2], size_t count);

/* True for "host", "host:port" or "". */
bool e2b_is_domain(const char *text);
/* e2b_answer.c */

/* Reads id, tokens and domain of a Sandbox or SandboxDetail; absent and null tokens and domain
 * become "". -1, with *result unchanged: no usable id, or a value that must not go into a URL or
 * header. */
int e2b_take_sandbox(const cJSON *root, struct provider_result *result) MUST_CHECK;
enum provider_state e2b_take_state(const cJSON *object);
/* Reads a time and converts it to the clock of call->now_ms; 0 = absent or unusable. */
int64_t e2b_take_time(const struct provider_call *call, const cJSON *object, const char *field);

/* A page of the list into call->listed, in place of the last one. -1: no such page. */
int e2b_take_listed(const cJSON *root, struct provider_call *call) MUST_CHECK;

/* The class of an answer that is not a success. `creating`: the request was the create, so a server
 * error may hide its effect; `starting`: that or the connect. */
enum outcome e2b_classify(int status, const char *code, bool creating, bool starting,
                          int64_t *retry_after_ms);

/* e2b_control.c */
void e2b_step(struct provider *provider, struct provider_call *call,
              const struct http_response *last, struct http_request *ret_request,
              struct provider_step *ret);

/* e2b_relay.c */
int e2b_call(struct provider *, struct http_client *, const struct provider_target *,
             const struct provider_e2b_call *, struct strbuf *ret, struct error *err);

/* e2b_data.c */

/* Starts a request to envd with routing headers, token and user. ERR_INVALID: the target cannot be
 * put into a URL or header. */
int e2b_envd_request(const struct e2b *e2b, const struct provider_target *target,
                     const char *method, const char *path, struct http_request *ret,
                     struct error *err) MUST_CHECK;
/* -1 + err unless the answer is a 2xx. `what` names the operation in the message. */
int e2b_envd_check(const struct e2b *e2b, const struct provider_target *target,
                   const struct http_response *response, const char *what, struct error *err);
/* Sets err from a Connect error. */
int e2b_rpc_error(const struct e2b *e2b, const struct provider_target *target,
                  const struct connect_error *error, const char *what, struct error *err);
/* POST /<service>/<method> with a JSON body; *ret is the parsed answer (caller deletes). */
int e2b_unary(const struct e2b *e2b, struct http_client *client,
              const struct provider_target *target, const char *path, const cJSON *body,
              int64_t timeout_ms, cJSON **ret, struct error *err) MUST_CHECK;

enum envd_feature {
#define X(feature, major, minor, patch) feature,
#include "common/provider/e2b_versions.def"
#undef X
};
/* True when the sandbox's envd has the feature. False also when its version is unknown. */
bool e2b_envd_can(const struct provider_target *target, enum envd_feature feature);

int e2b_file_get(struct provider *, struct http_client *, const struct provider_target *,
                 const struct file_get *get, struct error *err);
int e2b_file_put(struct provider *, struct http_client *, const struct provider_target *,
                 const char *path, file_read_fn, void *arg, int64_t bytes, struct error *err);

/* e2b_script.c */
int e2b_run_script(struct provider *, struct http_client *, const struct provider_target *,
                   const char *const *argv, int64_t timeout_ms, struct strbuf *ret,
                   struct error *err);

/* e2b_program.c */
int e2b_run_program(struct provider *, struct http_client *, const struct provider_target *,
                    const struct program_run *, struct error *err);

/* e2b_exec.c */

int e2b_start_request(struct provider *, const struct provider_target *, const char *command,
                      struct http_request *ret, struct error *err);
int e2b_start_check(struct provider *, const struct provider_target *, const struct http_response *,
                    struct error *err);
int e2b_exec(struct provider *, struct http_client *, const struct provider_target *,
             const struct exec_request *, exec_output_fn, void *arg, struct exec_result *ret,
             struct error *err);

#endif
