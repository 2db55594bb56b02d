/*
 * user_cli - parsing of the user commands, password input, output for people on stdout.
 *
 * See user_cli.h. Passwords are wiped after hashing.
 */
#include "gateway/user_cli.h"

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
#include "gateway/password.h"

#define USAGE                                                                                      \
    "usage: user add NAME [--role user|admin] [--password-stdin] [--if-absent] | "                 \
    "passwd NAME [--password-stdin] | disable NAME | enable NAME | list"

struct arguments {
    const char *name;
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

static int check_name(const char *name, struct error *err)
{
    size_t length = strlen(name);

    if (length == 0 || length >= LABEL_BYTES || !utf8_is_valid(name, length)) {
        return error_set(err, ERR_INVALID, "a user name has 1 to %d bytes of UTF-8",
                         LABEL_BYTES - 1);
    }
    for (const char *p = name; *p != '\0'; p++) {
        if ((unsigned char)*p <= ' ' || *p == 0x7f) {
            return error_set(err, ERR_INVALID, "a user name has no blanks or control characters");
        }
    }
    return 0;
}

static int run_add(const struct arguments *arguments, struct store *store, struct error *err)
{
    struct store_user user = {.disabled = false}, present;
    struct error find_err = ERROR_INIT;

    /* asked first, so that `--if-absent` costs no password prompt */
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

enum { TAKES_NAME = 1, TAKES_PASSWORD = 2, TAKES_ROLE = 4 };

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
        } else if (word[0] != '-' && (command->takes & TAKES_NAME) && ret->name == NULL) {
            ret->name = word;
        } else {
            return error_set(err, ERR_INVALID, "unexpected \"%.40s\"; %s", word, USAGE);
        }
    }
    if ((command->takes & TAKES_NAME) && ret->name == NULL) {
        return error_set(err, ERR_INVALID, "a user name is missing; %s", USAGE);
    }
    if (strcmp(ret->role, "user") != 0 && strcmp(ret->role, "admin") != 0) {
        return error_set(err, ERR_INVALID, "the role is user or admin");
    }
    return ret->name != NULL ? check_name(ret->name, err) : 0;
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
