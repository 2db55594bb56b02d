"""Keys of programs: shown once, kept as a hash, allowed what their scopes say, ended everywhere."""

import hashlib
import re
import uuid

import httpx
import pytest

from tests.e2e.test_hostile import TAKES, routes
from tests.harness.services import wait_until
from tests.harness.stack import BASE, LOCAL, Stack

KEYS = "/api/v1/keys"
KNOWN_EVERYWHERE_S = 5
SCOPE_OF = {"READS": "sandboxes:read", "WRITES": "sandboxes:write", "EXECS": "exec", "ADMINS": "admin"}


@pytest.fixture(scope="module")
def two(tmp_path_factory, redis, postgres, host):
    with Stack(tmp_path_factory.mktemp("keys"), redis, postgres, host, gateways=2) as running:
        yield running


def make(client, *scopes: str, **fields) -> dict:
    return client.ok(client.post(KEYS, {"name": "ci", "scopes": list(scopes)} | fields))


def call(url: str, method: str, path: str, key: str, body=None, header: str = "X-API-Key") -> httpx.Response:
    headers = {"User-Agent": "t", "X-Request-ID": str(uuid.uuid4()), header: f"Bearer {key}" if header == "Authorization" else key}
    return httpx.request(method, url + path, json=body, headers=headers, timeout=60, **LOCAL)


def kind(answer: httpx.Response) -> str:
    return "ok" if answer.status_code == 200 else answer.json()["error"]["type"]


def test_a_key_is_shown_once_and_kept_as_a_hash(two):
    client = two.client("alice")
    made = make(client, "sandboxes:read", expires_in_seconds=3600)
    key = made["key"]
    assert re.fullmatch("e2b_[0-9a-f]{40}", key) and key.startswith(made["prefix"]) and len(made["prefix"]) < 20
    assert key not in client.get(KEYS).text
    assert two.sql(f"select hash from api_keys where id = '{made['id']}'") == [(hashlib.sha256(key.encode()).hexdigest(),)]
    assert key.removeprefix("e2b_") not in "".join(p.log() for p in two.processes)
    for gateway in two.gateways:
        for header in ("X-API-Key", "Authorization"):
            assert kind(call(gateway.url, "GET", BASE, key, header=header)) == "ok"
    wait_until("last use is told", lambda: next(
        i for i in client.ok(client.get(KEYS))["items"] if i["id"] == made["id"])["last_used_at"] is not None, 5)
    for bad, told in ((key[:-1], "token_malformed"), (key.upper(), "token_malformed"), ("", "token_malformed"), ("e2b_" + "0" * 40, "token_revoked")):
        assert kind(call(two.url, "GET", BASE, bad)) == told


def test_one_who_guesses_keys_is_slowed_down_and_costs_nobody_else(tmp_path, redis, postgres, fault_provider):
    with Stack(tmp_path, redis, postgres, fault_provider, env={"API_KEY_ADDRESS_MAX": "5", "TRUSTED_PROXIES": "127.0.0.1"}) as stack:
        client = stack.client("alice")
        key, fresh = make(client, "sandboxes:read")["key"], make(client, "sandboxes:read")["key"]

        def ask(used: str, address: str) -> httpx.Response:
            return httpx.get(stack.url + BASE, headers={"User-Agent": "t", "X-Request-ID": str(uuid.uuid4()), "X-API-Key": used,
                                                        "X-Forwarded-For": address}, **LOCAL)

        assert ask(key, "2001:db8::1").status_code == 200
        # each from another address of one IPv6 network
        answers = [ask(f"e2b_{i:040x}", f"2001:db8::{i:x}") for i in range(1, 12)]
        assert [kind(a) for a in answers[:5]] == ["token_revoked"] * 5
        assert {kind(a) for a in answers[5:]} == {"rate_limited"}
        assert all(int(a.headers["Retry-After"]) >= 1 for a in answers[5:])
        # a key that is known goes on, and so does everybody at other addresses
        assert ask(key, "2001:db8::1").status_code == 200 and ask(fresh, "2001:db8:0:1::1").status_code == 200


def test_each_route_asks_for_its_scope(two):
    """Every route of routes.def with a key of every single scope."""
    client = two.client("alice")
    keys = {scope: make(client, scope)["key"] for scope in ("sandboxes:read", "sandboxes:write", "exec")}
    for route in routes():
        flags = route.flags
        if "OPEN" in flags:
            continue
        wanted = {SCOPE_OF[f] for f in flags & set(SCOPE_OF)}
        for scope, key in keys.items():
            got = kind(call(two.url, route.method, route.path, key, TAKES.get(route.handler, (None, None))[1]))
            allowed = "ANY_KEY" in flags or wanted == {scope}
            assert (got == "forbidden") != allowed, f"{route.method} {route.path} with {scope}: {got}"


def test_a_program_works_with_its_key(two):
    client = two.client("alice")
    key = make(client, "sandboxes:write", "exec")["key"]
    box = call(two.url, "POST", f"{BASE}/create", key, {"user_id": "k"}).json()["data"]["sandbox_id"]
    assert client.status(box) == "running"  # the owner's own
    done = call(two.url, "POST", f"{BASE}/run-cmd", key, {"sandbox_id": box, "command": "echo hi"}).json()["data"]
    assert done["output"] == "hi\n"
    assert kind(call(two.url, "GET", f"{BASE}/{box}/status", key)) == "forbidden"
    assert kind(call(two.url, "DELETE", f"{BASE}/{box}", key)) == "ok"


