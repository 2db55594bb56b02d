/* build_steps - what a build does, step by step; see build.h. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "deploy/sandbox-host/sandbox/agent_client.h"
#include "deploy/sandbox-host/sandbox/build_steps.h"
#include "deploy/sandbox-host/sandbox/build_upload.h"
#include "deploy/sandbox-host/sandbox/sandbox.h"
#include "deploy/sandbox-host/sandbox/sandbox_copy.h"

enum {
    STEPS_MAX = 512,
    TEXT_MAX_BYTES = 65536,
    LOOK_MS = 50,     /* between looks at a command's output */
    READY_MS = 60000, /* for the start command to be ready, in the build and at each create */
    TAIL_BYTES = 120, /* of a failed command's output, in its error */
    SCRIPT_MAX_BYTES = 2 * TEXT_MAX_BYTES,
};

/* A build at work. */
struct work {
    struct build *build;
    const char *id;            /* of its sandbox */
    const char *state_dir;     /* of the host */
    int64_t until_ms;          /* monotonic */
    char tail[TAIL_BYTES + 1]; /* of the last command's output */
};

/* ---- checking ---- */

static const char *arg(const cJSON *step, int i)
{
    const cJSON *item = cJSON_GetArrayItem(cJSON_GetObjectItemCaseSensitive(step, "args"), i);

    return cJSON_IsString(item) ? item->valuestring : "";
}

static int arg_count(const cJSON *step)
{
    return cJSON_GetArraySize(cJSON_GetObjectItemCaseSensitive(step, "args"));
}

static int check_step(const cJSON *step, struct error *err)
{
    static const struct {
        const char *type;
        int least, most;
    } types[] = {{"RUN", 1, 2},    {"COPY", 2, 4},    {"ENV", 2, 1024},
                 {"ARG", 2, 1024}, {"WORKDIR", 1, 1}, {"USER", 1, 1}};
    const char *type, *hash;

    if (json_get_string_req(step, "type", 1, 32, &type, err) < 0 ||
        json_get_string(step, "filesHash", 64, NULL, &hash, err) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (strcmp(type, types[i].type) == 0) {
            if (arg_count(step) < types[i].least || arg_count(step) > types[i].most) {
                return error_set(err, ERR_INVALID, "%s: a wrong number of args", type);
            }
            return strcmp(type, "COPY") != 0 || hash == NULL ? 0 : build_upload_check(hash, err);
        }
    }
    return error_set(err, ERR_INVALID, "%.32s: this host has no such step", type);
}

int build_check(const cJSON *body, struct error *err)
{
    const cJSON *steps = cJSON_GetObjectItemCaseSensitive(body, "steps"), *step;
    const char *text;

    if (!sandbox_keeps_disks()) {
        return error_set(err, ERR_INVALID,
                         "this host's disks are no images: it cannot build templates");
    }
    if (json_get_string(body, "fromImage", TEXT_MAX_BYTES, NULL, &text, err) < 0 ||
        json_get_string(body, "fromTemplate", TEXT_MAX_BYTES, NULL, &text, err) < 0 ||
        json_get_string(body, "startCmd", TEXT_MAX_BYTES, NULL, &text, err) < 0 ||
        json_get_string(body, "readyCmd", TEXT_MAX_BYTES, NULL, &text, err) < 0) {
        return -1;
    }
    if (steps != NULL && !cJSON_IsNull(steps) &&
        (!cJSON_IsArray(steps) || cJSON_GetArraySize(steps) > STEPS_MAX)) {
        return error_set(err, ERR_INVALID, "steps: not an array of at most %d", STEPS_MAX);
    }
    cJSON_ArrayForEach(step, steps)
    {
        if (check_step(step, err) < 0) {
            return error_prefix(err, "steps");
        }
    }
    return 0;
}

/* ---- commands ---- */

/* Whole lines of the output to the log; what is left of a line waits for its rest, or for the end.
 */
static void log_output(struct work *work, struct strbuf *output, bool ended)
{
    const char *at = output->data;
    size_t left = output->length;

    if (left > 0) {
        const size_t keep = left < TAIL_BYTES ? left : TAIL_BYTES;

        memcpy(work->tail, at + left - keep, keep);
        work->tail[keep] = '\0';
    }
    while (left > 0) {
        const char *end = memchr(at, '\n', left);
        const size_t length = end != NULL ? (size_t)(end - at) : left;

        if (end == NULL && !ended && left < AGENT_CLIENT_OUTPUT_BYTES / 2) {
            break;
        }
        if (length > 0) {
            work->build->reporter->log(work->build, "info", at, length);
        }
        at += length + (end != NULL);
        left -= length + (end != NULL);
    }
    strbuf_consume(output, output->length - left);
}

