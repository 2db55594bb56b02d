/*
 * test_login - login, logout and the user commands against a real PostgreSQL (DATABASE_URL).
 *
 * Two struct auth over two stores stand for two gateways. Failure: cmocka.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "common/base/service.h"
#include "common/store/store.h"
#include "gateway/auth/auth.h"
#include "gateway/cli/user_cli.h"

#define PASSWORD "TestPass123!"

static struct store *stores[2];
static struct auth *gateways[2];
static char alice[64];

static struct store *open_store(void)
{
    const struct store_options options = {.conninfo = getenv("DATABASE_URL"),
                                          .application = "test_login",
                                          .pool_size = 8,
                                          .connect_timeout_s = 3,
                                          .statement_timeout_ms = 5000,
                                          .pool_wait_ms = 5000};

    return store_new(&options);
}

static struct auth *open_auth(struct store *store, int user_max, int parallel)
{
    const struct auth_options options = {.secret = "0123456789abcdef0123456789abcdef",
                                         .token_ttl_s = 600,
                                         .login_max_parallel = parallel,
                                         .login_user_max = user_max,
                                         .login_address_max = 60,
                                         .key_address_max = 20,
                                         .login_window_s = 60,
                                         .login_delay_max_s = 30};
    struct error err = ERROR_INIT;
    struct auth *auth = auth_new(&options, store, &err);

    if (auth == NULL)
        fail_msg("%s", err.message);
    return auth;
}

/* Words up to NULL, as the operator types them. */
static enum error_code cli(const char *first, ...)
{
    char *argv[16] = {(char *)first};
    struct error err = ERROR_INIT;
    int argc = 1;
    va_list words;

    va_start(words, first);
    while ((argv[argc] = va_arg(words, char *)) != NULL)
        argc++;
    va_end(words);
    if (user_cli_run(argc, argv, stores[0], &err) == 0)
        return ERR_OK;
    assert_null(strstr(err.message, PASSWORD));
    return err.code;
}

static enum error_code login_from(struct auth *auth, const char *address, const char *user,
                                  const char *password, struct auth_token *ret)
{
    struct error err = ERROR_INIT;
    int retry_after_s = -1;

    if (auth_login(auth, user, password, address, ret, &retry_after_s, &err) == 0)
        return ERR_OK;
    assert_true(err.code != ERR_RATE_LIMITED || retry_after_s > 0);
    return err.code;
}

static enum error_code login(struct auth *auth, const char *user, const char *password,
                             struct auth_token *ret)
{
    return login_from(auth, "127.0.0.1", user, password, ret);
}

static enum error_code authenticate(struct auth *auth, const struct auth_token *token,
                                    struct principal *ret)
{
    char header[ISSUED_TOKEN_BYTES + 16];
    struct error err = ERROR_INIT;

    snprintf(header, sizeof(header), "Bearer %s", token->access_token);
    return auth_authenticate(auth, "192.0.2.1", header, NULL, ret, &err) == 0 ? ERR_OK : err.code;
}

static void test_login_and_token(void **state)
{
    struct auth_token token;
    struct principal principal;

    (void)state;
    assert_int_equal(login(gateways[0], alice, PASSWORD, &token), ERR_OK);
    assert_string_equal(token.username, alice);
    assert_string_equal(token.role, "user");
    assert_int_equal(token.expires_in_s, 600);
    assert_true(id_is_uuid_lower(token.user_id));
    assert_int_equal(authenticate(gateways[1], &token, &principal), ERR_OK);
    assert_string_equal(principal.subject, token.user_id);
    assert_string_equal(principal.username, alice);
    assert_false(principal.admin);
    assert_true(id_is_uuid_lower(principal.jti));
}

static void test_wrong_credentials(void **state)
{
    struct auth_token token;
    char *longest = xcalloc(1, 100000);

    (void)state;
    memset(longest, 'x', 99999);
    assert_int_equal(login(gateways[0], alice, "wrong", &token), ERR_CREDENTIALS);
    assert_int_equal(login(gateways[0], alice, "", &token), ERR_CREDENTIALS);
    assert_int_equal(login(gateways[0], alice, longest, &token), ERR_CREDENTIALS);
    assert_int_equal(login(gateways[0], "nobody-at-all", PASSWORD, &token), ERR_CREDENTIALS);
    assert_int_equal(login(gateways[0], "", PASSWORD, &token), ERR_CREDENTIALS);
    assert_int_equal(login(gateways[0], longest, PASSWORD, &token), ERR_CREDENTIALS);
    assert_int_equal(login(gateways[0], "a' or '1'='1", PASSWORD, &token), ERR_CREDENTIALS);
    free(longest);
}

