/*
 * handlers_terminal - URLs for the terminals of commands.
 */
#include "common/base/clock.h"
#include "gateway/data/command_call.h"
#include "gateway/data/terminal_url.h"
#include "gateway/http/handlers.h"

enum { URL_MAX_BYTES = 1024 };

void handle_command_terminal(struct request *request)
{
    const int64_t end_ms = clock_wall_ms() + request->gateway->config->terminal_url_s * 1000;
    struct error err = ERROR_INIT;
    struct command_call command;
    struct sandbox sandbox;
    struct strbuf url;
    cJSON *data;

    if (command_call_find(request, &sandbox, &command, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    sandbox_done(&sandbox);
    strbuf_init(&url, URL_MAX_BYTES);
    if (!command.row.tty || !command.row.kept) {
        error_set(&err, ERR_CONFLICT, "this command has no terminal: it needs tty: true");
    }
    if (err.code != ERR_OK ||
        terminal_url_put(request->gateway, command.row.id, end_ms, &url, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        data = cJSON_CreateObject();
        cJSON_AddTrueToObject(data, "success");
        cJSON_AddStringToObject(data, "message", "Open it as a WebSocket");
        cJSON_AddStringToObject(data, "command_id", command.row.id);
        cJSON_AddStringToObject(data, "url", url.data);
        json_add_time(data, "expires_at", end_ms);
        respond_data(request, 200, data);
    }
    strbuf_done(&url);
}
