/* notice - see notice.h. */
#include "deploy/template/tool-server/notice.h"

#include <string.h>

enum { NOT_IMPLEMENTED = 501 };

static const char state[] = "{\"status\":\"not installed\"}";

static const char page[] =
    "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\n"
    "<meta name=\"viewport\" content=\"width=device-width\">\n"
    "<title>code-server is not installed</title>\n"
    "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40em;margin:4em auto;padding:0 1em}"
    "pre{background:#8882;padding:.6em 1em;overflow:auto}</style>\n"
    "<h1>code-server is not installed in this sandbox</h1>\n"
    "<p>This port is for VS Code in the browser. To get it:</p>\n"
    "<ul>\n<li>On a machine that runs Sandbox Server with <code>make run</code>, install it for "
    "all "
    "new sandboxes:\n<pre>make run WITH_CODE_SERVER=1</pre></li>\n"
    "<li>At E2B and Daytona, build the template of <code>deploy/template</code>, which has "
    "it.</li>\n"
    "<li>In this sandbox only, install it as you like: as soon as <code>code-server</code> is in "
    "the PATH of the services, it starts here in place of this page.</li>\n</ul>\n"
    "<p>Then reload this page. code-server asks for a password, which the sandbox's owner reads "
    "with the API from <code>/home/user/.config/sandbox/vscode-password</code>.</p>\n</html>\n";

void notice_serve(void *arg, struct http_exchange *exchange)
{
    (void)arg;
    if (strcmp(http_path(exchange), "/healthz") == 0) {
        http_respond(exchange, NOT_IMPLEMENTED, "application/json", "Cache-Control: no-store\r\n",
                     state, sizeof(state) - 1);
    } else {
        http_respond(exchange, NOT_IMPLEMENTED, "text/html; charset=utf-8",
                     "Cache-Control: no-store\r\n", page, sizeof(page) - 1);
    }
}

void notice_bad_request(void *arg, const struct http_exchange *exchange, enum error_code code,
                        const char *message, struct strbuf *headers, struct strbuf *body)
{
    (void)arg;
    (void)exchange;
    (void)code;
    (void)headers;
    strbuf_puts(body, message);
}
