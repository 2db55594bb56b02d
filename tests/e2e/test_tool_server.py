"""The MCP tool server, spoken to in plain HTTP: the protocol, who may come in, and every tool."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.harness.mcp import BOTH, LATEST, McpClient, ToolServer
from tests.harness.services import wait_until


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = ToolServer(tmp_path_factory.mktemp("tools"), SECRET_OF_TESTS="kept", MCP_ENTRIES="50")
    yield running
    running.stop()


@pytest.fixture
def client(server) -> McpClient:
    return server.client()


@pytest.fixture
def other_server(tmp_path):
    """other_server(MCP_TOKEN=...): one with settings of its own."""
    made = []

    def make(**env: str) -> ToolServer:
        made.append(ToolServer(tmp_path / f"server{len(made)}", **env))
        return made[-1]

    yield make
    for running in made:
        running.kill()


OWN = os.getpid()  # in what the commands sleep, so that no other run's are taken for these


def marked(text: str) -> list[int]:
    """The processes with this in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if text.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                pass
    return found


def gone(text: str) -> None:
    wait_until(f"no process with {text}", lambda: not marked(text), 5)


# ---- the protocol


@pytest.mark.alone
@pytest.mark.release_only
def test_ready_at_once_and_small(tmp_path):
    times = []
    while True:  # the best of a few: a machine at work may hold any one of them up
        start = time.monotonic()
        server = ToolServer(tmp_path / str(len(times)))
        times.append(time.monotonic() - start)
        if times[-1] < 0.02:
            break
        server.kill()
        assert len(times) < 30, times
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda n: server.client().text("run_command", command=f"echo {n}"), range(40)))
        assert server.process.rss_bytes() < 5 << 20
    finally:
        server.kill()


@pytest.mark.parametrize("asked,given", [(LATEST, LATEST), ("2025-06-18", "2025-06-18"), ("2025-03-26", "2025-03-26"),
                                         ("2024-11-05", "2024-11-05"), ("2099-01-01", LATEST), ("x", LATEST)])
def test_revisions_are_negotiated(server, asked, given):
    client = McpClient(server.url)
    result = client.initialize(asked)
    assert result["protocolVersion"] == given
    assert result["serverInfo"]["name"] == "sandbox-tool-server" and result["capabilities"]["tools"] == {"listChanged": False}
    assert len(client.request("tools/list")["result"]["tools"]) == 8


def test_requests_that_are_none(client):
    def refused(status: int, code: int | None, body, **headers) -> str:
        answer = client.post(body, **headers)
        assert answer.status_code == status, answer.text
        if code is not None:
            assert answer.json()["error"]["code"] == code
        return answer.json()["error"]["message"]

    ping = client.message("ping")
    refused(400, -32700, b"{")
    refused(400, -32700, b'{"jsonrpc":"2.0","id":1,"method":"ping","method":"ping"}')
    refused(400, -32600, b"[]")
    refused(400, -32600, {"jsonrpc": "2.0", "id": None, "method": "ping"})
    refused(400, -32600, {"id": 1, "method": "ping"})
    refused(415, None, ping, **{"Content-Type": "text/plain"})
    refused(406, None, ping, Accept="text/html")
    assert "MCP-Protocol-Version" in refused(400, None, ping, **{"MCP-Protocol-Version": "1999-01-01", "Mcp-Session-Id": None})
    assert "initialize again" in refused(404, None, ping, **{"Mcp-Session-Id": "nobody"})
    assert client.request("nope/nope")["error"]["code"] == -32601
    assert client.request("tools/call", {"name": "nope"})["error"]["code"] == -32602
    assert client.request("tools/call", {"arguments": {}})["error"]["code"] == -32602
    assert client.request("tools/list", {"cursor": "x"})["error"]["code"] == -32602
    assert client.request("ping")["result"] == {}
    for path in ("/mcp", "/mcp/", "/"):
        assert client.http.get(path, headers={"Accept": "text/event-stream"}).status_code == 405
    assert client.http.get("/mcp/x", headers={"Accept": "text/event-stream"}).status_code == 404
    assert client.http.get("/elsewhere").status_code == 404
    # a client that never heard of sessions is served as well
    assert client.post(ping, **{"Mcp-Session-Id": None, "MCP-Protocol-Version": None}).json()["result"] == {}
    # the port's bare URL is the server too
    assert client.http.post("/", content=json.dumps(ping), headers=client.headers).json()["result"] == {}


