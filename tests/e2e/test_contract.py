"""The contract, as its clients see it: every endpoint against real sandboxes."""

import base64
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx
import pytest

from tests.harness.stack import BASE, Client

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


def test_run_cmd(alice, sandbox):
    data = alice.run(sandbox["sandbox_id"], "echo 'Hello' && pwd && python3 --version")
    assert data["success"] is True and data["exit_code"] == 0
    lines = data["output"].splitlines()
    assert lines[0] == "Hello" and lines[1] == "/home/user" and lines[2].startswith("Python 3")
    assert data["message"] == "Command executed successfully"


def test_run_cmd_exit_code_and_both_streams(alice, sandbox):
    data = alice.run(sandbox["sandbox_id"], "echo out; echo err >&2; exit 7")
    assert (data["success"], data["exit_code"]) == (False, 7)
    assert (data["stdout"], data["stderr"]) == ("out\n", "err\n")
    assert sorted(data["output"].splitlines()) == ["err", "out"]


def test_run_cmd_cwd_envs_and_stdin_eof(alice, sandbox):
    data = alice.run(sandbox["sandbox_id"], "pwd; echo $COLOUR; cat; echo end", cwd="/tmp", envs={"COLOUR": "grün"})
    assert data["stdout"] == "/tmp\ngrün\nend\n"


def test_run_cmd_timeout_kills_the_whole_tree(alice, sandbox, slow):
    sid = sandbox["sandbox_id"]
    mark = f"4{uuid.uuid4().int % 10**6:06d}"
    start = time.monotonic()
    data = alice.run(sid, f"echo before; setsid sleep {mark} & (sleep {mark} & wait); wait", timeout_seconds=1)
    assert time.monotonic() - start < 8 * slow
    assert data["timed_out"] is True and data["success"] is False
    assert data["stdout"] == "before\n"
    left = alice.run(sid, f"pgrep -fc '^sleep {mark}$' || true")["stdout"].strip()
    assert left == "0"


def test_background_command_outlives_the_call(alice, sandbox):
    sid = sandbox["sandbox_id"]
    data = alice.run(sid, "for i in 1 2 3 4 5; do echo $i >> /tmp/ticks; sleep 0.1; done", background=True)
    assert data["success"] is True and data["pid"] > 0 and data["output"] == ""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if alice.run(sid, "wc -l < /tmp/ticks")["stdout"].strip() == "5":
            return
        time.sleep(0.1)
    pytest.fail("the background command did not finish")


def test_output_is_bounded_and_said_so(alice, sandbox):
    data = alice.run(sandbox["sandbox_id"], "head -c 5000000 /dev/zero | tr '\\0' x")
    assert data["exit_code"] == 0 and data["truncated"] is True
    assert 100_000 < len(data["stdout"]) <= 2_000_000


def test_invalid_utf8_output_is_still_json(alice, sandbox):
    data = alice.run(sandbox["sandbox_id"], "printf 'a\\377b'")
    assert data["stdout"] == "a\ufffdb"


@pytest.mark.parametrize("content", ["print('Hello World')\n", "", "grüße 🚀\n", "x" * 300_000],
                         ids=["code", "empty", "unicode", "300k"])
def test_write_and_read_text(alice, sandbox, content):
    path = f"/home/user/deep/er/{uuid.uuid4()}.txt"
    written = alice.ok(alice.post(f"{BASE}/write-file", {"sandbox_id": sandbox["sandbox_id"], "file_path": path, "content": content}))
    assert written["success"] is True and written["bytes"] == len(content.encode())
    read = alice.ok(alice.post(f"{BASE}/read-file", {"sandbox_id": sandbox["sandbox_id"], "file_path": path}))
    assert (read["content"], read["encoding"]) == (content, "utf-8")


def test_write_and_read_binary(alice, sandbox):
    data = bytes(range(256)) * 10
    body = {"sandbox_id": sandbox["sandbox_id"], "file_path": "/home/user/b.bin"}
    alice.ok(alice.post(f"{BASE}/write-file", body | {"content": base64.b64encode(data).decode(), "encoding": "base64"}))
    read = alice.ok(alice.post(f"{BASE}/read-file", body))
    assert read["encoding"] == "base64" and base64.b64decode(read["content"]) == data


def test_file_names_with_odd_characters(alice, sandbox):
    path = "/home/user/a b+c%20&d=é\"'.txt"
    body = {"sandbox_id": sandbox["sandbox_id"], "file_path": path}
    alice.ok(alice.post(f"{BASE}/write-file", body | {"content": "x"}))
    assert alice.ok(alice.post(f"{BASE}/read-file", body))["content"] == "x"
    assert "a b+c%20&d=é" in alice.run(sandbox["sandbox_id"], "ls /home/user")["stdout"]


def test_read_errors(alice, sandbox):
    sid = sandbox["sandbox_id"]
    missing = alice.post(f"{BASE}/read-file", {"sandbox_id": sid, "file_path": "/nope"})
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "file_not_found")
    folder = alice.post(f"{BASE}/read-file", {"sandbox_id": sid, "file_path": "/home/user"})
    assert (folder.status_code, folder.json()["error"]["type"]) == (400, "is_a_directory")
    alice.run(sid, "truncate -s 200M /tmp/big")
    big = alice.post(f"{BASE}/read-file", {"sandbox_id": sid, "file_path": "/tmp/big"})
    assert (big.status_code, big.json()["error"]["type"]) == (413, "too_large")