/* Of this try and those before it. */
static int64_t faster_us(const char *user, int64_t best_us)
{
    struct auth_token token;
    int64_t start_us = clock_mono_us(), took_us;

    assert_int_equal(login(gateways[0], user, "wrong", &token), ERR_CREDENTIALS);
    took_us = clock_mono_us() - start_us;
    return took_us < best_us ? took_us : best_us;
}

/* The times of a known and an unknown name overlap: both hash once. In turns, and until they are
 * alike, for what else the machine does makes single tries longer. */
static void test_unknown_user_costs_the_same(void **state)
{
    int64_t known_us = INT64_MAX, unknown_us = INT64_MAX;
    bool alike = false;

    (void)state;
    for (int i = 0; i < 40 && !(alike && i >= 5); i++) {
        known_us = faster_us(alice, known_us);
        unknown_us = faster_us("nobody-at-all", unknown_us);
        alike = unknown_us < known_us * 2 && known_us < unknown_us * 2;
    }
    assert_true(alike);
}

static void test_attempts_are_limited(void **state)
{
    struct auth *auth = open_auth(stores[0], 3, 2);
    struct auth_token token;

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(login_from(auth, "10.1.1.1", alice, "wrong", &token), ERR_CREDENTIALS);
    /* not from where alice has never logged in, not even with the right password */
    assert_int_equal(login_from(auth, "10.1.1.1", alice, PASSWORD, &token), ERR_RATE_LIMITED);
    assert_int_equal(login_from(auth, "10.1.1.2", alice, PASSWORD, &token), ERR_OK);
    clock_test_advance_ms(1000);
    assert_int_equal(login_from(auth, "10.1.1.1", alice, PASSWORD, &token), ERR_OK);
    for (int i = 0; i < 6; i++)
        assert_int_equal(login_from(auth, "10.1.1.1", alice, PASSWORD, &token), ERR_OK);
    auth_free(auth);
}

/* Whoever guesses, from wherever: where alice has logged in before, the right password gets in. */
static void test_good_history_always_gets_in(void **state)
{
    struct auth *first = open_auth(stores[0], 3, 2), *auth = open_auth(stores[1], 3, 2);
    struct auth_token token;
    char name[32];
    bool limited = false;

    (void)state;
    assert_int_equal(login_from(first, "10.2.2.2", alice, PASSWORD, &token), ERR_OK);
    auth_free(first); /* the history outlives the gateway that saw it */
    for (int i = 0; i < 20; i++) {
        enum error_code code = login_from(auth, "10.2.2.2", alice, "wrong", &token);

        assert_int_equal(code, i < 3 ? ERR_CREDENTIALS : ERR_RATE_LIMITED);
    }
    assert_int_equal(login_from(auth, "10.2.2.2", alice, PASSWORD, &token), ERR_OK);
    /* and behind an address that has tried far too many names */
    for (int i = 0; i < 61 && !limited; i++) {
        snprintf(name, sizeof(name), "name-%d", i);
        limited = login_from(auth, "10.2.2.2", name, "", &token) == ERR_RATE_LIMITED;
    }
    assert_true(limited);
    assert_int_equal(login_from(auth, "10.2.2.2", alice, PASSWORD, &token), ERR_OK);
    auth_free(auth);
}

/* Refused unchecked takes as long as checked, so that it tells nothing. */
static void test_refusals_take_the_time_of_a_check(void **state)
{
    struct auth *auth = open_auth(stores[0], 1, 2);
    struct auth_token token;
    int64_t start_us, refused_us = 0, wrong_us;

    (void)state;
    start_us = clock_mono_us();
    assert_int_equal(login_from(auth, "10.3.3.3", "nobody-at-all", "wrong", &token),
                     ERR_CREDENTIALS);
    wrong_us = clock_mono_us() - start_us;
    start_us = clock_mono_us();
    assert_int_equal(login_from(auth, "10.3.3.3", "nobody-at-all", "wrong", &token),
                     ERR_RATE_LIMITED);
    refused_us = clock_mono_us() - start_us;
    assert_true(refused_us > wrong_us / 4);
    auth_free(auth);
}

static _Atomic int logins_ok;

static void *log_in(void *arg)
{
    struct auth_token token;
    enum error_code code;

    do { /* a machine that is busy long enough tells some of them to come again */
        code = login(arg, alice, PASSWORD, &token);
    } while (code == ERR_RATE_LIMITED);
    if (code == ERR_OK)
        atomic_fetch_add(&logins_ok, 1);
    return NULL;
}

