/*
 * test_auth - tokens: every forgery and every odd claim, for HS256, RS256 and ES256.
 *
 * Tokens are put together here by hand, with libsodium's HMACs, so that they can be anything.
 * Key files are made by the openssl program in a temporary folder. Failure: cmocka.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <sodium.h>

#include "common/base/alloc.h"
#include "common/base/clock.h"
#include "gateway/auth/auth.h"
#include "gateway/auth/jwt.h"
#include "gateway/auth/password.h"

#define SECRET "0123456789abcdef0123456789abcdef"
#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define NOW    INT64_C(1800000000)

static struct store *unreachable;
static char folder[] = "/tmp/test_auth_XXXXXX";

/* ---- making tokens -------------------------------------------------------------------------- */

static void put_part(char *out, size_t size, const void *data, size_t length)
{
    size_t used = strlen(out);

    assert_true(size - used >
                sodium_base64_ENCODED_LEN(length, sodium_base64_VARIANT_URLSAFE_NO_PADDING));
    sodium_bin2base64(out + used, size - used, data, length,
                      sodium_base64_VARIANT_URLSAFE_NO_PADDING);
}

static void put_dot(char *out, size_t size)
{
    size_t used = strlen(out);

    assert_true(used + 1 < size);
    out[used] = '.';
    out[used + 1] = '\0';
}

enum mac { MAC_SHA256, MAC_SHA512, MAC_NONE };

static void make(char *out, size_t size, const char *header, const char *claims, const void *key,
                 size_t key_length, enum mac mac)
{
    unsigned char tag[crypto_auth_hmacsha512_BYTES];
    crypto_auth_hmacsha256_state short_state;
    crypto_auth_hmacsha512_state long_state;

    out[0] = '\0';
    put_part(out, size, header, strlen(header));
    put_dot(out, size);
    put_part(out, size, claims, strlen(claims));
    crypto_auth_hmacsha256_init(&short_state, key, key_length);
    crypto_auth_hmacsha256_update(&short_state, (const unsigned char *)out, strlen(out));
    crypto_auth_hmacsha512_init(&long_state, key, key_length);
    crypto_auth_hmacsha512_update(&long_state, (const unsigned char *)out, strlen(out));
    put_dot(out, size);
    if (mac == MAC_SHA256) {
        crypto_auth_hmacsha256_final(&short_state, tag);
        put_part(out, size, tag, crypto_auth_hmacsha256_BYTES);
    } else if (mac == MAC_SHA512) {
        crypto_auth_hmacsha512_final(&long_state, tag);
        put_part(out, size, tag, crypto_auth_hmacsha512_BYTES);
    }
}

static struct token_keys *keys_of(const char *issuer, const char *audience)
{
    struct auth_options options = {.secret = SECRET, .issuer = issuer, .audience = audience};
    struct error err = ERROR_INIT;
    struct token_keys *keys = token_keys_new(&options, &err);

    if (keys == NULL)
        fail_msg("%s", err.message);
    return keys;
}

static enum error_code verify(const struct token_keys *keys, const char *token,
                              struct token_claims *ret)
{
    struct error err = ERROR_INIT;

    if (token_verify(keys, token, strlen(token), NOW, ret, &err) == 0)
        return ERR_OK;
    assert_string_equal(err.message, TOKEN_REFUSED_MESSAGE);
    return err.code;
}

/* ---- claims --------------------------------------------------------------------------------- */

