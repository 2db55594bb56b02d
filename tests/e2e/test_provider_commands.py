"""What a command does at every provider: how it ends, what is left of it, what is told. The expected
answers are written once, field by field, so that one provider cannot differ from another."""

import base64
import hashlib
import json
import random
import signal
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from http.client import HTTPConnection
from urllib.parse import urlencode

import pytest

from tests.harness import providers
from tests.harness.services import wait_until
from tests.harness.stack import BASE, Stack
from tests.harness.websocket import WebSocket

VERSIONS = getattr(providers, "PROVIDER_VERSIONS", providers.PROVIDERS)
ENDED = {"success": True, "output": "", "stdout": "", "stderr": "", "exit_code": 0, "timed_out": False, "paused": False,
         "background_processes": False, "truncated": False, "output_encoding": "utf-8", "output_replaced": False,
         "message": "Command executed successfully"}
TIMED_OUT = ENDED | {"success": False, "exit_code": None, "timed_out": True, "survivors": [],
                     "message": "Command timed out and was killed"}


@pytest.fixture(scope="module", params=list(VERSIONS))
def provider(request, tmp_path_factory):
    service = VERSIONS[request.param](tmp_path_factory.mktemp(request.param))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def stack(tmp_path_factory, redis, postgres, provider):
    with Stack(tmp_path_factory.mktemp("stack"), redis, postgres, provider) as running:
        yield running


@pytest.fixture(scope="module")
def alice(stack):
    return stack.client("alice")


@pytest.fixture(scope="module")
def sandbox(alice):
    data = alice.create()
    yield data["sandbox_id"]
    alice.remove(data["sandbox_id"])