def test_batches_where_they_are_part_of_the_revision(server):
    client = McpClient(server.url)
    client.initialize("2025-03-26")
    batch = [client.message("ping"), {"jsonrpc": "2.0", "method": "notifications/progress", "params": {}},
             client.message("nope"), {"jsonrpc": "2.0", "id": 9, "result": {}}, 7,
             client.message("initialize", {"protocolVersion": LATEST})]
    answers = client.post(batch).json()
    assert [a.get("error", {}).get("code", 0) for a in answers] == [0, -32601, -32600, -32600]
    assert client.post(batch[1:2]).status_code == 202
    assert client.post([batch[0]] * 33).status_code == 400
    client.initialize(LATEST)
    assert client.post(batch).status_code == 400


def test_sessions_end(server, other_server):
    client = server.client()
    assert client.http.delete("/mcp", headers=client.headers).status_code == 204
    assert client.post(client.message("ping")).status_code == 404
    assert client.http.delete("/mcp", headers=client.headers).status_code == 404
    small = other_server(MCP_SESSIONS="2")
    first, second = small.client(), small.client()
    first.request("ping")
    small.client()  # the one unused longest makes room
    assert second.post(second.message("ping")).status_code == 404
    first.request("ping")


def test_origins(server):
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    plain = McpClient(server.url)
    assert plain.post(body).status_code == 200
    for origin in ("http://localhost:6274", "http://127.0.0.1", "https://[::1]:1"):
        answer = plain.post(body, Origin=origin)
        assert answer.status_code == 200 and answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-expose-headers"] == "Mcp-Session-Id"
        before = plain.http.options("/mcp", headers={"Origin": origin, "Access-Control-Request-Method": "POST"})
        assert before.status_code == 204 and "Authorization" in before.headers["access-control-allow-headers"]
    for origin in ("http://evil.example", "http://localhost.evil.example", "null", "http://3000-iabc.localhost:3900"):
        answer = plain.post(body, Origin=origin)
        assert answer.status_code == 403 and "access-control-allow-origin" not in answer.headers
        assert plain.http.options("/mcp", headers={"Origin": origin}).status_code == 403


def test_listed_origins(other_server):
    server = other_server(MCP_ALLOWED_ORIGINS="https://app.example,https://b.example")
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert McpClient(server.url).post(body, Origin="https://b.example").status_code == 200
    assert McpClient(server.url).post(body, Origin="https://c.example").status_code == 403


def test_the_token(other_server):
    server = other_server(MCP_TOKEN="open sesame")
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    for header in (None, "open sesame", "Bearer open", "Bearer open sesame!", "Basic b3Blbg=="):
        answer = McpClient(server.url).post(body, Authorization=header)
        assert answer.status_code == 401 and answer.headers["www-authenticate"] == "Bearer"
        assert "sesame" not in answer.text
    client = server.client("open sesame")
    assert client.request("ping")["result"] == {}
    assert httpx.get(server.url + "/health", trust_env=False).json()["status"] == "ok"
    assert client.data("run_command", command="env; cat /proc/$PPID/environ")["output"].count("sesame") == (0 if os.geteuid() else 1)
    assert "sesame" not in client.data("run_command", command="env")["output"]
    assert "sesame" not in server.process.log()


