/* handlers_ports - the URL under which a port of a sandbox is reached from outside. */
#include "gateway/http/bounds.h"
#include "gateway/http/handlers.h"
#include "gateway/http/views.h"
#include "gateway/work/lifecycle.h"

enum { URL_MAX_BYTES = 1024 };

void handle_expose_port(struct request *request)
{
    struct error err = ERROR_INIT;
    char sandbox_id[UUID_BYTES];
    struct sandbox sandbox;
    struct strbuf url;
    int64_t port;
    cJSON *data;

    if (request_sandbox_id(request, sandbox_id, &err) < 0 ||
        json_get_int_req(request->body, "port", 1, PORT_MAX, &port, &err) < 0 ||
        lifecycle_get_running(request, sandbox_id, &sandbox, &err) < 0) {
        respond_error(request, &err, 0);
        return;
    }
    strbuf_init(&url, URL_MAX_BYTES);
    if (view_port_url(request, &sandbox, (int)port, &url, &err) < 0) {
        respond_error(request, &err, 0);
    } else {
        data = cJSON_CreateObject();
        cJSON_AddTrueToObject(data, "success");
        cJSON_AddStringToObject(data, "url", url.data);
        cJSON_AddStringToObject(data, "message", "Port exposed");
        respond_data(request, 200, data);
    }
    strbuf_done(&url);
    sandbox_done(&sandbox);
}