static int command_failed(struct work *work, const char *what, int exit_code, struct error *err)
{
    char *c = work->tail;

    for (; *c != '\0'; c++) {
        if (!isprint((unsigned char)*c)) {
            *c = ' ';
        }
    }
    return error_set(err, ERR_INTERNAL, "%.64s: exit status %d: %s", what, exit_code, work->tail);
}

/* Runs a command to its end, its output in the log, or its first bytes in `ret` when that is given.
 */
static int run(struct work *work, const char *text, const char *user, const char *what,
               struct strbuf *ret, struct error *err)
{
    const struct agent_client_command command = {
        .text = text,
        .tag = "build-step",
        .user = user != NULL && *user != '\0' ? user : work->build->user,
        .cwd = work->build->workdir != NULL ? work->build->workdir : "/home/user",
        .envs = work->build->envs};
    struct agent_client_run running;
    int status;

    work->tail[0] = '\0';
    if (agent_client_open(&running, work->id, NULL, &command, err) < 0) {
        return -1;
    }
    while ((status = agent_client_wait(&running, LOOK_MS, err)) == 0) {
        if (ret == NULL) {
            log_output(work, &running.output, false);
        }
        if (clock_mono_ms() > work->until_ms) {
            status = error_set(err, ERR_TIMEOUT, "%.64s: the build took too long", what);
            break;
        }
        if (work->build->reporter->is_stopping()) {
            status = error_set(err, ERR_DRAINING, "the host is stopping");
            break;
        }
    }
    if (ret != NULL) {
        strbuf_append(ret, running.output.data, running.output.length);
    } else {
        log_output(work, &running.output, true);
    }
    if (status == 1) {
        status = running.exit_code == 0 ? 0 : command_failed(work, what, running.exit_code, err);
    }
    agent_client_close(&running);
    return status;
}

/* A word for the shell, whatever it holds. */
static void put_word(struct strbuf *out, const char *text)
{
    strbuf_putc(out, '\'');
    for (; *text != '\0'; text++) {
        if (*text == '\'') {
            strbuf_puts(out, "'\\''");
        } else {
            strbuf_putc(out, *text);
        }
    }
    strbuf_putc(out, '\'');
}

/* ---- steps ---- */

/* A value may speak of variables set before, as in a Dockerfile. */
static int set_env(struct work *work, const char *name, const char *value, struct error *err)
{
    struct strbuf script, expanded;
    int status = 0;

    strbuf_init(&expanded, AGENT_CLIENT_OUTPUT_BYTES);
    if (strchr(value, '$') == NULL) {
        strbuf_puts(&expanded, value);
    } else {
        strbuf_init(&script, SCRIPT_MAX_BYTES);
        strbuf_puts(&script, "printf %s \"");
        for (const char *c = value; *c != '\0'; c++) {
            if (strchr("\"\\`", *c) != NULL) {
                strbuf_putc(&script, '\\');
            }
            strbuf_putc(&script, *c);
        }
        strbuf_puts(&script, "\"");
        status = run(work, script.data, NULL, "ENV", &expanded, err);
        strbuf_done(&script);
    }
    if (status == 0) {
        cJSON_DeleteItemFromObjectCaseSensitive(work->build->envs, name);
        cJSON_AddStringToObject(work->build->envs, name, expanded.data);
    }
    strbuf_done(&expanded);
    return status;
}

static int step_env(struct work *work, const cJSON *step, struct error *err)
{
    for (int i = 0; i + 1 < arg_count(step); i += 2) {
        if (set_env(work, arg(step, i), arg(step, i + 1), err) < 0) {
            return -1;
        }
    }
    return 0;
}

static int step_workdir(struct work *work, const cJSON *step, struct error *err)
{
    struct strbuf script, out;
    int status;

    strbuf_init(&script, SCRIPT_MAX_BYTES);
    strbuf_init(&out, AGENT_CLIENT_OUTPUT_BYTES);
    strbuf_puts(&script, "mkdir -p -- ");
    put_word(&script, arg(step, 0));
    strbuf_puts(&script, " && cd -- ");
    put_word(&script, arg(step, 0));
    strbuf_puts(&script, " && pwd");
    status = run(work, script.data, NULL, "WORKDIR", &out, err);
    if (status == 0) {
        free(work->build->workdir);
        work->build->workdir = xstrndup(out.data, strcspn(out.data, "\n"));
    }
    strbuf_done(&script);
    strbuf_done(&out);
    return status;
}

