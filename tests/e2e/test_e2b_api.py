"""E2B's control-plane API at the gateway: E2B's own semantics over the rows and jobs of the contract's calls."""

import base64
import hashlib
import json
import re
import time
import uuid
from datetime import datetime
from urllib.parse import quote

import httpx
import pytest

from tests.harness.services import ROOT, wait_until
from tests.harness.stack import BASE, LOCAL, Client, Stack

KEYS = "/api/v1/keys"


class E2B:
    """E2B's API with a key of one user."""

    def __init__(self, client: Client, *scopes: str):
        body = {"name": "e2b", "scopes": list(scopes) or ["sandboxes:read", "sandboxes:write", "exec"]}
        self.key = client.ok(client.post(KEYS, body))["key"]
        self.url = str(client.http.base_url)

    def call(self, method: str, path: str, body=None, **headers: str) -> httpx.Response:
        return httpx.request(method, self.url + path, json=body, headers={"X-API-Key": self.key} | headers, timeout=90, **LOCAL)

    def create(self, **fields) -> dict:
        answer = self.call("POST", "/sandboxes", {"templateID": "base", "timeout": 120, "secure": True} | fields)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def get(self, box: str) -> dict:
        answer = self.call("GET", f"/sandboxes/{box}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def left(self, box: str) -> float:
        """Seconds to its end."""
        return datetime.fromisoformat(self.get(box)["endAt"]).timestamp() - time.time()


def error(answer: httpx.Response, status: int) -> str:
    """The message of an error in E2B's form."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"] == status and body["message"] and set(body) == {"code", "message", "error_code"}, body
    return body["message"]


@pytest.fixture(scope="module")
def alice(stack: Stack) -> E2B:
    return E2B(stack.client("alice"))


@pytest.fixture(scope="module")
def box(alice: E2B):
    made = alice.create(metadata={"of": "module"}, timeout=3600)["sandboxID"]
    yield made
    assert alice.call("DELETE", f"/sandboxes/{made}").status_code == 204


def test_one_sandbox_is_seen_through_both_doors(stack, alice, box):
    client = stack.client("alice")
    whole = str(uuid.UUID(box))
    assert re.fullmatch("[0-9a-f]{32}", box)
    info = client.info(whole)
    assert info["metadata"] == {"of": "module"} and info["status"] == "running" and info["on_timeout"] == "delete"
    detail = alice.get(box)
    assert detail == alice.get(whole) == alice.get(box + "-6532622b")  # each form of its id
    assert detail["sandboxID"] == box and detail["state"] == "running" and detail["cpuCount"] > 0 and detail["memoryMB"] > 0
    assert detail["lifecycle"] == {"onTimeout": "kill", "autoResume": True} and detail["envdVersion"]
    assert re.fullmatch("[0-9a-f]{64}", detail["envdAccessToken"])
    assert detail["envdAccessToken"] != stack.sql(f"select access_token from sandboxes where id = '{whole}'")[0][0]
    other = client.create(metadata={"through": "the contract"})["sandbox_id"]
    seen = alice.get(other)
    assert seen["metadata"] == {"through": "the contract"} and seen["lifecycle"]["onTimeout"] == "pause"
    assert alice.call("DELETE", f"/sandboxes/{other}").status_code == 204
    assert client.get(f"{BASE}/{other}/status").status_code == 404
    assert error(alice.call("DELETE", f"/sandboxes/{other}"), 404)
    assert error(alice.call("GET", f"/sandboxes/{other}"), 404)


def test_a_timeout_is_an_end_that_connecting_only_extends(stack, alice):
    box = alice.create(timeout=100)["sandboxID"]
    assert 90 < alice.left(box) <= 100
    stack.client("alice").run(str(uuid.UUID(box)), "true")  # is no reason to live longer
    assert alice.left(box) <= 100
    for body, low, high in ({"timeout": 10}, 90, 100), ({"timeout": 300}, 290, 300):
        answer = alice.call("POST", f"/sandboxes/{box}/connect", body)
        assert answer.status_code == 200 and answer.json()["sandboxID"] == box
        assert low - 5 < alice.left(box) <= high, body
    assert alice.call("POST", f"/sandboxes/{box}/refreshes", {"duration": 20}).status_code == 204
    assert alice.left(box) > 280
    assert alice.call("POST", f"/sandboxes/{box}/refreshes", {"duration": 900}).status_code == 204
    assert 880 < alice.left(box) <= 900
    assert alice.call("POST", f"/sandboxes/{box}/timeout", {"timeout": 1}).status_code == 204
    wait_until("its end", lambda: alice.call("GET", f"/sandboxes/{box}").status_code == 404, 15)


def test_autopause_keeps_it_and_connecting_gives_it_a_new_end(alice):
    box = alice.create(timeout=1, autoPause=True)["sandboxID"]
    wait_until("paused", lambda: alice.get(box)["state"] == "paused", 15)
    for path, body in ("timeout", {"timeout": 60}), ("refreshes", {"duration": 60}):
        assert error(alice.call("POST", f"/sandboxes/{box}/{path}", body), 404)
    assert alice.call("POST", f"/sandboxes/{box}/connect", {"timeout": 200}).status_code == 201
    assert alice.get(box)["state"] == "running" and 185 < alice.left(box) <= 200
    assert error(alice.call("POST", f"/sandboxes/{box}/resume", {"timeout": 10}), 409)
    assert alice.call("POST", f"/sandboxes/{box}/pause").status_code == 204
    assert error(alice.call("POST", f"/sandboxes/{box}/pause", {}), 409)
    assert alice.call("POST", f"/sandboxes/{box}/resume", {"timeout": 50, "autoPause": False}).status_code == 201
    assert alice.get(box)["lifecycle"]["onTimeout"] == "kill" and 35 < alice.left(box) <= 50
    assert alice.call("DELETE", f"/sandboxes/{box}").status_code == 204


def test_a_paused_sandbox_has_no_end(stack, alice):
    box = alice.create(timeout=3)["sandboxID"]
    assert alice.call("POST", f"/sandboxes/{box}/pause").status_code == 204
    whole = uuid.UUID(box)
    # what the reaper goes by: neither status nor time of this row make it due
    assert stack.sql(f"select expires_at is null, timeout_mode from sandboxes where id = '{whole}'") == [("t", "idle")]
    assert alice.call("POST", f"/sandboxes/{box}/connect", {"timeout": 30}).status_code == 201
    assert 20 < alice.left(box) <= 30
    assert alice.call("DELETE", f"/sandboxes/{box}").status_code == 204


def test_lists_have_filters_and_pages(alice, box):
    tag = {"list": uuid.uuid4().hex, "odd k é": "a=b&c %"}
    made = [alice.create(metadata=tag | {"n": str(n)})["sandboxID"] for n in range(3)]
    assert alice.call("POST", f"/sandboxes/{made[0]}/pause").status_code == 204

    def page(**query: str) -> httpx.Response:
        pairs = "&".join(f"{quote(quote(k, safe=''), safe='')}={quote(quote(v, safe=''), safe='')}" for k, v in tag.items())
        return httpx.get(alice.url + "/v2/sandboxes", params={"metadata": pairs} | query,
                         headers={"X-API-Key": alice.key}, **LOCAL)

    def ids(answer: httpx.Response) -> list[str]:
        assert answer.status_code == 200, answer.text
        return [item["sandboxID"] for item in answer.json()]

    assert ids(page()) == made[::-1] and page().headers["X-Total-Running"] == "2"
    assert ids(page(order="asc")) == made
    assert ids(page(state="running")) == [made[2], made[1]] and ids(page(state="paused")) == [made[0]]
    assert ids(page(state="running,paused")) == made[::-1]
    for order, wanted in ("desc", made[::-1]), ("asc", made):
        first = page(limit="2", order=order)
        rest = page(limit="2", order=order, nextToken=first.headers["X-Next-Token"])
        assert ids(first) + ids(rest) == wanted and "X-Next-Token" not in rest.headers
    assert ids(page(template="base")) == made[::-1] and ids(page(template="another")) == []
    assert ids(page(startedAfter="2999-01-01T00:00:00Z")) == []
    v1 = alice.call("GET", "/sandboxes")
    assert {made[1], made[2], box} <= set(ids(v1)) and made[0] not in ids(v1)  # running ones only
    assert "envdAccessToken" not in v1.text
    for query in {"limit": "0"}, {"limit": "101"}, {"state": "dead"}, {"order": "up"}, {"nextToken": "x"}, {"startedAfter": "now"}:
        assert error(page(**query), 400)
    for made_one in made:
        assert alice.call("DELETE", f"/sandboxes/{made_one}").status_code == 204


def test_metrics_logs_and_network_are_the_providers(alice, box):
    wait_until("a sample", lambda: alice.call("GET", f"/sandboxes/{box}/metrics?start=0").json(), 15)
    sample = alice.call("GET", f"/sandboxes/{box}/metrics").json()[0]
    assert {"timestamp", "cpuCount", "memUsed", "memTotal", "diskUsed"} <= set(sample)
    for path in f"/sandboxes/{box}/logs", f"/v2/sandboxes/{box}/logs?direction=backward&limit=10&level=info":
        answer = alice.call("GET", path)
        assert answer.status_code == 200 and "started" in answer.text, answer.text
    assert box in alice.call("GET", f"/sandboxes/{box}/logs").text  # and not the provider's id
    assert alice.call("PUT", f"/sandboxes/{box}/network", {"denyOut": ["0.0.0.0/0"]}).status_code == 204
    assert error(alice.call("PUT", f"/sandboxes/{box}/network", {"denyOut": "no list"}), 400)
    assert error(alice.call("GET", f"/sandboxes/{box}/metrics?start=x"), 400)


def test_the_contracts_create_closes_the_network(stack, alice):
    client = stack.client("alice")
    body = {"user_id": "u", "network": {"allow_internet": False, "allow_out": ["192.0.2.0/24"]}}
    made = client.create(**body)
    seen = alice.get(uuid.UUID(made["sandbox_id"]).hex)
    assert seen["allowInternetAccess"] is False and seen["network"]["allowOut"] == ["192.0.2.0/24"], seen
    alice.call("DELETE", f"/sandboxes/{seen['sandboxID']}")
    answer = client.post(f"{BASE}/create", {"user_id": "u", "network": {"allow": []}})
    assert answer.status_code == 400 and "network" in answer.json()["error"]["detail"], answer.text


def test_templates(alice):
    listed = alice.call("GET", "/templates").json()
    assert [t["templateID"] for t in listed] == ["base"]
    assert alice.call("GET", "/templates/aliases/base").json() == {"templateID": "base", "public": True}
    assert error(alice.call("GET", "/templates/aliases/none"), 404)


@pytest.mark.parametrize("body,status", [
    ({}, 400), ({"templateID": 7}, 400), ({"templateID": "base", "timeout": 0}, 400), ({"templateID": "base", "timeout": 86401}, 400),
    ({"templateID": "base", "metadata": {"a": 1}}, 400), ({"templateID": "base", "envVars": {"A=B": "c"}}, 400),
    ({"templateID": "base", "network": ["0.0.0.0/0"]}, 400), ({"templateID": "base", "volumeMounts": [{}]}, 501),
    ({"templateID": "base", "autoPauseMemory": False}, 501), ([], 400)])
def test_what_is_wrong_is_refused_in_e2bs_form(stack, alice, body, status):
    before = stack.sql("select count(*) from sandboxes")
    assert error(alice.call("POST", "/sandboxes", body), status)
    assert stack.sql("select count(*) from sandboxes") == before


def test_refusals_have_e2bs_form(stack, alice, box):
    for key in "e2b_" + "0" * 40, "nonsense":
        assert error(httpx.get(alice.url + "/sandboxes", headers={"X-API-Key": key}, **LOCAL), 401) == "Invalid API key"
    assert error(httpx.get(alice.url + "/v2/sandboxes", **LOCAL), 401)
    assert error(alice.call("GET", "/sandboxes/no-such-form"), 400)
    assert error(alice.call("GET", f"/sandboxes/{uuid.uuid4().hex}"), 404)
    assert error(alice.call("PATCH", f"/sandboxes/{box}"), 405)
    assert error(alice.call("GET", "/sandboxes/x/y/z"), 404)
    assert error(alice.call("POST", f"/sandboxes/{box}/snapshots", {}), 501)
    assert alice.call("GET", "/nothing").json()["msg"]  # the rest has the contract's


def test_an_idempotency_key_makes_one_sandbox(stack, alice):
    body = {"templateID": "base", "timeout": 60}
    key = {"Idempotency-Key": uuid.uuid4().hex}
    first, again = (alice.call("POST", "/sandboxes", body, **key) for _ in range(2))
    assert first.status_code == again.status_code == 201 and first.json() == again.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    box = first.json()["sandboxID"]
    key = {"Idempotency-Key": uuid.uuid4().hex}
    assert [alice.call("DELETE", f"/sandboxes/{box}", **key).status_code for _ in range(2)] == [204, 204]


def routes() -> list[tuple[str, str, str]]:
    text = (ROOT / "gateway/http/e2b_routes.def").read_text()
    return re.findall(r'^X\("(\w+)", "([^"]+)", ([^,]+), \w+\)', text, re.M)


def test_another_owner_reaches_nothing(stack, alice, box):
    """Every route about one sandbox, with the key of another user: as if it were not there."""
    mallory = E2B(stack.client("mallory"))
    before = alice.get(box)
    of_one = [(m, p) for m, p, _ in routes() if "{sandboxID}" in p and not p.endswith(("/snapshots", "/fork"))]
    assert len(of_one) >= 12
    for method, path in of_one:
        body = {"timeout": 5, "duration": 5} if method in ("POST", "PUT") else None
        for box_id in box, uuid.uuid4().hex:
            error(mallory.call(method, path.replace("{sandboxID}", box_id), body), 404)
    assert mallory.call("GET", "/v2/sandboxes").json() == [] == mallory.call("GET", "/sandboxes").json()
    assert alice.get(box) == before
    # an admin may look, but does not have the others' sandboxes in the lists that programs act on
    root = E2B(stack.client("root", role="admin"))
    assert root.call("GET", f"/sandboxes/{box}").status_code == 404 and root.call("GET", "/v2/sandboxes").json() == []


def test_each_route_asks_for_its_scopes(stack, box):
    client = stack.client("alice")
    scope_of = {"READS": "sandboxes:read", "WRITES": "sandboxes:write", "EXECS": "exec"}
    keys = {scope: E2B(client, scope) for scope in scope_of.values()}
    for method, path, flags in routes():
        wanted = {scope_of[f] for f in re.findall(r"\w+", flags) if f in scope_of}
        for scope, e2b in keys.items():
            path_of_none = path.replace("{sandboxID}", uuid.uuid4().hex)
            got = e2b.call(method, path_of_none, {} if method in ("POST", "PUT") else None)
            assert (got.status_code == 403) != (wanted == {scope}), (method, path, scope, got.text)
    assert "envdAccessToken" not in keys["sandboxes:read"].get(box)  # it may look, and not run commands


# ---- the data plane: envd's protocol at the gateway's second listener ----


def sandbox_port(stack: Stack, gateway: int = 0) -> int:
    return next(e["sandbox_port"] for e in stack.gateways[gateway].events() if e["event"] == "gateway.started")


class Envd:
    """What an SDK does over envd's port, through the gateway's listener for sandbox traffic."""

    def __init__(self, stack: Stack, made: dict, gateway: int = 0, by_host: bool = False):
        self.port, self.made = sandbox_port(stack, gateway), made
        box = made["sandboxID"]
        self.routing = {"Host": f"49983-{box}.localhost:{self.port}"} if by_host else {
            "E2b-Sandbox-Id": box, "E2b-Sandbox-Port": "49983"}

    def call(self, method: str, path: str, token: str | None = "own", **options) -> httpx.Response:
        headers = self.routing | options.pop("headers", {})
        if token is not None:
            headers["X-Access-Token"] = self.made["envdAccessToken"] if token == "own" else token
        return httpx.request(method, f"http://127.0.0.1:{self.port}{path}", headers=headers, timeout=60, **options, **LOCAL)


def test_envd_is_reached_with_our_token_only(stack, alice):
    made = alice.create()
    box = made["sandboxID"]
    assert made["domain"] == f"localhost:{sandbox_port(stack)}"
    for by_host in False, True:
        envd = Envd(stack, made, by_host=by_host)
        name = f"/home/user/x{by_host:d}"
        data = uuid.uuid4().bytes * 10000
        assert envd.call("POST", f"/files?path={name}", files={"file": data}).status_code == 200
        assert envd.call("GET", f"/files?path={name}").content == data
        assert envd.call("GET", "/health", token=None).status_code == 204
        listed = envd.call("POST", "/filesystem.Filesystem/ListDir", json={"path": "/home/user"}).json()
        assert name.rsplit("/")[-1] in [entry["name"] for entry in listed["entries"]]
        providers = stack.sql(f"select access_token, provider_sandbox_id from sandboxes where id = '{uuid.UUID(box)}'")[0]
        for token in None, "", "x" * 64, providers[0], made["trafficAccessToken"]:
            assert envd.call("GET", f"/files?path={name}", token=token).status_code == 401
        for path in "/init", "/freeze", "/upgrade":
            assert envd.call("POST", path).status_code == 404
    other = Envd(stack, made | {"sandboxID": providers[1]})  # the provider's id is none of ours
    assert other.call("GET", "/health").status_code == 502
    mallorys = E2B(stack.client("mallory")).create()
    assert Envd(stack, made).call("GET", "/envs", token=mallorys["envdAccessToken"]).status_code == 401
    assert alice.call("DELETE", f"/sandboxes/{box}").status_code == 204
    assert Envd(stack, made).call("GET", "/files?path=/etc/passwd").status_code == 502
    assert E2B(stack.client("mallory")).call("DELETE", f"/sandboxes/{mallorys['sandboxID']}").status_code == 204


def test_signed_urls_are_signed_with_our_token(stack, alice):
    made = alice.create()
    envd = Envd(stack, made, by_host=True)
    assert envd.call("POST", "/files?path=/home/user/a%20b", files={"file": b"signed"}).status_code == 200

    def url(operation: str, path: str, expires: str = "", token: str = made["envdAccessToken"]) -> str:
        text = f"{path}:{operation}::{token}" + (f":{expires}" if expires else "")
        signature = "v1_" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        return f"/files?path={quote(path)}&signature={quote(signature, safe='')}" + (f"&signature_expiration={expires}" if expires else "")

    later, past = str(int(time.time()) + 60), str(int(time.time()) - 5)
    for expires in "", later:
        assert envd.call("GET", url("read", "/home/user/a b", expires), token=None).content == b"signed"
    assert envd.call("POST", url("write", "/home/user/up"), token=None, files={"file": b"up"}).status_code == 200
    assert envd.call("GET", url("read", "/home/user/up"), token=None).content == b"up"
    for bad in (url("write", "/home/user/up"), url("read", "/home/user/up", past), url("read", "/home/user/up", token="x"),
                url("read", "/home/user/up").replace("up", "down", 1)):
        assert envd.call("GET", bad, token=None).status_code == 401, bad
    assert alice.call("DELETE", f"/sandboxes/{made['sandboxID']}").status_code == 204


def test_traffic_resumes_a_paused_sandbox_and_a_probe_does_not(stack, alice):
    made = alice.create(autoPause=True)
    envd = Envd(stack, made)
    assert alice.call("POST", f"/sandboxes/{made['sandboxID']}/pause").status_code == 204
    assert envd.call("GET", "/health").status_code == 502 and alice.get(made["sandboxID"])["state"] == "paused"
    assert envd.call("GET", "/files?path=/etc/passwd", token="wrong").status_code == 401
    assert alice.get(made["sandboxID"])["state"] == "paused"
    assert b"root" in envd.call("GET", "/files?path=/etc/passwd").content
    assert alice.get(made["sandboxID"])["state"] == "running" and envd.call("GET", "/health").status_code == 204
    assert alice.call("DELETE", f"/sandboxes/{made['sandboxID']}").status_code == 204


def test_an_open_stream_keeps_an_idle_sandbox_awake(stack, alice):
    """Nothing but one open stream for longer than the idle time."""
    client = stack.client("alice")
    box = client.create(timeout_seconds=2)["sandbox_id"]
    envd = Envd(stack, alice.get(box))
    body = json.dumps({"process": {"cmd": "/bin/sh", "args": ["-c", "sleep 5; echo awake"]}, "stdin": False}).encode()
    with httpx.stream("POST", f"http://127.0.0.1:{envd.port}/process.Process/Start", timeout=60, **LOCAL,
                      headers=envd.routing | {"X-Access-Token": envd.made["envdAccessToken"], "Content-Type": "application/connect+json"},
                      content=b"\0" + len(body).to_bytes(4, "big") + body) as answer:
        text = b"".join(answer.iter_raw())
    assert base64.b64encode(b"awake\n") in text
    assert not [e for e in client.ok(client.get(f"{BASE}/{box}/events"))["items"] if e["to"] == "pausing"]
    client.remove(box)


def serve(client: Client, box: str, port: int, text: str) -> None:
    """A server in the sandbox that answers every GET with `text`."""
    client.run(box, f"mkdir -p /tmp/w{port} && cd /tmp/w{port} && echo {text} > index.html && exec python3 -m http.server {port}", background=True)


def fetch(stack: Stack, host: str, gateway: int = 0, **headers: str) -> httpx.Response:
    """GET / of a host name that only the gateways know."""
    return httpx.get(f"http://127.0.0.1:{sandbox_port(stack, gateway)}/", headers={"Host": host} | headers, timeout=60, **LOCAL)


def test_ports_are_open_as_at_e2b_but_for_those_that_run_commands(stack, alice):
    client = stack.client("alice")
    for network, opened in (None, True), ({"allowPublicTraffic": True}, True), ({"allowPublicTraffic": False}, False):
        made = alice.create(**({"network": network} if network else {}))
        box = made["sandboxID"]
        token = {"e2b-traffic-access-token": made["trafficAccessToken"]}
        for port in 3000, 6060:
            serve(client, str(uuid.UUID(box)), port, f"page{port}")
            wait_until("the server", lambda: fetch(stack, f"{port}-{box}.localhost", **token).status_code == 200, 15)
        assert fetch(stack, f"3000-{box}.localhost").status_code == (200 if opened else 404)
        assert fetch(stack, f"6060-{box}.localhost").status_code == 404  # the tool server's
        for wrong in made["envdAccessToken"], "x":
            assert fetch(stack, f"6060-{box}.localhost", **{"e2b-traffic-access-token": wrong}).status_code == 403
        assert alice.call("DELETE", f"/sandboxes/{box}").status_code == 204


@pytest.fixture(scope="module")
def two(tmp_path_factory, redis, postgres, host):
    """Two gateways that hand out URLs of their own."""
    with Stack(tmp_path_factory.mktemp("ports"), redis, postgres, host, gateways=2, env={"SANDBOX_DOMAIN": "box.localhost:8001"}) as running:
        yield running


def test_a_ports_url_is_private_expires_and_is_revoked_everywhere(two):
    client = two.client("alice")
    box = client.create()["sandbox_id"]
    plain = uuid.UUID(box).hex
    serve(client, box, 3000, "private-page")

    def expose(**fields) -> dict:
        return client.ok(client.post(f"{BASE}/expose-port", {"sandbox_id": box, "port": 3000} | fields))

    first = expose()
    host = re.fullmatch(r"http://(3000-[0-9a-f]{32}-[a-z0-9]{24}\.box\.localhost:8001)", first["url"])[1]
    assert len(host.split(".")[0]) <= 63 and first["visibility"] == "private" and first["expires_at"] is None
    wait_until("the server", lambda: fetch(two, host).status_code == 200, 15)
    assert [fetch(two, host, g).text for g in (0, 1)] == ["private-page\n"] * 2
    assert expose()["url"] == first["url"]  # it stays what it is
    wrong = host[:-len(".box.localhost:8001") - 1] + ("a" if host.split(".")[0][-1] != "a" else "b") + ".box.localhost:8001"
    for refused in f"3000-{plain}.box.localhost:8001", f"3001-{plain}.box.localhost:8001", wrong, host.replace("3000", "3001", 1):
        assert fetch(two, refused).status_code in (403, 404), refused
    # nobody else lists or closes it
    mallory = two.client("mallory")
    for answer in (mallory.get(f"{BASE}/{box}/ports"), mallory.delete(f"{BASE}/{box}/ports/3000"),
                   mallory.post(f"{BASE}/expose-port", {"sandbox_id": box, "port": 3000})):
        assert answer.status_code == 404 and answer.json()["error"]["type"] == "sandbox_not_found"
    assert [(p["port"], p["url"]) for p in client.ok(client.get(f"{BASE}/{box}/ports"))["items"] if p["port"] == 3000] == [(3000, first["url"])]
    assert client.delete(f"{BASE}/{box}/ports/3000").status_code == 200
    for gateway in 0, 1:
        wait_until("revoked", lambda: fetch(two, host, gateway).status_code == 404, 1.0, 0.05)
    for port in "3000", "x", "70000":
        assert client.delete(f"{BASE}/{box}/ports/{port}").json()["error"]["type"] == "not_found"
    again = expose(expires_in_seconds=1)
    assert again["url"] != first["url"] and again["expires_at"]
    wait_until("expired", lambda: fetch(two, again["url"].removeprefix("http://")).status_code == 404, 10)
    public = expose(visibility="public")
    assert public["url"] == f"http://3000-{plain}.box.localhost:8001" and fetch(two, public["url"].removeprefix("http://")).status_code == 200
    assert client.post(f"{BASE}/expose-port", {"sandbox_id": box, "port": 6060, "visibility": "public"}).status_code == 400
    assert client.post(f"{BASE}/expose-port", {"sandbox_id": box, "port": 49983}).status_code == 400
    client.remove(box)
    assert fetch(two, public["url"].removeprefix("http://")).status_code == 502


def test_service_urls_have_tokens_of_their_own_and_the_providers_open_nothing(two, host):
    client = two.client("alice")
    made = client.create()
    box = made["sandbox_id"]
    hosts = {port: made[name].removeprefix("http://") for port, name in ((6060, "mcp_url"), (9000, "vscode_url"))}
    assert all(re.fullmatch(rf"{port}-[0-9a-f]{{32}}-[a-z0-9]{{24}}\.box\.localhost:8001", name) for port, name in hosts.items())
    assert hosts[6060].split("-")[2] != hosts[9000].split("-")[2]
    serve(client, box, 6060, "tools")
    wait_until("the server", lambda: fetch(two, hosts[6060]).status_code == 200, 15)
    assert client.ok(client.get(f"{BASE}/{box}/urls"))["mcp_url"] == made["mcp_url"] == client.connect(box)["mcp_url"]
    assert fetch(two, hosts[6060].replace("6060", "9000", 1)).status_code == 404  # one token opens one port
    direct = host.fetch(f"http://6060-{made['provider_sandbox_id']}.localhost:{host.port}/")
    assert direct.status_code == 403, direct.text
    # paused in between: the same URL resumes it
    client.pause(box)
    assert fetch(two, hosts[6060]).text == "tools\n" and client.status(box) == "running"
    client.remove(box)
