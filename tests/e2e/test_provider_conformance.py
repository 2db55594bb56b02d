"""What every provider must do the same: the data plane and the life of a sandbox, written once and
run against each of tests/harness/providers.py."""

import base64
import time
import uuid

import pytest

from tests.harness.providers import PROVIDERS
from tests.harness.services import free_port, wait_until
from tests.harness.stack import BASE, Stack


@pytest.fixture(scope="module", params=list(PROVIDERS))
def provider(request, tmp_path_factory):
    service = PROVIDERS[request.param](tmp_path_factory.mktemp(request.param))
    service.name = request.param
    yield service
    service.stop()


@pytest.fixture(scope="module")
def stack(tmp_path_factory, redis, postgres, provider):
    with Stack(tmp_path_factory.mktemp("stack"), redis, postgres, provider) as running:
        yield running


@pytest.fixture(scope="module")
def home(provider):
    return provider.home


@pytest.fixture(scope="module")
def alice(stack):
    return stack.client("alice")


@pytest.fixture(scope="module")
def sandbox(alice):
    data = alice.create()
    yield data
    alice.remove(data["sandbox_id"])


def test_create(alice, sandbox, provider):
    assert sandbox["success"] is True and sandbox["status"] == "running" and sandbox["provider"] == provider.name
    assert sandbox["provider_sandbox_id"] in provider.ids()
    for field, port in (("mcp_url", 6060), ("vscode_url", 9000)):
        assert f"://{port}-{sandbox['provider_sandbox_id']}." in sandbox[field]


def test_create_with_environment(alice):
    sid = alice.create(envs={"GREETING": "hello there"})["sandbox_id"]
    assert alice.run(sid, "echo $GREETING")["stdout"] == "hello there\n"
    alice.remove(sid)


def test_a_refused_template_is_502_with_the_providers_words(alice, provider):
    if provider.name == "e2b":
        pytest.skip("this sandbox host takes any template")
    answer = alice.post(f"{BASE}/create", {"user_id": "x", "sandbox_template_id": "missing-one"})
    assert answer.status_code == 502 and answer.json()["error"]["type"] == "provider_error"
    assert "not found" in answer.text


@pytest.mark.parametrize("command,stdout,code", [
    ("printf 'no newline'", "no newline", 0),
    ("exit 42", "", 42),
    ("echo 'single' \"double\" `echo tick` $((1+1))", "single double tick 2\n", 0),
    ("echo one\necho two", "one\ntwo\n", 0),
    ("cat <<'X'\n$HOME 'quoted'\nX", "$HOME 'quoted'\n", 0),
    ("kill -9 $$", "", 137),
    ("sh -c 'kill -TERM $$'", "", 143),
    ("[[ a == a ]] && arr=(1 2 3) && echo ${#arr[@]}", "3\n", 0),
], ids=["no-newline", "exit", "quotes", "lines", "heredoc", "killed", "child-killed", "bash"])
def test_run_cmd_is_bash_and_exact(alice, sandbox, command, stdout, code):
    data = alice.run(sandbox["sandbox_id"], command)
    assert (data["stdout"], data["exit_code"]) == (stdout, code)


def test_run_cmd_with_a_long_command(alice, sandbox):
    # beyond 128 KiB no system call takes it as one argument
    for length in (90_000, 200_000):
        data = alice.run(sandbox["sandbox_id"], f"cat; set -- {'é' * (length // 2)}; printf %s \"$1\" | wc -c; exit 3")
        assert (data["stdout"].strip(), data["exit_code"]) == (str(length), 3)


def test_run_cmd_in_a_directory_that_is_not_there(alice, sandbox):
    answer = alice.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox["sandbox_id"], "command": "pwd", "cwd": "/nowhere"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request")


def test_run_cmd_leaves_nothing_behind(alice, sandbox):
    sid = sandbox["sandbox_id"]
    alice.run(sid, "echo x; sleep 30", timeout_seconds=1)
    assert alice.run(sid, "ls -A /tmp | grep -c sandbox-exec || true")["stdout"].strip() in ("0", "1")


def test_lost_at_the_provider_is_noticed(alice, provider):
    if not hasattr(provider, "forget"):
        pytest.skip("this one loses nothing")
    data = alice.create()
    provider.forget(data["provider_sandbox_id"])
    for _ in range(2):
        answer = alice.post(f"{BASE}/run-cmd", {"sandbox_id": data["sandbox_id"], "command": "true"})
        assert (answer.status_code, answer.json()["error"]["type"]) == (503, "provider_unavailable"), answer.text
        assert int(answer.headers["Retry-After"]) >= 1
    assert alice.info(data["sandbox_id"])["status_reason"] == "missing_at_provider"  # not lost yet: see test_missing.py


