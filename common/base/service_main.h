/*
 * service_main - main() of every program: arguments, settings, log, exit status.
 *
 * Owns: --help, --version, reading the settings, choosing the verb, reporting its failure.
 * Does not own: what a verb does, and when it stops.
 * Exit status: 0; 64 wrong arguments (ERR_INVALID), 78 wrong settings (ERR_CONFIG), 1 other errors.
 */
#ifndef BASE_SERVICE_MAIN_H
#define BASE_SERVICE_MAIN_H

#include "common/base/config.h"
#include "common/base/error.h"

struct service_call {
    int argc; /* of main(); the verb is argv[1] */
    char **argv;
    void *config;  /* the program's config struct */
    int signal_fd; /* of service_init() */
};

struct service_verb {
    const char *name;  /* argv[1]; NULL = only the default verb */
    bool takes_words;  /* more arguments may follow */
    bool logs_failure; /* reports a failure as a log event; otherwise as text on stderr */
    bool no_signals;   /* service_init() is not called: stop signals end the process */
    int (*run)(const struct service_call *call, struct error *err); /* < 0: failed */
};

struct service_program {
    const char *name;       /* of the binary */
    const char *log_name;   /* "service" of every log line */
    const char *event_name; /* begins the events of a failure: <event_name>.config and .start */
    const char *usage;      /* stderr after wrong arguments, and --help before the settings */
    const char *about;      /* --help, after `usage` */
    const char *log_level_name;
    size_t log_level_at; /* offset of the log level in the config struct, a char * */
    const struct config_schema *settings;
    const struct service_verb *verbs; /* the first is the default */
    size_t verb_count;
};

/* `config` is the program's config struct. Returns the exit status. */
int service_main(const struct service_program *program, void *config, int argc, char **argv);

#endif