static int step_user(struct work *work, const cJSON *step, struct error *err)
{
    struct strbuf out;
    int status;

    strbuf_init(&out, AGENT_CLIENT_OUTPUT_BYTES);
    status = run(work, "true", arg(step, 0), "USER", &out, err);
    strbuf_done(&out);
    if (status == 0) {
        free(work->build->user);
        work->build->user = xstrndup(arg(step, 0), TEMPLATE_NAME_BYTES);
    }
    return status;
}

/* The archive holds the sources under the paths they have in the context. As docker's COPY: a
 * folder's content goes into the target, a file to it, or into it when it ends with a slash. */
static const char copy_script[] =
    "set -e\n"
    "from=$(mktemp -d)\n"
    "trap 'rm -rf \"$from\" \"$archive\"' EXIT\n"
    "tar -xf \"$archive\" -C \"$from\"\n"
    "case $target in /*) ;; *) target=$PWD/$target ;; esac\n"
    "cd \"$from\"\n"
    "source=${source#/}\n"
    "shopt -s nullglob dotglob\n"
    "if [ -e \"$source\" ]; then found=(\"$source\"); else found=($source); fi\n"
    "[ ${#found[@]} -gt 0 ] || { echo \"COPY: nothing matches $source\" >&2; exit 1; }\n"
    "for one in \"${found[@]}\"; do\n"
    "    [ -z \"$mode\" ] || chmod -R \"$mode\" \"$one\"\n"
    "    [ -z \"$owner\" ] || chown -R \"$owner\" \"$one\"\n"
    "    if [ -d \"$one\" ]; then mkdir -p \"$target\"; cp -a \"$one/.\" \"$target\"\n"
    "    elif [ \"${target%/}\" != \"$target\" ] || [ ${#found[@]} -gt 1 ] || [ -d \"$target\" ]; "
    "then\n"
    "        mkdir -p \"$target\"; cp -a \"$one\" \"$target\"\n"
    "    else mkdir -p \"$(dirname \"$target\")\"; cp -a \"$one\" \"$target\"; fi\n"
    "done\n";

static int step_copy(struct work *work, const cJSON *step, struct error *err)
{
    static const char *const names[] = {"source", "target", "owner", "mode"};
    char path[SAVED_PATH_BYTES], inside[SAVED_PATH_BYTES];
    const char *hash = json_text(step, "filesHash");
    struct strbuf script;
    int status;

    if (build_upload_path(work->state_dir, hash, path, err) < 0) {
        return -1;
    }
    if (access(path, R_OK) != 0) {
        return error_set(err, ERR_NOT_FOUND, "COPY: the files of %.64s were not uploaded", hash);
    }
    snprintf(inside, sizeof(inside), "/tmp/.build-%.64s", hash);
    if (agent_client_upload(work->id, NULL, path, inside, err) < 0) {
        return -1;
    }
    strbuf_init(&script, SCRIPT_MAX_BYTES);
    strbuf_printf(&script, "archive=%s\n", inside);
    for (int i = 0; i < 4; i++) {
        strbuf_printf(&script, "%s=", names[i]);
        put_word(&script, arg(step, i));
        strbuf_putc(&script, '\n');
    }
    strbuf_puts(&script, copy_script);
    status = script.overflow ? error_set(err, ERR_TOO_LARGE, "COPY: too long")
                             : run(work, script.data, "root", "COPY", NULL, err);
    strbuf_done(&script);
    return status;
}

static int run_step(struct work *work, const cJSON *step, struct error *err)
{
    const char *type = json_text(step, "type");
    char line[256];

    snprintf(line, sizeof(line), "%s %.120s %.60s", type, arg(step, 0),
             strcmp(type, "COPY") == 0 ? arg(step, 1) : "");
    work->build->reporter->log(work->build, "info", line, strlen(line));
    if (strcmp(type, "RUN") == 0) {
        return run(work, arg(step, 0), arg(step, 1), "RUN", NULL, err);
    }
    if (strcmp(type, "COPY") == 0) {
        return step_copy(work, step, err);
    }
    if (strcmp(type, "WORKDIR") == 0) {
        return step_workdir(work, step, err);
    }
    return strcmp(type, "USER") == 0 ? step_user(work, step, err) : step_env(work, step, err);
}

