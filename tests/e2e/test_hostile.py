"""What a careful client never sends, to every route that there is: each gets the right 4xx, nothing is done
for it, nobody else notices, and the log holds one line about it that is no warning.

The routes come from gateway/http/routes.def, so that a new one without its table here fails.
"""

import json
import re
import socket
import threading
import uuid

import httpx
import pytest

from tests.harness.services import ROOT, wait_until
from tests.harness.stack import BASE, SECRET, Client, FaultProvider, Stack

ID = "11111111-2222-4333-8444-555555555555"
COMMAND_ID = "99999999-2222-4333-8444-555555555555"

# what each JSON route takes: name -> (kind, required), and one body that is in order
ON_TIMEOUT = ("choice", False)
TAKES = {
    "handle_login": ({"username": ("str", True), "password": ("str", True)}, {"username": "nobody", "password": "x"}),
    "handle_key_create": ({"name": ("str", True), "scopes": ("scopes", True), "expires_in_seconds": ("int", False)},
                          {"name": "n", "scopes": ["exec"]}),
    "handle_user_create": ({"username": ("str", True), "password": ("str", True), "role": ("choice", False)},
                           {"username": "new-one", "password": "long enough"}),
    "handle_user_change": ({"username": ("str", True), "password": ("str", False), "disabled": ("bool", False)},
                           {"username": "nobody-here"}),
    "handle_user_limits": ({"username": ("str", True), "limits": ("limits", True)}, {"username": "nobody-here", "limits": {}}),
    "handle_key_rotate": ({"overlap_seconds": ("count", True)}, {"overlap_seconds": 60}),
    "handle_create": ({"user_id": ("str", True), "sandbox_template_id": ("str", False), "timeout_seconds": ("int", False),
                       "paused_ttl_seconds": ("int", False), "on_timeout": ON_TIMEOUT, "provider": ("choice", False), "metadata": ("map", False),
                       "envs": ("map", False), "network": ("network", False)}, {"user_id": "u"}),
    "handle_connect": ({"sandbox_id": ("id", True)}, {"sandbox_id": ID}),
    "handle_schedule_timeout": ({"sandbox_id": ("id", True), "timeout_seconds": ("int", True), "on_timeout": ON_TIMEOUT},
                                {"sandbox_id": ID, "timeout_seconds": 60}),
    "handle_run_cmd": ({"sandbox_id": ("id", True), "command": ("str", True), "background": ("bool", False),
                        "timeout_seconds": ("int", False), "cwd": ("str", False), "envs": ("map", False),
                        "output_encoding": ("choice", False), "command_id": ("id", False), "wait_seconds": ("count", False),
                        "stdin": ("str", False), "stdin_open": ("bool", False), "user": ("str", False), "tty": ("bool", False),
                        "rows": ("int", False), "columns": ("int", False)}, {"sandbox_id": ID, "command": "true"}),
    "handle_command_stdin": ({"data": ("str", True), "encoding": ("choice", False), "offset": ("offset", True), "end": ("bool", False)},
                             {"data": "x", "offset": 0}),
    "handle_command_signal": ({"signal": ("choice", True)}, {"signal": "INT"}),
    "handle_command_resize": ({"rows": ("int", True), "columns": ("int", True)}, {"rows": 24, "columns": 80}),
    "handle_write_file": ({"sandbox_id": ("id", True), "file_path": ("str", True), "content": ("text", True),
                           "encoding": ("choice", False), "path_encoding": ("choice", False)},
                          {"sandbox_id": ID, "file_path": "/f", "content": ""}),
    "handle_read_file": ({"sandbox_id": ("id", True), "file_path": ("str", True), "path_encoding": ("choice", False)},
                         {"sandbox_id": ID, "file_path": "/f"}),
    "handle_download_file": ({"sandbox_id": ("id", True), "file_path": ("str", True), "path_encoding": ("choice", False)},
                             {"sandbox_id": ID, "file_path": "/f"}),
    "handle_create_directory": ({"sandbox_id": ("id", True), "directory_path": ("str", True), "exist_ok": ("bool", False),
                                 "path_encoding": ("choice", False)},
                                {"sandbox_id": ID, "directory_path": "/d"}),
    "handle_list_files": ({"sandbox_id": ("id", True), "path": ("str", True), "path_encoding": ("choice", False),
                           "limit": ("int", False), "cursor": ("text", False)}, {"sandbox_id": ID, "path": "/d"}),
    "handle_remove_file": ({"sandbox_id": ("id", True), "path": ("str", True), "recursive": ("bool", False),
                            "path_encoding": ("choice", False)},
                           {"sandbox_id": ID, "path": "/d"}),
    "handle_expose_port": ({"sandbox_id": ("id", True), "port": ("int", True), "expires_in_seconds": ("int", False),
                            "visibility": ("choice", False)}, {"sandbox_id": ID, "port": 80}),
}