def test_a_token_file_counts_from_when_it_is_there(other_server, tmp_path):
    path = tmp_path / "token"
    server = other_server(MCP_TOKEN_PATH=str(path))
    body = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert McpClient(server.url).post(body).status_code == 200
    path.write_text("later\n")
    assert McpClient(server.url).post(body).status_code == 401
    assert McpClient(server.url, "later").post(body).status_code == 200
    path.write_text("other\n")
    assert McpClient(server.url, "later").post(body).status_code == 401
    path.write_text("")  # half written: nobody comes in
    assert McpClient(server.url, "other").post(body).status_code == 401
    assert McpClient(server.url, "").post(body).status_code == 401
    path.unlink()
    assert McpClient(server.url).post(body).status_code == 200


def test_arguments_are_checked_and_named(client):
    assert client.problem("run_command") == "command is required"
    assert client.problem("run_command", command=5) == "command must be of type string"
    assert client.problem("run_command", command="x", timeout=1).startswith("timeout is not an argument of this tool")
    assert client.problem("read_file", path="x", max_lines=0) == "max_lines must be at least 1"
    assert client.problem("kill_command", command_id="x", signal="HUP") == 'signal must be one of "KILL", "TERM", "INT"'


def test_many_at_once(server):
    def one(number: int) -> bool:
        client = server.client()
        path = f"many/{number}"
        client.data("write_file", path=path, content=str(number))
        client.data("edit_file", path=path, old_text=str(number), new_text=f"<{number}>")
        return client.text("read_file", path=path) == f"<{number}>" and \
            client.data("run_command", command=f"cat {path}")["output"] == f"<{number}>"

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(48)))


# ---- run_command


def test_a_command(client, server):
    data = client.data("run_command", command="echo out; echo err >&2; pwd; cat; exit 3")
    assert data["output"] == f"out\nerr\n{server.work}\n" and data["exit_code"] == 3
    assert data["running"] is False and data["timed_out"] is False and "command_id" not in data
    assert client.text("run_command", command="printf x") == "x\n[exit code 0]"
    assert client.data("run_command", command="echo $A$SECRET_OF_TESTS; env | grep -c ^MCP_", env={"A": "1"})["output"] == "1kept\n1\n"
    assert client.data("run_command", command="kill -9 $$")["exit_code"] == 137
    assert client.data("run_command", command="printf '\\xff\\x00a'")["output"] == "\ufffd\ufffda"
    (server.work / "sub").mkdir(exist_ok=True)
    assert client.data("run_command", command="pwd", cwd="sub")["output"] == f"{server.work}/sub\n"
    assert "cwd" in client.problem("run_command", command="pwd", cwd="/nope")


def test_long_output_keeps_both_ends(client):
    output = client.data("run_command", command="seq 100000")["output"]
    assert output.startswith("1\n2\n") and output.endswith("99999\n100000\n") and "bytes not kept" in output
    assert len(output) < 70000


def test_a_timeout_kills_all_it_started(client):
    start = time.monotonic()
    result = client.call("run_command", timeout_seconds=1,
                         command=f"echo begun; sleep 311{OWN}.1 & setsid sleep 311{OWN}.2 & (setsid setsid sleep 311{OWN}.3 &) ; sleep 311{OWN}.4")
    assert 0.9 < time.monotonic() - start < 10
    assert result["structuredContent"]["timed_out"] is True and result["structuredContent"]["output"] == "begun\n"
    assert "timeout_seconds" in result["content"][0]["text"]
    gone(f"sleep\x00311{OWN}.")


def test_what_it_leaves_running_stays(client):
    start = time.monotonic()
    data = client.data("run_command", command="(while :; do echo tick; sleep 0.05; done) & echo started")
    assert time.monotonic() - start < 5 and data["exit_code"] == 0 and data["running"] is False
    more = client.data("command_output", command_id=data["command_id"], offset=data["next_offset"], wait_seconds=1)
    wait_until("more", lambda: "tick" in client.data("command_output", command_id=data["command_id"])["output"], 5)
    assert more["exit_code"] == 0
    client.data("kill_command", command_id=data["command_id"])
    wait_until("closed", lambda: "command_id" not in client.data("command_output", command_id=data["command_id"]), 5)