static int run_steps(struct work *work, struct error *err)
{
    const cJSON *step;
    char name[BUILD_STEP_BYTES];
    int number = 0;

    cJSON_ArrayForEach(step, cJSON_GetObjectItemCaseSensitive(work->build->body, "steps"))
    {
        snprintf(name, sizeof(name), "%d", ++number);
        work->build->reporter->set_step(work->build, name);
        if (run_step(work, step, err) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- the beginning and the end ---- */

/* What it starts from. This host has no images of a registry: an image is the template of its name,
 * and E2B's own base image is base. */
static void name_of_source(const cJSON *body, char out[TEMPLATE_NAME_BYTES])
{
    const char *image = json_text(body, "fromImage"), *template = json_text(body, "fromTemplate");
    const char *slash = strrchr(image, '/');

    if (*template != '\0') {
        str_copy(out, TEMPLATE_NAME_BYTES, template);
    } else {
        image = slash != NULL ? slash + 1 : *image != '\0' ? image : "base";
        snprintf(out, TEMPLATE_NAME_BYTES, "%.*s", (int)strcspn(image, ":@"), image);
    }
}

static int take_source(const cJSON *body, const struct template **ret, struct error *err)
{
    char name[TEMPLATE_NAME_BYTES];

    name_of_source(body, name);
    if (template_take(name, ret, err) == 0) {
        return 0;
    }
    return *json_text(body, "fromTemplate") != '\0'
               ? -1
               : error_set(err, ERR_NOT_FOUND,
                           "image '%.100s': this host pulls none; put it into "
                           "SANDBOX_HOST_TEMPLATES as %.64s.tar",
                           json_text(body, "fromImage"), name);
}

/* Variables of the template below, under those of the steps. */
static cJSON *all_envs(const struct build *build, const struct template *source)
{
    cJSON *both = cJSON_Duplicate(build->envs, true);
    const cJSON *item;

    cJSON_ArrayForEach(item, source->envs)
    {
        if (!cJSON_HasObjectItem(both, item->string)) {
            cJSON_AddStringToObject(both, item->string, item->valuestring);
        }
    }
    return both;
}

static const char *or_null(const char *text)
{
    return text != NULL && *text != '\0' ? text : NULL;
}

/* Tries the start command in the sandbox as it is, and keeps the disk. */
static int finish(struct work *work, const struct template *source, const struct sandbox_view *view,
                  struct error *err)
{
    struct build *build = work->build;
    const char *start = or_null(json_text(build->body, "startCmd"));
    const char *ready = or_null(json_text(build->body, "readyCmd"));
    struct saved_about about = {.id = build->id,
                                .base = view->base_id,
                                .name = build->name,
                                .tags = build->tags,
                                .build_id = build->build_id,
                                .start_command = start != NULL ? start : source->start_command,
                                .ready_command = ready != NULL ? ready : source->ready_command,
                                .ready_port = start != NULL ? 0 : source->ready_port,
                                .ready_timeout_ms = READY_MS,
                                .user = build->user,
                                .workdir = build->workdir,
                                .mounts = source->mounts};
    struct template tried = {.start_command = (char *)start,
                             .ready_command = (char *)ready,
                             .ready_timeout_ms = READY_MS};
    struct sandbox_view copied;
    struct strbuf output;
    cJSON *envs;
    int status = 0;

    build->reporter->set_step(build, "finalize");
    str_copy(tried.id, sizeof(tried.id), build->name);
    strbuf_init(&output, AGENT_CLIENT_OUTPUT_BYTES);
    if (start != NULL || ready != NULL) {
        status = agent_client_bring_up(work->id, NULL, &tried, &output, err);
        log_output(work, &output, true);
    }
    strbuf_done(&output);
    if (status < 0 || sandbox_copy_disk(work->id, build->image, &copied, err) < 0) {
        return -1;
    }
    sandbox_view_done(&copied);
    envs = all_envs(build, source);
    about.envs = envs;
    status = saved_commit(&about, err);
    cJSON_Delete(envs);
    return status;
}

int build_run(struct build *build, const struct host_config *config, struct error *err)
{
    struct work work = {.build = build,
                        .state_dir = config->state_dir,
                        .until_ms = clock_mono_ms() + config->build_timeout_s * 1000};
    struct sandbox_options options = {.timeout_ms = config->build_timeout_s * 1000,
                                      .internal = true};
    const struct template *source;
    struct error killed = ERROR_INIT; /* it may have ended by itself */
    struct sandbox_view view;
    int status;

    if (options.timeout_ms > config->max_timeout_s * 1000) {
        options.timeout_ms = config->max_timeout_s * 1000;
    }
    build->reporter->set_step(build, "base");
    if (take_source(build->body, &source, err) < 0) {
        return -1;
    }
    options.template_id = source->id;
    status = sandbox_create(&options, &view, err);
    if (status == 0) {
        work.id = view.id;
        build->user = source->user != NULL ? xstrdup(source->user) : NULL;
        build->workdir = source->workdir != NULL ? xstrdup(source->workdir) : NULL;
        status = run_steps(&work, err) < 0 || finish(&work, source, &view, err) < 0 ? -1 : 0;
        (void)!sandbox_kill(view.id, &killed);
        sandbox_view_done(&view);
    }
    template_release(source);
    return status;
}