# values that are wrong for each kind; null is "missing"
WRONG = {
    "str": [0, 1.5, True, [], {}, ["a"], {"a": "b"}, "x" * 300_000],
    "text": [0, 1.5, True, [], {}],
    "choice": [0, True, [], {}, "nonsense", "x" * 5000],
    "id": [0, True, [], {}, "", "x", ID + "0", ID[:-1], ID.replace("1", "g"), "{" + ID + "}", "../" + ID, "x" * 5000],
    "int": ["1", "", True, [], {}, 0, -1, 1.5, 1e300, -1e300, 2**53, 2**63, 2**64],
    "count": ["1", "", True, [], {}, -1, 1.5, 1e300, -1e300, 2**53, 2**63, 2**64],
    "offset": ["1", "", True, [], {}, -1, 1.5, 1e300, -1e300, 2**53, 2**63, 2**64],
    "limits": [0, True, "", [], {"nonsense": 1}, {"max_sandboxes": -1}, {"max_sandboxes": "1"}, {"max_sandboxes": 1.5}],
    "scopes": [0, True, "", "exec", {}, [], [1], [None], ["nonsense"], ["exec", ""]],
    "bool": [0, 1, "true", "", [], {}],
    "network": [0, True, "", [], {"a": 1}, {"allow_internet": "no"}, {"allow_out": ["1.1.1.1"]}, {"deny_out": "10.0.0.0/8"},
                {"deny_out": [None]}, {"deny_out": ["a.com"]}, {"deny_out": ["10.0.0.0/8"] * 65}],
    "map": [0, True, "", "a", [], ["a"], {"a": 1}, {"a": None}, {"a": {}}, {"a": []}, {"": "b"}, {"k" * 5000: "v"},
            {"a": "v" * 70_000}, {f"k{i}": "v" for i in range(1000)}],
}


class Route:
    def __init__(self, method: str, path: str, flags: str, handler: str):
        self.method, self.handler = method, handler
        self.path = path.replace("{id}", ID).replace("{command_id}", COMMAND_ID)
        self.flags = set(re.findall(r"\w+", flags))
        self.open = "OPEN" in self.flags
        self.json = "JSON" in self.flags
        self.body = bool({"JSON", "MAYBE_JSON"} & self.flags)

    def __repr__(self) -> str:
        return f"{self.method} {self.path}"


def routes() -> list[Route]:
    text = (ROOT / "gateway/http/routes.def").read_text().replace(f'"{BASE}"', "BASE")
    found = re.findall(r'^X\("(\w+)", (.*?), ([^,]+), (\w+)\)', text, re.M)
    return [Route(m, "".join(re.findall(r'"([^"]*)"', p.replace("BASE", f'"{BASE}"'))), f, h) for m, p, f, h in found]


ROUTES = routes()


@pytest.fixture(scope="module")
def quiet_stack(tmp_path_factory, redis, postgres):
    provider = FaultProvider(tmp_path_factory.mktemp("provider"))
    with Stack(tmp_path_factory.mktemp("hostile"), redis, postgres, provider, env={
            "GATEWAY_THREADS": "24", "GATEWAY_REQUEST_TIMEOUT_MS": "2000", "LOGIN_ADDRESS_MAX": "100000",
            "LOGIN_USER_MAX": "100000", "GATEWAY_MAX_BODY_BYTES": "1048576", "GATEWAY_MAX_FILE_BYTES": "1048576"}) as stack:
        yield stack
    provider.stop()


@pytest.fixture(scope="module")
def client(quiet_stack):
    return quiet_stack.client("root", role="admin")  # all routes are open to it