def test_background(client):
    started = client.data("run_command", background=True, command=f"echo one; read -t 0.4 <> <(:); echo two; sleep 312{OWN}.1")
    name = started["command_id"]
    assert started["running"] is True
    first = client.data("command_output", command_id=name, wait_seconds=10)
    assert first["output"].startswith("one\n") and first["running"] is True
    second = client.data("command_output", command_id=name, offset=first["next_offset"], wait_seconds=10)
    assert (first["output"] + second["output"]) == "one\ntwo\n"
    listed = client.data("command_output")["commands"]
    assert [c["running"] for c in listed if c["command_id"] == name] == [True]
    assert client.data("kill_command", command_id=name, signal="TERM") == {"command_id": name, "running": False, "exit_code": 143}
    gone(f"sleep\x00312{OWN}.1")
    assert client.data("command_output", command_id=name)["output"] == "one\ntwo\n"
    assert "no command zzz" in client.problem("command_output", command_id="zzz")
    assert "no command zzz" in client.problem("kill_command", command_id="zzz")


def test_a_background_command_has_a_timeout_if_it_asks(client):
    name = client.data("run_command", background=True, command=f"sleep 313{OWN}.1", timeout_seconds=1)["command_id"]
    data = client.data("command_output", command_id=name, wait_seconds=10)
    assert data["timed_out"] is True and data["exit_code"] == 137


def test_the_number_of_commands_is_bounded(other_server):
    client = other_server(MCP_COMMANDS="2").client()
    names = [client.data("run_command", background=True, command=f"sleep 314{OWN}.1")["command_id"] for _ in range(2)]
    assert "kill_command" in client.problem("run_command", command="true")
    client.data("kill_command", command_id=names[0])
    assert client.data("run_command", command="echo fits")["output"] == "fits\n"


def test_progress_is_streamed_to_who_asks(client):
    message = client.message("tools/call", {"name": "run_command", "_meta": {"progressToken": "p1"},
                                            "arguments": {"command": "for i in 1 2 3 4; do echo line $i; sleep 0.8; done"}})
    answer = client.post(message)
    assert answer.headers["content-type"] == "text/event-stream"
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    progress = [e["params"] for e in events[:-1]]
    assert len(progress) >= 2 and all(p["progressToken"] == "p1" for p in progress)
    assert [p["progress"] for p in progress] == sorted({p["progress"] for p in progress})
    assert any(p.get("message", "").startswith("line ") for p in progress)
    assert events[-1]["id"] == message["id"] and events[-1]["result"]["structuredContent"]["exit_code"] == 0
    # no token, no stream; and none for who does not take one
    assert client.post(client.message("tools/call", {"name": "run_command", "arguments": {"command": "sleep 1.2"}})) \
        .headers["content-type"] == "application/json"
    assert client.post(message, Accept="application/json").headers["content-type"] == "application/json"


def test_cancelling(server):
    client, stranger = server.client(), server.client()
    message = client.message("tools/call", {"name": "run_command", "arguments": {"command": f"sleep 315{OWN}.1"}})
    answers = []
    thread = threading.Thread(target=lambda: answers.append(client.post(message)))
    thread.start()
    wait_until("it runs", lambda: marked(f"sleep\x00315{OWN}.1"), 10)
    stranger.notify("notifications/cancelled", {"requestId": message["id"]})  # of another session: nothing
    assert marked(f"sleep\x00315{OWN}.1")
    McpClient(server.url).notify("notifications/cancelled", {"requestId": message["id"]})
    assert marked(f"sleep\x00315{OWN}.1")
    server_side = McpClient(server.url)
    server_side.headers |= {"Mcp-Session-Id": client.headers["Mcp-Session-Id"]}
    server_side.notify("notifications/cancelled", {"requestId": message["id"], "reason": "test"})
    thread.join(10)
    gone(f"sleep\x00315{OWN}.1")
    assert answers[0].status_code == 200 and answers[0].text == ""  # a stream with nothing in it
    assert client.request("ping")["result"] == {}