def test_run_cmd(alice, sandbox, home):
    data = alice.run(sandbox["sandbox_id"], "echo 'Hello' && pwd && python3 --version")
    assert data["success"] is True and data["exit_code"] == 0
    lines = data["output"].splitlines()
    assert lines[0] == "Hello" and lines[1] == home and lines[2].startswith("Python 3")
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
    # killed, and soon gone: these sleep for days otherwise
    wait_until("no sleep", lambda: alice.run(sid, f"pgrep -fc '^sleep {mark}$' || true")["stdout"].strip() == "0", 10, 0.1)


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
def test_write_and_read_text(alice, sandbox, content, home):
    path = f"{home}/deep/er/{uuid.uuid4()}.txt"
    written = alice.ok(alice.post(f"{BASE}/write-file", {"sandbox_id": sandbox["sandbox_id"], "file_path": path, "content": content}))
    assert written["success"] is True and written["bytes"] == len(content.encode())
    read = alice.ok(alice.post(f"{BASE}/read-file", {"sandbox_id": sandbox["sandbox_id"], "file_path": path}))
    assert (read["content"], read["encoding"]) == (content, "utf-8")


def test_write_and_read_binary(alice, sandbox, home):
    data = bytes(range(256)) * 10
    body = {"sandbox_id": sandbox["sandbox_id"], "file_path": f"{home}/b.bin"}
    alice.ok(alice.post(f"{BASE}/write-file", body | {"content": base64.b64encode(data).decode(), "encoding": "base64"}))
    read = alice.ok(alice.post(f"{BASE}/read-file", body))
    assert read["encoding"] == "base64" and base64.b64decode(read["content"]) == data


def test_file_names_with_odd_characters(alice, sandbox, home):
    path = home + "/a b+c%20&d=é\"'.txt"
    body = {"sandbox_id": sandbox["sandbox_id"], "file_path": path}
    alice.ok(alice.post(f"{BASE}/write-file", body | {"content": "x"}))
    assert alice.ok(alice.post(f"{BASE}/read-file", body))["content"] == "x"
    assert "a b+c%20&d=é" in alice.run(sandbox["sandbox_id"], f"ls {home}")["stdout"]


def test_read_errors(alice, sandbox, home):
    sid = sandbox["sandbox_id"]
    missing = alice.post(f"{BASE}/read-file", {"sandbox_id": sid, "file_path": "/nope"})
    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "file_not_found")
    folder = alice.post(f"{BASE}/read-file", {"sandbox_id": sid, "file_path": home})
    assert (folder.status_code, folder.json()["error"]["type"]) == (400, "is_a_directory")
    alice.run(sid, "truncate -s 200M /tmp/big")
    big = alice.post(f"{BASE}/read-file", {"sandbox_id": sid, "file_path": "/tmp/big"})
    assert (big.status_code, big.json()["error"]["type"]) == (413, "too_large")


def test_create_directory(alice, sandbox, home):
    body = {"sandbox_id": sandbox["sandbox_id"], "directory_path": f"{home}/new/dir"}
    assert alice.ok(alice.post(f"{BASE}/create-directory", body))["success"] is True
    again = alice.post(f"{BASE}/create-directory", body | {"exist_ok": False})
    assert again.status_code == 409
    assert alice.post(f"{BASE}/create-directory", body | {"exist_ok": True}).status_code == 200


def listed(alice, sid: str, path: str) -> dict[str, tuple[str, int]]:
    data = alice.ok(alice.post(f"{BASE}/list-files", {"sandbox_id": sid, "path": path}))
    assert (data["success"], data["path"], data["truncated"]) == (True, path, False)
    return {e["name"]: (e["type"], e["size"]) for e in data["entries"]}


def refused(alice, call: str, sid: str, path: str, **more) -> tuple[int, str]:
    answer = alice.post(f"{BASE}/{call}", {"sandbox_id": sid, "path": path} | more)
    return answer.status_code, answer.json()["error"]["type"]