class Watch:
    """Before and after: nothing created, nothing left behind, nothing in the log that asks for attention."""

    def __init__(self, stack: Stack):
        self.stack, self.gateway = stack, stack.gateways[0]

    def threads(self) -> int:
        return int(re.search(r"^Threads:\s+(\d+)", open(f"/proc/{self.gateway.pid}/status").read(), re.M)[1])

    def rows(self) -> list:
        return self.stack.sql("select (select count(*) from sandboxes), (select count(*) from jobs)")

    def __enter__(self) -> "Watch":
        self.mark, self.fds, self.thread_count = len(self.gateway.events()), self.gateway.fd_count_once(), self.threads()
        self.rss, self.before = self.gateway.rss_bytes(), self.rows()
        return self

    def __exit__(self, kind, *_) -> None:
        if kind is not None:
            return
        assert self.gateway.alive() and self.rows() == self.before
        assert httpx.get(self.stack.url + "/healthz", trust_env=False).status_code == 200
        lines = self.gateway.events(self.mark)
        loud = [line for line in lines if line["level"] in ("warn", "error")]
        assert not loud, loud[:3]
        text = json.dumps(lines)
        assert SECRET not in text and "Bearer" not in text
        wait_until("descriptors are given back", lambda: self.gateway.fd_count_once() <= self.fds + 2, 10)
        assert self.threads() <= self.thread_count
        if "san-" not in str(self.gateway.argv[0]):  # quarantine keeps what is freed
            assert self.gateway.rss_bytes() < self.rss + 40_000_000


def problems(answers: list[tuple[str, httpx.Response, set]]) -> list[str]:
    """What each answer should have been and was not."""
    bad = []
    for what, answer, wanted in answers:
        kind = None
        try:
            body = answer.json()
            kind = (body.get("error") or {}).get("type")
            good = body["code"] == answer.status_code and (answer.status_code < 400 or body["data"] is None)
        except (ValueError, KeyError):
            good = False
        if not good or (answer.status_code not in wanted and (answer.status_code, kind) not in wanted):
            bad.append(f"{what}: {answer.status_code} {answer.text[:200]}")
    return bad


def send(client: Client, route: Route, content: bytes | None = None, **headers: str) -> httpx.Response:
    more = {"Content-Type": "application/json"} if content is not None else {}
    return client.http.request(route.method, route.path, content=content, headers=client.headers(**(more | headers)))


# ---- tables over every route ----------------------------------------------------------------------

def test_every_json_route_is_in_the_table():
    assert {r.handler for r in ROUTES if r.body} == set(TAKES)
    assert len(ROUTES) > 20


def test_each_field_of_each_type(quiet_stack, client):
    answers = []
    with Watch(quiet_stack):
        for route in (r for r in ROUTES if r.body):
            fields, good = TAKES[route.handler]
            for name, (kind, required) in fields.items():
                for value in WRONG[kind]:
                    body = json.dumps(good | {name: value}).encode()
                    answer = send(client, route, body)
                    wanted = {(400, "invalid_request"), (413, "too_large")} | ({401} if route.open else set())
                    answers.append((f"{route} {name}={str(value)[:40]}", answer, wanted))
                    named = json.dumps(answer.json()["error"])
                    if answer.status_code == 400:
                        assert name in named, f"{route} {name}={str(value)[:40]}: {named}"
                if required:
                    for body in ({k: v for k, v in good.items() if k != name}, good | {name: None}):
                        answer = send(client, route, json.dumps(body).encode())
                        answers.append((f"{route} without {name}", answer, {(400, "invalid_request")}))
                        assert answer.json()["error"]["fields"][0]["field"] == name, answer.text
    assert len(answers) > 250 and not problems(answers), "\n".join(problems(answers))


