/*
 * user_cli - parsing of the user commands, password input, output for people on stdout.
 *
 * See user_cli.h. Passwords are wiped after hashing.
 */
#include "gateway/cli/user_cli.h"

#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/encode.h"
#include "common/store/store_limits.h"
#include "gateway/auth/password.h"
#include "gateway/auth/user_name.h"

#define USAGE                                                                                      \
    "usage: user add NAME [--role user|admin] [--password-stdin] [--if-absent] | "                 \
    "passwd NAME [--password-stdin] | disable NAME | enable NAME | list | "                        \
    "limit NAME|--subject SUB [LIMIT=NUMBER|LIMIT=default ...]"

enum { ASSIGNMENTS_MAX = 16 };

struct arguments {
    const char *name;
    const char *subject;                      /* of another issuer's tokens */
    const char *assignments[ASSIGNMENTS_MAX]; /* name=value */
    int assignment_count;
    const char *role;
    bool password_stdin, if_absent;
};

/* ---- password input ------------------------------------------------------------------------- */

/* One line without its end; ERR_INVALID when it does not fit. */
static int read_line(FILE *in, char out[PASSWORD_MAX_BYTES + 2], struct error *err)
{
    size_t length = 0;
    int c;

    while ((c = getc(in)) != EOF && c != '\n') {
        if (c == '\0' || length > PASSWORD_MAX_BYTES) {
            return error_set(err, ERR_INVALID, "the password is too long or holds a NUL");
        }
        out[length++] = (char)c;
    }
    if (ferror(in)) {
        return error_set_errno(err, ERR_INVALID, errno, "the password cannot be read");
    }
    if (length > 0 && out[length - 1] == '\r') {
        length--;
    }
    out[length] = '\0';
    return 0;
}

static int ask_once(FILE *tty, const char *prompt, char out[PASSWORD_MAX_BYTES + 2],
                    struct error *err)
{
    struct termios before, quiet;
    int status;

    if (tcgetattr(fileno(tty), &before) != 0) {
        return error_set_errno(err, ERR_INVALID, errno, "the terminal cannot be asked");
    }
    quiet = before;
    quiet.c_lflag &= ~(tcflag_t)ECHO;
    fprintf(tty, "%s", prompt);
    fflush(tty);
    tcsetattr(fileno(tty), TCSAFLUSH, &quiet);
    status = read_line(tty, out, err);
    tcsetattr(fileno(tty), TCSAFLUSH, &before);
    fprintf(tty, "\n");
    fflush(tty);
    return status;
}

static int ask_terminal(char out[PASSWORD_MAX_BYTES + 2], struct error *err)
{
    char again[PASSWORD_MAX_BYTES + 2] = "";
    FILE *tty = fopen("/dev/tty", "r+");
    int status;

    if (tty == NULL) {
        return error_set(err, ERR_INVALID,
                         "no password: give --password-stdin or SANDBOX_USER_PASSWORD");
    }
    status = ask_once(tty, "Password: ", out, err);
    if (status == 0) {
        status = ask_once(tty, "Again: ", again, err);
    }
    if (status == 0 && strcmp(out, again) != 0) {
        status = error_set(err, ERR_INVALID, "the two passwords differ");
    }
    sodium_memzero(again, sizeof(again));
    fclose(tty);
    return status;
}

static int get_hash(const struct arguments *arguments, char hash[PASSWORD_HASH_BYTES],
                    struct error *err)
{
    char password[PASSWORD_MAX_BYTES + 2] = "";
    const char *from_env = getenv("SANDBOX_USER_PASSWORD");
    int status = 0;

    if (arguments->password_stdin) {
        status = read_line(stdin, password, err);
    } else if (from_env == NULL || from_env[0] == '\0') {
        status = ask_terminal(password, err);
    } else if (str_copy(password, sizeof(password), from_env) != 0) {
        status = error_set(err, ERR_INVALID, "SANDBOX_USER_PASSWORD is too long");
    }
    if (status == 0) {
        status = password_hash(password, hash, err);
    }
    sodium_memzero(password, sizeof(password));
    return status;
}

/* ---- commands ------------------------------------------------------------------------------- */