static void test_parallel_logins(void **state)
{
    struct auth *auth = open_auth(stores[0], 100, 1);
    pthread_t threads[8];

    (void)state;
    atomic_store(&logins_ok, 0);
    for (int i = 0; i < 8; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, log_in, auth), 0);
    for (int i = 0; i < 8; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(atomic_load(&logins_ok), 8);
    auth_free(auth);
}

static void test_logout_everywhere(void **state)
{
    struct auth_token token, other;
    struct principal principal;
    struct error err = ERROR_INIT;
    struct auth *late;

    (void)state;
    assert_int_equal(login(gateways[0], alice, PASSWORD, &token), ERR_OK);
    assert_int_equal(login(gateways[0], alice, PASSWORD, &other), ERR_OK);
    assert_int_equal(authenticate(gateways[1], &token, &principal), ERR_OK);
    assert_int_equal(authenticate(gateways[0], &token, &principal), ERR_OK);
    assert_int_equal(auth_logout(gateways[0], &principal, &err), 0);
    assert_int_equal(auth_logout(gateways[0], &principal, &err), 0);
    assert_int_equal(authenticate(gateways[0], &token, &principal), ERR_TOKEN_REVOKED);
    assert_int_equal(auth_refresh(gateways[1], &err), 0);
    assert_int_equal(authenticate(gateways[1], &token, &principal), ERR_TOKEN_REVOKED);
    assert_int_equal(authenticate(gateways[1], &other, &principal), ERR_OK);
    assert_int_equal(auth_refresh(gateways[1], &err), 0);
    assert_int_equal(authenticate(gateways[1], &token, &principal), ERR_TOKEN_REVOKED);

    /* a gateway that starts afterwards knows it before its first upkeep */
    late = open_auth(stores[1], 10, 1);
    assert_int_equal(authenticate(late, &token, &principal), ERR_TOKEN_REVOKED);
    auth_free(late);

    principal.jti[0] = '\0';
    assert_int_equal(auth_logout(gateways[0], &principal, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
}

/* Disabling a user and setting a password end every token issued before, on every gateway. */
static void test_end_of_a_user(void **state)
{
    struct auth_token token, later;
    struct principal principal;
    struct error err = ERROR_INIT;
    struct auth *late;
    char name[64], id[UUID_BYTES];

    (void)state;
    id_uuid(id);
    snprintf(name, sizeof(name), "user-%s", id);
    assert_int_equal(cli("add", name, "--role", "admin", NULL), ERR_OK);
    assert_int_equal(login(gateways[0], name, PASSWORD, &token), ERR_OK);
    for (int i = 0; i < 2; i++)
        assert_int_equal(authenticate(gateways[i], &token, &principal), ERR_OK);
    assert_false(auth_ended(gateways[1], &principal));

    assert_int_equal(cli("disable", name, NULL), ERR_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(auth_refresh(gateways[i], &err), 0);
        assert_int_equal(authenticate(gateways[i], &token, &principal), ERR_TOKEN_REVOKED);
    }
    assert_true(auth_ended(gateways[1], &principal));

    /* enabling gives no token back; a new one is good at once, in the same second */
    assert_int_equal(cli("enable", name, NULL), ERR_OK);
    assert_int_equal(login(gateways[0], name, PASSWORD, &later), ERR_OK);
    assert_int_equal(auth_refresh(gateways[1], &err), 0);
    assert_int_equal(authenticate(gateways[1], &token, &principal), ERR_TOKEN_REVOKED);
    assert_int_equal(authenticate(gateways[1], &later, &principal), ERR_OK);

    assert_int_equal(cli("passwd", name, NULL), ERR_OK);
    assert_int_equal(login(gateways[0], name, PASSWORD, &token), ERR_OK);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(auth_refresh(gateways[i], &err), 0);
        assert_int_equal(authenticate(gateways[i], &later, &principal), ERR_TOKEN_REVOKED);
        assert_int_equal(authenticate(gateways[i], &token, &principal), ERR_OK);
    }

    /* a gateway that starts afterwards knows it before its first upkeep */
    late = open_auth(stores[1], 10, 1);
    assert_int_equal(authenticate(late, &later, &principal), ERR_TOKEN_REVOKED);
    auth_free(late);
}

static void test_user_commands(void **state)
{
    struct auth_token token;
    struct principal principal;
    char name[64], id[UUID_BYTES];

    (void)state;
    id_uuid(id);
    snprintf(name, sizeof(name), "user-%s", id);
    assert_int_equal(cli("add", name, "--role", "admin", NULL), ERR_OK);
    assert_int_equal(cli("add", name, NULL), ERR_EXISTS);
    assert_int_equal(cli("user", "add", name, "--if-absent", NULL), ERR_OK);
    assert_int_equal(login(gateways[0], name, PASSWORD, &token), ERR_OK);
    assert_string_equal(token.role, "admin");
    assert_int_equal(authenticate(gateways[0], &token, &principal), ERR_OK);
    assert_true(principal.admin);

    assert_int_equal(cli("sandbox-gateway", "user", "disable", name, NULL), ERR_OK);
    assert_int_equal(login(gateways[0], name, PASSWORD, &token), ERR_CREDENTIALS);
    assert_int_equal(cli("enable", name, NULL), ERR_OK);
    assert_int_equal(login(gateways[0], name, PASSWORD, &token), ERR_OK);

    setenv("SANDBOX_USER_PASSWORD", "another one", 1);
    assert_int_equal(cli("passwd", name, NULL), ERR_OK);
    assert_int_equal(cli("add", name, "--if-absent", NULL), ERR_OK);
    assert_int_equal(login(gateways[0], name, PASSWORD, &token), ERR_CREDENTIALS);
    assert_int_equal(login(gateways[0], name, "another one", &token), ERR_OK);
    setenv("SANDBOX_USER_PASSWORD", "short", 1);
    assert_int_equal(cli("passwd", name, NULL), ERR_INVALID);
    setenv("SANDBOX_USER_PASSWORD", PASSWORD, 1);
    assert_int_equal(login(gateways[0], name, "another one", &token), ERR_OK);

    assert_int_equal(cli("list", NULL), ERR_OK);
    assert_int_equal(cli("passwd", "nobody-at-all", NULL), ERR_NOT_FOUND);
    assert_int_equal(cli("disable", "nobody-at-all", NULL), ERR_NOT_FOUND);
    assert_int_equal(cli("user", NULL), ERR_INVALID);
    assert_int_equal(cli("remove", name, NULL), ERR_INVALID);
    assert_int_equal(cli("add", NULL), ERR_INVALID);
    assert_int_equal(cli("add", "two words", NULL), ERR_INVALID);
    assert_int_equal(cli("add", "x", "--role", "king", NULL), ERR_INVALID);
    assert_int_equal(cli("add", "x", "--role", NULL), ERR_INVALID);
    assert_int_equal(cli("add", "x", "y", NULL), ERR_INVALID);
    assert_int_equal(cli("list", "x", NULL), ERR_INVALID);
    assert_int_equal(cli("disable", "x", "--password-stdin", NULL), ERR_INVALID);
}

static void test_password_from_stdin(void **state)
{
    static const char lines[] = "from stdin!\nignored\n";
    struct auth_token token;
    char name[64], id[UUID_BYTES];
    int ends[2], before = dup(STDIN_FILENO);

    (void)state;
    id_uuid(id);
    snprintf(name, sizeof(name), "user-%s", id);
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], lines, strlen(lines)), (ssize_t)strlen(lines));
    close(ends[1]);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    close(ends[0]);
    assert_int_equal(cli("add", name, "--password-stdin", NULL), ERR_OK);
    assert_int_equal(login(gateways[0], name, "from stdin!", &token), ERR_OK);
    if (before >= 0) {
        dup2(before, STDIN_FILENO);
        close(before);
    }
}