def test_bodies_that_are_not_the_json_asked_for(quiet_stack, client):
    answers = []
    with Watch(quiet_stack):
        for route in (r for r in ROUTES if r.body):
            good = json.dumps(TAKES[route.handler][1])
            some = list(TAKES[route.handler][0])[0]
            bodies = {
                "nothing": b"", "spaces": b"   ", "not json": b"hello", "array": b"[]", "string": b'"x"', "number": b"1",
                "null": b"null", "two": good.encode() + good.encode(), "trailing": good.encode() + b"x", "cut": good.encode()[:-1],
                "single quotes": b"{'a':1}", "comment": b"{/**/}", "trailing comma": good[:-1].encode() + b",}", "nan": b'{"a":NaN}',
                "bom": b"\xef\xbb\xbf" + good.encode(), "utf-16": good.encode("utf-16"), "bad utf-8": b'{"%s":"\xff\xfe"}' % some.encode(),
                "overlong": b'{"%s":"\xc0\xaf"}' % some.encode(), "surrogate": b'{"%s":"\\ud800"}' % some.encode(),
                "nul": b'{"%s":"a\x00b"}' % some.encode(), "escaped nul": b'{"%s":"a\\u0000b"}' % some.encode(),
                "nul in a key": b'{"%s\\u0000":"a"}' % some.encode(), "control": b'{"%s":"a\x01b"}' % some.encode(),
                "deep arrays": b'{"a":' + b"[" * 100_000, "deep objects": b'{"a":' * 50_000, "deep but closed": b'{"x":' + b"[" * 33 + b"]" * 33 + b"}",
                "twice": b'{"%s":"a","%s":"b"}' % (some.encode(), some.encode()), "many values": b'{"x":[' + b"0," * 300_000 + b"0]}",
                "leading zero": b'{"x":01}', "long number": b'{"x":' + b"9" * 100_000 + b"}", "form": b"a=b",
            }
            for what, body in bodies.items():
                if route.method == "POST" and not route.json and what == "nothing":
                    continue  # these take query parameters instead
                # without a token nobody may send much
                wanted = {(413, "too_large")} if route.open and len(body) > 4096 else {(400, "invalid_json"), (400, "invalid_request")}
                answers.append((f"{route} {what}", send(client, route, body), wanted))
            too_large = json.dumps({"x": "y" * 3_000_000}).encode()
            answers.append((f"{route} too large", send(client, route, too_large), {(413, "too_large")}))
    assert not problems(answers), "\n".join(problems(answers))


def test_content_types(quiet_stack, client):
    answers = []
    with Watch(quiet_stack):
        for route in (r for r in ROUTES if r.body):
            body = json.dumps(TAKES[route.handler][1]).encode()
            for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/jsonx",
                         "application/json/x", "json", "", "*/*", "application/json-patch+json", "a" * 4000):
                answers.append((f"{route} {kind[:40]}", send(client, route, body, **{"Content-Type": kind}), {415}))
            for kind in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON", "application/json ;a=b"):
                answer = send(client, route, b"[]", **{"Content-Type": kind})
                assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_json", f"{route} {kind}"
    assert not problems(answers), "\n".join(problems(answers))


def test_tokens_of_every_wrong_kind(quiet_stack, client):
    good = client.token
    head, payload, signature = good.split(".")
    tokens = {
        None: "token_missing", "": "token_missing", "Bearer": "token_missing", "Bearer ": "token_missing",
        "Basic dTpw": "token_malformed", good: "token_malformed", f"bearer{good}": "token_malformed", "Bearer x": "token_malformed",
        "Bearer a.b.c": "token_malformed", f"Bearer {good}x": None,
        f"Bearer {head}.{payload}.": "token_malformed", f"Bearer {head}.{payload}": "token_malformed",
        f"Bearer {head}.{payload}.{signature}.{signature}": "token_malformed", f"Bearer {good[:-4]}AAAA": None,
        "Bearer " + "a" * 8000: "token_malformed", f"Bearer {good}, Bearer {good}": "token_malformed",
        "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4IiwiZXhwIjo5OTk5OTk5OTk5fQ.": "token_algorithm",
    }
    with Watch(quiet_stack):
        for route in (r for r in ROUTES if not r.open):
            for value, kind in tokens.items():
                headers = client.headers() | {"Host": "t"}
                headers.pop("Authorization")
                if value is not None:
                    headers["Authorization"] = value
                if route.body:
                    headers |= {"Content-Type": "application/json", "Content-Length": "2"}
                status, fields, text = ask(quiet_stack, wire(route.method, route.path, headers, b"{}" if route.body else b""))
                assert status == 401, f"{route} {value}: {status}"
                body = json.loads(text)
                assert body["msg"] == "Token 无效" and fields["www-authenticate"] == "Bearer"
                assert body["error"]["type"].startswith("token_") and (kind is None or body["error"]["type"] == kind), f"{route} {value}: {text}"