static int run_add(const struct arguments *arguments, struct store *store, struct error *err)
{
    struct store_user user = {.disabled = false}, present;
    struct error find_err = ERROR_INIT;

    /* check first, so that `--if-absent` does not prompt for a password */
    if (store_user_find(store, arguments->name, &present, &find_err) == 0) {
        if (!arguments->if_absent) {
            return error_set(err, ERR_EXISTS, "user %s exists", arguments->name);
        }
        printf("user %s exists\n", arguments->name);
        return 0;
    }
    if (find_err.code != ERR_NOT_FOUND) {
        *err = find_err;
        return -1;
    }
    id_uuid(user.id);
    str_copy(user.username, sizeof(user.username), arguments->name);
    str_copy(user.role, sizeof(user.role), arguments->role);
    if (get_hash(arguments, user.password_hash, err) != 0) {
        return -1;
    }
    if (store_user_add(store, &user, err) != 0) {
        if (err->code != ERR_EXISTS || !arguments->if_absent) {
            return -1;
        }
        printf("user %s exists\n", arguments->name);
        return 0;
    }
    printf("user %s added, role %s, id %s\n", user.username, user.role, user.id);
    return 0;
}

static int run_passwd(const struct arguments *arguments, struct store *store, struct error *err)
{
    struct store_user present;
    char hash[PASSWORD_HASH_BYTES];

    if (store_user_find(store, arguments->name, &present, err) != 0) {
        return error_prefix(err, "user %s", arguments->name);
    }
    if (get_hash(arguments, hash, err) != 0 ||
        store_user_set_password(store, arguments->name, hash, err) != 0) {
        return -1;
    }
    printf("password of %s changed\n", arguments->name);
    return 0;
}

static int set_disabled(const char *name, bool disabled, struct store *store, struct error *err)
{
    if (store_user_set_disabled(store, name, disabled, err) != 0) {
        return error_prefix(err, "user %s", name);
    }
    printf("user %s %s\n", name, disabled ? "disabled" : "enabled");
    return 0;
}

static int run_disable(const struct arguments *arguments, struct store *store, struct error *err)
{
    return set_disabled(arguments->name, true, store, err);
}

static int run_enable(const struct arguments *arguments, struct store *store, struct error *err)
{
    return set_disabled(arguments->name, false, store, err);
}

