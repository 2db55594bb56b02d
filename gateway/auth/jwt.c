/*
 * jwt - token signing and verification: the only file that includes libjwt.
 *
 * Order of verify: form (three canonical base64url parts), header (alg equals the configured one,
 * no crit), signature, then claims. So nothing of an unsigned token but its header is parsed.
 * Threads and failure: see jwt.h. Key text is wiped when freed.
 */
#include "gateway/auth/jwt.h"

#include <errno.h>
#include <fcntl.h>
#include <jwt.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "common/base/alloc.h"
#include "common/base/encode.h"
#include "common/base/json.h"

enum {
    SECRET_MIN_BYTES = 32,
    KEY_FILE_MAX_BYTES = 16384,
    HEADER_MAX_BYTES = 1024,
    CLAIM_NAME_BYTES = 128,
};

/* RFC 7519 NumericDate; beyond 2^53 a double is not exact */
#define NUMERIC_DATE_MAX 9007199254740992.0

struct token_keys {
    jwt_alg_t algorithm;
    const char *algorithm_name;
    char *verify_key, *sign_key;      /* sign_key NULL: cannot sign; HS256: the same text twice */
    char *issuer, *audience;          /* NULL = not checked */
    char *admin_claim, *admin_values; /* NULL = another issuer's token makes no admin */
};

static int refuse(struct error *err, enum error_code code)
{
    return error_set(err, code, "%s", TOKEN_REFUSED_MESSAGE);
}

/* ---- keys ----------------------------------------------------------------------------------- */

static char *dup_or_null(const char *text)
{
    return text != NULL && text[0] != '\0' ? xstrdup(text) : NULL;
}

static void wipe(char *text)
{
    if (text != NULL) {
        sodium_memzero(text, strlen(text));
        free(text);
    }
}

/* Heap text of a PEM file that holds a `kind` ("PUBLIC KEY", "PRIVATE KEY"). */
static char *read_key(const char *path, const char *setting, const char *kind, struct error *err)
{
    char *text = xcalloc(1, KEY_FILE_MAX_BYTES + 1);
    size_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    const char *found;

    if (fd < 0) {
        error_set_errno(err, ERR_CONFIG, errno, "%s: cannot open %s", setting, path);
        goto fail;
    }
    while (length < KEY_FILE_MAX_BYTES) {
        ssize_t got = read(fd, text + length, KEY_FILE_MAX_BYTES - length);

        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            error_set_errno(err, ERR_CONFIG, errno, "%s: cannot read %s", setting, path);
            goto fail;
        }
        if (got == 0) {
            break;
        }
        length += (size_t)got;
    }
    found = strstr(text, kind);
    if (strstr(text, "-----BEGIN ") == NULL || found == NULL || strlen(text) != length ||
        length == KEY_FILE_MAX_BYTES) {
        error_set(err, ERR_CONFIG, "%s: %s is not a PEM file with a %s", setting, path, kind);
        goto fail;
    }
    close(fd);
    return text;
fail:
    if (fd >= 0) {
        close(fd);
    }
    sodium_memzero(text, KEY_FILE_MAX_BYTES);
    free(text);
    return NULL;
}

static int load_pair(struct token_keys *keys, const struct auth_options *options, struct error *err)
{
    if (options->public_key_file == NULL || options->public_key_file[0] == '\0') {
        return error_set(err, ERR_CONFIG, "JWT_PUBLIC_KEY_FILE is needed for %s",
                         keys->algorithm_name);
    }
    keys->verify_key = read_key(options->public_key_file, "JWT_PUBLIC_KEY_FILE",
                                "-----BEGIN PUBLIC KEY-----", err);
    if (keys->verify_key == NULL) {
        return -1;
    }
    if (options->private_key_file == NULL || options->private_key_file[0] == '\0') {
        return 0;
    }
    keys->sign_key =
        read_key(options->private_key_file, "JWT_PRIVATE_KEY_FILE", "PRIVATE KEY-----", err);
    return keys->sign_key != NULL ? 0 : -1;
}

/* Finds a key of the wrong kind, or a pair that does not match, at start instead of at the first
 * login. */
static int try_keys(const struct token_keys *keys, struct error *err)
{
    struct token_claims claims = {.subject = "self-test", .expires_at_s = 1000}, back;
    char token[ISSUED_TOKEN_BYTES];

    if (keys->sign_key == NULL) {
        return 0;
    }
    if (token_sign(keys, &claims, 900, token, sizeof(token), err) != 0 ||
        token_verify(keys, token, strlen(token), 900, &back, err) != 0) {
        return error_set(err, ERR_CONFIG, "the JWT keys do not belong to %s or to each other",
                         keys->algorithm_name);
    }
    return 0;
}