static int start(void **state)
{
    struct error err = ERROR_INIT;
    char id[UUID_BYTES];
    int applied, signal_fd;

    (void)state;
    assert_non_null(getenv("DATABASE_URL"));
    if (service_init(&signal_fd, &err) != 0)
        fail_msg("%s", err.message);
    setenv("SANDBOX_USER_PASSWORD", PASSWORD, 1);
    for (int i = 0; i < 2; i++)
        stores[i] = open_store();
    if (store_migrate(stores[0], &applied, &err) != 0)
        fail_msg("%s", err.message);
    for (int i = 0; i < 2; i++)
        gateways[i] = open_auth(stores[i], 100, 2);
    id_uuid(id);
    snprintf(alice, sizeof(alice), "alice-%s", id);
    return cli("add", alice, NULL) == ERR_OK ? 0 : -1;
}

static int stop(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        auth_free(gateways[i]);
        store_free(stores[i]);
    }
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_login_and_token),
        cmocka_unit_test(test_wrong_credentials),
        cmocka_unit_test(test_unknown_user_costs_the_same),
        cmocka_unit_test(test_attempts_are_limited),
        cmocka_unit_test(test_good_history_always_gets_in),
        cmocka_unit_test(test_refusals_take_the_time_of_a_check),
        cmocka_unit_test(test_parallel_logins),
        cmocka_unit_test(test_logout_everywhere),
        cmocka_unit_test(test_end_of_a_user),
        cmocka_unit_test(test_user_commands),
        cmocka_unit_test(test_password_from_stdin),
    };

    return cmocka_run_group_tests(tests, start, stop);
}
