"""Who may do what: tokens, owners, and what every malformed request is told."""

import base64
import json
import time
import uuid

import httpx
import jwt
import pytest

from tests.harness.stack import BASE, PASSWORD, SECRET, Client

NO_SUCH = "00000000-0000-4000-8000-000000000000"

# every route that names a sandbox: (method, path, body)
ROUTES = [
    ("GET", "/{id}/status", None), ("GET", "/{id}/info", None), ("GET", "/{id}/urls", None),
    ("GET", "/{id}/events", None), ("POST", "/{id}/pause", None), ("DELETE", "/{id}", None),
    ("POST", "/run-cmd", {"command": "true"}), ("POST", "/write-file", {"file_path": "/tmp/x", "content": ""}),
    ("POST", "/read-file", {"file_path": "/etc/hostname"}), ("POST", "/expose-port", {"port": 80}),
    ("POST", "/schedule-timeout", {"timeout_seconds": 60}), ("POST", "/connect", {}),
    ("POST", "/create-directory", {"directory_path": "/tmp/d"}),
    ("POST", "/list-files", {"path": "/tmp"}), ("POST", "/remove-file", {"path": "/tmp", "recursive": True}),
]


def call(client: Client, route, sandbox_id: str, **headers) -> httpx.Response:
    method, path, body = route
    url = BASE + path.replace("{id}", sandbox_id)
    if method == "POST":
        fields = None if "{id}" in path else (body or {}) | {"sandbox_id": sandbox_id}
        return client.post(url, fields, **headers)
    return client.http.request(method, url, headers=client.headers(**headers))


@pytest.fixture(scope="module")
def alice(stack):
    return stack.client("alice")


@pytest.fixture(scope="module")
def sandbox_id(alice):
    sid = alice.create()["sandbox_id"]
    yield sid
    alice.remove(sid)


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: r[0] + r[1])
def test_another_owner_sees_nothing(stack, sandbox_id, route):
    mallory = stack.client("mallory")
    theirs, none = call(mallory, route, sandbox_id), call(mallory, route, NO_SUCH)
    assert theirs.status_code == none.status_code == 404
    a, b = theirs.json(), none.json()
    for body in (a, b):
        body.pop("request_id")
    assert json.dumps(a).replace(sandbox_id, "X") == json.dumps(b).replace(NO_SUCH, "X")
    assert a["error"]["type"] == "sandbox_not_found"


def test_nothing_of_that_touched_the_sandbox(alice, sandbox_id):
    assert alice.status(sandbox_id) == "running"


def test_admin_sees_all(stack, sandbox_id):
    assert stack.client("root", role="admin").status(sandbox_id) == "running"


@pytest.mark.parametrize("route", ROUTES, ids=lambda r: r[0] + r[1])
def test_no_token_is_401_everywhere(stack, sandbox_id, route):
    answer = call(Client(stack.url), route, sandbox_id)
    assert answer.status_code == 401 and answer.json()["msg"] == "Token 无效"
    assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert answer.json()["error"]["type"] == "token_missing"


def claims(**more):
    return {"sub": str(uuid.uuid4()), "exp": int(time.time()) + 600} | more


@pytest.mark.parametrize("name,token,kind", [
    ("garbage", "abc", "token_malformed"),
    ("huge", "a" * 9000, "token_malformed"),
    ("expired", jwt.encode({"sub": "x", "exp": 1_600_000_000}, SECRET), "token_expired"),
    ("other key", jwt.encode(claims(), "x" * 32), "token_signature"),
    ("HS512", jwt.encode(claims(), SECRET, algorithm="HS512"), "token_algorithm"),
    ("alg none", jwt.encode(claims(), None, algorithm="none"), "token_algorithm"),
    ("no exp", jwt.encode({"sub": "x"}, SECRET), "token_malformed"),
    ("no sub", jwt.encode({"exp": int(time.time()) + 60}, SECRET), "token_malformed"),
    ("not yet", jwt.encode(claims(nbf=int(time.time()) + 600), SECRET), "token_malformed"),
])
def test_bad_tokens(stack, name, token, kind):
    client = Client(stack.url, token)
    answer = client.get(f"{BASE}/{NO_SUCH}/status")
    assert answer.status_code == 401 and answer.json()["msg"] == "Token 无效"
    got = answer.json()["error"]["type"]
    assert got == kind or (name in ("not yet", "huge") and got.startswith("token_"))


def test_a_token_of_the_users_own_backend_is_accepted(stack):
    token = jwt.encode(claims(role="user", anything={"nested": [1]}), SECRET, algorithm="HS256")
    assert Client(stack.url, token).get(f"{BASE}/{NO_SUCH}/status").status_code == 404


def test_login_forms(stack):
    stack.client("alice")
    client = Client(stack.url)
    http = client.http
    basic = base64.b64encode(f"alice:{PASSWORD}".encode()).decode()
    for answer in (
        http.post("/api/v1/auth/login/swagger", params={"username": "alice", "password": PASSWORD}),
        http.post("/api/v1/auth/login/swagger", data={"username": "alice", "password": PASSWORD}),
        http.post("/api/v1/auth/login/swagger", headers={"Authorization": f"Basic {basic}"}),
    ):
        body = answer.json()
        assert answer.status_code == 200 and body["token_type"] == "bearer" and body["expires_in"] > 0
        assert body["user"]["username"] == "alice" and body["user"]["role"] == "user"
    enveloped = client.post("/api/v1/auth/login", {"username": "alice", "password": PASSWORD})
    assert enveloped.json()["code"] == 200 and enveloped.json()["data"]["access_token"]