struct token_keys *token_keys_new(const struct auth_options *options, struct error *err)
{
    static const struct {
        const char *name;
        jwt_alg_t algorithm;
    } known[] = {
        {"HS256", JWT_ALG_HS256},
        {"RS256", JWT_ALG_RS256},
        {"ES256", JWT_ALG_ES256},
    };
    struct token_keys *keys = xcalloc(1, sizeof(*keys));
    const char *name =
        options->algorithm != NULL && options->algorithm[0] != '\0' ? options->algorithm : "HS256";
    int status;

    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (strcmp(known[i].name, name) == 0) {
            keys->algorithm = known[i].algorithm;
            keys->algorithm_name = known[i].name;
        }
    }
    keys->issuer = dup_or_null(options->issuer);
    keys->audience = dup_or_null(options->audience);
    keys->admin_claim = dup_or_null(options->admin_claim);
    keys->admin_values = dup_or_null(options->admin_values);
    if (keys->algorithm_name == NULL) {
        status = error_set(err, ERR_CONFIG, "JWT_ALGORITHM is none of HS256, RS256, ES256");
    } else if (keys->algorithm != JWT_ALG_HS256) {
        status = load_pair(keys, options, err);
    } else if (options->secret == NULL || strlen(options->secret) < SECRET_MIN_BYTES) {
        status =
            error_set(err, ERR_CONFIG, "JWT_SECRET_KEY needs at least %d bytes", SECRET_MIN_BYTES);
    } else {
        keys->verify_key = xstrdup(options->secret);
        keys->sign_key = xstrdup(options->secret);
        status = 0;
    }
    if (status == 0) {
        status = try_keys(keys, err);
    }
    if (status != 0) {
        token_keys_free(keys);
        return NULL;
    }
    return keys;
}

void token_keys_free(struct token_keys *keys)
{
    if (keys == NULL) {
        return;
    }
    wipe(keys->verify_key);
    wipe(keys->sign_key);
    free(keys->issuer);
    free(keys->audience);
    free(keys->admin_claim);
    free(keys->admin_values);
    free(keys);
}

bool token_keys_can_sign(const struct token_keys *keys)
{
    return keys->sign_key != NULL;
}

/* ---- sign ----------------------------------------------------------------------------------- */

static int add_text(jwt_t *jwt, const char *name, const char *value)
{
    return value != NULL && value[0] != '\0' ? jwt_add_grant(jwt, name, value) : 0;
}

int token_sign(const struct token_keys *keys, const struct token_claims *claims, int64_t now_s,
               char *out, size_t size, struct error *err)
{
    jwt_t *jwt = NULL;
    char *text = NULL;
    int status = -1;

    if (keys->sign_key == NULL) {
        return error_set(err, ERR_NOT_IMPLEMENTED,
                         "tokens cannot be issued here: JWT_PRIVATE_KEY_FILE is not set");
    }
    if (jwt_new(&jwt) != 0 || add_text(jwt, "sub", claims->subject) != 0 ||
        add_text(jwt, "username", claims->username) != 0 ||
        add_text(jwt, "role", claims->role) != 0 || add_text(jwt, "jti", claims->jti) != 0 ||
        add_text(jwt, "iss", keys->issuer) != 0 || add_text(jwt, "aud", keys->audience) != 0 ||
        jwt_add_grant_int(jwt, TOKEN_GENERATION_CLAIM, (long)claims->generation) != 0 ||
        jwt_add_grant_int(jwt, "iat", (long)now_s) != 0 ||
        jwt_add_grant_int(jwt, "exp", (long)claims->expires_at_s) != 0 ||
        jwt_set_alg(jwt, keys->algorithm, (const unsigned char *)keys->sign_key,
                    (int)strlen(keys->sign_key)) != 0) {
        goto fail;
    }
    text = jwt_encode_str(jwt);
    if (text == NULL || str_copy(out, size, text) != 0) {
        goto fail;
    }
    status = 0;
    goto out;
fail:
    error_set(err, ERR_INTERNAL, "a token could not be made");
out:
    free(text);
    jwt_free(jwt);
    return status;
}

/* ---- verify --------------------------------------------------------------------------------- */

/* Decodes one base64url part without padding (RFC 7515, section 2) into out. */
static int decode_part(const char *part, size_t length, struct strbuf *out)
{
    size_t room = length / 4 * 3 + 3, decoded = 0;
    unsigned char *bytes;
    int status;

    if (length == 0) {
        return -1;
    }
    bytes = xmalloc(room);
    /* libsodium refuses padding, foreign characters and non-zero trailing bits */
    status = sodium_base642bin(bytes, room, part, length, NULL, &decoded, NULL,
                               sodium_base64_VARIANT_URLSAFE_NO_PADDING);
    if (status == 0) {
        status = strbuf_append(out, bytes, decoded);
    }
    free(bytes);
    return status;
}