def test_create_directory(alice, sandbox):
    body = {"sandbox_id": sandbox["sandbox_id"], "directory_path": "/home/user/new/dir"}
    assert alice.ok(alice.post(f"{BASE}/create-directory", body))["success"] is True
    again = alice.post(f"{BASE}/create-directory", body | {"exist_ok": False})
    assert again.status_code == 409
    assert alice.post(f"{BASE}/create-directory", body | {"exist_ok": True}).status_code == 200


def test_expose_port_reaches_a_server_inside(alice, sandbox, host):
    sid = sandbox["sandbox_id"]
    alice.run(sid, "mkdir -p /tmp/www && echo served > /tmp/www/index.html && cd /tmp/www && exec python3 -m http.server 8123", background=True)
    url = alice.ok(alice.post(f"{BASE}/expose-port", {"sandbox_id": sid, "port": 8123}))["url"]
    name = url.split("://", 1)[1].rstrip("/")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = httpx.get(f"{host.url}/", headers={"Host": name}, trust_env=False)
        if answer.status_code == 200:
            assert answer.text == "served\n"
            return
        time.sleep(0.1)
    pytest.fail(f"{url} answered {answer.status_code}")


def test_urls_status_info(alice, sandbox):
    sid = sandbox["sandbox_id"]
    urls = alice.ok(alice.get(f"{BASE}/{sid}/urls"))
    assert (urls["mcp_url"], urls["vscode_url"]) == (sandbox["mcp_url"], sandbox["vscode_url"])
    assert alice.status(sid) == "running"
    info = alice.info(sid)
    assert info["id"] == sid and info["user_id"] == "tests" and info["provider"] == "e2b"
    assert info["expires_at"].endswith("Z") and info["on_timeout"] in ("pause", "delete")


def test_pause_keeps_processes_and_any_call_resumes(alice):
    sid = alice.create(metadata={"purpose": "pause"})["sandbox_id"]
    alice.run(sid, "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.05; done", background=True)
    assert alice.pause(sid)["status"] == "paused"
    assert alice.pause(sid)["success"] is True
    assert alice.status(sid) == "paused"
    assert alice.run(sid, "cat /tmp/count")["exit_code"] == 0
    assert alice.status(sid) == "running"
    alice.pause(sid)
    assert alice.connect(sid)["status"] == "running"
    assert alice.info(sid)["metadata"] == {"purpose": "pause"}
    history = alice.ok(alice.get(f"{BASE}/{sid}/events"))
    steps = [(e["from"], e["to"]) for e in history["events" if "events" in history else "items"]]
    assert ("running", "pausing") in steps and ("pausing", "paused") in steps and ("resuming", "running") in steps
    alice.remove(sid)


def test_delete_is_final(alice, host):
    data = alice.create()
    sid = data["sandbox_id"]
    assert alice.remove(sid)["status"] == "deleted"
    assert data["provider_sandbox_id"] not in [s["sandboxID"] for s in host.list()]
    for answer in (alice.delete(f"{BASE}/{sid}"), alice.get(f"{BASE}/{sid}/status"),
                   alice.post(f"{BASE}/run-cmd", {"sandbox_id": sid, "command": "true"})):
        assert (answer.status_code, answer.json()["error"]["type"]) == (404, "sandbox_not_found")


def test_delete_of_a_paused_sandbox_does_not_resume_it(alice, stack):
    sid = alice.create()["sandbox_id"]
    alice.pause(sid)
    alice.remove(sid)
    assert stack.sql(f"select count(*) from events where sandbox_id='{sid}' and to_status='resuming'") == [("0",)]


def test_schedule_timeout_pauses_within_a_second(alice, slow):
    sid = alice.create()["sandbox_id"]
    data = alice.ok(alice.post(f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": 2}))
    assert data["success"] is True and data["on_timeout"] == "pause" and data["clamped"] is False
    start = time.monotonic()
    # an absolute deadline is moved by no call
    alice.run(sid, "true")
    while alice.status(sid) not in ("paused", "pausing"):
        assert time.monotonic() - start < 3.2 * slow
        time.sleep(0.05)
    assert time.monotonic() - start > 1.0
    alice.remove(sid)


def test_schedule_timeout_can_delete(alice, slow):
    sid = alice.create()["sandbox_id"]
    alice.ok(alice.post(f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": 1, "on_timeout": "delete"}))
    start = time.monotonic()
    while alice.get(f"{BASE}/{sid}/status").status_code == 200:
        assert time.monotonic() - start < 5 * slow
        time.sleep(0.05)


def test_idle_timeout_moves_with_activity(alice, slow):
    sid = alice.create(timeout_seconds=3)["sandbox_id"]
    start = time.monotonic()
    while time.monotonic() - start < 6:
        alice.run(sid, "true")
        time.sleep(0.2)
    assert alice.status(sid) == "running"
    # a command that runs longer than the idle time is never idle
    assert alice.run(sid, "sleep 5; echo done")["stdout"] == "done\n"
    quiet = time.monotonic()
    while alice.status(sid) == "running":
        assert time.monotonic() - quiet < 6 * slow
        time.sleep(0.1)
    alice.remove(sid)


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


def test_parallel_calls_on_a_paused_sandbox_resume_it_once(alice, stack):
    from concurrent.futures import ThreadPoolExecutor
    sid = alice.create()["sandbox_id"]
    alice.pause(sid)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: alice.run(sid, f"echo {i}")["stdout"], range(8)))
    assert results == [f"{i}\n" for i in range(8)]
    assert stack.sql(f"select count(*) from events where sandbox_id='{sid}' and to_status='resuming'") == [("1",)]
    alice.remove(sid)