def test_list_files(alice, sandbox, home):
    sid, folder = sandbox["sandbox_id"], f"{home}/listed"
    alice.run(sid, f"mkdir -p {folder}/sub/below {folder}/empty && cd {folder} && printf 12345 > five && touch none .hidden"
                   " && mkfifo pipe && ln -s sub way && printf x > sub/in")
    found = listed(alice, sid, folder)
    kinds = {name: kind for name, (kind, _) in found.items()}
    assert kinds == {"five": "file", "none": "file", ".hidden": "file", "pipe": "other", "sub": "directory",
                     "empty": "directory", "way": "directory"}
    assert found["five"] == ("file", 5) and found["none"] == ("file", 0)
    assert listed(alice, sid, f"{folder}/empty") == {}
    assert listed(alice, sid, f"{folder}/way") == {"below": ("directory", found["sub"][1]), "in": ("file", 1)}


def test_list_errors(alice, sandbox, home):
    sid = sandbox["sandbox_id"]
    alice.run(sid, f"touch {home}/plain")
    assert refused(alice, "list-files", sid, "/nope") == (404, "file_not_found")
    assert refused(alice, "list-files", sid, f"{home}/plain") == (400, "not_a_directory")


def test_list_is_bounded_and_says_so(alice, sandbox):
    sid = sandbox["sandbox_id"]
    alice.run(sid, "mkdir /tmp/many && cd /tmp/many && touch $(seq 1001)")
    body = {"sandbox_id": sid, "path": "/tmp/many"}
    data = alice.ok(alice.post(f"{BASE}/list-files", body))
    assert data["truncated"] is True and len({e["name"] for e in data["entries"]}) == 1000
    assert [e["name"] for e in alice.ok(alice.post(f"{BASE}/list-files", body | {"cursor": data["next_cursor"]}))["entries"]] == ["999"]
    alice.run(sid, "rm /tmp/many/1001")
    assert len(listed(alice, sid, "/tmp/many")) == 1000
    # a page that is longer than what is read of the provider's answer at all
    assert alice.run(sid, "cd /tmp/many && rm * && l=$(printf %4000s | tr ' ' x) && seq 900 | xargs -I@ ln -s $l-@ @")["exit_code"] == 0
    assert refused(alice, "list-files", sid, "/tmp/many") == (413, "too_large")
    assert alice.post(f"{BASE}/list-files", body | {"limit": 200}).status_code == 200
    alice.run(sid, "rm -r /tmp/many")


def test_remove_file(alice, sandbox, home):
    sid, folder = sandbox["sandbox_id"], f"{home}/removed"
    body = {"sandbox_id": sid, "path": f"{folder}/a"}
    alice.run(sid, f"mkdir -p {folder} && touch {folder}/a {folder}/b")
    assert alice.ok(alice.post(f"{BASE}/remove-file", body)) == {"success": True, "message": "Removed"}
    assert set(listed(alice, sid, folder)) == {"b"}
    for recursive in (False, True):
        assert refused(alice, "remove-file", sid, f"{folder}/a", recursive=recursive) == (404, "file_not_found")


def test_remove_of_a_directory_needs_recursive(alice, sandbox, home):
    sid, folder = sandbox["sandbox_id"], f"{home}/gone"
    alice.run(sid, f"mkdir -p {folder}/full/deep {folder}/empty {folder}/kept && touch {folder}/full/deep/f {folder}/kept/f"
                   f" && ln -s {folder}/kept {folder}/full/way")
    for name in ("full", "empty"):
        assert refused(alice, "remove-file", sid, f"{folder}/{name}") == (400, "is_a_directory")
        assert refused(alice, "remove-file", sid, f"{folder}/{name}", recursive=False) == (400, "is_a_directory")
        assert name in listed(alice, sid, folder)
        alice.ok(alice.post(f"{BASE}/remove-file", {"sandbox_id": sid, "path": f"{folder}/{name}", "recursive": True}))
    assert set(listed(alice, sid, folder)) == {"kept"}
    # what a link led to is not part of the folder
    assert set(listed(alice, sid, f"{folder}/kept")) == {"f"}


def test_list_and_remove_odd_names(alice, sandbox):
    sid = sandbox["sandbox_id"]
    names = ["a b+c%20&d=é\"'.txt", "-rf", "*", "line\nbreak", "back\\slash", "?path=x#y"]
    for name in names:
        alice.ok(alice.post(f"{BASE}/write-file", {"sandbox_id": sid, "file_path": f"/tmp/odd +%/{name}", "content": "x"}))
    alice.run(sid, "touch '/tmp/odd +%/'$'not\\377utf8'")
    left = [*names, "not\ufffdutf8"]
    assert listed(alice, sid, "/tmp/odd +%") == {n: ("file", 0 if n == left[-1] else 1) for n in left}
    for name in names:
        alice.ok(alice.post(f"{BASE}/remove-file", {"sandbox_id": sid, "path": f"/tmp/odd +%/{name}"}))
        left.remove(name)
        assert set(listed(alice, sid, "/tmp/odd +%")) == set(left), name