static cJSON *decode_object(const char *part, size_t length, size_t max_bytes)
{
    struct error err = ERROR_INIT;
    struct strbuf text;
    cJSON *object = NULL;

    strbuf_init(&text, max_bytes);
    if (decode_part(part, length, &text) == 0) {
        object = json_parse(text.data, text.length, &err);
    }
    strbuf_done(&text);
    if (object != NULL && !cJSON_IsObject(object)) {
        cJSON_Delete(object);
        return NULL;
    }
    return object;
}

static const char *text_of(const cJSON *object, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, name));
}

static int check_header(const struct token_keys *keys, const char *part, size_t length,
                        struct error *err)
{
    cJSON *header = decode_object(part, length, HEADER_MAX_BYTES);
    const char *algorithm, *type;
    int status = 0;

    if (header == NULL) {
        return refuse(err, ERR_TOKEN_MALFORMED);
    }
    algorithm = text_of(header, "alg");
    type = text_of(header, "typ");
    if (algorithm == NULL ||
        (cJSON_HasObjectItem(header, "typ") && (type == NULL || strcasecmp(type, "JWT") != 0)) ||
        cJSON_HasObjectItem(header, "crit")) {
        status = refuse(err, ERR_TOKEN_MALFORMED);
    } else if (strcmp(algorithm, keys->algorithm_name) != 0) {
        status = refuse(err, ERR_TOKEN_ALGORITHM);
    }
    cJSON_Delete(header);
    return status;
}

static int check_signature(const struct token_keys *keys, const char *token, struct error *err)
{
    jwt_t *jwt = NULL;
    int status = 0;

    /* the key is never empty: an empty one would make libjwt trust the token */
    if (jwt_decode(&jwt, token, (const unsigned char *)keys->verify_key,
                   (int)strlen(keys->verify_key)) != 0 ||
        jwt == NULL) {
        status = refuse(err, ERR_TOKEN_SIGNATURE);
    } else if (jwt_get_alg(jwt) != keys->algorithm) {
        status = refuse(err, ERR_TOKEN_ALGORITHM);
    }
    jwt_free(jwt);
    return status;
}

/* 1 = present (whole seconds in *ret), 0 = absent, -1 = not a date. */
static int date_of(const cJSON *claims, const char *name, int64_t *ret)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(claims, name);

    if (item == NULL) {
        return 0;
    }
    if (!cJSON_IsNumber(item) || !(item->valuedouble >= 0) ||
        item->valuedouble > NUMERIC_DATE_MAX) {
        return -1;
    }
    *ret = (int64_t)item->valuedouble;
    return 1;
}

/* `aud` is one string or an array of them (RFC 7519, section 4.1.3). */
static bool audience_matches(const cJSON *claims, const char *audience)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(claims, "aud");
    const cJSON *entry;

    if (cJSON_IsString(item)) {
        return strcmp(item->valuestring, audience) == 0;
    }
    if (!cJSON_IsArray(item)) {
        return false;
    }
    cJSON_ArrayForEach(entry, item)
    {
        if (cJSON_IsString(entry) && strcmp(entry->valuestring, audience) == 0) {
            return true;
        }
    }
    return false;
}

/* The claim at a dotted path; a claim whose name contains the dots has priority. */
static const cJSON *claim_at(const cJSON *claims, const char *path)
{
    const cJSON *whole = cJSON_GetObjectItemCaseSensitive(claims, path);
    char name[CLAIM_NAME_BYTES];

    if (whole != NULL) {
        return whole;
    }
    while (claims != NULL && *path != '\0') {
        size_t length = strcspn(path, ".");

        if (length == 0 || length >= sizeof(name)) {
            return NULL;
        }
        memcpy(name, path, length);
        name[length] = '\0';
        claims = cJSON_GetObjectItemCaseSensitive(claims, name);
        path += length + (path[length] == '.');
    }
    return claims;
}

static bool is_listed(const char *list, const char *word)
{
    size_t word_length = strlen(word);

    while (*list != '\0') {
        size_t length = strcspn(list, ",");

        if (length == word_length && length > 0 && memcmp(list, word, length) == 0) {
            return true;
        }
        list += length + (list[length] == ',');
    }
    return false;
}

