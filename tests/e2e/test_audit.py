"""The audit log: who did what to what, from where, with which result; no contents, no secrets."""

import hashlib

import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, PASSWORD, Client, Stack

AUDIT = "/api/v1/audit"


@pytest.fixture(scope="module")
def one(tmp_path_factory, redis, postgres, host):
    with Stack(tmp_path_factory.mktemp("audit"), redis, postgres, host) as running:
        yield running


def records(admin: Client, query: str = "") -> list[dict]:
    return admin.ok(admin.get(f"{AUDIT}?limit=200{query}"))["items"]


def test_every_change_is_written_with_who_and_what(one):
    alice, admin = one.client("alice"), one.client("root", role="admin")
    owner = one.sql("select id from users where username = 'alice'")[0][0]
    box = alice.create()["sandbox_id"]
    alice.run(box, "echo topsecret")
    alice.ok(alice.post(f"{BASE}/write-file", {"sandbox_id": box, "file_path": "/tmp/a", "content": "innermost"}))
    alice.status(box)  # a read: not written
    key = alice.ok(alice.post("/api/v1/keys", {"name": "k", "scopes": ["exec"]}))
    mallory = one.client("mallory")
    assert mallory.delete(f"{BASE}/{box}").status_code == 404
    alice.remove(box)
    wait_until("written", lambda: len(records(admin, f"&target={box}")) == 5, 5)
    got = {(r["actor_name"], r["action"], r["status"], r["error"]) for r in records(admin, f"&target={box}")}
    assert got == {("alice", "create", 200, None), ("alice", "run_cmd", 200, None), ("alice", "write_file", 200, None),
                   ("mallory", "delete", 404, "sandbox_not_found"), ("alice", "delete", 200, None)}
    run = next(r for r in records(admin, "&action=run_cmd") if r["target"] == box)
    assert run["actor"] == owner and run["address"] == "127.0.0.1" and run["request_id"] and run["key_id"] is None
    assert run["detail"] == "command sha256:" + hashlib.sha256(b"echo topsecret").hexdigest()
    assert next(r for r in records(admin, "&action=write_file"))["detail"] == "path /tmp/a"
    assert [r["target"] for r in records(admin, "&action=key_create")] == [key["id"]]
    text = str(one.sql("select * from audit_log"))
    for secret in ("topsecret", "innermost", PASSWORD, key["key"], alice.token):
        assert secret not in text


def test_logins_and_commands_of_the_operator_are_in_it(one):
    admin = one.client("root", role="admin")
    Client(one.url).http.post("/api/v1/auth/login/swagger", params={"username": "nobody-here", "password": "wrong"})
    one.run("user", "add", "oscar", "--password-stdin", input=PASSWORD)
    one.run("user", "limit", "oscar", "max_sandboxes=3")
    wait_until("written", lambda: records(admin, "&target=nobody-here") != [], 5)
    (failed,) = records(admin, "&target=nobody-here")
    assert (failed["action"], failed["status"], failed["error"]) == ("login_swagger", 401, "invalid_credentials")
    did = records(admin, "&target=oscar")
    assert [(r["actor"], r["action"], r["detail"]) for r in did] == [
        ("operator", "user limit", "max_sandboxes=3"), ("operator", "user add", "--password-stdin")]


def test_only_admins_read_it_page_by_page(one):
    admin, alice = one.client("root", role="admin"), one.client("alice")
    assert alice.get(AUDIT).status_code == 403
    plain = admin.ok(admin.post("/api/v1/keys", {"name": "k", "scopes": ["exec"]}))["key"]
    assert Client(one.url, plain).get(AUDIT).status_code == 403
    whole = [r["at"] for r in records(admin)]
    assert len(whole) > 6
    seen, cursor = [], ""
    while True:
        page = admin.ok(admin.get(f"{AUDIT}?limit=3{cursor}"))
        seen += [r["at"] for r in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen[-len(whole):] == whole


def test_it_is_kept_for_its_days_and_survives_an_absence(one, postgres):
    admin = one.client("root", role="admin")
    one.sql("insert into audit_log (at, actor, actor_name, key_id, address, action, target, status, error, request_id, detail) "
            "select now() - n * interval '1 day', 'x', '', '', '', 'old', '', 0, '', '', '' from generate_series(1, 100) n")
    clear = one.start_gateway(GATEWAY_AUDIT_DAYS="30", GATEWAY_AUDIT_COMMANDS="1")
    wait_until("pruned", lambda: one.sql("select count(*) from audit_log where action = 'old'") in ([("29",)], [("30",)]), 10)
    box = Client(clear.url, admin.token).create()["sandbox_id"]
    Client(clear.url, admin.token).run(box, "echo plain")
    wait_until("written", lambda: [r["detail"] for r in records(admin, f"&target={box}&action=run_cmd")] == ["command echo plain"], 5)
    admin.remove(box)
