"""Idempotency-Key on the calls into a sandbox, and the rule for every route: honoured or refused."""

from __future__ import annotations

import re
import uuid

import pytest

from tests.e2e.test_idempotency import fresh, keyed
from tests.harness.stack import BASE


@pytest.fixture(scope="module")
def box(stack):
    return stack.client().create()["sandbox_id"]


def test_a_command_runs_once_under_its_key(stack, box):
    client, key = stack.client(), fresh()
    body = {"sandbox_id": box, "command": "echo x >> /tmp/once; wc -l < /tmp/once"}
    first, again = (client.post(f"{BASE}/run-cmd", body, **keyed(key)) for _ in range(2))
    assert first.status_code == 200 and first.json()["data"]["stdout"].strip() == "1", first.text
    assert again.content == first.content and again.headers["idempotency-replayed"] == "true"
    other = client.post(f"{BASE}/run-cmd", body | {"command": "echo y"}, **keyed(key))
    assert other.status_code == 422 and other.json()["error"]["type"] == "idempotency_mismatch"
    assert client.run(box, "wc -l < /tmp/once")["stdout"].strip() == "1"


def test_a_background_command_runs_once_under_its_key(stack, box):
    client, key = stack.client(), fresh()
    body = {"sandbox_id": box, "command": "echo x >> /tmp/behind", "background": True}
    first, again = (client.post(f"{BASE}/run-cmd", body, **keyed(key)) for _ in range(2))
    assert first.status_code == 200 and again.content == first.content, first.text
    assert client.run(box, "sleep 0.1; wc -l < /tmp/behind")["stdout"].strip() == "1"


def test_a_command_whose_gateway_died_is_not_run_again(stack, box):
    client, key = stack.client(), fresh()
    body = {"sandbox_id": box, "command": "echo x >> /tmp/died"}
    assert client.post(f"{BASE}/run-cmd", body, **keyed(key)).status_code == 200
    stack.sql(f"update idempotency_keys set status = null, body = null, claim = gen_random_uuid(), "
             f"claimed_at = now() - interval '2 hours' where key = '{key}'")
    again = client.post(f"{BASE}/run-cmd", body, **keyed(key))
    assert again.status_code == 409 and "not run again" in again.json()["error"]["detail"], again.text
    assert client.run(box, "wc -l < /tmp/died")["stdout"].strip() == "1"


def test_a_streamed_command_takes_no_key_and_a_refused_one_frees_it(stack, box):
    client, key = stack.client(), fresh()
    body = {"sandbox_id": box, "command": "echo x"}
    streamed = client.post(f"{BASE}/run-cmd", body, **keyed(key, Accept="text/event-stream"))
    assert streamed.status_code == 400 and "Idempotency-Key" in streamed.json()["error"]["detail"]
    assert client.post(f"{BASE}/run-cmd", {"sandbox_id": str(uuid.uuid4()), "command": "x"}, **keyed(key)).status_code == 404
    assert client.post(f"{BASE}/run-cmd", body, **keyed(key)).status_code == 200


def test_file_calls_replay_their_answer(stack, box):
    client = stack.client()
    calls = {
        "write-file": {"file_path": "/tmp/w", "content": "one"},
        "create-directory": {"directory_path": "/tmp/made", "exist_ok": False},
        "remove-file": {"path": "/tmp/w"},
        "expose-port": {"port": 8080},
    }
    for name, fields in calls.items():
        key, body = fresh(), {"sandbox_id": box} | fields
        first, again = (client.post(f"{BASE}/{name}", body, **keyed(key)) for _ in range(2))
        assert first.status_code == again.status_code == 200, (name, first.text, again.text)
        assert again.content == first.content and again.headers["idempotency-replayed"] == "true", name
        other = client.post(f"{BASE}/{name}", body | {"sandbox_id": str(uuid.uuid4())}, **keyed(key))
        assert other.status_code == 422, (name, other.text)


def test_an_upload_is_compared_by_its_bytes(stack, box):
    client, key = stack.client(), fresh()

    def upload(content: bytes, path: str = "/tmp/up", key: str = key):
        return client.http.post(f"{BASE}/upload-file", headers=client.headers(**keyed(key)), files={"file": ("f", content)},
                                data={"sandbox_id": box, "file_path": path})

    large = bytes(range(256)) * 2000
    first = upload(large)
    assert first.status_code == 200 and first.json()["data"]["bytes"] == len(large), first.text
    client.run(box, "rm /tmp/up")
    again = upload(large)
    assert again.status_code == 200 and again.content == first.content and again.headers["idempotency-replayed"] == "true"
    assert client.run(box, "ls /tmp/up")["success"] is False  # it was replayed, not written
    for other in (upload(large[:-1] + b"x"), upload(large, "/tmp/other")):
        assert other.status_code == 422, other.text
    missing = fresh()
    assert upload(b"x", "/tmp", missing).status_code >= 400 and upload(b"x", key=missing).status_code == 200


def test_a_key_is_honoured_or_refused_everywhere(stack, box):
    client = stack.client()
    with open("gateway/http/routes.def") as file:
        text = file.read().replace('BASE "', f'"{BASE}').replace("BASE,", f'"{BASE}",')
    routes = re.findall(r'^X\("(\w+)", "([^"]+)", (.+), handle_\w+\)', text, re.M)
    assert len(routes) > 20
    for method, path, flags in routes:
        path = path.replace("{id}", box).replace("{command_id}", box)
        for key in (b"", b"x" * 256, b"caf\xc3\xa9"):
            answer = client.http.request(method, path, headers=[*client.headers().items(), ("Idempotency-Key", key)])
            assert answer.status_code == 400 and answer.json()["error"]["type"] == "header_invalid", (method, path, key, answer.text)
        twice = client.http.request(method, path, headers=[*client.headers().items(), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")])
        assert twice.status_code == 400 and twice.json()["error"]["type"] == "header_invalid", (method, path, twice.text)
        if "KEYED" not in flags:
            answer = client.http.request(method, path, headers=client.headers(**keyed(fresh())))
            assert answer.status_code == 400 and "takes no Idempotency-Key" in answer.json()["error"]["detail"], (method, path, answer.text)