/* The claim is a string, or an array in which one string must match; `true` counts as "true". */
static bool makes_admin(const struct token_keys *keys, const cJSON *claims)
{
    const cJSON *claim, *entry;

    if (keys->admin_claim == NULL || keys->admin_values == NULL) {
        return false;
    }
    claim = claim_at(claims, keys->admin_claim);
    if (cJSON_IsString(claim)) {
        return is_listed(keys->admin_values, claim->valuestring);
    }
    if (cJSON_IsTrue(claim)) {
        return is_listed(keys->admin_values, "true");
    }
    if (cJSON_IsArray(claim)) {
        cJSON_ArrayForEach(entry, claim)
        {
            if (cJSON_IsString(entry) && is_listed(keys->admin_values, entry->valuestring)) {
                return true;
            }
        }
    }
    return false;
}

/* Decides whether we issued the token, and so whether it makes an admin. A server without a signing
 * key has issued none. */
static void read_origin(const struct token_keys *keys, const cJSON *claims,
                        struct token_claims *ret)
{
    ret->own =
        token_keys_can_sign(keys) && date_of(claims, TOKEN_GENERATION_CLAIM, &ret->generation) == 1;
    ret->admin = ret->own ? strcmp(ret->role, "admin") == 0 : makes_admin(keys, claims);
    if (date_of(claims, "iat", &ret->issued_at_s) != 1) {
        ret->issued_at_s = 0;
    }
}

static int read_claims(const struct token_keys *keys, const cJSON *claims, int64_t now_s,
                       struct token_claims *ret, struct error *err)
{
    const char *subject = text_of(claims, "sub");
    const char *username = text_of(claims, "username");
    const char *role = text_of(claims, "role");
    const char *jti = text_of(claims, "jti");
    const char *issuer = text_of(claims, "iss");
    int64_t not_before_s = 0;
    int has_not_before = date_of(claims, "nbf", &not_before_s);

    memset(ret, 0, sizeof(*ret));
    if (subject == NULL || subject[0] == '\0' ||
        str_copy(ret->subject, sizeof(ret->subject), subject) != 0 ||
        date_of(claims, "exp", &ret->expires_at_s) != 1 || has_not_before < 0) {
        return refuse(err, ERR_TOKEN_MALFORMED);
    }
    if (now_s >= ret->expires_at_s + TOKEN_LEEWAY_S) {
        return refuse(err, ERR_TOKEN_EXPIRED);
    }
    if ((has_not_before && not_before_s > now_s + TOKEN_LEEWAY_S) ||
        (keys->issuer != NULL && (issuer == NULL || strcmp(issuer, keys->issuer) != 0)) ||
        (keys->audience != NULL && !audience_matches(claims, keys->audience))) {
        return refuse(err, ERR_TOKEN_MALFORMED);
    }
    /* another issuer may use these claims differently: ignore values of another form */
    if (username == NULL || username[0] == '\0' ||
        str_copy(ret->username, sizeof(ret->username), username) != 0) {
        str_copy(ret->username, sizeof(ret->username), subject);
    }
    if (role != NULL && str_copy(ret->role, sizeof(ret->role), role) != 0) {
        ret->role[0] = '\0';
    }
    if (jti != NULL && str_copy(ret->jti, sizeof(ret->jti), jti) != 0) {
        ret->jti[0] = '\0';
    }
    read_origin(keys, claims, ret);
    return 0;
}

int token_verify(const struct token_keys *keys, const char *token, size_t length, int64_t now_s,
                 struct token_claims *ret, struct error *err)
{
    char copy[TOKEN_BYTES + 1];
    const char *payload, *signature;
    struct strbuf scratch;
    cJSON *claims;
    int status;

    if (length == 0 || length > TOKEN_BYTES || memchr(token, '\0', length) != NULL) {
        return refuse(err, ERR_TOKEN_MALFORMED);
    }
    memcpy(copy, token, length);
    copy[length] = '\0';
    payload = strchr(copy, '.');
    signature = payload != NULL ? strchr(payload + 1, '.') : NULL;
    if (signature == NULL || strchr(signature + 1, '.') != NULL) {
        return refuse(err, ERR_TOKEN_MALFORMED);
    }
    payload++;
    signature++;
    if (check_header(keys, copy, (size_t)(payload - 1 - copy), err) != 0) {
        return -1;
    }
    strbuf_init(&scratch, TOKEN_BYTES);
    status = decode_part(signature, strlen(signature), &scratch);
    strbuf_done(&scratch);
    if (status != 0) {
        return refuse(err, ERR_TOKEN_MALFORMED);
    }
    if (check_signature(keys, copy, err) != 0) {
        return -1;
    }
    claims = decode_object(payload, (size_t)(signature - 1 - payload), TOKEN_BYTES);
    if (claims == NULL) {
        return refuse(err, ERR_TOKEN_MALFORMED);
    }
    status = read_claims(keys, claims, now_s, ret, err);
    cJSON_Delete(claims);
    return status;
}