def test_wrong_password_and_unknown_user_look_alike(stack):
    stack.client("dora")
    http = Client(stack.url).http
    answers = [http.post("/api/v1/auth/login/swagger", params={"username": u, "password": "wrong"})
               for u in ("dora", "nobody-of-that-name")]
    assert [a.status_code for a in answers] == [401, 401]
    assert answers[0].json()["error"] == answers[1].json()["error"]


def test_login_attempts_are_limited(stack):
    stack.client("edgar")
    http = Client(stack.url).http
    for _ in range(60):
        answer = http.post("/api/v1/auth/login/swagger", params={"username": "edgar", "password": "wrong"})
        if answer.status_code == 429:
            assert int(answer.headers["Retry-After"]) >= 1
            return
    pytest.fail("60 wrong passwords and no 429")


def test_logout_revokes(stack):
    client = Client(stack.url).login("alice") if stack.client("alice") else None
    assert client.post("/api/v1/auth/logout").status_code == 200
    deadline = time.monotonic() + 5
    while True:
        answer = client.get(f"{BASE}/{NO_SUCH}/status")
        if answer.status_code == 401:
            assert answer.json()["error"]["type"] == "token_revoked"
            return
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_disabled_user_cannot_log_in(stack):
    stack.client("fred")
    stack.run("user", "disable", "fred")
    answer = Client(stack.url).http.post("/api/v1/auth/login/swagger", params={"username": "fred", "password": PASSWORD})
    assert answer.status_code == 401


def test_required_headers(stack, alice):
    path = f"{BASE}/{NO_SUCH}/status"
    full = alice.headers()
    for name in ("X-Request-ID", "User-Agent"):
        headers = {k: v for k, v in full.items() if k != name}
        request = httpx.Request("GET", stack.url + path, headers=headers)
        request.headers.pop("User-Agent", None) if name == "User-Agent" else None
        answer = alice.http.send(request)
        assert answer.status_code == 400 and name.lower() in answer.text.lower()
    bad = alice.http.get(path, headers=full | {"X-Request-ID": "not-a-uuid"})
    assert bad.status_code == 400 and "X-Request-ID" in bad.text
    good = alice.http.get(path, headers=full)
    assert good.headers["X-Request-ID"] == full["X-Request-ID"] and good.json()["request_id"] == full["X-Request-ID"]
    wrong = alice.http.post(f"{BASE}/create", content=b"{}", headers=full | {"Content-Type": "text/plain"})
    assert wrong.status_code == 415


@pytest.mark.parametrize("body,field", [
    ({}, "user_id"), ({"user_id": 5}, "user_id"), ({"user_id": "x" * 5000}, "user_id"),
    ({"user_id": "x", "timeout_seconds": "60"}, "timeout_seconds"), ({"user_id": "x", "timeout_seconds": 0}, "timeout_seconds"),
    ({"user_id": "x", "timeout_seconds": 86401}, "timeout_seconds"), ({"user_id": "x", "on_timeout": "explode"}, "on_timeout"),
    ({"user_id": "x", "metadata": {"a": 1}}, "metadata"), ({"user_id": "x", "metadata": []}, "metadata"),
    ({"user_id": "x", "envs": "A=b"}, "envs"), ({"user_id": "x", "provider": "nimbus"}, "provider"),
    ({"user_id": "x", "sandbox_template_id": 7}, "sandbox_template_id"),
])
def test_create_names_the_bad_field(alice, body, field):
    answer = alice.post(f"{BASE}/create", body)
    assert answer.status_code == 400, answer.text
    assert any(f["field"].startswith(field) for f in answer.json()["error"]["fields"])


@pytest.mark.parametrize("raw", [
    b"", b"{", b"[]", b"null", b'"x"', b'{"user_id":"a"} x', b'{"user_id":"a","user_id":"b"}', b'{"user_id":"a\\u0000b"}',
    b'{"user_id":"\xff"}', b'{"user_id":"a",}', b"[" * 900, b'{"user_id":01}', b'{"user_id":"\\ud800"}', b"\x00",
])
def test_bad_json_is_400(alice, raw):
    answer = alice.post(f"{BASE}/create", raw)
    assert answer.status_code == 400, answer.text
    assert answer.json()["data"] is None


def test_too_large_body_is_413(alice):
    answer = alice.post(f"{BASE}/create", b'{"user_id":"' + b"x" * (40 << 20) + b'"}')
    assert answer.status_code == 413


def test_unknown_path_and_wrong_method(alice):
    assert alice.get("/nope").json()["error"]["type"] == "route_not_found"
    answer = alice.get(f"{BASE}/create")
    assert answer.status_code in (404, 405)
    wrong = alice.http.put(f"{BASE}/run-cmd", headers=alice.headers())
    assert wrong.status_code == 405 and "POST" in wrong.headers["Allow"]


def test_malformed_ids(alice):
    assert alice.get(f"{BASE}/not-a-uuid/status").status_code == 404
    answer = alice.post(f"{BASE}/run-cmd", {"sandbox_id": "not-a-uuid", "command": "true"})
    assert answer.status_code == 400 and answer.json()["error"]["fields"][0]["field"] == "sandbox_id"


def test_unknown_fields_are_ignored(alice):
    sid = alice.create(surprise={"a": [1]})["sandbox_id"]
    alice.remove(sid)


def test_no_secret_in_any_log(stack, alice):
    alice.create()
    text = "".join(p.log() for p in stack.processes)
    for secret in (PASSWORD, SECRET, alice.token, stack.env["E2B_API_KEY"]):
        assert secret not in text
    rows = stack.sql("select access_token from sandboxes where access_token <> '' limit 3")
    for (token,) in rows:
        assert token not in text