def test_ending_a_session_ends_its_calls(server):
    client = server.client()
    thread = threading.Thread(target=lambda: client.post(client.message(
        "tools/call", {"name": "run_command", "arguments": {"command": f"sleep 316{OWN}.1"}})))
    thread.start()
    wait_until("it runs", lambda: marked(f"sleep\x00316{OWN}.1"), 10)
    assert httpx.delete(server.url + "/mcp", headers=client.headers, trust_env=False).status_code == 204
    thread.join(10)
    gone(f"sleep\x00316{OWN}.1")


def test_a_client_that_leaves_cancels_nothing(server, client):
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                       "params": {"name": "run_command", "arguments": {"command": f"sleep 2.5{OWN}; echo still here; sleep 317{OWN}.1"}}}).encode()
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(b"POST /mcp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nAccept: " + BOTH.encode() +
                    b"\r\nContent-Length: " + str(len(body)).encode() + b"\r\n\r\n" + body)
        wait_until("it runs", lambda: marked(f"sleep\x002.5{OWN}"), 10)
    wait_until("it went on", lambda: marked(f"sleep\x00317{OWN}.1"), 10)
    name = [c["command_id"] for c in client.data("command_output")["commands"] if c["running"] and f"317{OWN}.1" in c["command"]][0]
    assert client.data("command_output", command_id=name)["output"] == "still here\n"
    client.data("kill_command", command_id=name)


def test_the_end_takes_the_commands_along(tmp_path):
    server = ToolServer(tmp_path)
    client = server.client()
    client.data("run_command", background=True, command=f"setsid sleep 318{OWN}.1 & sleep 318{OWN}.2")

    def wait_for(n: int) -> None:
        with contextlib.suppress(httpx.TransportError):  # answered, or cut off
            client.http.post("/mcp", headers=client.headers, content=json.dumps(client.message(
                "tools/call", {"name": "run_command", "arguments": {"command": f"sleep 318{OWN}.{n}"}})))

    threads = [threading.Thread(target=wait_for, args=(n,)) for n in (3, 4, 5)]
    for thread in threads:
        thread.start()
    wait_until("all run", lambda: len(marked(f"sleep\x00318{OWN}.")) == 5, 10)
    server.stop()
    for thread in threads:
        thread.join(10)
    gone(f"sleep\x00318{OWN}.")


# ---- files


def test_read_file(client, server):
    path = server.work / "lines.txt"
    path.write_text("".join(f"line {n}\n" for n in range(1, 3001)))
    assert client.text("read_file", path="lines.txt", start_line=2999) == "line 2999\nline 3000\n"
    part = client.call("read_file", path="lines.txt", start_line=10, max_lines=2)["content"]
    assert part[0]["text"] == "line 10\nline 11\n" and part[1]["text"] == "[lines 10 to 11; go on with start_line 12]"
    whole, at = "", 1
    while True:
        part = client.call("read_file", path="lines.txt", start_line=at)["content"]
        whole += part[0]["text"]
        if len(part) == 1:
            break
        at = int(part[1]["text"].rsplit(" ", 1)[1].rstrip("]"))
    assert whole == path.read_text()
    assert "fewer than 3001 lines" in client.problem("read_file", path="lines.txt", start_line=3001)
    (server.work / "empty").touch()
    assert client.text("read_file", path="empty") == ""
    (server.work / "noend").write_text("a\nb")
    assert client.text("read_file", path="noend", start_line=2) == "b"
    (server.work / "umlauts").write_text("äöü€\n" * 3)
    assert client.text("read_file", path="umlauts", start_line=3) == "äöü€\n"


