"""What a command does at every provider: how it ends, what is left of it, what is told. The expected
answers are written once, field by field, so that one provider cannot differ from another."""

import base64
import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime

import pytest

from tests.harness import providers
from tests.harness.services import wait_until
from tests.harness.stack import BASE, Stack

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
    number = mark()
    with ThreadPoolExecutor(2) as pool:
        plain = pool.submit(lambda: run(alice, sid, f"echo begun; sleep {number}; echo never", timeout_seconds=4))
        streamed = pool.submit(lambda: alice.post(f"{BASE}/run-cmd", {"sandbox_id": sid, "command": "echo begun; sleep 60"},
                                                  Accept="text/event-stream").text)
        wait_until("it runs", lambda: alive(alice, sid, number) == 1, 10, 0.05)
        begin = time.monotonic()
        alice.pause(sid)
        paused = ENDED | {"success": False, "paused": True, "exit_code": None, "message": "The sandbox was paused under the command"}
        assert plain.result(20) == paused | {"output": "begun\n", "stdout": "begun\n"}
        assert time.monotonic() - begin < 8 * slow
        last = streamed.result(20).strip().split("\n\n")[-1]
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
