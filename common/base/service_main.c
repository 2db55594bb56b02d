/* service_main - see service_main.h. */
#include "common/base/service_main.h"

#include <stdio.h>
#include <string.h>

#include "common/base/log.h"
#include "common/base/service.h"

static const struct service_verb *find_verb(const struct service_program *program, int argc,
                                            char **argv)
{
    if (argc < 2) {
        return &program->verbs[0];
    }
    for (size_t i = 0; i < program->verb_count; i++) {
        const struct service_verb *verb = &program->verbs[i];

        if (verb->name != NULL && strcmp(argv[1], verb->name) == 0) {
            return argc == 2 || verb->takes_words ? verb : NULL;
        }
    }
    return NULL;
}

/* step: "config" or "start". */
static void report(const struct service_program *program, const struct service_verb *verb,
                   const char *step, const struct error *err)
{
    char event[64];

    if (!verb->logs_failure) {
        fprintf(stderr, "%s: %s\n", program->name, err->message);
        return;
    }
    snprintf(event, sizeof(event), "%s.%s", program->event_name, step);
    log_error(LOG_ERROR, event, err);
}

static int exit_status(const struct error *err)
{
    return err->code == ERR_CONFIG    ? EXIT_CONFIG
           : err->code == ERR_INVALID ? EXIT_USAGE
                                      : EXIT_RUNTIME;
}

static int load(const struct service_program *program, void *config, struct error *err)
{
    const char *level;

    if (config_schema_load(program->settings, config, err) < 0) {
        return -1;
    }
    memcpy(&level, (const char *)config + program->log_level_at, sizeof(level));
    if (log_init(program->log_name, level) < 0) {
        error_set(err, ERR_CONFIG, "%s: %s is none of debug, info, warn, error",
                  program->log_level_name, level);
        config_schema_free(program->settings, config);
        return -1;
    }
    return 0;
}

int service_main(const struct service_program *program, void *config, int argc, char **argv)
{
    struct service_call call = {.argc = argc, .argv = argv, .config = config, .signal_fd = -1};
    const struct service_verb *verb;
    struct error err = ERROR_INIT;
    int status;

    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        printf("%s%s", program->usage, program->about);
        config_schema_help(program->settings, stdout);
        return EXIT_OK;
    }
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        printf("%s %s\n", program->name, VERSION);
        return EXIT_OK;
    }
    verb = find_verb(program, argc, argv);
    if (verb == NULL) {
        fputs(program->usage, stderr);
        return EXIT_USAGE;
    }
    (void)log_init(program->log_name, NULL); /* until the log level is read */
    if (load(program, config, &err) < 0) {
        report(program, verb, "config", &err);
        return exit_status(&err);
    }
    status = verb->no_signals ? 0 : service_init(&call.signal_fd, &err);
    if (status == 0) {
        status = verb->run(&call, &err);
    }
    if (status < 0) {
        report(program, verb, "start", &err);
        status = exit_status(&err);
    }
    config_schema_free(program->settings, config);
    return status;
}
