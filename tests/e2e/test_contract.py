"""The contract, as its clients see it. What depends on the provider is in test_provider_conformance.py."""

import re
import subprocess
import sys
import uuid
from pathlib import Path

import httpx
import pytest

from tests.harness.services import ROOT
from tests.harness.stack import BASE, PASSWORD, Client

EXAMPLE = Path(__file__).with_name("contract_example.py")


@pytest.fixture(scope="module")
def alice(stack):
    return stack.client("alice")


@pytest.fixture(scope="module")
def sandbox(alice):
    data = alice.create()
    yield data
    alice.remove(data["sandbox_id"])


def test_create_answers_as_the_contract_shows(alice, sandbox, stack):
    assert sandbox["success"] is True
    assert str(uuid.UUID(sandbox["sandbox_id"])) == sandbox["sandbox_id"]
    assert sandbox["status"] == "running"
    assert sandbox["provider_sandbox_id"]
    assert f"6060-{sandbox['provider_sandbox_id']}." in sandbox["mcp_url"]
    assert f"9000-{sandbox['provider_sandbox_id']}." in sandbox["vscode_url"]


def test_the_contracts_python_example_runs_as_printed(stack):
    stack.client("sandbox_test")
    done = subprocess.run([sys.executable, str(EXAMPLE), stack.url], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "Created: " in done.stdout and "Output: Python 3" in done.stdout and "Deleted" in done.stdout


def test_flags_in_a_query_are_as_clients_write_them(alice, sandbox):
    path = f"{BASE}/create-directory?sandbox_id={sandbox['sandbox_id']}&directory_path=/tmp/flags"
    for flag in ("", "&exist_ok=true", "&exist_ok=True", "&exist_ok=1"):
        assert alice.post(path + flag).status_code == 200, flag
    for flag in ("false", "False", "0"):
        assert alice.post(f"{path}&exist_ok={flag}").status_code == 409, flag
    answer = alice.post(f"{path}&exist_ok=perhaps")
    assert answer.status_code == 400 and answer.json()["error"]["fields"][0]["field"] == "exist_ok"


@pytest.mark.parametrize("given,missing", [({}, "username"), ({"username": "alice"}, "password"), ({"password": "x"}, "username")])
def test_login_names_what_is_missing(stack, given, missing):
    for how in ("params", "data"):
        answer = Client(stack.url).http.post("/api/v1/auth/login/swagger", **{how: given})
        assert answer.status_code == 400, answer.text
        assert [f["field"] for f in answer.json()["error"]["fields"]] == [missing], answer.text


def test_no_answer_with_a_token_is_cached(stack, alice):
    given = {"username": "alice", "password": PASSWORD}
    http = Client(stack.url).http
    for answer in (http.post("/api/v1/auth/login/swagger", params=given), http.post("/api/v1/auth/login", json=given)):
        assert answer.status_code == 200 and answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("value", ['"\\u0000"', '"\xff"', "[" * 40, "01", "tru", "'a'"])
def test_json_that_is_not_good_names_the_field_it_is_in(alice, value):
    answer = alice.post(f"{BASE}/create", f'{{"user_id":"a","metadata":{{"x":{value}}}}}'.encode("latin-1"))
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_json"
    assert "in metadata: " in answer.json()["msg"], answer.text


@pytest.mark.parametrize("given,field", [
    ({}, "sandbox_id"), ({"sandbox_id": "x", "file_path": "/tmp/f"}, "sandbox_id"), ({"sandbox_id": str(uuid.uuid4())}, "file_path"),
    ({"sandbox_id": str(uuid.uuid4()), "file_path": "x" * 5000}, "file_path")])
def test_an_upload_names_the_bad_part(alice, given, field):
    answer = alice.http.post(f"{BASE}/upload-file", data=given, files={"file": b"x"}, headers=alice.headers())
    assert answer.status_code == 400 and [f["field"] for f in answer.json()["error"]["fields"]] == [field], answer.text


def test_list_pages_and_filters(stack):
    carol = stack.client("carol")
    made = [carol.create(user_id=f"label-{i % 2}")["sandbox_id"] for i in range(5)]
    seen, cursor = [], ""
    while True:
        page = carol.ok(carol.get(f"{BASE}/?limit=2" + (f"&cursor={cursor}" if cursor else "")))
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert seen == made[::-1]
    labelled = carol.ok(carol.get(f"{BASE}/?user_id=label-1"))["items"]
    assert {item["id"] for item in labelled} == {made[1], made[3]}
    carol.pause(made[0])
    assert [i["id"] for i in carol.ok(carol.get(f"{BASE}/?status=paused"))["items"]] == [made[0]]
    for sid in made:
        carol.remove(sid)


def test_respond_async_answers_202(alice):
    answer = alice.post(f"{BASE}/create", {"user_id": "x"}, Prefer="respond-async")
    assert answer.status_code == 202
    sid = answer.json()["data"]["sandbox_id"]
    assert answer.json()["data"]["status"] == "creating"
    assert alice.run(sid, "echo ready")["stdout"] == "ready\n"
    alice.remove(sid)


@pytest.mark.parametrize("given, kept", [
    (b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",) * 2,
    (b"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", b""),
    (b"00-\xff\xfe-b7ad6b7169203331-01", b""),
    (b"x" * 3000, b""),
])
def test_a_traceparent_is_kept_when_it_is_one_and_else_ignored(alice, stack, given, kept):
    data = alice.ok(alice.post(f"{BASE}/create", {"user_id": "tests"}, traceparent=given))
    assert stack.sql(f"select traceparent from jobs where sandbox_id='{data['sandbox_id']}'") == [(kept.decode(),)]
    alice.remove(data["sandbox_id"])


def test_parallel_calls_on_a_paused_sandbox_resume_it_once(alice, stack):
    from concurrent.futures import ThreadPoolExecutor
    sid = alice.create()["sandbox_id"]
    alice.pause(sid)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: alice.run(sid, f"echo {i}")["stdout"], range(8)))
    assert results == [f"{i}\n" for i in range(8)]
    assert stack.sql(f"select count(*) from events where sandbox_id='{sid}' and to_status='resuming'") == [("1",)]
    alice.remove(sid)


def test_the_quick_start_in_python_runs_as_the_readme_prints_it(stack):
    stack.client("sandbox_test")  # makes the user
    text = (ROOT / "README.md").read_text()
    program = re.search(r"```python\n(.*?)```", text, re.S).group(1).replace("http://127.0.0.1:8000", stack.url)
    done = subprocess.run(["/usr/bin/python3", "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("Python 3."), done.stdout + done.stderr