def test_expose_port_reaches_a_server_inside(alice, sandbox, provider):
    sid = sandbox["sandbox_id"]
    port = free_port()  # not every provider's double gives a sandbox a network of its own
    alice.run(sid, f"mkdir -p /tmp/www && echo served > /tmp/www/index.html && cd /tmp/www && exec python3 -m http.server {port}", background=True)
    url = alice.ok(alice.post(f"{BASE}/expose-port", {"sandbox_id": sid, "port": port}))["url"]
    for field, value in ("visibility", "private"), ("expires_in_seconds", 60):  # a provider's URL keeps neither
        refused = alice.post(f"{BASE}/expose-port", {"sandbox_id": sid, "port": port, field: value})
        assert refused.status_code == 400 and refused.json()["msg"].startswith(field + " "), refused.text
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        answer = provider.fetch(url)
        if answer.status_code == 200:
            assert answer.text == "served\n"
            return
        time.sleep(0.1)
    pytest.fail(f"{url} answered {answer.status_code}")


def test_urls_status_info(alice, sandbox, provider):
    sid = sandbox["sandbox_id"]
    urls = alice.ok(alice.get(f"{BASE}/{sid}/urls"))
    assert (urls["mcp_url"], urls["vscode_url"]) == (sandbox["mcp_url"], sandbox["vscode_url"])
    assert alice.status(sid) == "running"
    info = alice.info(sid)
    assert info["id"] == sid and info["user_id"] == "tests" and info["provider"] == provider.name
    assert info["expires_at"].endswith("Z") and info["on_timeout"] in ("pause", "delete")


def test_pause_keeps_what_it_says_and_any_call_resumes(alice, provider, home):
    sid = alice.create(metadata={"purpose": "pause"})["sandbox_id"]
    alice.run(sid, f"echo kept > {home}/disk")
    alice.run(sid, "while :; do sleep 0.05; done", background=True)
    paused = alice.pause(sid)
    assert paused["status"] == "paused" and paused["keeps"] == ("memory" if provider.keeps_memory else "disk")
    assert alice.pause(sid)["success"] is True
    assert alice.status(sid) == "paused"
    assert alice.run(sid, f"cat {home}/disk")["stdout"] == "kept\n"
    assert alice.status(sid) == "running"
    processes = int(alice.run(sid, "pgrep -fc 'while : ?; do slee[p] 0.05' || true")["stdout"])
    assert (processes > 0) is provider.keeps_memory
    alice.pause(sid)
    assert alice.connect(sid)["status"] == "running"
    assert alice.info(sid)["metadata"] == {"purpose": "pause"}
    history = alice.ok(alice.get(f"{BASE}/{sid}/events"))
    steps = [(e["from"], e["to"]) for e in history["items"]]
    assert ("running", "pausing") in steps and ("pausing", "paused") in steps and ("resuming", "running") in steps
    alice.remove(sid)


def test_delete_is_final(alice, provider):
    data = alice.create()
    sid = data["sandbox_id"]
    assert alice.remove(sid)["status"] == "deleted"
    assert data["provider_sandbox_id"] not in provider.ids()
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
        assert time.monotonic() - start < 4 * slow
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




def test_files_of_any_size_are_streamed(alice, sandbox, home):
    content = bytes(range(256)) * 20000
    answer = alice.http.post(f"{BASE}/upload-file", headers=alice.headers(), files={"file": ("f", content)},
                             data={"sandbox_id": sandbox["sandbox_id"], "file_path": f"{home}/up/load.bin"})
    assert alice.ok(answer)["bytes"] == len(content)
    back = alice.post(f"{BASE}/download-file", {"sandbox_id": sandbox["sandbox_id"], "file_path": f"{home}/up/load.bin"})
    assert back.status_code == 200 and back.content == content
    missing = alice.post(f"{BASE}/download-file", {"sandbox_id": sandbox["sandbox_id"], "file_path": f"{home}/none"})
    assert missing.status_code == 404 and missing.json()["error"]["type"] == "file_not_found"


def test_output_is_streamed(alice, sandbox):
    answer = alice.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox["sandbox_id"], "command": "echo out; echo err >&2; exit 5"},
                        Accept="text/event-stream")
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/event-stream")
    events = answer.text.strip().split("\n\n")
    assert sorted(e.split("\n")[0] for e in events[:-1]) == ["event: stderr", "event: stdout"]
    assert events[-1].startswith("event: exit\n") and '"exit_code":5' in events[-1]