def test_the_required_headers(quiet_stack, client):
    answers = []
    agents = {None: "header_missing", "": "header_missing", "u" * 513: "header_invalid"}
    ids = {None: "header_missing", "": "header_invalid", "x": "header_invalid", ID + "0": "header_invalid", "x" * 4000: "header_invalid",
           f" {ID[:-1]}": "header_invalid", f"{{{ID}}}": "header_invalid", ID.replace("-", ""): "header_invalid", f"{ID}, {ID}": "header_invalid"}
    with Watch(quiet_stack):
        for route in (r for r in ROUTES if not r.open):
            for name, values in (("User-Agent", agents), ("X-Request-ID", ids)):
                for value, kind in values.items():
                    headers = client.headers() | {"User-Agent": "t", "Accept": "*/*", "Host": "t"}
                    headers.pop(name)
                    if value is not None:
                        headers[name] = value
                    raw = wire(route.method, route.path, headers)
                    status, fields, body = ask(quiet_stack, raw)
                    answers.append((f"{route} {name}={value}", status, json.loads(body)))
                    error = json.loads(body)["error"]
                    assert status == 400 and error["type"] == kind and name in error["detail"], f"{route} {name}={value}: {body[:200]}"
                    assert uuid.UUID(fields["x-request-id"])
    assert len(answers) > 100


def test_methods(quiet_stack, client):
    with Watch(quiet_stack):
        for route in ROUTES:
            allowed = {r.method for r in ROUTES if r.path == route.path}
            allowed |= {"HEAD"} if "GET" in allowed else set()
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
                if method in allowed:
                    continue
                answer = client.http.request(method, route.path, headers=client.headers())
                assert answer.status_code == 405, f"{method} {route.path}: {answer.status_code}"
                assert set(re.split(", ?", answer.headers["Allow"])) == allowed, answer.headers["Allow"]
                assert "access-control-allow-origin" not in answer.headers


def test_paths(quiet_stack, client):
    wrong = ["//", "/x", "/agent", f"{BASE}/../create", f"{BASE}/./create", f"{BASE}//create", f"/{BASE}/create", f"{BASE}/create/",
             f"{BASE}/%63reate", f"{BASE}%2fcreate", f"{BASE}/create;a=b", f"{BASE}/create%20", f"{BASE}\\create", f"{BASE}/CREATE",
             "/agent/sandboxes/create", "/etc/passwd", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/healthz/", "/healthz/x",
             "/metrics.txt", "/.git/config", "/index.html", f"{BASE}/{ID}", f"{BASE}/{ID}/", f"{BASE}/{ID}/status/", f"{BASE}/{ID}/nonsense",
             f"{BASE}/{ID}/{ID}/status", "/" + "a" * 8000, "/" + "a/" * 3000]
    ids = ["x", ID.upper().replace("1", "A"), ID + "x", ID[:-1], ID.replace("-", ""), "%7B" + ID + "%7D", "..", ".", "%2e%2e", "-" * 36,
           "0" * 36, ID[:-1] + "%31", "'%20or%201=1", "*", "a" * 4000]
    bad_bytes = {f"{BASE}/a%00b/status": 400, "/healthz%00": 400, "/%zz": 400, "/%4": 400, "/\x7f": 400}
    with Watch(quiet_stack):
        for path in wrong:
            headers = client.headers() | {"Host": "t"}
            status, _, body = ask(quiet_stack, wire("GET", path, headers))
            assert status in (404, 405), f"{path[:60]}: {status} {body[:100]}"
            assert "passwd" not in body and "root:" not in body
        for path in ids:
            for tail in ("/status", "/info", "/urls", "/events"):
                status, _, body = ask(quiet_stack, wire("GET", f"{BASE}/{path}{tail}", client.headers() | {"Host": "t"}))
                assert status == 404 and json.loads(body)["error"]["type"] in ("sandbox_not_found", "route_not_found"), f"{path}: {status} {body}"
        for path, wanted in bad_bytes.items():
            status, _, body = ask(quiet_stack, wire("GET", path, client.headers() | {"Host": "t"}))
            assert status == wanted, f"{path!r}: {status} {body}"