def test_read_file_that_is_long(client, server):
    (server.work / "wide").write_text("ä" * 400000 + "\nnext\n")
    part = client.call("read_file", path="wide")["content"]
    assert part[0]["text"].startswith("äää") and "line 1 is cut" in part[1]["text"]
    (server.work / "long").write_text("x" * 100000 + "\n" + "y" * 100000 + "\n" + "z" * 100000 + "\n")
    part = client.call("read_file", path="long")["content"]
    assert part[0]["text"] == "x" * 100000 + "\n" + "y" * 100000 + "\n" and part[1]["text"].endswith("go on with start_line 3]")


def test_read_file_that_is_no_text(client, server):
    png = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==")
    (server.work / "dot.png").write_bytes(png)
    part = client.call("read_file", path="dot.png")["content"][0]
    assert part["type"] == "image" and part["mimeType"] == "image/png" and base64.b64decode(part["data"]) == png
    (server.work / "blob").write_bytes(b"a\0b")
    assert "not text (3 bytes)" in client.problem("read_file", path="blob")
    (server.work / "latin").write_bytes(b"\xe4\xf6\n")
    assert "not text" in client.problem("read_file", path="latin")
    os.mkfifo(server.work / "pipe")
    assert "not a regular file" in client.problem("read_file", path="pipe")
    assert "list_directory" in client.problem("read_file", path=".")
    assert "does not exist" in client.problem("read_file", path="nope")
    assert "not a folder" in client.problem("read_file", path="blob/x")


def test_write_file(client, server):
    data = client.data("write_file", path="new/deep/file.txt", content="hällo\n")
    assert data == {"path": f"{server.work}/new/deep/file.txt", "bytes": 7, "created": True}
    path = server.work / "new/deep/file.txt"
    assert path.read_text() == "hällo\n"
    path.chmod(0o640)
    assert client.data("write_file", path=str(path), content="")["created"] is False
    assert path.read_bytes() == b"" and path.stat().st_mode & 0o777 == 0o640
    client.data("write_file", path="run.sh", content="#!/bin/sh\necho ran\n", executable=True)
    assert client.data("run_command", command="./run.sh")["output"] == "ran\n"
    client.data("write_file", path="bin", content=base64.b64encode(bytes(range(256))).decode(), encoding="base64")
    assert (server.work / "bin").read_bytes() == bytes(range(256))
    (server.work / "link").symlink_to("bin")
    client.data("write_file", path="link", content="through")
    assert (server.work / "link").is_symlink() and (server.work / "bin").read_text() == "through"
    assert "content" in client.problem("write_file", path="bin", content="?", encoding="base64")
    assert "folder" in client.problem("write_file", path="new", content="x")
    assert sorted(p.name for p in path.parent.iterdir()) == ["file.txt"]  # nothing is left beside it


def test_edit_file(client, server):
    path = server.work / "edit.txt"
    path.write_text("one\ntwo\nthree\ntwo\n")
    assert client.data("edit_file", path="edit.txt", old_text="three\ntwo", new_text="3\n2") == \
        {"path": str(path), "replacements": 1, "line": 3, "bytes": 12}
    assert path.read_text() == "one\ntwo\n3\n2\n"
    path.write_text("a b\na b\na\tb\n")
    before = path.read_bytes()
    assert "2 times (lines 1, 2)" in client.problem("edit_file", path="edit.txt", old_text="a b", new_text="x")
    assert "read_file" in client.problem("edit_file", path="edit.txt", old_text="nothing like it", new_text="x")
    assert "at line 1" in client.problem("edit_file", path="edit.txt", old_text="  a b\n\n", new_text="x")
    assert "the same" in client.problem("edit_file", path="edit.txt", old_text="a b", new_text="a b")
    assert "does not exist" in client.problem("edit_file", path="nope", old_text="a", new_text="b")
    assert path.read_bytes() == before
    assert client.data("edit_file", path="edit.txt", old_text="a b", new_text="", replace_all=True)["replacements"] == 2
    assert path.read_text() == "\n\na\tb\n"
    path.write_text("aaa")  # occurrences that overlap are more than one
    assert "times" in client.problem("edit_file", path="edit.txt", old_text="aa", new_text="b")