/* libjwt's own parser refuses some claims before it looks at the signature: token_signature. */
static const struct {
    const char *name, *header, *claims;
    enum error_code code;
} cases[] = {
    {"plain", HEADER, "{\"sub\":\"u\",\"exp\":1800000600}", ERR_OK},
    {"no typ", "{\"alg\":\"HS256\"}", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_OK},
    {"typ jwt", "{\"alg\":\"HS256\",\"typ\":\"jwt\"}", "{\"sub\":\"u\",\"exp\":1800000600}",
     ERR_OK},
    {"kid is ignored", "{\"alg\":\"HS256\",\"kid\":\"../../key\"}",
     "{\"sub\":\"u\",\"exp\":1800000600}", ERR_OK},
    {"other claims", HEADER,
     "{\"sub\":\"u\",\"exp\":1800000600,\"a\":{\"b\":[1,null]},\"role\":7,\"jti\":[],\"username\":"
     "false}",
     ERR_OK},
    {"fraction of a second", HEADER, "{\"sub\":\"u\",\"exp\":1800000600.5}", ERR_OK},
    {"expired within leeway", HEADER, "{\"sub\":\"u\",\"exp\":1799999971}", ERR_OK},
    {"expired at leeway", HEADER, "{\"sub\":\"u\",\"exp\":1799999970}", ERR_TOKEN_EXPIRED},
    {"expired long ago", HEADER, "{\"sub\":\"u\",\"exp\":1}", ERR_TOKEN_EXPIRED},
    {"expires at 0", HEADER, "{\"sub\":\"u\",\"exp\":0}", ERR_TOKEN_EXPIRED},
    {"nbf within leeway", HEADER, "{\"sub\":\"u\",\"exp\":1800000600,\"nbf\":1800000030}", ERR_OK},
    {"nbf later", HEADER, "{\"sub\":\"u\",\"exp\":1800000600,\"nbf\":1800000031}",
     ERR_TOKEN_MALFORMED},
    {"nbf text", HEADER, "{\"sub\":\"u\",\"exp\":1800000600,\"nbf\":\"1\"}", ERR_TOKEN_MALFORMED},
    {"no exp", HEADER, "{\"sub\":\"u\"}", ERR_TOKEN_MALFORMED},
    {"exp text", HEADER, "{\"sub\":\"u\",\"exp\":\"1800000600\"}", ERR_TOKEN_MALFORMED},
    {"exp null", HEADER, "{\"sub\":\"u\",\"exp\":null}", ERR_TOKEN_MALFORMED},
    {"exp true", HEADER, "{\"sub\":\"u\",\"exp\":true}", ERR_TOKEN_MALFORMED},
    {"exp negative", HEADER, "{\"sub\":\"u\",\"exp\":-1}", ERR_TOKEN_MALFORMED},
    {"exp without end", HEADER, "{\"sub\":\"u\",\"exp\":1e300}", ERR_TOKEN_MALFORMED},
    {"exp infinite", HEADER, "{\"sub\":\"u\",\"exp\":1e999}", ERR_TOKEN_SIGNATURE},
    {"exp twice", HEADER, "{\"sub\":\"u\",\"exp\":1800000600,\"exp\":1}", ERR_TOKEN_MALFORMED},
    {"sub twice", HEADER, "{\"sub\":\"u\",\"sub\":\"v\",\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"no sub", HEADER, "{\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"sub empty", HEADER, "{\"sub\":\"\",\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"sub number", HEADER, "{\"sub\":5,\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"sub array", HEADER, "{\"sub\":[\"u\"],\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"sub in capitals", HEADER, "{\"Sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"sub with NUL", HEADER, "{\"sub\":\"u\\u0000v\",\"exp\":1800000600}", ERR_TOKEN_SIGNATURE},
    {"claims no object", HEADER, "[\"sub\",\"exp\"]", ERR_TOKEN_MALFORMED},
    {"claims no JSON", HEADER, "sub=u", ERR_TOKEN_SIGNATURE},
    {"claims empty", HEADER, "{}", ERR_TOKEN_MALFORMED},
    {"trailing bytes", HEADER, "{\"sub\":\"u\",\"exp\":1800000600} x", ERR_TOKEN_SIGNATURE},
    {"alg none", "{\"alg\":\"none\"}", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_ALGORITHM},
    {"alg None", "{\"alg\":\"None\"}", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_ALGORITHM},
    {"alg hs256", "{\"alg\":\"hs256\"}", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_ALGORITHM},
    {"alg RS256", "{\"alg\":\"RS256\"}", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_ALGORITHM},
    {"alg twice", "{\"alg\":\"HS256\",\"alg\":\"none\"}", "{\"sub\":\"u\",\"exp\":1800000600}",
     ERR_TOKEN_MALFORMED},
    {"alg number", "{\"alg\":1}", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"alg with NUL", "{\"alg\":\"HS256\\u0000\"}", "{\"sub\":\"u\",\"exp\":1800000600}",
     ERR_TOKEN_MALFORMED},
    {"no alg", "{\"typ\":\"JWT\"}", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"typ JWE", "{\"alg\":\"HS256\",\"typ\":\"JWE\"}", "{\"sub\":\"u\",\"exp\":1800000600}",
     ERR_TOKEN_MALFORMED},
    {"crit", "{\"alg\":\"HS256\",\"crit\":[\"exp\"]}", "{\"sub\":\"u\",\"exp\":1800000600}",
     ERR_TOKEN_MALFORMED},
    {"header no JSON", "HS256", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
    {"header array", "[\"HS256\"]", "{\"sub\":\"u\",\"exp\":1800000600}", ERR_TOKEN_MALFORMED},
};

static void test_claims(void **state)
{
    struct token_keys *keys = keys_of(NULL, NULL);

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct token_claims claims;
        char token[TOKEN_BYTES + 1];
        enum error_code code;

        make(token, sizeof(token), cases[i].header, cases[i].claims, SECRET, strlen(SECRET),
             MAC_SHA256);
        code = verify(keys, token, &claims);
        if (code != cases[i].code)
            fail_msg("%s: %s instead of %s", cases[i].name, error_code_name(code),
                     error_code_name(cases[i].code));
        if (code == ERR_OK) {
            assert_string_equal(claims.subject, "u");
            assert_string_equal(claims.username, "u");
            assert_string_equal(claims.role, "");
            assert_string_equal(claims.jti, "");
        }
    }
    token_keys_free(keys);
}

static void test_subject_length(void **state)
{
    struct token_keys *keys = keys_of(NULL, NULL);
    char claims[512], token[TOKEN_BYTES + 1], subject[300];

    (void)state;
    for (int length = 254; length <= 257; length++) {
        struct token_claims back;

        memset(subject, 's', sizeof(subject));
        subject[length] = '\0';
        snprintf(claims, sizeof(claims), "{\"sub\":\"%s\",\"exp\":1800000600}", subject);
        make(token, sizeof(token), HEADER, claims, SECRET, strlen(SECRET), MAC_SHA256);
        assert_int_equal(verify(keys, token, &back), length <= 255 ? ERR_OK : ERR_TOKEN_MALFORMED);
    }
    token_keys_free(keys);
}

static void test_issuer_and_audience(void **state)
{
    static const struct {
        const char *claims;
        bool good;
    } table[] = {
        {"{\"sub\":\"u\",\"exp\":1800000600,\"iss\":\"me\",\"aud\":\"api\"}", true},
        {"{\"sub\":\"u\",\"exp\":1800000600,\"iss\":\"me\",\"aud\":[\"x\",\"api\"]}", true},
        {"{\"sub\":\"u\",\"exp\":1800000600,\"iss\":\"me\",\"aud\":[]}", false},
        {"{\"sub\":\"u\",\"exp\":1800000600,\"iss\":\"me\",\"aud\":[1,{\"a\":\"api\"}]}", false},
        {"{\"sub\":\"u\",\"exp\":1800000600,\"iss\":\"me\",\"aud\":\"api2\"}", false},
        {"{\"sub\":\"u\",\"exp\":1800000600,\"iss\":\"you\",\"aud\":\"api\"}", false},
        {"{\"sub\":\"u\",\"exp\":1800000600,\"iss\":[\"me\"],\"aud\":\"api\"}", false},
        {"{\"sub\":\"u\",\"exp\":1800000600,\"aud\":\"api\"}", false},
        {"{\"sub\":\"u\",\"exp\":1800000600,\"iss\":\"me\"}", false},
    };
    struct token_keys *keys = keys_of("me", "api");

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        struct token_claims claims;
        char token[TOKEN_BYTES + 1];

        make(token, sizeof(token), HEADER, table[i].claims, SECRET, strlen(SECRET), MAC_SHA256);
        assert_int_equal(verify(keys, token, &claims),
                         table[i].good ? ERR_OK : ERR_TOKEN_MALFORMED);
    }
    token_keys_free(keys);
}

/* Which tokens of another issuer are an admin's: none, unless a claim and its values are named. */
static void test_admins_of_another_issuer(void **state)
{
    static const struct {
        const char *claim, *values, *more;
        bool admin;
    } table[] = {
        {NULL, "admin", "\"role\":\"admin\"", false},
        {"role", NULL, "\"role\":\"admin\"", false},
        {"role", "admin", "\"role\":\"admin\"", true},
        {"role", "root,admin", "\"role\":\"admin\"", true},
        {"role", "admin", "\"role\":\"administrator\"", false},
        {"role", "administrator", "\"role\":\"admin\"", false},
        {"role", "admin", "\"role\":\"\"", false},
        {"role", "admin,", "\"role\":\"\"", false},
        {"role", "admin", "\"role\":[\"user\",\"admin\"]", true},
        {"role", "admin", "\"role\":[1,{\"admin\":true}]", false},
        {"role", "admin", "\"role\":{\"admin\":true}", false},
        {"realm.roles", "ops", "\"realm\":{\"roles\":[\"ops\"]}", true},
        {"realm.roles", "ops", "\"realm\":[\"ops\"]", false},
        {"https://a.b/role", "ops", "\"https://a.b/role\":\"ops\"", true},
        {"is_admin", "true", "\"is_admin\":true", true},
        {"is_admin", "true", "\"is_admin\":false", false},
        {"is_admin", "true", "\"is_admin\":1", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const struct auth_options options = {
            .secret = SECRET, .admin_claim = table[i].claim, .admin_values = table[i].values};
        struct error err = ERROR_INIT;
        struct token_keys *keys = token_keys_new(&options, &err);
        struct token_claims claims;
        char token[TOKEN_BYTES + 1], text[512];

        assert_non_null(keys);
        snprintf(text, sizeof(text), "{\"sub\":\"u\",\"exp\":1800000600,%s}", table[i].more);
        make(token, sizeof(token), HEADER, text, SECRET, strlen(SECRET), MAC_SHA256);
        assert_int_equal(verify(keys, token, &claims), ERR_OK);
        assert_false(claims.own);
        if (claims.admin != table[i].admin)
            fail_msg("%s = %s with %s", table[i].claim, table[i].values, table[i].more);
        token_keys_free(keys);
    }
}

/* As much as an identity provider with many groups puts into one. */
static void test_long_tokens(void **state)
{
    struct token_keys *keys = keys_of(NULL, NULL);
    char *claims = xcalloc(1, TOKEN_BYTES), *token = xcalloc(1, 2 * TOKEN_BYTES);
    struct token_claims back;
    struct error err = ERROR_INIT;

    (void)state;
    for (int groups = 11500; groups <= 12500; groups += 1000) {
        int used = snprintf(claims, TOKEN_BYTES, "{\"sub\":\"u\",\"exp\":1800000600,\"groups\":\"");

        memset(claims + used, 'g', (size_t)groups);
        memcpy(claims + used + groups, "\"}", 3);
        make(token, 2 * TOKEN_BYTES, HEADER, claims, SECRET, strlen(SECRET), MAC_SHA256);
        assert_int_equal(token_verify(keys, token, strlen(token), NOW, &back, &err),
                         strlen(token) <= TOKEN_BYTES ? 0 : -1);
        assert_true((strlen(token) <= TOKEN_BYTES) == (groups < 12000));
    }
    free(claims);
    free(token);
    token_keys_free(keys);
}

/* ---- form and signature --------------------------------------------------------------------- */

static void test_form(void **state)
{
    static const char *const bad[] = {
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c.d",
        "a",
        "e30.e30.",
        "e30..e30",
        ".e30.e30",
        "e30=.e30.e30",
        "e3 0.e30.e30",
        "\xff.\xff.\xff",
        "e30.e30.e30",
        "eyJhbGciOiJIUzI1NiJ9.e30.",
        "eyJhbGciOiJIUzI1NiJ9.e30.+/8",
        "eyJhbGciOiJIUzI1NiJ9.e30.A",
    };
    struct token_keys *keys = keys_of(NULL, NULL);
    struct token_claims claims;
    struct error err = ERROR_INIT;
    char token[TOKEN_BYTES + 1];
    char *huge = xmalloc(1 << 20);

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (verify(keys, bad[i], &claims) != ERR_TOKEN_MALFORMED)
            fail_msg("%s", bad[i]);
    memset(huge, 'a', 1 << 20);
    assert_int_equal(token_verify(keys, huge, 1 << 20, NOW, &claims, &err), -1);
    assert_int_equal(err.code, ERR_TOKEN_MALFORMED);
    assert_int_equal(token_verify(keys, huge, TOKEN_BYTES, NOW, &claims, &err), -1);
    free(huge);

    make(token, sizeof(token), HEADER, "{\"sub\":\"u\",\"exp\":1800000600}", SECRET, strlen(SECRET),
         MAC_SHA256);
    assert_int_equal(token_verify(keys, token, strlen(token) + 1, NOW, &claims, &err), -1);
    assert_int_equal(err.code, ERR_TOKEN_MALFORMED);
    token_keys_free(keys);
}

/* Every bit of the text matters: no second spelling of a token is accepted either. */
static void test_every_flipped_bit_is_refused(void **state)
{
    struct token_keys *keys = keys_of(NULL, NULL);
    struct token_claims claims;
    char token[TOKEN_BYTES + 1];

    (void)state;
    make(token, sizeof(token), HEADER, "{\"sub\":\"u\",\"exp\":1800000600}", SECRET, strlen(SECRET),
         MAC_SHA256);
    assert_int_equal(verify(keys, token, &claims), ERR_OK);
    for (size_t i = 0; token[i] != '\0'; i++) {
        for (int bit = 0; bit < 8; bit++) {
            token[i] = (char)(token[i] ^ 1 << bit);
            if (verify(keys, token, &claims) == ERR_OK)
                fail_msg("bit %d of byte %zu", bit, i);
            token[i] = (char)(token[i] ^ 1 << bit);
        }
    }
    assert_int_equal(verify(keys, token, &claims), ERR_OK);
    token_keys_free(keys);
}

static void test_signature(void **state)
{
    static const char claims_text[] = "{\"sub\":\"u\",\"exp\":1800000600}";
    struct token_keys *keys = keys_of(NULL, NULL);
    struct token_claims claims;
    char token[TOKEN_BYTES + 1];

    (void)state;
    make(token, sizeof(token), HEADER, claims_text, "x" SECRET, strlen(SECRET) + 1, MAC_SHA256);
    assert_int_equal(verify(keys, token, &claims), ERR_TOKEN_SIGNATURE);
    make(token, sizeof(token), HEADER, claims_text, "", 0, MAC_SHA256);
    assert_int_equal(verify(keys, token, &claims), ERR_TOKEN_SIGNATURE);
    make(token, sizeof(token), HEADER, claims_text, SECRET, strlen(SECRET), MAC_NONE);
    assert_int_equal(verify(keys, token, &claims), ERR_TOKEN_MALFORMED);
    make(token, sizeof(token), HEADER, claims_text, SECRET, strlen(SECRET), MAC_SHA512);
    assert_int_equal(verify(keys, token, &claims), ERR_TOKEN_SIGNATURE);
    make(token, sizeof(token), "{\"alg\":\"HS512\",\"typ\":\"JWT\"}", claims_text, SECRET,
         strlen(SECRET), MAC_SHA512);
    assert_int_equal(verify(keys, token, &claims), ERR_TOKEN_ALGORITHM);
    make(token, sizeof(token), "{\"alg\":\"none\"}", claims_text, SECRET, strlen(SECRET), MAC_NONE);
    assert_int_equal(verify(keys, token, &claims), ERR_TOKEN_ALGORITHM);
    token_keys_free(keys);
}

static void test_round_trip(void **state)
{
    struct token_claims claims = {.subject = "0123",
                                  .username = "álice",
                                  .role = "admin",
                                  .jti = "j-1",
                                  .generation = 7,
                                  .expires_at_s = NOW + 60},
                        back;
    struct token_keys *keys = keys_of("me", "api");
    struct error err = ERROR_INIT;
    char token[TOKEN_BYTES], small[16];

    (void)state;
    assert_true(token_keys_can_sign(keys));
    assert_int_equal(token_sign(keys, &claims, NOW, token, sizeof(token), &err), 0);
    assert_int_equal(verify(keys, token, &back), ERR_OK);
    assert_string_equal(back.subject, "0123");
    assert_string_equal(back.username, "álice");
    assert_string_equal(back.role, "admin");
    assert_true(back.own && back.admin);
    assert_int_equal(back.generation, 7);
    assert_int_equal(back.issued_at_s, NOW);
    assert_string_equal(back.jti, "j-1");
    assert_int_equal(back.expires_at_s, NOW + 60);
    assert_int_equal(token_sign(keys, &claims, NOW, small, sizeof(small), &err), -1);
    token_keys_free(keys);
}

/* ---- key pairs ------------------------------------------------------------------------------ */

static void run(const char *const argv[])
{
    pid_t child = fork();
    int status = -1;

    assert_true(child >= 0);
    if (child == 0) {
        if (freopen("/dev/null", "w", stderr) == NULL)
            _exit(126);
        execvp(argv[0], (char *const *)argv);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    if (status != 0)
        fail_msg("%s %s: status %d", argv[0], argv[1], status);
}

static const char *path_of(const char *name, char out[128])
{
    snprintf(out, 128, "%s/%s.pem", folder, name);
    return out;
}

static void make_pair(const char *name, const char *algorithm, const char *option)
{
    char private_file[128], public_file[128], public_name[64];
    const char *const generate[] = {
        "openssl",  "genpkey", "-algorithm", algorithm,
        "-pkeyopt", option,    "-out",       path_of(name, private_file),
        NULL};
    snprintf(public_name, sizeof(public_name), "%s-public", name);
    const char *const extract[] = {"openssl",
                                   "pkey",
                                   "-in",
                                   private_file,
                                   "-pubout",
                                   "-out",
                                   path_of(public_name, public_file),
                                   NULL};

    run(generate);
    run(extract);
}

static struct token_keys *pair_keys(const char *algorithm, const char *public_name,
                                    const char *private_name, struct error *err)
{
    char public_file[128], private_file[128];
    struct auth_options options = {
        .algorithm = algorithm,
        .secret = SECRET,
        .public_key_file = public_name != NULL ? path_of(public_name, public_file) : NULL,
        .private_key_file = private_name != NULL ? path_of(private_name, private_file) : NULL,
    };

    return token_keys_new(&options, err);
}

static char *read_all(const char *path)
{
    char *text = xcalloc(1, 16384);
    FILE *in = fopen(path, "r");

    assert_non_null(in);
    assert_true(fread(text, 1, 16383, in) > 0);
    fclose(in);
    return text;
}

static void test_key_pairs(void **state)
{
    static const char *const algorithms[] = {"RS256", "ES256"};
    static const char *const names[] = {"rsa", "ec"};

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct token_claims claims = {.subject = "u", .expires_at_s = NOW + 60}, back;
        struct error err = ERROR_INIT;
        char public_name[32], public_file[128], token[TOKEN_BYTES], forged[TOKEN_BYTES + 1],
            header[64];
        struct token_keys *signer, *verifier;
        char *public_text;

        snprintf(public_name, sizeof(public_name), "%s-public", names[i]);
        signer = pair_keys(algorithms[i], public_name, names[i], &err);
        if (signer == NULL)
            fail_msg("%s", err.message);
        verifier = pair_keys(algorithms[i], public_name, NULL, &err);
        assert_non_null(verifier);
        assert_false(token_keys_can_sign(verifier));
        assert_int_equal(token_sign(verifier, &claims, NOW, token, sizeof(token), &err), -1);
        assert_int_equal(err.code, ERR_NOT_IMPLEMENTED);
        assert_int_equal(token_sign(signer, &claims, NOW, token, sizeof(token), &err), 0);
        assert_int_equal(verify(verifier, token, &back), ERR_OK);
        assert_string_equal(back.subject, "u");
        token[strlen(token) - 6] ^= 1;
        assert_true(verify(verifier, token, &back) != ERR_OK);

        /* the public key, which everybody may have, used as an HMAC secret */
        public_text = read_all(path_of(public_name, public_file));
        make(forged, sizeof(forged), HEADER, "{\"sub\":\"u\",\"exp\":1800000600}", public_text,
             strlen(public_text), MAC_SHA256);
        assert_int_equal(verify(verifier, forged, &back), ERR_TOKEN_ALGORITHM);
        snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", algorithms[i]);
        make(forged, sizeof(forged), header, "{\"sub\":\"u\",\"exp\":1800000600}", public_text,
             strlen(public_text), MAC_SHA256);
        assert_int_equal(verify(verifier, forged, &back), ERR_TOKEN_SIGNATURE);
        make(forged, sizeof(forged), "{\"alg\":\"none\"}", "{\"sub\":\"u\",\"exp\":1800000600}", "",
             0, MAC_NONE);
        assert_int_equal(verify(verifier, forged, &back), ERR_TOKEN_ALGORITHM);
        free(public_text);
        token_keys_free(signer);
        token_keys_free(verifier);
    }
}

static void test_bad_keys(void **state)
{
    static const struct {
        const char *algorithm, *public_name, *private_name;
    } table[] = {
        {"RS256", NULL, NULL},
        {"RS256", NULL, "rsa"},
        {"RS256", "missing", NULL},
        {"RS256", "rsa", "rsa"},
        {"RS256", "rsa-public", "rsa-public"},
        {"RS256", "ec-public", "ec"},
        {"ES256", "rsa-public", "rsa"},
        {"RS256", "rsa-public", "rsa2"},
        {"ES256", "ec-public", "rsa"},
        {"RS512", "rsa-public", "rsa"},
        {"none", NULL, NULL},
        {"hs256", NULL, NULL},
    };
    struct auth_options options = {.secret = "0123456789abcdef0123456789abcde"};
    struct error err = ERROR_INIT;

    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        err.code = ERR_OK;
        if (pair_keys(table[i].algorithm, table[i].public_name, table[i].private_name, &err) !=
                NULL ||
            err.code != ERR_CONFIG)
            fail_msg("case %zu: %s", i, err.message);
    }
    assert_null(token_keys_new(&options, &err));
    assert_int_equal(err.code, ERR_CONFIG);
    assert_null(strstr(err.message, options.secret));
    options.secret = NULL;
    assert_null(token_keys_new(&options, &err));
}

/* ---- the header, the cache, passwords ------------------------------------------------------- */

/* A store that is never reached: no token here has a jti. */
static struct auth *auth_without_database(void)
{
    static const struct store_options nowhere = {.conninfo = "host=127.0.0.1 port=1",
                                                 .application = "test_auth",
                                                 .pool_size = 1,
                                                 .connect_timeout_s = 1,
                                                 .statement_timeout_ms = 1000,
                                                 .pool_wait_ms = 1000};
    static const struct auth_options options = {.secret = SECRET,
                                                .token_ttl_s = 60,
                                                .login_max_parallel = 1,
                                                .login_user_max = 3,
                                                .login_address_max = 30,
                                                .key_address_max = 30,
                                                .login_window_s = 60,
                                                .login_delay_max_s = 30};
    struct error err = ERROR_INIT;
    struct auth *auth = NULL;

    if (unreachable == NULL)
        unreachable = store_new(&nowhere);
    auth = auth_new(&options, unreachable, &err);

    if (auth == NULL)
        fail_msg("%s", err.message);
    return auth;
}

static enum error_code authenticate(struct auth *auth, const char *header, struct principal *ret)
{
    struct error err = ERROR_INIT;

    return auth_authenticate(auth, "192.0.2.1", header, NULL, ret, &err) == 0 ? ERR_OK : err.code;
}

static void test_header(void **state)
{
    static const struct {
        const char *format;
        enum error_code code;
    } table[] = {
        {"Bearer %s", ERR_OK},
        {"bearer %s", ERR_OK},
        {"BEARER   %s", ERR_OK},
        {"%s", ERR_TOKEN_MALFORMED},
        {"Bearer%s", ERR_TOKEN_MALFORMED},
        {"Bearer: %s", ERR_TOKEN_MALFORMED},
        {"Basic %s", ERR_TOKEN_MALFORMED},
        {"Bearer %s ", ERR_TOKEN_MALFORMED},
        {"Bearer \"%s\"", ERR_TOKEN_MALFORMED},
        {"Bearer %.0s", ERR_TOKEN_MISSING},
        {"Bearer%.0s", ERR_TOKEN_MISSING},
        {"%.0s", ERR_TOKEN_MISSING},
    };
    struct auth *auth = auth_without_database();
    struct principal principal;
    char token[TOKEN_BYTES + 1], claims[128], header[TOKEN_BYTES + 64];
    char *huge = xcalloc(1, 1 << 20);

    (void)state;
    snprintf(claims, sizeof(claims), "{\"sub\":\"u\",\"exp\":%lld,\"role\":\"admin\"}",
             (long long)(clock_wall_ms() / 1000 + 60));
    make(token, sizeof(token), HEADER, claims, SECRET, strlen(SECRET), MAC_SHA256);
    assert_int_equal(authenticate(auth, NULL, &principal), ERR_TOKEN_MISSING);
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        const char *mark = strstr(table[i].format, "%s");
        const char *empty = strstr(table[i].format, "%.0s");
        const char *at = mark != NULL ? mark : empty;

        snprintf(header, sizeof(header), "%.*s%s%s", (int)(at - table[i].format), table[i].format,
                 mark != NULL ? token : "", at + (mark != NULL ? 2 : 4));
        if (authenticate(auth, header, &principal) != table[i].code)
            fail_msg("%s", table[i].format);
        if (table[i].code == ERR_OK) {
            assert_string_equal(principal.subject, "u");
            /* another issuer's claim makes no admin unless a setting says so */
            assert_false(principal.admin);
        }
    }
    memset(huge, 'a', (1 << 20) - 1);
    memcpy(huge, "Bearer ", 7);
    assert_int_equal(authenticate(auth, huge, &principal), ERR_TOKEN_MALFORMED);
    free(huge);
    auth_free(auth);
}

static void test_cached_token_still_expires(void **state)
{
    struct auth *auth = auth_without_database();
    struct principal principal;
    char token[TOKEN_BYTES + 1], claims[128], header[TOKEN_BYTES + 64];

    (void)state;
    snprintf(claims, sizeof(claims), "{\"sub\":\"u\",\"exp\":%lld}",
             (long long)(clock_wall_ms() / 1000 + 60));
    make(token, sizeof(token), HEADER, claims, SECRET, strlen(SECRET), MAC_SHA256);
    snprintf(header, sizeof(header), "Bearer %s", token);
    for (int i = 0; i < 3; i++)
        assert_int_equal(authenticate(auth, header, &principal), ERR_OK);
    clock_test_advance_ms((60 + TOKEN_LEEWAY_S + 1) * 1000);
    assert_int_equal(authenticate(auth, header, &principal), ERR_TOKEN_EXPIRED);
    auth_free(auth);
}

static void test_many_tokens_through_the_cache(void **state)
{
    struct auth *auth = auth_without_database();
    long long exp_s = (long long)(clock_wall_ms() / 1000 + 60);

    (void)state;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 6000; i++) {
            struct principal principal;
            char token[TOKEN_BYTES + 1], claims[128], header[TOKEN_BYTES + 64], subject[32];

            snprintf(subject, sizeof(subject), "user-%d", i);
            snprintf(claims, sizeof(claims), "{\"sub\":\"%s\",\"exp\":%lld}", subject, exp_s);
            make(token, sizeof(token), HEADER, claims, SECRET, strlen(SECRET), MAC_SHA256);
            snprintf(header, sizeof(header), "Bearer %s", token);
            assert_int_equal(authenticate(auth, header, &principal), ERR_OK);
            assert_string_equal(principal.subject, subject);
        }
    }
    auth_free(auth);
}

/* Without having read the revocations even once, a revocable token is not trusted. */
static void test_revocable_token_needs_the_database(void **state)
{
    struct auth *auth = auth_without_database();
    struct principal principal;
    char token[TOKEN_BYTES + 1], claims[128], header[TOKEN_BYTES + 64];

    (void)state;
    snprintf(claims, sizeof(claims), "{\"sub\":\"u\",\"exp\":%lld,\"jti\":\"j\"}",
             (long long)(clock_wall_ms() / 1000 + 60));
    make(token, sizeof(token), HEADER, claims, SECRET, strlen(SECRET), MAC_SHA256);
    snprintf(header, sizeof(header), "Bearer %s", token);
    assert_int_equal(authenticate(auth, header, &principal), ERR_DATABASE_DOWN);
    auth_free(auth);
}

/* An outage is not a wrong password: it must not use up the attempts. */
static void test_login_while_the_database_is_away(void **state)
{
    struct auth *auth = auth_without_database();
    struct auth_token token;
    struct error err = ERROR_INIT;
    int retry_after_s;

    (void)state;
    for (int i = 0; i < 6; i++) {
        assert_int_equal(
            auth_login(auth, "alice", "password", "127.0.0.1", &token, &retry_after_s, &err), -1);
        assert_int_equal(err.code, ERR_DATABASE_DOWN);
    }
    auth_free(auth);
}

static void test_passwords(void **state)
{
    char hash[PASSWORD_HASH_BYTES], other[PASSWORD_HASH_BYTES], longest[PASSWORD_MAX_BYTES + 2];
    struct error err = ERROR_INIT;

    (void)state;
    assert_int_equal(password_hash("correct horse", hash, &err), 0);
    assert_int_equal(password_hash("correct horse", other, &err), 0);
    assert_memory_equal(hash, "$argon2id$v=19$m=19456,t=2,p=1$", 31);
    assert_string_not_equal(hash, other);
    assert_true(password_verify(hash, "correct horse"));
    assert_false(password_verify(hash, "correct horsf"));
    assert_false(password_verify(hash, ""));
    assert_false(password_verify("", "correct horse"));
    assert_false(password_verify("plain", "plain"));
    assert_int_equal(password_hash("short", hash, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    memset(longest, 'x', sizeof(longest));
    longest[PASSWORD_MAX_BYTES + 1] = '\0';
    assert_int_equal(password_hash(longest, hash, &err), -1);
    longest[PASSWORD_MAX_BYTES] = '\0';
    assert_int_equal(password_hash(longest, hash, &err), 0);
    assert_true(password_verify(hash, longest));
}

static int prepare(void **state)
{
    (void)state;
    if (sodium_init() < 0 || mkdtemp(folder) == NULL)
        return -1;
    make_pair("rsa", "RSA", "rsa_keygen_bits:2048");
    make_pair("rsa2", "RSA", "rsa_keygen_bits:2048");
    make_pair("ec", "EC", "ec_paramgen_curve:P-256");
    return 0;
}

static int clean(void **state)
{
    static const char *const names[] = {"rsa",         "rsa-public", "rsa2",
                                        "rsa2-public", "ec",         "ec-public"};
    char path[128];

    (void)state;
    store_free(unreachable);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unlink(path_of(names[i], path));
    return rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_claims),
        cmocka_unit_test(test_subject_length),
        cmocka_unit_test(test_issuer_and_audience),
        cmocka_unit_test(test_admins_of_another_issuer),
        cmocka_unit_test(test_long_tokens),
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_every_flipped_bit_is_refused),
        cmocka_unit_test(test_signature),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_key_pairs),
        cmocka_unit_test(test_bad_keys),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_cached_token_still_expires),
        cmocka_unit_test(test_many_tokens_through_the_cache),
        cmocka_unit_test(test_revocable_token_needs_the_database),
        cmocka_unit_test(test_login_while_the_database_is_away),
        cmocka_unit_test(test_passwords),
    };

    return cmocka_run_group_tests(tests, prepare, clean);
}
