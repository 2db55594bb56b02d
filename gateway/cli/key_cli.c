/* key_cli - see key_cli.h. */
#include "gateway/cli/key_cli.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "gateway/auth/api_key.h"

#define DAY_MS INT64_C(86400000)

enum { LIST_MAX = 10000, DAYS_MAX = 3650, OVERLAP_DEFAULT_S = 3600, OVERLAP_MAX_S = 2592000 };

static const char usage[] =
    "usage: key add USER NAME SCOPE[,SCOPE...] [--days N] | list [USER] | revoke KEY_ID | "
    "rotate KEY_ID [--overlap SECONDS]";

static int bad_usage(struct error *err)
{
    return error_set(err, ERR_INVALID, "%s", usage);
}

/* Parses a whole number from 0 to max; -1: it is not one. */
static int64_t read_number(const char *text, int64_t max)
{
    char *end;
    long long value = strtoll(text, &end, 10);

    return *text == '\0' || *end != '\0' || value < 0 || value > max ? -1 : value;
}

static int read_scopes(char *list, unsigned *ret, struct error *err)
{
    char *word, *rest = list;

    *ret = 0;
    while ((word = strtok_r(rest, ",", &rest)) != NULL) {
        if (scope_parse(word, ret) != 0) {
            return error_set(err, ERR_INVALID, "there is no scope \"%.40s\"", word);
        }
    }
    return *ret != 0 ? 0 : error_set(err, ERR_INVALID, "a key needs at least one scope");
}

static int find_owner(struct store *store, const char *username, struct store_api_key *ret,
                      bool *ret_admin, struct error *err)
{
    struct store_user user;

    if (store_user_find(store, username, &user, err) != 0) {
        return error_prefix(err, "user %s", username);
    }
    str_copy(ret->owner, sizeof(ret->owner), user.id);
    str_copy(ret->username, sizeof(ret->username), user.username);
    *ret_admin = strcmp(user.role, "admin") == 0;
    sodium_memzero(&user, sizeof(user));
    return 0;
}

static void print_made(const struct store_api_key *row, char key[API_KEY_BYTES])
{
    printf("%s\nid %s, scopes %s; the key is not shown again\n", key, row->id, row->scopes);
    sodium_memzero(key, API_KEY_BYTES);
}

static int add_key(int argc, char **argv, struct store *store, int64_t max_keys, struct error *err)
{
    struct store_api_key row = {.expires_at_ms = 0};
    char key[API_KEY_BYTES];
    int64_t days = 0;
    unsigned scopes;
    bool admin;

    if ((argc != 3 && argc != 5) || (argc == 5 && strcmp(argv[3], "--days") != 0)) {
        return bad_usage(err);
    }
    if (argc == 5 && (days = read_number(argv[4], DAYS_MAX)) < 1) {
        return error_set(err, ERR_INVALID, "--days is 1 to %d", DAYS_MAX);
    }
    if (argv[1][0] == '\0' || str_copy(row.name, sizeof(row.name), argv[1]) != 0) {
        return error_set(err, ERR_INVALID, "the key's name is empty or too long");
    }
    if (read_scopes(argv[2], &scopes, err) != 0 ||
        find_owner(store, argv[0], &row, &admin, err) != 0) {
        return -1;
    }
    if ((scopes & SCOPE_ADMIN) != 0 && !admin) {
        return error_set(err, ERR_INVALID, "user %.40s is no admin", argv[0]);
    }
    scopes_format(scopes, row.scopes);
    row.expires_at_ms = days > 0 ? clock_wall_ms() + days * DAY_MS : 0;
    api_key_make(&row, key);
    if (store_api_key_add(store, &row, (int)max_keys, err) != 0) {
        sodium_memzero(key, sizeof(key));
        return -1;
    }
    print_made(&row, key);
    return 0;
}

static int list_keys(int argc, char **argv, struct store *store, struct error *err)
{
    struct store_api_key owner = {.expires_at_ms = 0}, *rows;
    size_t count;
    bool admin;

    if (argc > 1) {
        return bad_usage(err);
    }
    if ((argc == 1 && find_owner(store, argv[0], &owner, &admin, err) != 0) ||
        store_api_keys_list(store, argc == 1 ? owner.owner : NULL, NULL, LIST_MAX, &rows, &count,
                            err) != 0) {
        return -1;
    }
    for (size_t i = 0; i < count; i++) {
        char expires[CLOCK_RFC3339_BYTES] = "never", used[CLOCK_RFC3339_BYTES] = "never";

        if (rows[i].expires_at_ms > 0) {
            clock_format_rfc3339(rows[i].expires_at_ms, expires);
        }
        if (rows[i].last_used_at_ms > 0) {
            clock_format_rfc3339(rows[i].last_used_at_ms, used);
        }
        printf("%s\t%s\t%s\t%s\t%s\texpires %s\tused %s\n", rows[i].id, rows[i].username,
               rows[i].name, rows[i].prefix, rows[i].scopes, expires, used);
    }
    free(rows);
    return 0;
}

static int revoke_key(int argc, char **argv, struct store *store, struct error *err)
{
    if (argc != 1 || !id_is_uuid_lower(argv[0])) {
        return bad_usage(err);
    }
    if (store_api_key_revoke(store, argv[0], NULL, err) != 0) {
        return -1;
    }
    printf("key %s revoked\n", argv[0]);
    return 0;
}

static int rotate_key(int argc, char **argv, struct store *store, struct error *err)
{
    struct store_api_key row;
    char key[API_KEY_BYTES];
    int64_t overlap_s = OVERLAP_DEFAULT_S;

    if ((argc != 1 && argc != 3) || !id_is_uuid_lower(argv[0]) ||
        (argc == 3 && strcmp(argv[1], "--overlap") != 0)) {
        return bad_usage(err);
    }
    if (argc == 3 && (overlap_s = read_number(argv[2], OVERLAP_MAX_S)) < 0) {
        return error_set(err, ERR_INVALID, "--overlap is 0 to %d seconds", OVERLAP_MAX_S);
    }
    if (store_api_key_get(store, argv[0], NULL, &row, err) != 0) {
        return -1;
    }
    if (row.expires_at_ms > 0) {
        row.expires_at_ms += clock_wall_ms() - row.created_at_ms;
    }
    api_key_make(&row, key);
    if (store_api_key_rotate(store, argv[0], &row, overlap_s * 1000, err) != 0) {
        sodium_memzero(key, sizeof(key));
        return -1;
    }
    print_made(&row, key);
    return 0;
}

int key_cli_run(int argc, char **argv, struct store *store, int64_t max_keys, struct error *err)
{
    const char *verb = argc > 0 ? argv[0] : "";

    if (strcmp(verb, "add") == 0) {
        return add_key(argc - 1, argv + 1, store, max_keys, err);
    }
    if (strcmp(verb, "list") == 0) {
        return list_keys(argc - 1, argv + 1, store, err);
    }
    if (strcmp(verb, "revoke") == 0) {
        return revoke_key(argc - 1, argv + 1, store, err);
    }
    if (strcmp(verb, "rotate") == 0) {
        return rotate_key(argc - 1, argv + 1, store, err);
    }
    return bad_usage(err);
}