def test_revoking_and_disabling_end_a_key_everywhere(two):
    client = two.client("kim")
    made, other = make(client, "sandboxes:read"), make(client, "sandboxes:read")

    def everywhere(key: str) -> set[str]:
        return {kind(call(g.url, "GET", BASE, key)) for g in two.gateways}

    assert everywhere(made["key"]) == everywhere(other["key"]) == {"ok"}
    assert client.delete(f"{KEYS}/{made['id']}").status_code == 200
    wait_until("revoked", lambda: everywhere(made["key"]) == {"token_revoked"}, KNOWN_EVERYWHERE_S)
    assert client.delete(f"{KEYS}/{made['id']}").status_code == 404
    two.run("user", "disable", "kim")
    wait_until("disabled", lambda: everywhere(other["key"]) == {"token_revoked"}, KNOWN_EVERYWHERE_S)
    two.run("user", "enable", "kim")
    wait_until("enabled", lambda: everywhere(other["key"]) == {"ok"}, KNOWN_EVERYWHERE_S)


def test_rotation_overlaps(two):
    client = two.client("alice")
    old = make(client, "exec", expires_in_seconds=86400)
    new = client.ok(client.post(f"{KEYS}/{old['id']}/rotate", {"overlap_seconds": 2}))
    assert new["scopes"] == ["exec"] and new["name"] == "ci" and new["key"] != old["key"] and new["expires_at"]
    probe = ("POST", f"{BASE}/list-files", {"sandbox_id": str(uuid.uuid4()), "path": "/"})

    def told(key: str) -> str:
        return kind(call(two.url, probe[0], probe[1], key, probe[2]))

    assert told(new["key"]) == "sandbox_not_found" and told(old["key"]) == "sandbox_not_found"
    second = client.ok(client.post(f"{KEYS}/{new['id']}/rotate", {"overlap_seconds": 0}))
    wait_until("no overlap", lambda: told(new["key"]) == "token_revoked", KNOWN_EVERYWHERE_S)
    assert told(second["key"]) == "sandbox_not_found"
    wait_until("overlap over", lambda: two.sql(f"select expires_at < now() from api_keys where id = '{old['id']}'") == [("t",)], 5)
    fresh = two.start_gateway()  # one that has never seen it
    assert kind(call(fresh.url, probe[0], probe[1], old["key"], probe[2])) == "token_expired"


def test_keys_belong_to_their_owner(two):
    alice, mallory, root = two.client("alice"), two.client("mallory"), two.client("root", role="admin")
    made = make(alice, "exec")
    owner = two.sql("select id from users where username = 'alice'")[0][0]
    for client, status in ((mallory, 404), (root, 200)):
        assert client.post(f"{KEYS}/{made['id']}/rotate", {"overlap_seconds": 60}).status_code == status
        assert client.delete(f"{KEYS}/{made['id']}").status_code == status
        assert client.get(f"{KEYS}?owner={owner}").status_code == (200 if status == 200 else 403)
    assert made["id"] not in mallory.get(KEYS).text
    # no key makes an admin of its owner, and no key makes keys
    assert alice.post(KEYS, {"name": "x", "scopes": ["admin"]}).status_code == 403
    key = make(root, "admin", "sandboxes:read")["key"]
    box = alice.create()["sandbox_id"]
    assert kind(call(two.url, "GET", f"{BASE}/{box}/status", key)) == "ok"
    plain = make(root, "sandboxes:read")["key"]
    assert kind(call(two.url, "GET", f"{BASE}/{box}/status", plain)) == "sandbox_not_found"
    assert kind(call(two.url, "POST", KEYS, key, {"name": "x", "scopes": ["exec"]})) == "forbidden"
    alice.remove(box)


def test_pages_and_the_command(two):
    client = two.client("liam")
    ids = [make(client, "exec")["id"] for _ in range(5)]
    seen, cursor = [], ""
    while True:
        page = client.ok(client.get(f"{KEYS}?limit=2{cursor}"))
        seen += [i["id"] for i in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == ids[::-1]
    key, told = two.run("key", "add", "liam", "deploy", "sandboxes:read,exec", "--days", "30").splitlines()
    assert kind(call(two.url, "GET", BASE, key)) == "ok" and "sandboxes:read exec" in told
    key_id = told.split()[1].rstrip(",")
    assert key not in two.run("key", "list", "liam") and key_id in two.run("key", "list", "liam")
    rotated = two.run("key", "rotate", key_id, "--overlap", "0").splitlines()[0]
    assert kind(call(two.url, "GET", BASE, rotated)) == "ok"
    wait_until("rotated", lambda: kind(call(two.url, "GET", BASE, key)) == "token_revoked", KNOWN_EVERYWHERE_S)
    assert "revoked" in two.run("key", "revoke", ids[0])


def test_the_number_of_keys_is_limited(fault_stack):
    stack = fault_stack(env={"GATEWAY_KEYS_PER_USER": "2"})
    client = stack.client("alice")
    for _ in range(2):
        make(client, "exec")
    answer = client.post(KEYS, {"name": "third", "scopes": ["exec"]})
    assert answer.status_code == 429 and answer.json()["error"]["limit"] == 2