static int run_list(const struct arguments *arguments, struct store *store, struct error *err)
{
    struct store_user *users = NULL;
    size_t count = 0;
    char created[CLOCK_RFC3339_BYTES];

    (void)arguments;
    if (store_user_list(store, &users, &count, err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        printf("%s\t%s\t%s\t%s\t%s\n", users[i].username, users[i].role,
               users[i].disabled ? "disabled" : "active", users[i].id,
               clock_format_rfc3339(users[i].created_at_ms, created));
    }
    if (users != NULL) {
        sodium_memzero(users, count * sizeof(*users));
    }
    free(users);
    return 0;
}

static int read_assignment(const char *text, enum user_limit *ret_limit, int64_t *ret_value,
                           struct error *err)
{
    const char *equals = strchr(text, '=');
    char name[64], *end;

    if ((size_t)(equals - text) >= sizeof(name)) {
        return error_set(err, ERR_INVALID, "there is no limit \"%.40s\"", text);
    }
    memcpy(name, text, (size_t)(equals - text));
    name[equals - text] = '\0';
    if (user_limit_parse(name, ret_limit) != 0) {
        return error_set(err, ERR_INVALID, "there is no limit \"%.40s\"", name);
    }
    if (strcmp(equals + 1, "default") == 0) {
        *ret_value = STORE_LIMIT_DEFAULT;
        return 0;
    }
    errno = 0;
    *ret_value = strtoll(equals + 1, &end, 10);
    if (errno != 0 || end == equals + 1 || *end != '\0' || *ret_value < 0) {
        return error_set(err, ERR_INVALID, "%s takes a number from 0 (no limit), or default", name);
    }
    return 0;
}

static void print_limit(enum user_limit limit, int64_t value)
{
    if (value == STORE_LIMIT_DEFAULT) {
        printf("%-20s default   %s\n", user_limit_name(limit), user_limit_text(limit));
    } else {
        printf("%-20s %-9lld %s%s\n", user_limit_name(limit), (long long)value,
               user_limit_text(limit), value == 0 ? " (no limit)" : "");
    }
}

static int run_limit(const struct arguments *arguments, struct store *store, struct error *err)
{
    const char *owner = arguments->subject;
    int64_t values[USER_LIMIT_COUNT];
    struct store_user user = {.disabled = false};
    struct store_use use;
    int status = 0;

    if (owner == NULL) {
        if (store_user_find(store, arguments->name, &user, err) != 0) {
            return error_prefix(err, "user %s", arguments->name);
        }
        sodium_memzero(user.password_hash, sizeof(user.password_hash));
        owner = user.id;
    }
    for (int pass = 0; pass < 2; pass++) { /* check all before setting any */
        for (int i = 0; i < arguments->assignment_count && status == 0; i++) {
            enum user_limit limit = LIMIT_SANDBOXES;
            int64_t value = 0;

            status = read_assignment(arguments->assignments[i], &limit, &value, err);
            if (status == 0 && pass == 1) {
                status = store_limit_set(store, owner, limit, value, err);
            }
        }
    }
    if (status != 0 || store_limits_get(store, owner, values, err) != 0 ||
        store_use_get(store, owner, &use, err) != 0) {
        return -1;
    }
    for (int i = 0; i < USER_LIMIT_COUNT; i++) {
        print_limit((enum user_limit)i, values[i]);
    }
    printf("in use: %lld alive, %lld paused, %lld created within the last minute\n",
           (long long)use.alive, (long long)use.paused, (long long)use.created_within_minute);
    return 0;
}

enum { TAKES_NAME = 1, TAKES_PASSWORD = 2, TAKES_ROLE = 4, TAKES_LIMITS = 8 };

static const struct command {
    const char *name;
    unsigned takes;
    int (*run)(const struct arguments *arguments, struct store *store, struct error *err);
} commands[] = {
    {"add", TAKES_NAME | TAKES_PASSWORD | TAKES_ROLE, run_add},
    {"passwd", TAKES_NAME | TAKES_PASSWORD, run_passwd},
    {"disable", TAKES_NAME, run_disable},
    {"enable", TAKES_NAME, run_enable},
    {"list", 0, run_list},
    {"limit", TAKES_NAME | TAKES_LIMITS, run_limit},
};

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(commands[i].name, name) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static int parse(const struct command *command, int argc, char **argv, struct arguments *ret,
                 struct error *err)
{
    for (int i = 0; i < argc; i++) {
        const char *word = argv[i];

        if (strcmp(word, "--password-stdin") == 0 && (command->takes & TAKES_PASSWORD)) {
            ret->password_stdin = true;
        } else if (strcmp(word, "--if-absent") == 0 && (command->takes & TAKES_ROLE)) {
            ret->if_absent = true;
        } else if (strcmp(word, "--role") == 0 && (command->takes & TAKES_ROLE) && i + 1 < argc) {
            ret->role = argv[++i];
        } else if (strcmp(word, "--subject") == 0 && (command->takes & TAKES_LIMITS) &&
                   i + 1 < argc && argv[i + 1][0] != '\0') {
            ret->subject = argv[++i];
        } else if (word[0] != '-' && (command->takes & TAKES_LIMITS) && strchr(word, '=') != NULL &&
                   ret->assignment_count < ASSIGNMENTS_MAX) {
            ret->assignments[ret->assignment_count++] = word;
        } else if (word[0] != '-' && (command->takes & TAKES_NAME) && ret->name == NULL &&
                   ret->subject == NULL) {
            ret->name = word;
        } else {
            return error_set(err, ERR_INVALID, "unexpected \"%.40s\"; %s", word, USAGE);
        }
    }
    if ((command->takes & TAKES_NAME) && ret->name == NULL && ret->subject == NULL) {
        return error_set(err, ERR_INVALID, "a user name is missing; %s", USAGE);
    }
    if (strcmp(ret->role, "user") != 0 && strcmp(ret->role, "admin") != 0) {
        return error_set(err, ERR_INVALID, "the role is user or admin");
    }
    return ret->name != NULL ? user_name_check(ret->name, err) : 0;
}

int user_cli_run(int argc, char **argv, struct store *store, struct error *err)
{
    struct arguments arguments = {.role = "user"};
    const struct command *command;
    int skip = 0;

    if (argc > 0 && find_command(argv[0]) == NULL) {
        skip = strcmp(argv[0], "user") == 0 ? 1 : argc > 1 && strcmp(argv[1], "user") == 0 ? 2 : 0;
    }
    if (skip >= argc) {
        return error_set(err, ERR_INVALID, "%s", USAGE);
    }
    command = find_command(argv[skip]);
    if (command == NULL) {
        return error_set(err, ERR_INVALID, "%s", USAGE);
    }
    if (parse(command, argc - skip - 1, argv + skip + 1, &arguments, err) != 0) {
        return -1;
    }
    return command->run(&arguments, store, err);
}
