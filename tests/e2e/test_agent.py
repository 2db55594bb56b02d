"""The agent of a sandbox alone: every RPC of envd's protocol, every error body, the relay.

The binary runs here as it is, outside any namespace (`--standalone`), on a free port.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import re
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests.harness.envd import STREAM, Result, Stream, envelope, served, take_envelopes
from tests.harness.services import Process, build_dir, free_port, wait_until

TOKEN = "tok-agent-test"


class Agent:
    def __init__(self, folder: Path, token: str | None = TOKEN, stall_ms: int = 30000, **config):
        folder.mkdir(parents=True, exist_ok=True)
        self.home = folder / "home"
        self.home.mkdir()
        self.port = free_port()
        self.config = {"access_token": token, "user": "root", "home": str(self.home),
                       "envs": {"FROM_SANDBOX": "yes"}} | config
        self.process = Process("agent", [str(build_dir() / "sandbox-agent"), "--standalone"],
                               dict(os.environ, SANDBOX_AGENT_PORT=str(self.port), SANDBOX_AGENT_STALL_MS=str(stall_ms),
                                    SANDBOX_AGENT_CONFIG=json.dumps(self.config)), folder / "agent.log")
        self.headers = {"X-Access-Token": token} if token else {}
        self.url = f"http://127.0.0.1:{self.port}"
        self.client = httpx.Client(base_url=self.url, headers=self.headers, timeout=30)
        wait_until("agent", lambda: self.client.get("/health").status_code == 204)

    def stop(self):
        self.client.close()
        assert self.process.stop() == 0, self.process.log()
        assert "Sanitizer" not in self.process.log(), self.process.log()

    def call(self, path: str, message: dict, **headers) -> httpx.Response:
        return self.client.post(path, json=message, headers={k.replace("_", "-"): v for k, v in headers.items()})

    def process_call(self, method: str, message: dict, **headers) -> httpx.Response:
        return self.call(f"/process.Process/{method}", message, **headers)

    def fs(self, method: str, message: dict, **headers) -> httpx.Response:
        return self.call(f"/filesystem.Filesystem/{method}", message, **headers)

    def start(self, command: str | None, headers: dict | None = None, process: dict | None = None, **fields) -> Stream:
        config = process or {"cmd": "/bin/bash", "args": ["-c", command]}
        return Stream(self.client, "/process.Process/Start", {"process": config} | fields, headers)

    def finish(self, stream: Stream, result: Result | None = None) -> Result:
        result = result or Result()
        with stream:
            for message in stream:
                result.take(message)
        result.error = stream.end.get("error")
        return result

    def run(self, command: str | None, headers: dict | None = None, process: dict | None = None, **fields) -> Result:
        fields.setdefault("stdin", False)
        return self.finish(self.start(command, headers, process, **fields))


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    running = Agent(tmp_path_factory.mktemp("agent"))
    yield running
    running.stop()


def error(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/json"
    return response.status_code, response.json()["code"]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# ---- plain HTTP ----------------------------------------------------------------------------------


def test_health_needs_no_token(agent):
    response = httpx.get(agent.url + "/health")
    assert response.status_code == 204 and response.content == b""


@pytest.mark.parametrize("path", ["/metrics", "/envs"])
def test_token_guards_the_rest(agent, path):
    for headers in ({}, {"X-Access-Token": "wrong"}, {"X-Access-Token": TOKEN[:-1]}):
        response = httpx.get(agent.url + path, headers=headers)
        assert error(response) == (401, 401)
        assert response.json()["message"].startswith("unauthorized access")
    assert agent.client.get(path).status_code == 200


def test_token_guards_rpcs(agent):
    response = httpx.post(agent.url + "/process.Process/List", json={})
    assert error(response) == (401, 401)
    response = httpx.post(agent.url + "/process.Process/Start", content=envelope({}), headers=STREAM)
    assert error(response) == (401, 401)


def test_envs_and_metrics(agent):
    assert agent.client.get("/envs").json() == {"FROM_SANDBOX": "yes"}
    metrics = agent.client.get("/metrics").json()
    assert metrics["cpu_count"] >= 1 and metrics["mem_total"] > metrics["mem_used"] > 0
    assert metrics["disk_total"] > 0 and abs(metrics["ts"] - time.time()) < 5
    assert metrics["mem_total_mib"] == metrics["mem_total"] >> 20


def test_unknown_paths_and_methods(agent):
    assert agent.client.get("/nothing").status_code == 404
    assert agent.client.post("/process.Process/Nothing", json={}).status_code == 404
    response = agent.client.get("/process.Process/List")
    assert response.status_code == 405 and response.headers["allow"] == "POST"
    assert agent.client.delete("/files").status_code == 405
    response = agent.client.post("/process.Process/List", content=b"{}", headers={"Content-Type": "application/proto"})
    assert response.status_code == 415 and response.content == b""
    response = agent.client.post("/process.Process/Start", json={})
    assert response.status_code == 415


# ---- Connect protocol ----------------------------------------------------------------------------


def test_protocol_errors(agent):
    assert error(agent.process_call("List", {}, Connect_Protocol_Version="2")) == (400, "invalid_argument")
    assert error(agent.process_call("List", {}, Connect_Timeout_Ms="12345678901")) == (400, "invalid_argument")
    assert error(agent.process_call("List", {}, Connect_Timeout_Ms="-1")) == (400, "invalid_argument")
    for body in (b"{", b"[]", b'{"a":1} x', b'\xff', b'{"a":"\\u0000"}', b"[" * 900):
        response = agent.client.post("/process.Process/List", content=body,
                                     headers={"Content-Type": "application/json; charset=utf-8"})
        assert error(response) == (400, "invalid_argument"), body
    response = agent.client.post("/process.Process/List", content=b"{}",
                                 headers={"Content-Type": "application/json", "Content-Encoding": "br"})
    assert error(response) == (501, "unimplemented")
    assert agent.process_call("List", {"unknown": {"field": [1]}}).status_code == 200


@pytest.mark.parametrize("body,code", [
    (b"", "invalid_argument"),
    (b"\0\0\0", "invalid_argument"),
    (b"\0\0\0\0\x09{}", "invalid_argument"),
    (b"\0\0\0\0\x02{}more", "unimplemented"),
    (b"\x01\0\0\0\x02{}", "internal"),
    (b"\x02\0\0\0\x02{}", "invalid_argument"),
    (b"\0\0\0\0\x01{", "invalid_argument"),
    (b"\0\xff\xff\xff\xff{}", "invalid_argument"),
    (b"\0\0\0\0\x02{}", "invalid_argument"),  # no command
    (b"\0\0\0\0\0", "invalid_argument"),
])
def test_stream_request_errors(agent, body, code):
    response = agent.client.post("/process.Process/Start", content=body, headers=STREAM)
    assert response.status_code == 200
    messages = list(take_envelopes(bytearray(response.content)))
    assert len(messages) == 1 and messages[0][0] == 2
    assert messages[0][1]["error"]["code"] == code


def test_users(agent):
    basic = {"Authorization": "Basic " + base64.b64encode(b"nobody-here:").decode()}
    assert error(agent.process_call("List", {}, **basic)) == (401, "unauthenticated")
    assert agent.run("true", basic).error["code"] == "unauthenticated"
    basic = {"Authorization": "Basic " + base64.b64encode(b"nobody:").decode()}
    result = agent.run("id -un; echo $USER $LOGNAME", basic, process={"cmd": "/bin/sh", "cwd": "/",
                       "args": ["-c", "id -un; echo $USER $LOGNAME; id -G"]})
    assert result.stdout.decode().split() [:3] == ["nobody", "nobody", "nobody"]
    assert "0" not in result.stdout.decode().split()[3:]
    assert agent.run("id -un").stdout == b"root\n"


# ---- processes -----------------------------------------------------------------------------------


def test_output_and_exit(agent):
    result = agent.run("echo out; echo err >&2")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert result.end == {"exited": True, "status": "exit status 0"} and result.error is None
    result = agent.run("exit 7")
    assert result.end == {"exitCode": 7, "exited": True, "status": "exit status 7", "error": "exit status 7"}
    result = agent.run("kill -9 $$")
    assert result.end == {"exitCode": -1, "status": "signal: killed", "error": "signal: killed"}
    result = agent.run("kill -SEGV $$")
    assert result.end["status"].startswith("signal: segmentation fault")


def test_missing_program(agent):
    result = agent.run(None, process={"cmd": "no-such-program-here"})
    assert result.pid and result.end["exitCode"] == 127 and b"no-such-program-here" in result.stderr
    result = agent.run(None, process={"cmd": "/etc/passwd"})
    assert result.end["exitCode"] == 126


def test_environment(agent):
    result = agent.run(None, process={"cmd": "env", "envs": {"MINE": "a=b c", "FROM_SANDBOX": "overridden"}})
    env = dict(line.split("=", 1) for line in result.stdout.decode().splitlines())
    assert env["MINE"] == "a=b c" and env["FROM_SANDBOX"] == "overridden"
    assert env["HOME"] == str(agent.home) and env["USER"] == env["LOGNAME"] == "root" and env["PATH"]
    assert not any(name.startswith("SANDBOX_AGENT") for name in env)
    result = agent.run(None, process={"cmd": "sh", "args": ["-c", "echo $FROM_SANDBOX"], "envs": {"PATH": "/bin"}})
    assert result.stdout == b"yes\n"


def test_working_folder(agent):
    (agent.home / "sub").mkdir(exist_ok=True)
    for cwd, expected in ((None, agent.home), ("", agent.home), ("sub", agent.home / "sub"), ("~/sub", agent.home / "sub"),
                          ("/tmp", "/tmp"), ("sub/../sub", agent.home / "sub")):
        process = {"cmd": "pwd"} | ({} if cwd is None else {"cwd": cwd})
        assert agent.run(None, process=process).stdout.decode() == f"{expected}\n"
    (agent.home / "plain").write_text("x")
    for cwd in ("/no/such/folder", "plain", "~other/x"):
        assert agent.run(None, process={"cmd": "pwd", "cwd": cwd}).error["code"] == "invalid_argument"
    assert "cwd '/no/such/folder' does not exist" in agent.run(None, process={"cmd": "pwd", "cwd": "/no/such/folder"}).error["message"]


def test_descriptors_do_not_leak(agent):
    listed = agent.run(None, process={"cmd": "/bin/ls", "args": ["/proc/self/fd"]}).stdout.split()
    assert listed == [b"0", b"1", b"2", b"3"]  # 3 is ls' own


def test_too_long_arguments(agent):
    result = agent.run(None, process={"cmd": "true", "args": ["x" * 200000]})
    assert result.error["code"] == "invalid_argument"
    result = agent.run(None, process={"cmd": "true", "args": ["x" * 100000] * 30})
    assert result.error["code"] == "invalid_argument"
    assert agent.run(None, process={"cmd": "true", "args": ["x" * 100000] * 10}).end["exited"]
    assert agent.run(None, process={"cmd": "true", "args": [1]}).error["code"] == "invalid_argument"


def test_large_binary_output(agent):
    result = agent.run("head -c 20000000 /dev/urandom | tee sum-of-this; sha256sum sum-of-this >&2; rm sum-of-this")
    assert len(result.stdout) == 20000000
    assert hashlib.sha256(result.stdout).hexdigest().encode() in result.stderr


def test_stdin(agent):
    with agent.start("cat; sleep 0.5; echo done") as stream:
        messages = iter(stream)
        result = Result()
        result.take(next(messages))
        one = {"process": {"pid": result.pid}}
        for text in (b"one\n", b"two\n"):
            response = agent.process_call("SendInput", one | {"input": {"stdin": base64.b64encode(text).decode()}})
            assert response.status_code == 200 and response.json() == {}
        assert agent.process_call("CloseStdin", one).json() == {}
        assert agent.process_call("CloseStdin", one).json() == {}
        for message in messages:
            result.take(message)
    assert result.stdout == b"one\ntwo\ndone\n"
    assert error(agent.process_call("SendInput", one | {"input": {"stdin": "eAo="}})) == (404, "not_found")
    assert error(agent.process_call("CloseStdin", one)) == (404, "not_found")


def test_stdin_off_and_errors(agent):
    assert agent.run("cat; echo eof").stdout == b"eof\n"
    with agent.start("sleep 30", stdin=False) as stream:
        pid = next(iter(stream))["event"]["start"]["pid"]
        one = {"process": {"pid": pid}}
        assert error(agent.process_call("SendInput", one | {"input": {"stdin": "eAo="}})) == (500, "internal")
        assert error(agent.process_call("SendInput", one | {"input": {"pty": "eAo="}})) == (500, "internal")
        assert error(agent.process_call("SendInput", one | {"input": {"stdin": "?"}})) == (400, "invalid_argument")
        assert error(agent.process_call("SendInput", one)) == (501, "unimplemented")
        assert error(agent.process_call("SendInput", {})) == (501, "unimplemented")
        assert error(agent.process_call("Update", one | {"pty": {"size": {"cols": 1}}})) == (500, "internal")
        assert agent.process_call("SendSignal", one | {"signal": "SIGNAL_SIGKILL"}).json() == {}


def test_stdin_of_a_process_that_does_not_read(agent):
    with agent.start("sleep 30") as stream:
        pid = next(iter(stream))["event"]["start"]["pid"]
        big = base64.b64encode(b"x" * 1_000_000).decode()
        started = time.monotonic()
        response = agent.process_call("SendInput", {"process": {"pid": pid}, "input": {"stdin": big}}, Connect_Timeout_Ms="500")
        assert error(response) == (504, "deadline_exceeded") and time.monotonic() - started < 5
        # the lock on its input is free again, and a kill ends a writer that waits
        timer = threading.Timer(0.3, lambda: httpx.post(
            agent.url + "/process.Process/SendSignal", headers=agent.headers,
            json={"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}))
        timer.start()
        response = agent.process_call("SendInput", {"process": {"pid": pid}, "input": {"stdin": big}})
        timer.join()
        assert response.status_code in (404, 500)


def test_stream_input(agent):
    with agent.start("cat", tag="stream-input") as stream:
        messages = iter(stream)
        result = Result()
        result.take(next(messages))

        def parts():
            yield envelope({"start": {"process": {"tag": "stream-input"}}})
            yield envelope({"keepalive": {}})
            for i in range(50):
                data = envelope({"data": {"input": {"stdin": base64.b64encode(b"%d\n" % i).decode()}}})
                yield data[:3]
                yield data[3:]

        response = agent.client.post("/process.Process/StreamInput", content=parts(), headers=STREAM)
        assert list(take_envelopes(bytearray(response.content))) == [(0, {}), (2, {})]
        agent.process_call("CloseStdin", {"process": {"tag": "stream-input"}})
        for message in messages:
            result.take(message)
    assert result.stdout == b"".join(b"%d\n" % i for i in range(50))
    for body, code in ((envelope({"data": {"input": {"stdin": "eAo="}}}), "invalid_argument"),
                       (envelope({"start": {"process": {"pid": 1}}}), "not_found"),
                       (b"\0\0\0\0\x09{}", "unknown"), (envelope({}), "unimplemented"),
                       (b"\0\xff\xff\xff\xff", "resource_exhausted")):
        response = agent.client.post("/process.Process/StreamInput", content=body, headers=STREAM)
        messages = list(take_envelopes(bytearray(response.content)))
        assert messages[-1][0] == 2 and messages[-1][1]["error"]["code"] == code, (body, messages)


def test_list(agent):
    process = {"cmd": "sleep", "args": ["30"], "envs": {"K": "v"}, "cwd": "/tmp"}
    with agent.start(None, process=process, tag="my tag", stdin=False) as stream:
        pid = next(iter(stream))["event"]["start"]["pid"]
        entry = next(p for p in agent.process_call("List", {}).json()["processes"] if p["pid"] == pid)
        assert entry == {"config": process, "pid": pid, "tag": "my tag"}
        assert agent.process_call("SendSignal", {"process": {"tag": "my tag"}, "signal": 9}).json() == {}
        assert agent.finish(stream).end["status"] == "signal: killed"
    assert pid not in [p["pid"] for p in agent.process_call("List", {}).json().get("processes", [])]


def test_signals(agent):
    with agent.start("trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.05; done") as stream:
        messages = iter(stream)
        result = Result()
        while b"ready" not in result.stdout:
            result.take(next(messages))
        one = {"process": {"pid": result.pid}}
        assert error(agent.process_call("SendSignal", one | {"signal": "SIGNAL_SIGHUP"})) == (501, "unimplemented")
        assert error(agent.process_call("SendSignal", one)) == (501, "unimplemented")
        assert agent.process_call("SendSignal", one | {"signal": "SIGNAL_SIGTERM"}).json() == {}
        for message in messages:
            result.take(message)
    assert result.stdout == b"ready\nbye\n" and result.end["exitCode"] == 5
    dead = agent.process_call("SendSignal", {"process": {"pid": result.pid}, "signal": "SIGNAL_SIGKILL"})
    assert error(dead) == (404, "not_found")
    assert error(agent.process_call("SendSignal", {"process": {"tag": "none"}, "signal": "SIGNAL_SIGKILL"})) == (404, "not_found")


def test_kill_takes_the_group_and_does_not_wait_for_its_pipes(agent):
    with agent.start("sleep 60 & setsid sh -c 'echo up; exec sleep 61' & wait", stdin=False) as stream:
        messages = iter(stream)
        result = Result()
        while b"\n" not in result.stdout:
            result.take(next(messages))
        children = [int(p) for p in Path(f"/proc/{result.pid}/task/{result.pid}/children").read_text().split()]
        agent.process_call("SendSignal", {"process": {"pid": result.pid}, "signal": "SIGNAL_SIGKILL"})
        for message in messages:
            result.take(message)
    assert result.end["status"] == "signal: killed"
    wait_until("the group to die", lambda: sum(alive(p) for p in children) == 1)  # the one of its own session
    for pid in children:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)


def test_a_killed_process_is_gone_when_the_call_returns(agent):
    for _ in range(30):
        with agent.start("exec sleep 60") as stream:
            pid = next(iter(stream))["event"]["start"]["pid"]
            selector = {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"}
            assert agent.process_call("SendSignal", selector).status_code == 200
            assert not Path(f"/proc/{pid}").exists()
            assert error(agent.process_call("SendSignal", selector)) == (404, "not_found")


def test_end_waits_for_the_pipes(agent):
    started = time.monotonic()
    result = agent.run("(sleep 1; echo late) & echo early")
    assert result.stdout == b"early\nlate\n" and time.monotonic() - started >= 1


def test_deadline_kills(agent):
    started = time.monotonic()
    result = agent.run("echo first; sleep 60 & sleep 61", {"Connect-Timeout-Ms": "400"})
    assert 0.3 < time.monotonic() - started < 5
    assert result.stdout in (b"first\n", b"") and result.end is None
    assert result.error == {"code": "deadline_exceeded", "message": "context deadline exceeded"}
    wait_until("the process to die", lambda: not alive(result.pid))


def test_deadline_outlives_the_client_and_others_hear_the_end(agent):
    stream = agent.start("sleep 60", {"Connect-Timeout-Ms": "1000"}, stdin=False)
    pid = next(iter(stream))["event"]["start"]["pid"]
    stream.close()
    result = agent.finish(Stream(agent.client, "/process.Process/Connect", {"process": {"pid": pid}}))
    assert result.end["status"] == "signal: killed" and result.error is None


def test_a_pause_does_not_count_against_a_deadline(agent):
    stream = agent.start("sleep 60", {"Connect-Timeout-Ms": "3000"}, stdin=False)
    pid = next(iter(stream))["event"]["start"]["pid"]
    stream.close()
    agent.process.send(signal.SIGSTOP)
    time.sleep(6)
    agent.process.send(signal.SIGCONT)
    time.sleep(0.7)
    assert alive(pid)
    wait_until("the deadline after all", lambda: not alive(pid), 5)


def test_connect_deadline_ends_only_the_stream(agent):
    stream = agent.start("sleep 60", stdin=False)
    pid = next(iter(stream))["event"]["start"]["pid"]
    stream.close()
    result = agent.finish(Stream(agent.client, "/process.Process/Connect", {"process": {"pid": pid}}, {"Connect-Timeout-Ms": "600"}))
    assert result.pid == pid and result.error["code"] == "deadline_exceeded" and alive(pid)
    agent.process_call("SendSignal", {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})


def test_background_and_connect(agent):
    """A client that leaves kills nothing; a later one sees later output only, and an ended process for a while."""
    stream = agent.start("echo one; read line; echo got $line; sleep 0.1; exit 3")
    messages = iter(stream)
    result = Result()
    while b"one" not in result.stdout:
        result.take(next(messages))
    stream.close()
    time.sleep(0.2)
    assert alive(result.pid)
    with Stream(agent.client, "/process.Process/Connect", {"process": {"pid": result.pid}}) as again:
        second = Result()
        messages = iter(again)
        second.take(next(messages))
        assert second.pid == result.pid
        agent.process_call("SendInput", {"process": {"pid": result.pid}, "input": {"stdin": base64.b64encode(b"it\n").decode()}})
        for message in messages:
            second.take(message)
    assert second.stdout == b"got it\n" and second.end["exitCode"] == 3
    replay = agent.finish(Stream(agent.client, "/process.Process/Connect", {"process": {"pid": result.pid}}))
    assert replay.pid == result.pid and replay.end == second.end and replay.stdout == b""
    assert agent.finish(Stream(agent.client, "/process.Process/Connect", {"process": {"pid": 2 ** 31}})).error["code"] == "not_found"
    assert agent.finish(Stream(agent.client, "/process.Process/Connect", {"process": {"tag": "none"}})).error["code"] == "not_found"


def test_two_subscribers_see_the_same(agent):
    with agent.start("read go; seq 1 50000") as first:
        messages = iter(first)
        one = Result()
        one.take(next(messages))
        two = Result()
        second = Stream(agent.client, "/process.Process/Connect", {"process": {"pid": one.pid}})
        others = iter(second)
        two.take(next(others))
        reader = threading.Thread(target=lambda: [two.take(m) for m in others])
        reader.start()
        agent.process_call("SendInput", {"process": {"pid": one.pid}, "input": {"stdin": "Cg=="}})
        for message in messages:
            one.take(message)
        reader.join()
        second.close()
    assert one.stdout == two.stdout == "".join(f"{i}\n" for i in range(1, 50001)).encode()


def test_keepalive(agent):
    result = agent.run("sleep 2.8", {"Keepalive-Ping-Interval": "1"})
    assert 2 <= result.keepalives <= 4  # a busy machine may be late with either end
    assert agent.run("sleep 0.2", {"Keepalive-Ping-Interval": "0"}).end["exited"]


def test_a_reader_that_stops_stalls_nobody_for_good(agent):
    """Its queue is bounded, the command goes on once it is dropped, and the agent does not grow."""
    before = agent.process.rss_bytes()
    lazy = socket.create_connection(("127.0.0.1", agent.port))
    lazy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    command = "head -c 200000000 /dev/zero; echo finished > lazy-done"
    body = envelope({"process": {"cmd": "/bin/bash", "args": ["-c", command]}, "stdin": False})
    lazy.sendall(f"POST /process.Process/Start HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\n"
                 f"Content-Type: application/connect+json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    time.sleep(2)
    assert not (agent.home / "lazy-done").exists()
    grown = agent.process.rss_bytes() - before
    wait_until("the command to finish", (agent.home / "lazy-done").exists, 90)
    lazy.close()
    assert grown < 24 << 20
    assert agent.run("echo alive").stdout == b"alive\n"


def test_pty(agent):
    config = {"cmd": "/bin/bash", "args": ["--norc", "-i"], "envs": {"TERM": "xterm", "PS1": "$ "}}
    with agent.start(None, process=config, pty={"size": {"cols": 91, "rows": 33}}) as stream:
        messages = iter(stream)
        result = Result()
        result.take(next(messages))
        one = {"process": {"pid": result.pid}}

        def send(text: str):
            data = base64.b64encode(text.encode()).decode()
            assert agent.process_call("SendInput", one | {"input": {"pty": data}}).json() == {}

        send("stty size; tty; trap 'echo resized' WINCH\n")
        while b"/dev/pts" not in result.pty:
            result.take(next(messages))
        assert b"33 91" in result.pty
        assert agent.process_call("Update", one | {"pty": {"size": {"cols": 120, "rows": 40}}}).json() == {}
        assert error(agent.process_call("SendInput", one | {"input": {"stdin": "eAo="}})) == (500, "internal")
        assert error(agent.process_call("CloseStdin", one)) == (500, "unknown")
        send("stty size; exit 4\n")
        for message in messages:
            result.take(message)
    assert b"40 120" in result.pty and result.end["exitCode"] == 4
    assert result.stdout == result.stderr == b""


def test_zombies_are_reaped(agent):
    agent.run("for i in $(seq 50); do setsid -f true; done")
    def zombies():
        found = 0
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                found += fields[0] == "Z" and int(fields[1]) == agent.process.pid
        return found
    wait_until("no zombie", lambda: zombies() == 0)


def test_many_at_once(agent):
    results = {}

    def one(i: int):
        with httpx.Client(base_url=agent.url, headers=agent.headers, timeout=60) as client:
            with Stream(client, "/process.Process/Start", {"process": {"cmd": "/bin/sh", "args": ["-c", f"echo {i}; sleep 0.3"]}, "stdin": False}) as stream:
                result = Result()
                for message in stream:
                    result.take(message)
                results[i] = result.stdout

    threads = [threading.Thread(target=one, args=(i,)) for i in range(60)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {i: f"{i}\n".encode() for i in range(60)}


# ---- filesystem ----------------------------------------------------------------------------------


def test_make_dir_stat_list(agent):
    base = agent.home / "fs"
    response = agent.fs("MakeDir", {"path": str(base / "a/b")})
    entry = response.json()["entry"]
    assert entry["type"] == "FILE_TYPE_DIRECTORY" and entry["path"] == str(base / "a/b") and entry["name"] == "b"
    assert error(agent.fs("MakeDir", {"path": "fs/a/b"})) == (409, "already_exists")
    (base / "file").write_bytes(b"x" * 13)
    os.chmod(base / "file", 0o640)
    os.utime(base / "file", ns=(0, 1_700_000_000_123_000_000))
    assert error(agent.fs("MakeDir", {"path": str(base / "file")})) == (400, "invalid_argument")
    assert agent.fs("Stat", {"path": "~/fs/file"}).json()["entry"] == {
        "name": "file", "type": "FILE_TYPE_FILE", "path": str(base / "file"), "size": "13", "mode": 0o640,
        "permissions": "-rw-r-----", "owner": "root", "group": "root", "modifiedTime": "2023-11-14T22:13:20.123Z"}
    assert error(agent.fs("Stat", {"path": str(base / "none")})) == (404, "not_found")
    (base / "empty").touch()
    entry = agent.fs("Stat", {"path": str(base / "empty")}).json()["entry"]
    assert "size" not in entry and entry["permissions"] == "-rw-r--r--"

    names = [e["path"] for e in agent.fs("ListDir", {"path": str(base)}).json()["entries"]]
    assert names == [str(base / n) for n in ("a", "empty", "file")]
    names = [e["path"] for e in agent.fs("ListDir", {"path": str(base), "depth": 5}).json()["entries"]]
    assert names == [str(base / n) for n in ("a", "a/b", "empty", "file")]
    assert agent.fs("ListDir", {"path": str(base / "a/b")}).json() == {}
    assert error(agent.fs("ListDir", {"path": str(base / "none")})) == (404, "not_found")
    assert error(agent.fs("ListDir", {"path": str(base / "file")})) == (400, "invalid_argument")
    assert error(agent.fs("ListDir", {"path": "~else/x"})) == (400, "invalid_argument")
    assert error(agent.fs("ListDir", {"path": 5})) == (400, "invalid_argument")


def test_symlinks(agent):
    base = agent.home / "links"
    base.mkdir()
    (base / "target").mkdir(mode=0o700)
    (base / "target" / "inner").touch()
    (base / "link").symlink_to(base / "target")
    (base / "loop").symlink_to(base / "loop")
    (base / "gone").symlink_to(base / "nowhere")
    entry = agent.fs("Stat", {"path": str(base / "link")}).json()["entry"]
    assert entry["type"] == "FILE_TYPE_DIRECTORY" and entry["symlinkTarget"] == str(base / "target")
    assert entry["mode"] == 0o700 and entry["permissions"] == "Lrwxrwxrwx" and entry["size"] == str(len(str(base / "target")))
    entry = agent.fs("Stat", {"path": str(base / "gone")}).json()["entry"]
    assert "type" not in entry and entry["symlinkTarget"] == str(base / "gone")
    assert error(agent.fs("ListDir", {"path": str(base / "loop")})) == (400, "failed_precondition")
    listed = agent.fs("ListDir", {"path": str(base / "link"), "depth": 2}).json()["entries"]
    assert [e["path"] for e in listed] == [str(base / "link" / "inner")]
    assert agent.fs("Remove", {"path": str(base / "link")}).json() == {}
    assert (base / "target" / "inner").exists()


def test_remove(agent):
    base = agent.home / "rm"
    deep = base
    deep.mkdir()
    here = os.getcwd()
    os.chdir(base)
    for _ in range(1000):  # far deeper than a path can say
        os.mkdir("folder-with-a-name")
        os.chdir("folder-with-a-name")
    os.chdir(here)
    (base / "file").touch()
    assert agent.fs("Remove", {"path": str(base)}).json() == {}
    assert not base.exists()
    assert agent.fs("Remove", {"path": str(base)}).json() == {}
    (agent.home / "one").touch()
    assert agent.fs("Remove", {"path": "one"}).json() == {}
    assert not (agent.home / "one").exists()


def test_move(agent):
    (agent.home / "from").write_text("content")
    entry = agent.fs("Move", {"source": "from", "destination": "new/folder/to"}).json()["entry"]
    assert entry["path"] == str(agent.home / "new/folder/to") and entry["size"] == "7"
    assert error(agent.fs("Move", {"source": "from", "destination": "x"})) == (404, "not_found")
    (agent.home / "full/x").mkdir(parents=True)
    assert error(agent.fs("Move", {"source": "new/folder", "destination": "full"})) == (500, "internal")


@pytest.mark.skipif(not os.path.ismount("/dev/shm"), reason="needs a second file system")
def test_move_across_mounts(agent):
    other = Path("/dev/shm") / f"agent-test-{os.getpid()}"
    source = agent.home / "tree"
    source.mkdir()
    (source / "file").write_text("content")
    try:
        entry = agent.fs("Move", {"source": str(source), "destination": str(other)}).json()["entry"]
        assert entry["type"] == "FILE_TYPE_DIRECTORY" and not source.exists()
        assert (other / "file").read_text() == "content"
    finally:
        subprocess.run(["rm", "-rf", str(other)], check=True)


def test_odd_names(agent):
    base = agent.home / "odd"
    base.mkdir()
    (base / 'quote" and \\ and\nline').touch()
    os.close(os.open(os.fsencode(base) + b"/bad-\xff-utf8", os.O_CREAT))
    names = [e["name"] for e in agent.fs("ListDir", {"path": str(base)}).json()["entries"]]
    assert names == ["bad-\ufffd-utf8", 'quote" and \\ and\nline']


def events_of(stream_messages, wanted: int) -> list[tuple[str, str]]:
    events = []
    for message in stream_messages:
        if "filesystem" in message:
            events.append((message["filesystem"]["name"], message["filesystem"]["type"].removeprefix("EVENT_TYPE_")))
        if len(events) >= wanted:
            return events
    return events


def test_watch_stream(agent):
    base = agent.home / "watched"
    base.mkdir()
    with Stream(agent.client, "/filesystem.Filesystem/WatchDir", {"path": str(base)}) as stream:
        messages = iter(stream)
        assert next(messages) == {"start": {}}
        (base / "a").write_text("1")
        assert events_of(messages, 2) == [("a", "CREATE"), ("a", "WRITE")]
        os.chmod(base / "a", 0o600)
        os.rename(base / "a", base / "b")
        (base / "b").unlink()
        assert events_of(messages, 4) == [("a", "CHMOD"), ("a", "RENAME"), ("b", "CREATE"), ("b", "REMOVE")]


def test_watch_recursive_with_entries(agent):
    base = agent.home / "deep-watch"
    (base / "old").mkdir(parents=True)
    message = {"path": str(base), "recursive": True, "includeEntry": True}
    with Stream(agent.client, "/filesystem.Filesystem/WatchDir", message, {"Keepalive-Ping-Interval": "1"}) as stream:
        messages = iter(stream)
        next(messages)
        (base / "old/file").write_text("12345")
        event = next(messages)["filesystem"]
        assert (event["name"], event["type"]) == ("old/file", "EVENT_TYPE_CREATE")
        assert event["entry"]["path"] == str(base / "old/file")
        next(messages)
        (base / "new/er").mkdir(parents=True)
        (base / "new/er/file").write_text("1")
        seen = set()
        while ("new/er/file", "WRITE") not in seen:
            seen.update(events_of(messages, 1))
        assert ("new", "CREATE") in seen and ("new/er", "CREATE") in seen
        # what happens while a new folder is being taken under watch may be told twice
        last = next(message for message in messages if "filesystem" not in message)
        assert last == {"keepalive": {}}


def test_watch_errors(agent):
    (agent.home / "plain-file").touch()
    for path, code in (("/none/here", "not_found"), (str(agent.home / "plain-file"), "invalid_argument")):
        with Stream(agent.client, "/filesystem.Filesystem/WatchDir", {"path": path}) as stream:
            assert list(stream) == [] and stream.end["error"]["code"] == code
    assert error(agent.fs("CreateWatcher", {"path": "/none/here"}))[1] == "not_found"
    assert error(agent.fs("GetWatcherEvents", {"watcherId": "wnone"})) == (404, "not_found")
    assert error(agent.fs("RemoveWatcher", {"watcherId": "wnone"})) == (404, "not_found")


def test_polled_watcher(agent):
    base = agent.home / "polled"
    base.mkdir()
    watcher = agent.fs("CreateWatcher", {"path": str(base), "recursive": True}).json()
    assert watcher["watcherId"].startswith("w")
    assert agent.fs("GetWatcherEvents", watcher).json() == {}
    (base / "x").mkdir()
    wait_until("the new folder to be watched", lambda: agent.fs("GetWatcherEvents", watcher).json())
    (base / "x/y").write_text("1")
    events = agent.fs("GetWatcherEvents", watcher).json()["events"]
    assert [(e["name"], e["type"]) for e in events] == [("x/y", "EVENT_TYPE_CREATE"), ("x/y", "EVENT_TYPE_WRITE")]
    assert agent.fs("RemoveWatcher", watcher).json() == {}
    assert error(agent.fs("GetWatcherEvents", watcher)) == (404, "not_found")


# ---- files ---------------------------------------------------------------------------------------


def octets(agent, path: str, data: bytes, headers: dict | None = None, **params) -> httpx.Response:
    return agent.client.post("/files", params={"path": path} | params, content=data,
                             headers={"Content-Type": "application/octet-stream"} | (headers or {}))


def test_upload_and_download(agent):
    data = os.urandom(3_000_000)
    response = octets(agent, "up/load/file.bin", data)
    assert response.status_code == 200 and response.headers["content-type"].startswith("text/plain")
    path = agent.home / "up/load/file.bin"
    assert json.loads(response.text) == [{"path": str(path), "name": "file.bin", "type": "file"}]
    assert path.read_bytes() == data and path.stat().st_mode & 0o777 == 0o644
    response = agent.client.get("/files", params={"path": str(path)}, headers={"Accept-Encoding": "identity"})
    assert response.content == data and response.headers["content-length"] == str(len(data))
    assert response.headers["accept-ranges"] == "bytes" and "content-encoding" not in response.headers
    assert response.headers["content-type"] == "application/octet-stream"
    assert octets(agent, "up/load/file.bin", b"short").status_code == 200 and path.read_bytes() == b"short"
    assert octets(agent, "up/empty", b"").status_code == 200
    response = agent.client.get("/files", params={"path": "up/empty"})
    assert response.status_code == 200 and response.content == b""


def test_download_errors(agent):
    for path, status in (("none", 404), ("/tmp", 400), ("~other/x", 400), ("", 400)):
        response = agent.client.get("/files", params={"path": path})
        assert error(response) == (status, status), path
    assert "is a directory" in agent.client.get("/files", params={"path": "/tmp"}).json()["message"]
    response = agent.client.get("/files", params={"path": "x", "username": "nobody-here"})
    assert error(response) == (401, 401) and "nobody-here" in response.json()["message"]
    octets(agent, "plain.txt", b"text")
    response = agent.client.get("/files", params={"path": "plain.txt"}, headers={"Accept-Encoding": "br, identity;q=0"})
    assert error(response) == (406, 406)
    assert agent.client.get("/files?path=a%00b").status_code == 400
    os.mkfifo(agent.home / "pipe")
    assert error(agent.client.get("/files", params={"path": "pipe"})) == (500, 500)
    assert error(octets(agent, "pipe", b"x")) == (500, 500)


def test_upload_errors(agent):
    (agent.home / "a-folder").mkdir()
    assert error(octets(agent, "a-folder", b"x")) == (400, 400)
    assert error(octets(agent, "~other/x", b"x")) == (400, 400)
    assert error(octets(agent, "x", b"x", username="nobody-here")) == (401, 401)
    response = agent.client.post("/files", params={"path": "x"}, content=b"x", headers={"Content-Type": "text/plain"})
    assert error(response) == (400, 400) and "unsupported content type" in response.json()["message"]
    response = agent.client.post("/files", content=b"x", headers={"Content-Type": "application/octet-stream"})
    assert error(response) == (400, 400)
    assert error(octets(agent, "x", b"not gzip", {"Content-Encoding": "gzip"})) == (500, 500)
    assert error(octets(agent, "x", b"x", {"Content-Encoding": "br"})) == (400, 400)
    octets(agent, "blocker", b"file")
    assert error(octets(agent, "blocker/below", b"x")) == (500, 500)


def multipart(parts: list[tuple[str, bytes]], boundary: str = "xyz", end: str = "--\r\n") -> bytes:
    return b"".join(b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary.encode(), head.encode(), data)
                    for head, data in parts) + f"--{boundary}{end}".encode()


def post_multipart(agent, body: bytes, boundary: str = "xyz", **params) -> httpx.Response:
    return agent.client.post("/files", params=params, content=body,
                             headers={"Content-Type": f"multipart/form-data; boundary={boundary}"})


def test_multipart(agent):
    head = 'Content-Disposition: form-data; name="file"; filename="%s"\r\nContent-Type: application/octet-stream'
    tricky = b"\r\n--xy\r\n--xyzz? no\r\n-\r\n--\r" + os.urandom(200_000)
    body = multipart([(head % "m/one", b"first"), ('Content-Disposition: form-data; name="other"', b"skipped"),
                      (head % (str(agent.home) + "/m/two"), tricky), (head % "m/empty", b"")])
    response = post_multipart(agent, body)
    assert [e["path"] for e in json.loads(response.text)] == [str(agent.home / "m" / n) for n in ("one", "two", "empty")]
    assert (agent.home / "m/one").read_bytes() == b"first" and (agent.home / "m/two").read_bytes() == tricky
    assert (agent.home / "m/empty").read_bytes() == b""
    response = post_multipart(agent, multipart([(head % "ignored", b"by path")]), path="m/by-path")
    assert (agent.home / "m/by-path").read_bytes() == b"by path"
    response = agent.client.post("/files", params={"path": "m/httpx"}, files={"file": ("n", b"from httpx")})
    assert response.status_code == 200 and (agent.home / "m/httpx").read_bytes() == b"from httpx"
    # every split of the bytes over writes
    body = multipart([(head % "m/split", b"split\r\n--xy")])
    response = agent.client.post("/files", content=(body[i:i + 1] for i in range(len(body))),
                                 headers={"Content-Type": 'multipart/form-data; boundary="xyz"'})
    assert response.status_code == 200 and (agent.home / "m/split").read_bytes() == b"split\r\n--xy"


def test_multipart_errors(agent):
    head = 'Content-Disposition: form-data; name="file"; filename="%s"'
    twice = post_multipart(agent, multipart([(head % "same", b"1"), (head % "same", b"2")]))
    assert error(twice) == (400, 400) and "multiple files to the same path" in twice.json()["message"]
    assert (agent.home / "same").read_bytes() == b"1"
    whole = multipart([(head % "cut", b"data")])
    for cut in (5, 30, len(whole) - 8, len(whole) - 3):
        assert error(post_multipart(agent, whole[:cut])) == (500, 500), cut
    assert post_multipart(agent, whole + b"epilogue").status_code == 200
    response = agent.client.post("/files", content=whole, headers={"Content-Type": "multipart/form-data"})
    assert error(response) == (500, 500)
    big = multipart([("X: " + "y" * 20000 + "\r\n" + head % "x", b"")])
    assert error(post_multipart(agent, big)) == (500, 500)
    bad = multipart([('Content-Disposition: form-data; name="file"; filename="open', b"")])
    assert error(post_multipart(agent, bad)) == (500, 500)
    folder = multipart([(head % "~other/x", b"")])
    assert error(post_multipart(agent, folder)) == (400, 400)


def test_gzip(agent):
    data = b"compress me " * 100_000
    assert octets(agent, "zipped", gzip.compress(data), {"Content-Encoding": "gzip"}).status_code == 200
    assert (agent.home / "zipped").read_bytes() == data
    two = gzip.compress(b"one") + gzip.compress(b"two")
    assert octets(agent, "two", two, {"Content-Encoding": "gzip"}).status_code == 200
    assert (agent.home / "two").read_bytes() == b"onetwo"
    assert error(octets(agent, "two", two[:-4], {"Content-Encoding": "gzip"})) == (500, 500)
    response = agent.client.get("/files", params={"path": "zipped"}, headers={"Accept-Encoding": "gzip"})
    assert response.headers["content-encoding"] == "gzip" and "content-length" not in response.headers
    assert response.content == data and "accept-encoding" in response.headers["vary"].lower()
    for accept in ("gzip;q=0", "identity", "", "br", "gzip;q=0.5, identity"):
        response = agent.client.get("/files", params={"path": "zipped"}, headers={"Accept-Encoding": accept})
        assert "content-encoding" not in response.headers and response.content == data


def test_ranges_and_conditions(agent):
    octets(agent, "range", b"0123456789")
    def get(**headers):
        return agent.client.get("/files", params={"path": "range"},
                                headers={"Accept-Encoding": "gzip"} | {k.replace("_", "-"): v for k, v in headers.items()})
    for text, start, body in (("bytes=2-4", 2, b"234"), ("bytes=7-", 7, b"789"), ("bytes=-3", 7, b"789"),
                              ("bytes=0-99", 0, b"0123456789"), ("bytes=-99", 0, b"0123456789")):
        response = get(Range=text)
        assert response.status_code == 206 and response.content == body
        assert response.headers["content-range"] == f"bytes {start}-{start + len(body) - 1}/10"
    for text in ("bytes=10-", "bytes=4-2", "bytes=x", "bytes=-"):
        response = get(Range=text)
        assert response.status_code == 416 and response.headers["content-range"] == "bytes */10", text
    assert get(Range="items=1-2").status_code == 200
    modified = get(Range="bytes=0-").headers["last-modified"]
    assert get(If_Modified_Since=modified).status_code == 304
    assert get(If_Modified_Since="Mon, 01 Jan 2001 00:00:00 GMT").status_code == 200
    assert get(If_None_Match="*").status_code == 304
    assert get(Range="bytes=1-2", If_Range=modified).status_code == 206
    assert get(Range="bytes=1-2", If_Range="Mon, 01 Jan 2001 00:00:00 GMT").status_code == 200


def test_content_types(agent):
    for name, data, expected in (("a.json", b"{}", "application/json"), ("b", b"\x89PNG\r\n\x1a\n", "image/png"),
                                 ("c", b"plain text", "text/plain; charset=utf-8"), ("d.html", b"x", "text/html; charset=utf-8"),
                                 ("e", b"\x00\x01", "application/octet-stream")):
        octets(agent, f"types/{name}", data)
        assert agent.client.get("/files", params={"path": f"types/{name}"}).headers["content-type"] == expected


def test_files_of_proc_have_their_content(agent):
    response = agent.client.get("/files", params={"path": "/proc/sys/kernel/ostype"}, headers={"Accept-Encoding": "identity"})
    assert response.content == b"Linux\n"


def sign(path: str, operation: str, user: str = "", expiration: int | None = None) -> str:
    text = f"{path}:{operation}:{user}:{TOKEN}" + (f":{expiration}" if expiration is not None else "")
    return "v1_" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def test_signed_urls(agent):
    octets(agent, "signed", b"secret")
    path = str(agent.home / "signed")
    def get(**params):
        return httpx.get(agent.url + "/files", params={"path": path} | params)
    assert get(signature=sign(path, "read")).content == b"secret"
    later, before = int(time.time()) + 60, int(time.time()) - 60
    assert get(signature=sign(path, "read", "root", later), username="root", signature_expiration=later).content == b"secret"
    for params, message in (({}, "missing signature"), ({"signature": sign(path, "write")}, "invalid signature"),
                            ({"signature": sign(path, "read", "", later)}, "invalid signature"),
                            ({"signature": sign(path, "read"), "username": "root"}, "invalid signature"),
                            ({"signature": sign("/else", "read")}, "invalid signature"),
                            ({"signature": sign(path, "read", "", before), "signature_expiration": before}, "expired"),
                            ({"signature": "x" * 300}, "invalid signature"),
                            ({"signature": sign(path, "read"), "signature_expiration": "soon"}, "invalid signature")):
        response = get(**params)
        assert error(response) == (401, 401) and message in response.json()["message"], params
    wrong = httpx.get(agent.url + "/files", params={"path": path}, headers={"X-Access-Token": "wrong"})
    assert error(wrong) == (401, 401) and "does not match" in wrong.json()["message"]
    url = f"{agent.url}/files?path={quote(path)}&signature={quote(sign(path, 'write'), safe='')}"
    done = httpx.post(url, content=b"new", headers={"Content-Type": "application/octet-stream"})
    assert done.status_code == 200 and (agent.home / "signed").read_bytes() == b"new"
    assert error(httpx.post(url.replace("signed&", "other&"), content=b"x")) == (401, 401)


def test_metadata(agent):
    headers = {"X-Metadata-Author": "me & you", "X-Metadata-kind": "x"}
    response = octets(agent, "meta", b"1", headers)
    if response.status_code == 500:
        pytest.skip("this file system has no user attributes")
    assert json.loads(response.text)[0]["metadata"] == {"author": "me & you", "kind": "x"}
    assert agent.fs("Stat", {"path": "meta"}).json()["entry"]["metadata"] == {"author": "me & you", "kind": "x"}
    octets(agent, "meta", b"2")
    assert "metadata" not in agent.fs("Stat", {"path": "meta"}).json()["entry"]
    assert error(octets(agent, "meta", b"3", {"X-Metadata-a": "y" * 5000})) == (400, 400)


def test_big_files_in_constant_memory(agent, slow):
    size = 256 << 20
    before = agent.process.rss_bytes()
    piece = os.urandom(1 << 20)
    response = agent.client.post("/files", params={"path": "big"}, content=(piece for _ in range(size >> 20)),
                                 headers={"Content-Type": "application/octet-stream"}, timeout=120)
    assert response.status_code == 200 and (agent.home / "big").stat().st_size == size
    total = 0
    with agent.client.stream("GET", "/files", params={"path": "big"}, headers={"Accept-Encoding": "identity"}) as response:
        for chunk in response.iter_raw():
            total += len(chunk)
    assert total == size
    assert agent.process.rss_bytes() - before < (8 << 20) * slow
    agent.fs("Remove", {"path": "big"})


def test_compose(agent):
    def compose(*sources, destination="whole", **more):
        return agent.client.post("/files/compose", json={"source_paths": list(sources), "destination": destination} | more)

    parts = []
    for i, data in enumerate((b"one", b"", b"three" * 300000)):
        (agent.home / f"part{i}").write_bytes(data)
        parts.append((f"part{i}", str(agent.home / f"part{i}"), f"~/part{i}")[i])
    (agent.home / "into/deep").mkdir(parents=True)
    (agent.home / "into/deep/whole").write_bytes(b"before")
    done = compose(*parts, destination="into/deep/whole")
    assert done.status_code == 200 and done.headers["content-type"] == "application/json"
    assert done.json() == {"path": f"{agent.home}/into/deep/whole", "name": "whole", "type": "file"}
    assert (agent.home / "into/deep/whole").read_bytes() == b"one" + b"three" * 300000
    assert not any(agent.home.glob("part*"))
    assert [p.name for p in (agent.home / "into/deep").iterdir()] == ["whole"]

    (agent.home / "part").write_bytes(b"kept")
    for response, status in ((compose(), 400), (compose("part", destination=""), 400), (compose("part", "part-no"), 404),
                             (compose("part", 7), 400), (compose("part", "/etc"), 400), (compose("part", destination="part"), 400),
                             (compose("part", username="nobody-here"), 401), (compose("~other/x"), 400),
                             (compose("part", destination="part/below"), 500),
                             (agent.client.post("/files/compose", content=b"{"), 400),
                             (httpx.post(agent.url + "/files/compose", json={}), 401)):
        assert error(response)[0] == status, response.text
    assert (agent.home / "part").read_bytes() == b"kept"
    assert agent.client.get("/files/compose").status_code == 405


def test_a_watch_tells_of_an_upload_as_envd_does(agent):
    (agent.home / "told").mkdir()
    watcher = agent.fs("CreateWatcher", {"path": "told"}).json()
    agent.client.post("/files?path=told/new", content=b"x", headers={"Content-Type": "application/octet-stream"})
    events = agent.fs("GetWatcherEvents", watcher).json()["events"]
    assert [(e["type"], e["name"]) for e in events] == [
        (f"EVENT_TYPE_{kind}", "new") for kind in ("CREATE", "CHMOD", "WRITE")]
    agent.fs("RemoveWatcher", watcher)


def test_clients_that_stop_are_cut_and_cost_little(tmp_path, slow):
    """Every long answer, and a request body, with a client that neither reads nor sends."""
    agent = Agent(tmp_path, stall_ms=1000)
    lazy = []

    def open_lazy(request: str, body: bytes = b""):
        client = socket.create_connection(("127.0.0.1", agent.port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        client.sendall(f"{request} HTTP/1.1\r\nHost: x\r\nX-Access-Token: {TOKEN}\r\n".encode()
                       + b"Content-Type: application/connect+json\r\n" + body)
        lazy.append(client)

    def rpc(method: str, message: dict):
        data = envelope(message)
        open_lazy(f"POST {method}", b"Content-Length: %d\r\n\r\n" % len(data) + data)

    try:
        (agent.home / "large").write_bytes(os.urandom(1 << 20) * 32)
        (agent.home / "watched").mkdir()
        for _ in range(8):
            open_lazy("GET /files?path=large", b"\r\n")
            rpc("/process.Process/Start", {"process": {"cmd": "yes"}, "stdin": False})
            open_lazy("POST /files?path=never", b"Content-Length: 1000000\r\n\r\nbegin")
            open_lazy("POST /process.Process/StreamInput", b"Transfer-Encoding: chunked\r\n\r\n5\r\n\0\0\0\0\x09\r\n")
        open_lazy("GET /files?path=large", b"Accept-Encoding: gzip\r\n\r\n")
        rpc("/filesystem.Filesystem/WatchDir", {"path": "watched", "includeEntry": True})
        assert lazy[-1].recv(15).startswith(b"HTTP/1.1 200")  # it watches
        for i in range(12000):
            (agent.home / "watched" / f"{i:0200}").touch()
        assert agent.run("echo alive").stdout == b"alive\n"
        status = Path(f"/proc/{agent.process.pid}/status")
        threads = int(re.search(r"Threads:\s+(\d+)", status.read_text())[1])
        memory = int(re.search(r"VmRSS:\s+(\d+)", status.read_text())[1])
        assert threads > 128 and memory < slow * (128 << 10), memory  # kB
        wait_until("every client to be cut", lambda: not served(agent.port, lazy), 40, 0.2)
        # a command goes on without its reader
        assert len(agent.process_call("List", {}).json().get("processes", [])) == 8
    finally:
        for client in lazy:
            client.close()
        for process in agent.process_call("List", {}).json().get("processes", []):
            agent.process_call("SendSignal", {"process": {"pid": process["pid"]}, "signal": "SIGNAL_SIGKILL"})
        agent.stop()


def test_open_agent_needs_no_token(tmp_path):
    running = Agent(tmp_path, token=None)
    assert running.run("echo hi").stdout == b"hi\n"
    assert httpx.get(running.url + "/files", params={"path": "/etc/hostname"}).status_code == 200
    running.stop()


def test_bad_configuration_stops_it(tmp_path):
    for config in ("{", "[]", '{"user":5}', '{"envs":{"a":1}}'):
        done = subprocess.run([str(build_dir() / "sandbox-agent"), "--standalone"], capture_output=True, timeout=10,
                              env=dict(os.environ, SANDBOX_AGENT_CONFIG=config, SANDBOX_AGENT_PORT=str(free_port())))
        assert done.returncode == 78 and b"agent.start_failed" in done.stderr, config
    assert subprocess.run([str(build_dir() / "sandbox-agent"), "--help"], capture_output=True).returncode == 0
    assert subprocess.run([str(build_dir() / "sandbox-agent"), "--what"], capture_output=True).returncode == 64


# ---- the relay -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def relay(tmp_path_factory):
    """An agent as the host starts it: descriptor 3 a listener, descriptor 4 the configuration."""
    folder = tmp_path_factory.mktemp("relay")
    path = folder / "agent.sock"
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(128)
    reader, writer = os.pipe()
    os.write(writer, json.dumps({"access_token": None, "user": "root", "home": str(folder)}).encode())
    os.close(writer)
    port = free_port()
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            ["/bin/bash", "-c", 'exec "$0" 3<&"$1" 4<&"$2"', str(build_dir() / "sandbox-agent"),
             str(listener.fileno()), str(reader)],
            pass_fds=(listener.fileno(), reader), env=dict(os.environ, SANDBOX_AGENT_PORT=str(port)),
            stdout=log, stderr=log, start_new_session=True)
    listener.close()
    os.close(reader)

    def dial(target: int) -> tuple[socket.socket, bytes]:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(20)
        client.connect(str(path))
        client.sendall(struct.pack(">H", target))
        return client, client.recv(1)

    dial.agent_port = port
    wait_until("relay", lambda: dial(port)[1] == b"\0")
    yield dial
    process.terminate()
    assert process.wait(10) == 0 and "Sanitizer" not in (folder / "log").read_text()


def test_relay_reaches_the_agent(relay):
    client, status = relay(relay.agent_port)
    assert status == b"\0"
    client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    assert client.recv(4096).startswith(b"HTTP/1.1 204")


def test_relay_refuses_a_closed_port(relay):
    client, status = relay(free_port())
    assert status == b"\1" and client.recv(1) == b""


@pytest.mark.parametrize("family,address", [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_relay_half_close_and_bulk(relay, family, address):
    server = socket.socket(family)
    server.bind((address, 0))
    server.listen()
    data = os.urandom(1 << 20) * 16

    def serve():
        peer, _ = server.accept()
        received = bytearray()
        while chunk := peer.recv(1 << 16):
            received += chunk
        peer.sendall(hashlib.sha256(received).digest())
        peer.sendall(data)
        peer.close()

    thread = threading.Thread(target=serve)
    thread.start()
    client, status = relay(server.getsockname()[1])
    assert status == b"\0"
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)
    answer = bytearray()
    while chunk := client.recv(1 << 16):
        answer += chunk
    thread.join()
    assert bytes(answer[:32]) == hashlib.sha256(data).digest() and bytes(answer[32:]) == data


def test_relay_many_connections_and_slow_reader(relay):
    server = socket.create_server(("127.0.0.1", 0), backlog=256)
    peers = []
    clients = [relay(server.getsockname()[1]) for _ in range(100)]
    for _ in clients:
        peers.append(server.accept()[0])
    assert all(status == b"\0" for _, status in clients)
    stuck = peers[0]
    stuck.setblocking(False)
    sent = 0
    try:
        while True:
            sent += stuck.send(b"x" * 65536)
    except BlockingIOError:
        pass
    for i, ((client, _), peer) in enumerate(list(zip(clients, peers))[1:]):
        client.sendall(b"%d" % i)
        assert peer.recv(16) == b"%d" % i
        peer.close()
        assert client.recv(16) == b""
        client.close()
    assert sent < 32 << 20
    clients[0][0].close()


def test_agent_descriptors_are_not_inherited(relay):
    client, _ = relay(relay.agent_port)
    body = envelope({"process": {"cmd": "/bin/ls", "args": ["-l", "/proc/self/fd"]}, "stdin": False})
    client.sendall(b"POST /process.Process/Start HTTP/1.1\r\nHost: x\r\nContent-Type: application/connect+json\r\n"
                   b"Content-Length: %d\r\n\r\n" % len(body) + body)
    answer = b""
    while b"0\r\n\r\n" not in answer:
        piece = client.recv(65536)
        assert piece, answer
        answer += piece
    assert b"socket" not in base64.b64decode(answer.split(b'"stdout":"')[1].split(b'"')[0])


def test_relay_while_processes_start(relay):
    """A child between fork and exec holds copies of the relay's descriptors for a moment."""
    body = envelope({"process": {"cmd": "/bin/true"}, "stdin": False})
    request = (b"POST /process.Process/Start HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
               b"Content-Type: application/connect+json\r\nContent-Length: %d\r\n\r\n" % len(body)) + body
    failures = []

    def work():
        for _ in range(40):
            client, status = relay(relay.agent_port)
            client.sendall(request)
            answer = b""
            while chunk := client.recv(65536):
                answer += chunk
            client.close()
            if status != b"\0" or b"exit status 0" not in answer:
                failures.append(answer)

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
