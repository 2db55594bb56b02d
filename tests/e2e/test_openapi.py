"""openapi.json against the gateway that serves it: every route, every field, every answer."""

import re
from html.parser import HTMLParser

import httpx
import pytest

from tests.e2e.test_hostile import COMMAND_ID, ID, TAKES, routes
from tests.harness.stack import BASE, PASSWORD

pytestmark = pytest.mark.release_only


@pytest.fixture(scope="module")
def spec(stack):
    answer = httpx.get(stack.url + "/openapi.json", trust_env=False)
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("application/json")
    return answer.json()


def template(path: str) -> str:
    return path.replace(ID, "{id}").replace(COMMAND_ID, "{command_id}")


def operation(spec: dict, method: str, path: str) -> dict:
    return spec["paths"][path][method.lower()]


def resolve(spec: dict, node: dict) -> dict:
    while "$ref" in node:
        target = spec
        for part in node["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        node = target
    return node


def matches(schema: dict, value) -> bool:
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    checks = {"string": lambda v: isinstance(v, str), "boolean": lambda v: isinstance(v, bool), "null": lambda v: v is None,
              "integer": lambda v: isinstance(v, int) and not isinstance(v, bool), "array": lambda v: isinstance(v, list),
              "object": lambda v: isinstance(v, dict)}
    if not any(checks[k](value) for k in kinds):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if value is not None and schema.get("format") == "uuid":
        return re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", value) is not None
    if value is not None and schema.get("format") == "date-time":
        return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", value) is not None
    return True


def test_it_is_a_complete_openapi_document(spec):
    assert spec["openapi"] == "3.1.0" and spec["info"]["title"] and spec["info"]["version"]
    ids = [op["operationId"] for path in spec["paths"].values() for op in path.values()]
    assert len(ids) == len(set(ids)) > 20
    for path, operations in spec["paths"].items():
        assert path.startswith("/")
        for method, op in operations.items():
            assert method in ("get", "post", "delete") and op["summary"] and op["tags"] and "200" in op["responses"]
            in_path = {p["name"] for p in op["parameters"] if p["in"] == "path"}
            assert in_path == set(re.findall(r"\{(\w+)\}", path)) and all(p["required"] for p in op["parameters"] if p["in"] == "path")
            assert len({(p["in"], p["name"]) for p in op["parameters"]}) == len(op["parameters"])
            failure = resolve(spec, op["responses"]["default"])
            assert failure["content"]["application/json"]["schema"]["properties"]["error"]


def test_every_route_is_in_it_and_nothing_else(spec, stack):
    told = {(method.upper(), path) for path, operations in spec["paths"].items() for method in operations}
    text = {(r.method, template(r.path)) for r in routes()}
    assert told == text
    for method, path in told:
        answer = httpx.request(method, stack.url + path.replace("{id}", ID).replace("{command_id}", COMMAND_ID), trust_env=False)
        is_open = operation(spec, method, path).get("security") == []
        # there: not 404 for want of a route, not 405; and open exactly where it says so
        assert answer.status_code != 405 and (answer.status_code == 400) >= (not is_open), f"{method} {path}: {answer.status_code}"
        if not is_open:
            assert answer.json()["error"]["type"] == "header_missing"


def test_the_fields_of_bodies_are_those_that_are_checked(spec):
    """TAKES is what test_hostile sends every wrong type to: the document must say the same."""
    kinds = {"str": "string", "text": "string", "choice": "string", "id": "string", "int": "integer", "bool": "boolean", "map": "object",
             "network": "object", "count": "integer", "offset": "integer", "scopes": "array", "limits": "object"}

    def kind_of(schema: dict) -> str:
        kinds_of = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        return next(kind for kind in kinds_of if kind != "null")

    for route in routes():
        op = operation(spec, route.method, template(route.path))
        body = op.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
        if route.handler not in TAKES:
            assert body is None, route
            continue
        takes = TAKES[route.handler][0]
        assert set(body["properties"]) == set(takes), route
        assert set(body.get("required", [])) == {n for n, (_, required) in takes.items() if required}, route
        for name, (kind, _) in takes.items():
            assert kind_of(body["properties"][name]) == kinds[kind], f"{route} {name}"
            if kind == "id":
                assert body["properties"][name]["format"] == "uuid"


def test_answers_are_as_it_says(spec, stack):
    """Every call is made for real; its answer has the fields that are told, of their types, and no others."""
    client = stack.client("reader")
    seen = set()

    def check(method: str, path: str, answer: httpx.Response) -> dict:
        assert answer.status_code == 200, f"{method} {path}: {answer.text}"
        seen.add((method, path))
        content = operation(spec, method, path)["responses"]["200"]["content"]
        kind = answer.headers["Content-Type"].split(";")[0]
        assert kind in content, f"{method} {path}: {kind}"
        if kind != "application/json":
            return {}
        schema, body = content[kind]["schema"], answer.json()
        if "data" in schema.get("properties", {}):
            assert body["code"] == 200 and isinstance(body["msg"], str)
            schema, body = schema["properties"]["data"], body["data"]
        if "properties" not in schema:
            return body
        missing = set(schema["required"]) - set(body)
        assert not missing and set(body) <= set(schema["properties"]), f"{method} {path}: {missing} {set(body) - set(schema['properties'])}"
        for name, value in body.items():
            assert matches(schema["properties"][name], value), f"{method} {path} {name}: {value!r} is not {schema['properties'][name]}"
        return body

    def post(path: str, body, **headers):
        return check("POST", BASE + path, client.post(BASE + path, body, **headers))

    box = post("/create", {"user_id": "u", "metadata": {"a": "b"}})["sandbox_id"]
    post("/run-cmd", {"sandbox_id": box, "command": "echo x"})
    check("POST", f"{BASE}/run-cmd", client.post(f"{BASE}/run-cmd", {"sandbox_id": box, "command": "echo x"}, Accept="text/event-stream"))
    command = post("/run-cmd", {"sandbox_id": box, "command": "echo x; cat", "stdin_open": True, "tty": True, "wait_seconds": 0})["command_id"]
    one, of = f"{BASE}/{{id}}/commands/{{command_id}}", f"{BASE}/{box}/commands/{command}"
    for what, body in (("stdin", {"data": "x\n", "offset": 0}), ("resize", {"rows": 9, "columns": 9}), ("signal", {"signal": "INT"})):
        check("POST", f"{one}/{what}", client.post(f"{of}/{what}", body))
    check("POST", f"{one}/terminal", client.post(f"{of}/terminal"))
    for accept in ("application/json", "application/octet-stream", "text/event-stream"):
        check("GET", f"{one}/output", client.get(f"{of}/output", Accept=accept))
    item = check("GET", one, client.get(f"{of}?wait=20"))
    assert check("GET", f"{BASE}/{{id}}/commands", client.get(f"{BASE}/{box}/commands"))["items"][0].keys() == item.keys()
    check("DELETE", one, client.delete(of))
    post("/write-file", {"sandbox_id": box, "file_path": "/tmp/f", "content": "x"})
    post("/read-file", {"sandbox_id": box, "file_path": "/tmp/f"})
    post("/download-file", {"sandbox_id": box, "file_path": "/tmp/f"})
    check("POST", f"{BASE}/upload-file", client.http.post(f"{BASE}/upload-file", headers=client.headers(), files={"file": ("f", b"x")},
                                                          data={"sandbox_id": box, "file_path": "/tmp/g"}))
    post("/create-directory", {"sandbox_id": box, "directory_path": "/tmp/d"})
    listed = post("/list-files", {"sandbox_id": box, "path": "/tmp"})["entries"]
    assert {e["name"]: e["type"] for e in listed} == {
        "f": "file", "g": "file", "d": "directory", ".sandbox-commands": "directory"}
    post("/remove-file", {"sandbox_id": box, "path": "/tmp/f"})
    post("/expose-port", {"sandbox_id": box, "port": 80})
    post("/schedule-timeout", {"sandbox_id": box, "timeout_seconds": 600})
    stack.sql(f"insert into sandbox_ports (sandbox_id, port, visibility, token) values ('{box}', 80, 'private', 'x')")
    assert check("GET", f"{BASE}/{{id}}/ports", client.get(f"{BASE}/{box}/ports"))["items"][0]["port"] == 80
    check("DELETE", f"{BASE}/{{id}}/ports/{{port}}", client.delete(f"{BASE}/{box}/ports/80"))
    for what in ("status", "info", "urls", "events"):
        check("GET", f"{BASE}/{{id}}/{what}", client.get(f"{BASE}/{box}/{what}"))
    check("POST", f"{BASE}/{{id}}/pause", client.post(f"{BASE}/{box}/pause"))
    post("/connect", {"sandbox_id": box})
    for path in (BASE, f"{BASE}/"):
        items = check("GET", path, client.get(path))["items"]
        info = operation(spec, "GET", f"{BASE}/{{id}}/info")["responses"]["200"]["content"]["application/json"]["schema"]
        assert items and all(set(i) == set(info["properties"]["data"]["properties"]) for i in items)
    check("DELETE", f"{BASE}/{{id}}", client.delete(f"{BASE}/{box}"))
    check("POST", "/api/v1/auth/login/swagger", client.http.post("/api/v1/auth/login/swagger", params={"username": "reader", "password": PASSWORD}))
    check("POST", "/api/v1/auth/login", client.post("/api/v1/auth/login", {"username": "reader", "password": PASSWORD}))
    for path in ("/", "/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"):
        check("GET", path, client.get(path))
    check("GET", "/api/v1/events", client.get("/api/v1/events"))
    check("GET", "/api/v1/usage", client.get("/api/v1/usage"))
    check("GET", "/api/v1/limits", client.get("/api/v1/limits"))
    admin = stack.client("auditor", role="admin")
    check("GET", "/api/v1/audit", admin.get("/api/v1/audit"))
    check("GET", "/api/v1/users", admin.get("/api/v1/users"))
    check("POST", "/api/v1/users", admin.post("/api/v1/users", {"username": "fresh", "password": PASSWORD}))
    check("POST", "/api/v1/users/change", admin.post("/api/v1/users/change", {"username": "fresh", "disabled": True}))
    check("POST", "/api/v1/users/limits", admin.post("/api/v1/users/limits", {"username": "fresh", "limits": {"max_paused": 3}}))
    key = check("POST", "/api/v1/keys", client.post("/api/v1/keys", {"name": "k", "scopes": ["exec", "sandboxes:read"]}))
    key = check("POST", "/api/v1/keys/{id}/rotate", client.post(f"/api/v1/keys/{key['id']}/rotate", {"overlap_seconds": 60}))
    items = check("GET", "/api/v1/keys", client.get("/api/v1/keys"))["items"]
    assert [set(i) for i in items] == [set(key) - {"key", "success"}] * 2
    check("DELETE", "/api/v1/keys/{id}", client.delete(f"/api/v1/keys/{key['id']}"))
    check("POST", "/api/v1/auth/logout", client.post("/api/v1/auth/logout"))
    assert seen == {(m.upper(), p) for p, ops in spec["paths"].items() for m in ops}


def test_the_types_of_events_are_those_of_the_list(spec):
    names = re.findall(r'^TYPE\(\w+, "([^"]+)"', open("common/domain/event_types.def").read(), re.M)
    pattern = next(p for p in operation(spec, "GET", "/api/v1/events")["parameters"] if p["name"] == "types")["schema"]["pattern"]
    assert len(names) > 10 and all(re.fullmatch(pattern, name) and re.fullmatch(pattern, f"{name},{names[0]}") for name in names)
    assert not any(re.fullmatch(pattern, wrong) for wrong in ("sandbox", "sandbox.x", "sandbox.paused,", names[0].replace(".", "x")))


def test_failures_are_as_it_says(spec, stack):
    types = resolve(spec, operation(spec, "GET", "/healthz")["responses"]["default"])["content"]["application/json"]["schema"][
        "properties"]["error"]["properties"]["type"]["enum"]
    client = stack.client("fails")
    for answer in (client.post(f"{BASE}/create", {}), client.get(f"{BASE}/x/status"), client.get("/nowhere"), client.post("/healthz", {})):
        assert answer.status_code >= 400 and answer.json()["error"]["type"] in types
    codes = re.findall(r'^X\(\w+, "(\w+)"', open("common/base/error_codes.def").read(), re.M)
    assert set(types) == set(codes) - {"ok", "fenced"}


def test_the_page_needs_nothing_from_elsewhere(spec, stack):
    answer = httpx.get(stack.url + "/docs", trust_env=False)
    page = answer.text
    assert answer.status_code == 200 and "default-src 'none'" in answer.headers["Content-Security-Policy"]
    refs: list[str] = []

    class Tags(HTMLParser):
        open_tags: list[str] = []

        def handle_starttag(self, tag, attrs):
            assert tag not in ("script", "link", "img", "iframe", "object")
            refs.extend(v for k, v in attrs if k in ("src", "href"))
            if tag not in ("meta",):
                self.open_tags.append(tag)

        def handle_endtag(self, tag):
            assert self.open_tags.pop() == tag, tag

    parser = Tags()
    parser.feed(page)
    assert parser.open_tags == [] and refs == ["/openapi.json"] and "url(" not in page and "@import" not in page
    for path in spec["paths"]:
        assert f"<code>{path}</code>" in page