def test_queries(quiet_stack, client):
    queries = ["limit=0", "limit=201", "limit=-1", "limit=1e3", "limit=99999999999999999999", "limit=%31x", "limit=" + "1" * 1000,
               "status=nonsense", "status=running%00", "status=%ff", "status=" + "r" * 5000, "cursor=x", "cursor=1_x", "cursor=-5_" + ID,
               "cursor=253402300800000000_" + ID, "cursor=9223372036854775807_" + ID,
               "cursor=" + "9" * 300, "user_id=" + "u" * 2000, "user_id=%ff", "limit=%", "cursor=1%00_" + ID, "status=running&limit=abc"]
    with Watch(quiet_stack):
        for query in queries:
            answer = client.get(f"{BASE}/?{query}")
            assert answer.status_code == 400, f"{query[:60]}: {answer.status_code} {answer.text[:100]}"
            assert answer.json()["error"]["fields"][0]["field"] in query
        for query in ("reason=%ff", "reason=" + "r" * 5000, "reason=a%00b"):
            assert client.post(f"{BASE}/{ID}/pause?{query}").status_code == 400, query
        for query in ("", f"sandbox_id={ID}", "sandbox_id=x&directory_path=/d", f"sandbox_id={ID}&directory_path=" + "d" * 5000,
                      f"sandbox_id={ID}&directory_path=/d&exist_ok=maybe", f"sandbox_id={ID}&directory_path=%00"):
            assert client.http.post(f"{BASE}/create-directory?{query}", headers=client.headers()).status_code == 400, query
        for key in ("", "x" * 256, "ä"):
            raw = wire("POST", f"{BASE}/create", client.headers() | {"Host": "t", "Idempotency-Key": key, "Content-Type": "application/json",
                                                                    "Content-Length": "15"}, b'{"user_id":"u"}')
            status, _, body = ask(quiet_stack, raw)
            assert status == 400 and "Idempotency-Key" in body, f"{key!r}: {status} {body}"


# ---- the protocol itself --------------------------------------------------------------------------

SMUGGLED = b"GET /healthz HTTP/1.1\r\nHost: smuggled\r\n\r\n"


def wire(method: str, path: str, headers: dict, body: bytes = b"") -> bytes:
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + body


def exchange(stack: Stack, data: bytes, seconds: float = 8.0) -> bytes:
    """Everything that comes back until the server closes, or b"" and the data so far after `seconds`."""
    host, port = stack.url.removeprefix("http://").split(":")
    out = b""
    with socket.create_connection((host, int(port)), timeout=seconds) as sock:
        try:
            sock.sendall(data)
            while piece := sock.recv(65536):
                out += piece
        except (TimeoutError, ConnectionError):
            pass
    return out


def parse(out: bytes) -> tuple[int, dict, str]:
    head, _, body = out.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
    return int(lines[0].split(" ")[1]), fields, body.decode()


def ask(stack: Stack, raw: bytes) -> tuple[int, dict, str]:
    return parse(exchange(stack, raw.replace(b"\r\n", b"\r\nConnection: close\r\n", 1)))


