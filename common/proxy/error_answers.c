/* error_answers - see error_answers.h. */
#include "common/proxy/error_answers.h"

#include <stdio.h>
#include <string.h>

#include "common/proxy/head.h"

static const struct {
    int status;
    const char *reason, *message, *title, *text;
} answers[] = {
    [ERROR_ANSWER_NOT_FOUND] = {502, "Bad Gateway", "The sandbox was not found",
                                "Sandbox Not Found", "wasn't found"},
    [ERROR_ANSWER_PORT_CLOSED] = {502, "Bad Gateway", "The sandbox is running but port is not open",
                                  "Closed Port Error",
                                  "is running but there's no service running on port"},
    [ERROR_ANSWER_TOKEN_MISSING] = {403, "Forbidden",
                                    "Sandbox is secured with traffic access token. Token header "
                                    "'" ERROR_ANSWER_TOKEN_HEADER "' is missing",
                                    "Missing Traffic Access Token",
                                    "enforces traffic access token. Token header "
                                    "\"" ERROR_ANSWER_TOKEN_HEADER "\" is missing"},
    [ERROR_ANSWER_TOKEN_WRONG] = {403, "Forbidden",
                                  "Sandbox is secured with traffic access token. Provided token in "
                                  "header '" ERROR_ANSWER_TOKEN_HEADER "' is invalid",
                                  "Invalid Traffic Access Token",
                                  "enforces traffic access token. Provided token in header "
                                  "\"" ERROR_ANSWER_TOKEN_HEADER "\" is invalid"},
};

/* E2B sends people HTML and programs JSON. */
static bool wants_html(const char *head)
{
    static const char *const browsers[] = {"mozilla", "chrome", "safari", "firefox",
                                           "edge",    "opera",  "msie"};
    char agent[512], accept[512];

    if (head_value(head, "Accept", accept, sizeof(accept)) &&
        strcasestr(accept, "application/json") != NULL) {
        return false;
    }
    if (!head_value(head, "User-Agent", agent, sizeof(agent))) {
        return false;
    }
    for (size_t i = 0; i < sizeof(browsers) / sizeof(browsers[0]); i++) {
        if (strcasestr(agent, browsers[i]) != NULL) {
            return true;
        }
    }
    return false;
}

const char *error_answer_cors_lines(const char *head)
{
    return head_has(head, "Origin")
               ? "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: *\r\n"
               : "";
}

static void respond(struct strbuf *out, const char *head, int status, const char *reason,
                    const char *type, const char *body)
{
    strbuf_printf(out,
                  "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%sConnection: "
                  "close\r\n\r\n",
                  status, reason, type, strlen(body), error_answer_cors_lines(head));
    if (!head_method_is(head, "HEAD")) {
        strbuf_puts(out, body);
    }
}

void error_answer_sandbox(struct strbuf *out, const char *head, const struct route_target *target,
                          enum error_answer why)
{
    char body[1024], port[32] = "";

    if (wants_html(head)) {
        if (why == ERROR_ANSWER_PORT_CLOSED) {
            snprintf(port, sizeof(port), " %d", target->port);
        }
        snprintf(body, sizeof(body),
                 "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"UTF-8\"><title>%s</title>"
                 "</head><body><h1>%s</h1><p>The sandbox %s %s%s.</p></body></html>\n",
                 answers[why].title, answers[why].title, target->id, answers[why].text, port);
        respond(out, head, answers[why].status, answers[why].reason, "text/html; charset=utf-8",
                body);
        return;
    }
    if (why == ERROR_ANSWER_PORT_CLOSED) {
        snprintf(port, sizeof(port), ",\"port\":%d", target->port);
    }
    snprintf(body, sizeof(body), "{\"sandboxId\":\"%s\",\"message\":\"%s\",\"code\":%d%s}",
             target->id, answers[why].message, answers[why].status, port);
    respond(out, head, answers[why].status, answers[why].reason, "application/json; charset=utf-8",
            body);
}

void error_answer_plain(struct strbuf *out, const char *head, int status, const char *reason,
                        const char *message)
{
    char body[256];

    snprintf(body, sizeof(body), "{\"code\":%d,\"message\":\"%s\"}", status, message);
    respond(out, head, status, reason, "application/json; charset=utf-8", body);
}

bool error_answer_is_preflight(const char *head)
{
    return head_method_is(head, "OPTIONS") && head_has(head, "Origin") &&
           head_has(head, "Access-Control-Request-Method");
}

void error_answer_preflight(struct strbuf *out, const char *head)
{
    char asked[2048];

    strbuf_puts(out, "HTTP/1.1 204 No Content\r\n"
                     "Access-Control-Allow-Origin: *\r\n"
                     "Access-Control-Allow-Methods: HEAD, GET, POST, PUT, PATCH, DELETE\r\n"
                     "Access-Control-Max-Age: 7200\r\n"
                     "Vary: Origin, Access-Control-Request-Method, "
                     "Access-Control-Request-Headers\r\n");
    if (head_value(head, "Access-Control-Request-Headers", asked, sizeof(asked)) &&
        strspn(asked, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_, ") ==
            strlen(asked)) {
        strbuf_printf(out, "Access-Control-Allow-Headers: %s\r\n", asked);
    }
    strbuf_puts(out, "Connection: close\r\n\r\n");
}