@pytest.fixture(scope="module")
def silent(alice, sandbox):
    """A streamed command that prints nothing for longer than anybody may be silent; it runs beside the other tests."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lambda: alice.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox, "command": "sleep 11"},
                                             Accept="text/event-stream").text)


def run(alice, sandbox: str, command: str, **fields) -> dict:
    data = alice.run(sandbox, command, **fields)
    assert data.pop("duration_ms") >= 0
    state, next_offset = data.pop("state"), data.pop("next_offset", None)
    assert uuid.UUID(data.pop("command_id")) and (next_offset is None) == (state not in ("running", "paused"))
    return data


def printed(text: str, **fields) -> dict:
    return ENDED | {"output": text, "stdout": text} | fields


def mark() -> str:
    """An argument of sleep that nobody else has."""
    return f"4{uuid.uuid4().int % 10**7:07d}"


def alive(alice, sandbox: str, number: str) -> int:
    return int(alice.run(sandbox, f"pgrep -fc '^sleep {number}$' || true")["stdout"])


DAEMON = "python3 -c 'import os,sys; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); os.execvp(\"sleep\", [\"sleep\", sys.argv[1]])'"


@pytest.mark.parametrize("start", [
    "(sleep N >/dev/null 2>&1 &)", "(setsid sleep N &)", "setsid -f sleep N", "(env -i setsid sleep N &)",
    "nohup sleep N >/dev/null 2>&1 & disown", f"{DAEMON} N", f"env -i PATH=$PATH {DAEMON} N </dev/null >/dev/null 2>&1",
    "{ (trap '' TERM HUP; sleep N & wait) & }",
], ids=["subshell", "session", "setsid-f", "empty-environment", "nohup", "daemon", "bare-daemon", "deaf"])
def test_at_its_time_all_that_a_command_started_is_dead(alice, sandbox, start, silent):
    number = mark()
    data = run(alice, sandbox, f"{start.replace('N', number)}; echo begun; sleep 30", timeout_seconds=1)
    assert data == TIMED_OUT | {"output": "begun\n", "stdout": "begun\n"}
    assert alive(alice, sandbox, number) == 0


def test_servers_that_make_themselves_daemons_are_dead_at_the_commands_time(alice, sandbox):
    number = mark()
    place = f"/tmp/{number}"
    started = (f"tmux -S {place}.tmux -f /dev/null new-session -d sleep {number}\n"
               f"redis-server --daemonize yes --port 0 --save '' --dir /tmp --unixsocket {place}.redis >/dev/null\n"
               f"until redis-cli -s {place}.redis ping >/dev/null 2>&1 && pgrep -f '^sleep {number}$' >/dev/null; do sleep 0.1; done\n")
    data = run(alice, sandbox, f"{started}echo begun; sleep 60", timeout_seconds=6)
    assert data == TIMED_OUT | {"output": "begun\n", "stdout": "begun\n"}
    # the brackets keep the pattern from finding the shell that asks
    left = alice.run(sandbox, f"pgrep -fa '[{number[0]}]{number[1:]}'; rm -f /tmp/[{number[0]}]{number[1:]}.*")
    assert left["stdout"] == ""


def test_a_timeout_is_answered_at_its_time_however_much_is_printed(alice, sandbox, slow):
    for left in (2, 1, 0):  # again where the machine is too busy
        begin = time.monotonic()
        data = run(alice, sandbox, "yes", timeout_seconds=1)
        took = time.monotonic() - begin
        if took < 1 + slow:
            break
        assert left or took < 1 + 4 * slow
    assert data["timed_out"] is True and data["survivors"] == [] and data["truncated"] is True
    assert data["stdout"].startswith("y\ny\n") and data["omitted"]["stdout"]["offset"] == 1 << 20


def test_the_call_ends_with_the_commands_own_process(alice, sandbox, slow):
    number = mark()
    begin = time.monotonic()
    data = run(alice, sandbox, f"sleep {number} & echo started", timeout_seconds=30)
    assert time.monotonic() - begin < 5 * slow
    assert data == printed("started\n", background_processes=True)
    time.sleep(0.3)
    assert alive(alice, sandbox, number) == 1  # and holds the outputs still
    # what is left prints, and is not killed for it
    assert run(alice, sandbox, "(sleep 0.5; echo late; echo late >&2; echo done > /tmp/late) & echo now") == printed(
        "now\n", background_processes=True)
    wait_until("the late output is taken", lambda: alice.run(sandbox, "cat /tmp/late")["stdout"] == "done\n", 10, 0.2)
    alice.run(sandbox, f"pkill -f '^sleep {number}$'")


def test_outputs_can_be_opened_by_name(alice, sandbox):
    assert run(alice, sandbox, 'echo first >&2; echo "fatal: x" > /dev/stderr; echo after >&2') == ENDED | {
        "output": "first\nfatal: x\nafter\n", "stderr": "first\nfatal: x\nafter\n"}
    assert run(alice, sandbox, "echo a; echo b > /dev/stdout; echo c; echo d > /dev/fd/1; echo e") == printed("a\nb\nc\nd\ne\n")


def test_stdin_is_empty(alice, sandbox, slow):
    begin = time.monotonic()
    assert run(alice, sandbox, "cat; read x; echo $?") == printed("1\n")
    assert time.monotonic() - begin < 5 * slow


def test_a_background_command_is_killed_at_its_time_and_not_before(alice, sandbox):
    bounded, endless = mark(), mark()
    data = run(alice, sandbox, f"setsid -f sleep {bounded}; exec sleep {bounded}", background=True, timeout_seconds=5)
    pid = data.pop("pid")
    assert data == {"success": True, "output": "", "message": "Command started in the background"}
    wait_until("it is the command's own pid", lambda: alice.run(sandbox, f"cat /proc/{pid}/comm")["stdout"] == "sleep\n", 4, 0.1)
    run(alice, sandbox, f"exec sleep {endless}", background=True)
    wait_until("both run", lambda: alive(alice, sandbox, bounded) > 0 and alive(alice, sandbox, endless) == 1, 5, 0.1)
    wait_until("it is dead", lambda: alive(alice, sandbox, bounded) == 0, 10, 0.2)
    assert alive(alice, sandbox, endless) == 1
    alice.run(sandbox, f"pkill -f '^sleep {endless}$'")


def test_a_background_command_with_a_time_keeps_the_sandbox_awake(alice):
    def left() -> float:
        return (datetime.fromisoformat(alice.info(sid)["expires_at"]) - datetime.fromisoformat(
            alice.ok(alice.get(f"{BASE}/{sid}/events"))["items"][-1]["time"])).total_seconds()

    sid = alice.create(timeout_seconds=20)["sandbox_id"]
    run(alice, sid, "sleep 50", background=True)  # a service is no work
    assert left() < 45
    run(alice, sid, "sleep 50", background=True, timeout_seconds=60)
    assert 55 < left() < 90
    alice.remove(sid)


def test_of_a_long_output_its_head_and_its_tail_are_kept(alice, sandbox):
    data = run(alice, sandbox, "seq 1 400000; echo short >&2")
    whole = "".join(f"{n}\n" for n in range(1, 400001))
    head, tail = 1 << 20, 65536
    assert data["truncated"] is True and data["stderr"] == "short\n"
    assert data["omitted"]["stdout"] == {"offset": head, "bytes": len(whole) - head - tail}
    assert data["stdout"] == whole[:head] + whole[-tail:]
    assert "stderr" not in data["omitted"] and data["omitted"]["output"]["offset"] == head
    # no character is torn
    data = run(alice, sandbox, "printf x; yes € | head -c 2000000")
    assert data["truncated"] is True and data["output_replaced"] is False
    assert data["omitted"]["stdout"]["bytes"] + len(data["stdout"].encode()) == 2000001


def test_output_that_is_no_text_is_not_lost(alice, sandbox):
    raw = b"a\0\xff\xc3\xa9"
    command = "printf 'a\\000\\377\\303\\251'"
    assert run(alice, sandbox, command) == printed("a\ufffd\ufffdé", output_replaced=True)
    packed = base64.b64encode(raw).decode()
    assert run(alice, sandbox, command, output_encoding="base64") == printed(packed, output_encoding="base64")
    refused = alice.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox, "command": "true", "output_encoding": "hex"})
    assert (refused.status_code, refused.json()["error"]["type"]) == (400, "invalid_request")


def test_output_is_in_the_order_of_time(alice, sandbox):
    """Each stream is exact; of the two, what is printed 0.2 s apart is in order everywhere."""
    data = run(alice, sandbox, "for i in 1 2 3; do echo out$i; sleep 0.2; echo err$i >&2; sleep 0.2; done")
    assert data["output"] == "out1\nerr1\nout2\nerr2\nout3\nerr3\n"


def test_names_of_the_environment(alice, sandbox):
    for name in ("a=b", "a.b", "1A", "a b", "", "é", "-x"):
        answer = alice.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox, "command": "true", "envs": {name: "x"}})
        assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request"), name
    assert run(alice, sandbox, "echo $_A9", envs={"_A9": "it's\n\"$x\""}) == printed("it's \"$x\"\n")


def test_a_path_of_its_own_reaches_the_command(alice, sandbox):
    path = "/opt/it's mine/bin:/usr/bin:/bin"
    assert run(alice, sandbox, "echo \"$PATH\"; sh -c 'echo \"$PATH\"'", envs={"PATH": path}) == printed(f"{path}\n{path}\n")


def test_the_working_directory(alice, sandbox, provider):
    alice.run(sandbox, "cd && mkdir -p ./- ./-P ./-- '~' sub && touch plain && mkdir -p closed && chmod 000 closed")
    home = provider.home
    for cwd, where in (("~", home), ("~/sub", f"{home}/sub"), ("sub", f"{home}/sub"), ("-", f"{home}/-"), ("-P", f"{home}/-P"),
                       ("--", f"{home}/--"), ("./~", f"{home}/~"), ("/tmp", "/tmp"), ("", home)):
        assert run(alice, sandbox, "pwd", cwd=cwd) == printed(f"{where}\n"), cwd
    for cwd, why in (("/nowhere", "there is no such directory"), ("plain", "is not a directory"), ("closed", "permission denied")):
        for background in (False, True):
            answer = alice.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox, "command": "pwd", "cwd": cwd, "background": background})
            assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request"), answer.text
            assert why in answer.json()["error"]["detail"]


def test_signals_end_commands_alike(alice, sandbox):
    for signal in ("KILL", "TERM", "INT", "SEGV"):
        number = {"KILL": 9, "TERM": 15, "INT": 2, "SEGV": 11}[signal]
        data = run(alice, sandbox, f"echo hi; kill -{signal} $$")
        assert data == printed("hi\n", success=False, exit_code=128 + number, message="Command failed"), signal
    # a signal to the whole group is for the command, not for what watches it
    assert run(alice, sandbox, "trap '' TERM; kill -TERM 0; echo still") == printed("still\n")


def test_a_pause_under_a_command_is_answered(alice, provider, slow):
    sid = alice.create()["sandbox_id"]
    number, other = mark(), mark()
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(lambda: run(alice, sid, f"echo begun; sleep {number}; echo never", timeout_seconds=4))
        streamed = pool.submit(lambda: alice.post(f"{BASE}/run-cmd", {"sandbox_id": sid, "command": f"echo begun; sleep {other}"},
                                                  Accept="text/event-stream").text)
        # one that has not begun when the pause comes resumes the sandbox, as every call does
        wait_until("both run", lambda: (alive(alice, sid, number), alive(alice, sid, other)) == (1, 1), 10, 0.05)
        begin = time.monotonic()
        alice.pause(sid)
        paused = ENDED | {"success": False, "paused": True, "exit_code": None, "message": "The sandbox was paused under the command"}
        assert plain.result(45) == paused | {"output": "begun\n", "stdout": "begun\n"}
        assert time.monotonic() - begin < 8 * slow
        last = streamed.result(45).strip().split("\n\n")[-1]
        assert last.startswith("event: exit\n") and json.loads(last.split("data: ")[1])["paused"] is True
    time.sleep(3)  # this is no running time
    alice.connect(sid)
    assert alive(alice, sid, number) == (1 if provider.keeps_memory else 0)
    # a resumed command is still bounded by its time
    wait_until("it is dead", lambda: alive(alice, sid, number) == 0, 15, 0.2)
    alice.remove(sid)


def test_a_silent_stream_sends_comments(silent):
    text = silent.result(30)
    assert text.startswith(": keep-alive\n\n") and text.split("\n\n")[-2].startswith("event: exit\n")
    assert set(text.split("\n\n")[:-2]) == {": keep-alive"}


# ---- a command as a thing of its own ----


def commands(sandbox: str, command_id: str = "", what: str = "", **query) -> str:
    return "/".join(part for part in (f"{BASE}/{sandbox}/commands", command_id, what) if part) + "?" + urlencode(query)


def read_output(alice, sandbox: str, command_id: str, after: int = 0, **query) -> tuple[dict[str, bytes], dict]:
    """What each stream printed from `after` on, and the last page."""
    printed_by = {"stdout": b"", "stderr": b""}
    while True:
        page = alice.ok(alice.get(commands(sandbox, command_id, "output", after=after, **query)))
        for item in page["items"]:
            assert item["offset"] >= after
            raw = base64.b64decode(item["base64"]) if "base64" in item else item["text"].encode()
            printed_by[item["stream"]] += raw
        after = page["next_offset"]
        if not page["more"]:
            return printed_by, page


def test_one_id_starts_one_command(alice, stack, sandbox):
    cid, mine = str(uuid.uuid4()), f"/tmp/once-{uuid.uuid4()}"
    request = {"command": f"echo x >> {mine}; wc -l < {mine}; exit 3", "command_id": cid.upper()}
    first = alice.run(sandbox, **request)
    again = alice.run(sandbox, **request, wait_seconds=30)
    assert (first["command_id"], first["stdout"], first["exit_code"], first["state"]) == (cid, "1\n", 3, "exited")
    assert again | {"duration_ms": 0} == first | {"duration_ms": 0}
    with ThreadPoolExecutor(8) as pool:  # however many come at once
        at_once = {"command": f"echo y >> {mine}; sleep 0.3; grep -c y {mine}", "command_id": str(uuid.uuid4())}
        assert {a["stdout"] for a in pool.map(lambda _: alice.run(sandbox, **at_once), range(8))} == {"1\n"}
    other = alice.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox, "command": "true", "command_id": cid})
    assert (other.status_code, other.json()["error"]["type"]) == (422, "idempotency_mismatch")
    refused = {"sandbox_id": sandbox, "command": "true", "cwd": "/nowhere", "command_id": str(uuid.uuid4())}
    assert alice.post(f"{BASE}/run-cmd", refused).status_code == 400
    assert alice.get(commands(sandbox, refused["command_id"])).status_code == 404  # it stands for nothing
    eve = stack.client("eve")
    for path in (commands(sandbox), commands(sandbox, cid), commands(sandbox, cid, "output")):
        assert (answer := eve.get(path)).status_code == 404 and answer.json()["error"]["type"] == "sandbox_not_found"


def test_a_command_is_come_back_to(alice, sandbox):
    go = f"/tmp/{uuid.uuid4()}"
    started = alice.run(sandbox, f"echo a; echo e >&2; until [ -e {go} ]; do sleep 0.05; done; echo b; exit 5", wait_seconds=0)
    assert (started["state"], started["exit_code"], started["success"], started["message"]) == (
        "running", None, False, "Command still runs")
    cid = started["command_id"]
    assert alice.ok(alice.get(commands(sandbox, cid)))["state"] == "running"
    touch = alice.run(sandbox, f"touch {go}")["command_id"]
    ended = alice.ok(alice.get(commands(sandbox, cid, wait=30)))
    assert (ended["state"], ended["exit_code"], ended["stdout_bytes"], ended["stderr_bytes"]) == ("exited", 5, 4, 2)
    output, page = read_output(alice, sandbox, cid)
    assert output == {"stdout": b"a\nb\n", "stderr": b"e\n"} and page["next_offset"] == 6 and page["state"] == "exited"
    rest = alice.run(sandbox, "true")["command_id"]
    listed = alice.ok(alice.get(commands(sandbox, limit=3)))
    assert [item["command_id"] for item in listed["items"]] == [rest, touch, cid]
    assert listed["items"][2] | {"ended_at": ""} == ended | {"ended_at": ""}
    newest = alice.ok(alice.get(commands(sandbox, limit=1)))
    older = alice.ok(alice.get(commands(sandbox, limit=2, cursor=newest["next_cursor"])))
    assert [item["command_id"] for item in newest["items"] + older["items"]] == [rest, touch, cid]
    raw = alice.get(commands(sandbox, cid, "output", stream="stdout"), Accept="application/octet-stream")
    assert (raw.content, raw.headers["X-Command-ID"]) == (b"a\nb\n", cid)


def test_where_the_runner_cannot_be_run_commands_are_bounded_and_their_output_is_not_kept(alice):
    sandbox = alice.create()["sandbox_id"]
    # what is left by the first command where /tmp is mounted noexec or the processor is another one
    alice.run(sandbox, 'for r in /tmp/.sandbox-commands/runner-*; do mv "$r" "$r.no"; done')
    data = alice.run(sandbox, "echo out; echo err >&2; exit 3")
    assert (data["stdout"], data["stderr"], data["exit_code"], data["state"]) == ("out\n", "err\n", 3, "exited")
    cid = data["command_id"]
    known = alice.ok(alice.get(commands(sandbox, cid)))
    assert (known["output_kept"], known["state"], known["exit_code"]) == (False, "exited", 3)
    service = alice.run(sandbox, "sleep 600", background=True)["command_id"]
    for answer, expected in ((alice.get(commands(sandbox, cid, "output")), (404, "not_found")),
                             (alice.delete(commands(sandbox, service)), (409, "conflict")),
                             (alice.post(commands(sandbox, service, "signal"), {"signal": "INT"}), (409, "conflict")),
                             (alice.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox, "command": "cat", "stdin": "x"}),
                              (501, "not_implemented"))):
        assert (answer.status_code, answer.json()["error"]["type"]) == expected, answer.text
    number = mark()
    forms = f"setsid -f sleep {number}; {DAEMON} {number}; (env -i setsid sleep {number} &)"
    data = run(alice, sandbox, f"{forms}; until [ $(pgrep -fc '^sleep {number}$') = 3 ]; do sleep 0.1; done; echo begun; sleep 60",
               timeout_seconds=6)
    assert data == TIMED_OUT | {"output": "begun\n", "stdout": "begun\n"}
    assert alive(alice, sandbox, number) == 0
    alice.remove(sandbox)


def test_output_of_the_background_is_kept(alice, sandbox):
    started = alice.run(sandbox, "echo first; sleep 0.5; echo second", background=True)
    output, page = read_output(alice, sandbox, started["command_id"], wait=30)
    while page["state"] == "running":
        more, page = read_output(alice, sandbox, started["command_id"], page["next_offset"], wait=30)
        output = {name: output[name] + more[name] for name in output}
    assert output["stdout"] == b"first\nsecond\n"
    left = alice.run(sandbox, "(sleep 0.7; echo late) & echo now")
    assert (left["stdout"], left["background_processes"]) == ("now\n", True)
    wait_until("the late output is there",
               lambda: read_output(alice, sandbox, left["command_id"], 4)[0]["stdout"] == b"late\n", 10, 0.2)


def test_input_is_written_once(alice, sandbox):
    assert alice.run(sandbox, "cat; echo end", stdin="it's\nme")["stdout"] == "it's\nmeend\n"
    cid = alice.run(sandbox, "while read -r line; do echo \"<$line>\"; done", stdin="one\n", stdin_open=True,
                    wait_seconds=0)["command_id"]
    for data, offset, end in (("two\n", 4, False), ("two\n", 4, False), ("o\nthree\n", 6, False), ("", 14, True)):
        answer = alice.ok(alice.post(commands(sandbox, cid, "stdin"), {"data": data, "offset": offset, "end": end}))
        assert answer["next_offset"] == offset + len(data)
    assert alice.ok(alice.get(commands(sandbox, cid, wait=30)))["exit_code"] == 0
    assert read_output(alice, sandbox, cid)[0]["stdout"] == b"<one>\n<two>\n<three>\n"
    late = alice.post(commands(sandbox, cid, "stdin"), {"data": "x", "offset": 14})
    assert (late.status_code, late.json()["error"]["type"]) == (409, "conflict")


def test_a_terminal_a_signal_and_an_end(alice, sandbox):
    cid = alice.run(sandbox, "trap 'stty size' WINCH; stty size; while :; do sleep 0.05; done", tty=True, rows=11, columns=44,
                    wait_seconds=1)["command_id"]
    wait_until("it has its terminal", lambda: b"11 44" in read_output(alice, sandbox, cid)[0]["stdout"], 10, 0.1)
    alice.ok(alice.post(commands(sandbox, cid, "resize"), {"rows": 22, "columns": 55}))
    wait_until("it has the new size", lambda: b"22 55" in read_output(alice, sandbox, cid)[0]["stdout"], 10, 0.1)

    def interrupted() -> dict | None:
        """bash goes on when the interrupt finds its `sleep` just ending by itself: then it takes another one."""
        assert alice.post(commands(sandbox, cid, "signal"), {"signal": "INT"}).status_code in (200, 409)
        now = alice.ok(alice.get(commands(sandbox, cid, wait=2)))
        return now if now["state"] != "running" else None

    ended = wait_until("it is interrupted", interrupted, 30)
    assert (ended["state"], ended["exit_code"], ended["signal"], ended["tty"]) == ("exited", 130, 2, True)
    number = mark()
    cid = alice.run(sandbox, f"(setsid sleep {number} &); exec sleep {number}", background=True)["command_id"]
    wait_until("it runs", lambda: alive(alice, sandbox, number) == 2, 10, 0.1)
    killed = alice.ok(alice.delete(commands(sandbox, cid)))
    assert (killed["state"], killed["survivors"], alive(alice, sandbox, number)) == ("killed", [], 0)
    assert alice.ok(alice.delete(commands(sandbox, cid)))["state"] == "killed"


def terminal_url(client, sandbox: str, command_id: str) -> str:
    return client.ok(client.post(commands(sandbox, command_id, "terminal")))["url"]


def test_a_terminal_is_left_and_come_back_to(stack, alice, sandbox):
    """Through a WebSocket: bytes, size, another client that takes it over at another gateway, the end."""
    cid = alice.run(sandbox, "stty -echo; echo ready; while read -r line; do echo \"<$line>\"; [ \"$line\" = size ] && stty size; "
                             "[ \"$line\" = end ] && exit 7; done", tty=True, wait_seconds=0)["command_id"]
    with WebSocket(terminal_url(alice, sandbox, cid), Origin="https://console.example") as first:
        assert first.status == 101
        first.until(b"ready\r\n")
        first.send("gr\u00fcn\n".encode())
        first.until("<gr\u00fcn>\r\n".encode())
        first.send({"type": "resize", "rows": 33, "columns": 99})
        first.send(b"size\n")
        first.until(b"33 99\r\n")
        seen = len(first.output)
    other = stack.start_gateway()  # the page was reloaded, and another gateway answers
    there = type(alice)(other.url, alice.token)
    with WebSocket(terminal_url(there, sandbox, cid) + f"?after={seen}") as second:
        with WebSocket(terminal_url(alice, sandbox, cid)) as third:
            assert third.until(b"99\r\n") == first.output  # all of it again
            assert second.end() == ["ready", "taken_over"] and (second.output, second.code) == (b"", 4001)
            with WebSocket(terminal_url(there, sandbox, cid) + f"?after={seen}") as fourth:
                assert third.end() == ["ready", "taken_over"]
                other.send(signal.SIGTERM)
                assert fourth.end() == ["ready", "moved"] and fourth.code == 1012
    assert other.stop() == 0
    with WebSocket(terminal_url(alice, sandbox, cid) + f"?after={seen}") as last:
        last.send(b"end\n")
        assert last.end() == ["ready", "exit"] and (last.output, last.code) == (b"<end>\r\n", 1000)
        assert last.said[1] == {"type": "exit", "state": "exited", "exit_code": 7}
    with WebSocket(terminal_url(alice, sandbox, cid) + f"?after={seen}") as late:  # its output is kept
        assert late.end() == ["ready", "exit"] and late.output == b"<end>\r\n" and late.said[0]["offset"] == seen
    plain = alice.run(sandbox, "true")["command_id"]
    assert alice.post(commands(sandbox, plain, "terminal")).status_code == 409


def test_a_terminals_url_opens_that_terminal_alone_and_ends(alice, sandbox):
    cid = alice.run(sandbox, "exec sleep 60", tty=True, wait_seconds=0, timeout_seconds=60)["command_id"]
    made = alice.ok(alice.post(commands(sandbox, cid, "terminal")))
    left = datetime.fromisoformat(made["expires_at"]).timestamp() - time.time()
    assert 30 < left <= 61 and set(made) == {"success", "message", "command_id", "url", "expires_at"}
    base, end, mac = made["url"].rsplit("/", 2)
    another = base.replace(cid, str(uuid.uuid4()))
    for url, status in [(f"{base}/{end}/{mac[:-1]}{'0' if mac[-1] != '0' else '1'}", 403), (f"{base}/{int(end) + 1}/{mac}", 403),
                        (f"{another}/{end}/{mac}", 403), (f"{base}/{end}", 403), (made["url"] + "?after=x", 400)]:
        with WebSocket(url) as refused:
            assert refused.status == status, url
    with WebSocket(made["url"], Upgrade="other") as refused:
        assert refused.status == 400
    with WebSocket(made["url"]) as opened:  # what is no message of ours ends the session, not the command
        opened.send({"type": "what"})
        assert opened.end() == ["ready", "error"] and opened.code == 1002
    assert alice.ok(alice.get(commands(sandbox, cid)))["state"] == "running"
    with WebSocket(made["url"]) as opened:
        alice.ok(alice.delete(commands(sandbox, cid)))
        assert opened.end() == ["ready", "exit"] and opened.said[1]["state"] == "killed"


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"], ids=["whole", "streamed"])
@pytest.mark.parametrize("on_disconnect", ["kill", "continue"])
def test_a_caller_who_goes_ends_its_command_only_when_it_asked_for_that(alice, sandbox, accept, on_disconnect):
    cid, number = str(uuid.uuid4()), mark()
    body = {"sandbox_id": sandbox, "command": f"sleep {number}", "command_id": cid, "timeout_seconds": 300}
    caller = HTTPConnection(alice.http.base_url.host, alice.http.base_url.port)
    caller.request("POST", f"{BASE}/run-cmd?on_disconnect={on_disconnect}", json.dumps(body),
                   alice.headers(Accept=accept, **{"Content-Type": "application/json"}))
    wait_until("the command has begun", lambda: alive(alice, sandbox, number) == 1, 30, 0.1)
    caller.close()  # it has read nothing
    ended = alice.ok(alice.get(commands(sandbox, cid, wait=30 if on_disconnect == "kill" else 1)))
    assert ended["state"] == ("killed" if on_disconnect == "kill" else "running")
    assert alive(alice, sandbox, number) == (0 if on_disconnect == "kill" else 1)
    alice.delete(commands(sandbox, cid))


def read_events(client, path: str, after: int, cut: int) -> tuple[bytes, int, dict | None]:
    """Bytes of stdout of one stream of events, cut off after `cut` bytes; the last id; what `exit` said."""
    output, last, buffer, left = b"", after, b"", cut
    with client.http.stream("GET", path, headers=client.headers(Accept="text/event-stream", **{"Last-Event-ID": str(after)}),
                            timeout=60) as answer:
        assert answer.status_code == 200
        for piece in answer.iter_raw():
            buffer += piece[:left]
            left -= min(left, len(piece))
            *events, buffer = buffer.split(b"\n\n")
            for event in events:
                fields = dict(line.split(": ", 1) for line in event.decode().splitlines() if not line.startswith(":"))
                data = json.loads(fields["data"]) if fields else {}
                if fields.get("event") == "stdout":
                    output += base64.b64decode(data["base64"]) if "base64" in data else data["text"].encode()
                    last = int(fields["id"])
                elif fields.get("event") == "exit":
                    return output, last, data
                else:
                    assert fields.get("event") in (None, "running"), event  # nothing is omitted, nothing goes wrong
            if left == 0:
                break
    return output, last, None


def test_no_byte_is_lost_and_nothing_starts_twice(stack, alice, provider, tmp_path):
    """Random bytes, read through a stream that is cut at random places, at gateways of which one is killed; a worker is
    killed, and where memory survives it, the sandbox is paused and resumed."""
    size, rng = 2_000_000, random.Random(16)
    sid, cid, mine = alice.create()["sandbox_id"], str(uuid.uuid4()), f"/tmp/{uuid.uuid4()}"
    dying = stack.start_gateway()
    once = type(alice)(dying.url, alice.token)
    request = {"sandbox_id": sid, "command_id": cid, "timeout_seconds": 120, "wait_seconds": 0, "command":
               f"echo start >> {mine}.starts; for i in $(seq 20); do head -c {size // 20} /dev/urandom | tee -a {mine}; sleep 0.1; done"}
    assert alice.ok(once.post(f"{BASE}/run-cmd", request))["state"] == "running"
    got, after, ended, cuts = b"", 0, None, 0
    while ended is None:
        client = once if cuts < 5 else alice
        more, after, ended = read_events(client, commands(sid, cid, "output"), after, rng.randrange(1, 150_000))
        got, cuts = got + more, cuts + 1
        assert alice.ok(client.post(f"{BASE}/run-cmd", request))["command_id"] == cid  # sent again, it starts nothing
        if cuts == 5:
            dying.kill9()
            stack.workers[0].kill9()
            stack.workers[0] = stack.start_worker()
        if cuts == 7 and provider.keeps_memory:
            alice.pause(sid)
            assert alice.ok(alice.get(commands(sid, cid)))["state"] in ("paused", "exited")
            alice.connect(sid)
    assert (ended["state"], ended["exit_code"], cuts > 10) == ("exited", 0, True)
    sums = alice.run(sid, f"sha256sum < {mine}; cat {mine}.starts")["stdout"]
    assert sums == f"{hashlib.sha256(got).hexdigest()}  -\nstart\n" and len(got) == size
    alice.remove(sid)