def shapes(client: Client) -> dict[str, tuple[bytes, set]]:
    """name -> (bytes, statuses that are right; 0 = closed without a word)."""
    good = "".join(f"{k}: {v}\r\n" for k, v in client.headers().items()).encode()
    post = b"POST " + f"{BASE}/create".encode() + b" HTTP/1.1\r\nHost: t\r\nContent-Type: application/json\r\n" + good
    get = b"GET " + f"{BASE}/{ID}/status".encode() + b" HTTP/1.1\r\nHost: t\r\n" + good
    chunked = post + b"Transfer-Encoding: chunked\r\n\r\n"
    last = post + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"  # in order, so that nothing else ends the connection
    body = b'{"user_id":1}'  # in order as HTTP, refused as a create
    no = {400}
    return {
        "CL and TE": (post + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, no),
        "TE and CL": (post + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SMUGGLED, no),
        "two CL": (post + b"Content-Length: 13\r\nContent-Length: 13\r\n\r\n" + body + SMUGGLED, no),
        "two CL that differ": (post + b"Content-Length: 0\r\nContent-Length: 40\r\n\r\n" + SMUGGLED, no),
        "CL as a list": (post + b"Content-Length: 13, 13\r\n\r\n" + body + SMUGGLED, no),
        "CL with a sign": (post + b"Content-Length: +13\r\n\r\n" + body + SMUGGLED, no),
        "CL below zero": (post + b"Content-Length: -1\r\n\r\n" + SMUGGLED, no),
        "CL in hex": (post + b"Content-Length: 0xd\r\n\r\n" + body + SMUGGLED, no),
        "CL past 64 bits": (post + b"Content-Length: 18446744073709551629\r\n\r\n" + body + SMUGGLED, no),
        "CL of 9 EB": (post + b"Content-Length: 9223372036854775807\r\n\r\n" + body + SMUGGLED, {400, 413}),
        "CL and white space": (post + b"Content-Length : 0\r\n\r\n" + SMUGGLED, no),
        "TE twice": (post + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + SMUGGLED, no),
        "TE of two codings": (post + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, no),
        "TE not chunked": (post + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED, no),
        "TE folded": (post + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk size of no digits": (chunked + b"xyz\r\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk size below zero": (chunked + b"-d\r\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk size past 64 bits": (chunked + b"fffffffffffffffff\r\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk of 9 EB": (chunked + b"7fffffffffffffff\r\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, {400, 408, 413}),
        "chunk without its end": (chunked + b"d\r\n" + body + b"xx0\r\n\r\n" + SMUGGLED, no),
        "chunk longer than its size": (chunked + b"3\r\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk size in hex notation": (chunked + b"0xd\r\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk size after white space": (chunked + b" d\r\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk size before LF": (chunked + b"d\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk before LF": (chunked + b"d\r\n" + body + b"\n0\r\n\r\n" + SMUGGLED, no),
        "chunk with an extension": (last + b"d;a=b\r\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "chunk with an extension before LF": (chunked + b"d;\n" + body + b"\r\n0\r\n\r\n" + SMUGGLED, no),
        "last chunk with an extension": (last + b"d\r\n" + body + b"\r\n0;a=b\r\n\r\n" + SMUGGLED, no),
        "a trailer": (last + b"d\r\n" + body + b"\r\n0\r\nContent-Length: 41\r\n\r\n" + SMUGGLED, no),
        "a trailer before LF": (chunked + b"d\r\n" + body + b"\r\n0\r\nX: y\n\n" + SMUGGLED, no),
        "chunk with an endless extension": (chunked + b"d;" + b"a" * 100_000 + b"\r\n" + body + b"\r\n0\r\n\r\n", {400, 408, 413}),
        "chunks that end early": (chunked + b"d\r\n" + body, {400, 408}),
        "bare LF": (get.replace(b"Host: t\r\n", b"Host: t\nX: y\r\n") + b"\r\n", no),
        "LF only": (get.replace(b"\r\n", b"\n") + b"\n", no),
        "bare CR": (get.replace(b"Host: t\r\n", b"Host: t\rX: y\r\n") + b"\r\n", no),
        "obs-fold": (get + b"X-A: b\r\n c\r\n\r\n", no),
        "obs-fold first": (get.replace(b"HTTP/1.1\r\n", b"HTTP/1.1\r\n X: y\r\n", 1) + b"\r\n", no),
        "white space before a colon": (get + b"X-A : b\r\n\r\n", no),
        "a line that is no header": (get + b"nonsense\r\n\r\n", no),
        "an empty name": (get + b": b\r\n\r\n", no),
        "NUL in a header": (get + b"X-A: a\x00b\r\n\r\n", no),
        "NUL in the path": (get.replace(b"/status", b"/sta\x00tus") + b"\r\n", no),
        "control in a name": (get + b"X\x01A: b\r\n\r\n", no),
        "65 headers": (get + b"".join(b"X-%d: y\r\n" % n for n in range(65)) + b"\r\n", {431}),
        "500 headers": (get + b"".join(b"X-%d: y\r\n" % n for n in range(500)) + b"\r\n", {431}),
        "a header of 40 KB": (get + b"X-A: " + b"a" * 40_000 + b"\r\n\r\n", {431}),
        "a name of 40 KB": (get + b"a" * 40_000 + b": b\r\n\r\n", {431}),
        "a path of 40 KB": (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n", {431}),
        "no Host": (get.replace(b"Host: t\r\n", b"") + b"\r\n", no),
        "two Host": (get + b"Host: u\r\n\r\n", no),
        "Host of two": (get.replace(b"Host: t", b"Host: t, u") + b"\r\n", no),
        "Host with a path": (get.replace(b"Host: t", b"Host: t/x") + b"\r\n", no),
        "two Authorization": (get + b"Authorization: Bearer x\r\n\r\n", no),
        "two Content-Type": (post + b"Content-Type: text/plain\r\nContent-Length: 13\r\n\r\n" + body, no),
        "two X-Request-ID": (get + b"X-Request-ID: x\r\n\r\n", no),
        "Expect of something else": (post + b"Expect: 200-maybe\r\nContent-Length: 13\r\n\r\n" + body, no),
        "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", no),
        "HTTP/1.2": (get.replace(b"HTTP/1.1", b"HTTP/1.2") + b"\r\n", no),
        "HTTP/0.9": (b"GET /healthz\r\n\r\n", no),
        "no version": (b"GET /healthz HTTP/\r\nHost: t\r\n\r\n", no),
        "two spaces": (get.replace(b"GET ", b"GET  ", 1) + b"\r\n", no),
        "unknown method": (get.replace(b"GET", b"BREW", 1) + b"\r\n", no | {405}),
        "method in lower case": (get.replace(b"GET", b"get", 1) + b"\r\n", no | {405}),
        "TRACE": (get.replace(b"GET", b"TRACE", 1) + b"Connection: close\r\n\r\n", {405}),
        "CONNECT": (b"CONNECT t:80 HTTP/1.1\r\nHost: t\r\n\r\n", no),
        "absolute target": (get.replace(b"GET /", b"GET http://elsewhere:80/", 1) + b"Connection: close\r\n\r\n", {404}),
        "absolute target of another kind": (b"GET ftp://elsewhere/healthz HTTP/1.1\r\nHost: t\r\n\r\n", no),
        "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: t\r\n\r\n", no),
        "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(200)), no),
        "noise": (bytes((n * 37 + 11) % 256 for n in range(4000)), no),
        "blank lines": (b"\r\n" * 1000, no | {0}),
        "upgrade to h2c": (get + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQ\r\n\r\n", {404}),
        "upgrade to websocket": (get + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                 b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", {404}),
        "a body on GET": (get + b"Content-Length: 41\r\n\r\n" + SMUGGLED, {404}),
    }


def test_request_smuggling_and_broken_heads(quiet_stack, client):
    """At most one answer, the right one, and then the end: what follows is never read as a request."""
    bad = []
    table = shapes(client)
    with Watch(quiet_stack):
        results = {}

        def run(part: list[str]) -> None:
            for name in part:
                results[name] = exchange(quiet_stack, table[name][0])

        names = list(table)
        threads = [threading.Thread(target=run, args=(names[i::8],)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for name, (_, wanted) in table.items():
            out = results[name]
            status = parse(out)[0] if out else 0
            answers = len(re.findall(rb"(?:^|\n)HTTP/1\.[01] ", out)) + out.count(b"}HTTP/1.")
            if status not in wanted or answers > 1 or b'"status":"ok"' in out:
                bad.append(f"{name}: wanted {wanted}, got {status} x{answers} {out[:160]!r}")
            elif status >= 400:
                _, fields, body = parse(out)
                if fields.get("x-request-id") != json.loads(body)["request_id"]:
                    bad.append(f"{name}: X-Request-ID {fields.get('x-request-id')} with {body[:160]}")
    assert len(table) > 60 and not bad, "\n".join(bad)


def test_a_broken_head_that_can_be_read_is_answered_under_its_id(quiet_stack, client):
    mine = str(uuid.uuid4())
    headers = client.headers() | {"Host": "t", "X-Request-ID": mine, "Expect": "200-maybe"}
    status, fields, body = ask(quiet_stack, wire("GET", f"{BASE}/{ID}/status", headers))
    assert (status, fields["x-request-id"], json.loads(body)["request_id"]) == (400, mine, mine)


def test_an_answer_never_carries_what_was_sent_as_a_header(quiet_stack, client):
    """No header of an answer can be made by a request: CR LF, encoded or not, stays where it was."""
    tries = {"X-Request-ID": "x%0d%0aSet-Cookie: a=b", "Idempotency-Key": "k%0d%0aSet-Cookie: a=b", "traceparent": "%0d%0aSet-Cookie: a=b"}
    for name, value in tries.items():
        headers = client.headers() | {"Host": "t", name: value}
        for path in (f"{BASE}/{ID}/status", f"{BASE}/{ID}/x%0d%0aSet-Cookie:%20a=b", f"{BASE}/?cursor=%0d%0aSet-Cookie:%20a=b"):
            _, fields, _ = ask(quiet_stack, wire("GET", path, headers))
            assert "set-cookie" not in fields


def test_hundreds_of_refusals_leave_nothing_behind(quiet_stack, client):
    """The same again and again: memory, descriptors and threads are as before (Watch), and fast clients still served."""
    route = next(r for r in ROUTES if r.handler == "handle_write_file")
    deep, large = b'{"a":' * 10_000, json.dumps({"content": "x" * 900_000}).encode()
    send(client, route, large)
    with Watch(quiet_stack):
        for _ in range(60):
            assert send(client, route, deep).status_code == 400
            assert send(client, route, large).status_code == 400
            assert exchange(quiet_stack, b"GET / HTTP/1.1\r\nHost: t\r\nX: \x00\r\n\r\n") is not None
            assert client.get(f"{BASE}/{ID}/status").status_code == 404