def test_list_directory(client, server):
    base = server.work / "tree"
    (base / "sub/deeper").mkdir(parents=True)
    (base / ".git").mkdir()
    (base / ".git/config").touch()
    (base / "b.txt").write_text("12345")
    (base / "sub/deeper/x").touch()
    (base / "a-link").symlink_to("b.txt")
    data = client.data("list_directory", path="tree")
    assert [(e["path"], e["type"]) for e in data["entries"]] == [
        (".git", "directory"), ("a-link", "link"), ("b.txt", "file"), ("sub", "directory")]
    assert data["entries"][1]["target"] == "b.txt" and data["entries"][2]["bytes"] == 5 and data["truncated"] is False
    deep = client.data("list_directory", path="tree", depth=3)["entries"]
    assert [e["path"] for e in deep] == [".git", "a-link", "b.txt", "sub", "sub/deeper", "sub/deeper/x"]
    assert client.text("list_directory", path="tree/sub") == "deeper/\n"
    for n in range(60):
        (base / f"sub/f{n:02}").touch()
    full = client.data("list_directory", path="tree/sub")
    assert len(full["entries"]) == 50 and full["truncated"] is True
    assert "read_file" in client.problem("list_directory", path="tree/b.txt")
    assert client.problem("list_directory", path="nope").endswith("No such file or directory")


@pytest.fixture(scope="module", params=["ripgrep", "builtin"])
def searching(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    env = {}
    if request.param == "builtin":  # a PATH that has no rg in it
        (folder / "bin").mkdir()
        env["PATH"] = str(folder / "bin")
    running = ToolServer(folder, **env)
    (running.work / "src/.git").mkdir(parents=True)
    (running.work / "src/a.py").write_text("import os\n\nprint('Hello')\n")
    (running.work / "src/b.txt").write_text("hello (world)\r\n" + "w" * 2000 + " hello\n")
    (running.work / "src/.hidden").write_text("hello hidden\n")
    (running.work / "src/.git/x").write_text("hello\n")
    (running.work / "src/blob").write_bytes(b"hello\0\n")
    client = running.client()
    yield request.param, client
    running.stop()


def test_search_files(searching):
    engine, client = searching

    def found(**arguments) -> list[tuple[str, int]]:
        data = client.data("search_files", path="src", **arguments)
        assert data["engine"] == engine
        return sorted((Path(m["path"]).name, m["line"]) for m in data["matches"])

    assert found(pattern="hello") == [(".hidden", 1), ("b.txt", 1), ("b.txt", 2)]
    assert found(pattern="hello", ignore_case=True) == [(".hidden", 1), ("a.py", 3), ("b.txt", 1), ("b.txt", 2)]
    assert found(pattern="^import|Hel+o") == [("a.py", 1), ("a.py", 3)]
    assert found(pattern="(world)", literal=True) == [("b.txt", 1)]
    assert found(pattern="HELLO (", literal=True, ignore_case=True) == [("b.txt", 1)]
    assert found(pattern="hello", glob="*.py") == [] and found(pattern="o", glob="*.py") == [("a.py", 1), ("a.py", 3)]
    texts = [m["text"] for m in client.data("search_files", path="src/b.txt", pattern="hello")["matches"]]
    assert texts[0] == "hello (world)" and len(texts[1]) == 500
    assert client.data("search_files", path="src", pattern="hello", max_results=1)["truncated"] is True
    assert client.text("search_files", path="src", pattern="nothing here") == "[no match]"
    assert client.problem("search_files", path="src", pattern="(")
    assert "No such file" in client.problem("search_files", path="nope", pattern="x")
