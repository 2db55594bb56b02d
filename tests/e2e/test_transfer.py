"""Files of any size, and output as it comes, through a gateway that keeps little of either."""

import base64
import hashlib
import json
import socket
import threading
import time

import httpx
import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, Client

UPLOAD, DOWNLOAD = f"{BASE}/upload-file", f"{BASE}/download-file"
SIZE = 48 << 20


@pytest.fixture(scope="module")
def alice(stack):
    return stack.client("alice")


@pytest.fixture(scope="module")
def box(alice):
    sandbox = alice.create()["sandbox_id"]
    yield sandbox
    alice.remove(sandbox)


def form(*parts: tuple[str, bytes], boundary: str = "b0undary") -> tuple[bytes, str]:
    body = b"".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'.encode() +
                    (b'; filename="f"\r\n\r\n' if name == "file" else b"\r\n\r\n") + data + b"\r\n" for name, data in parts)
    return body + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def upload(client: Client, box: str, path: str, content, **headers) -> httpx.Response:
    return client.http.post(UPLOAD, headers=client.headers(**headers), data={"sandbox_id": box, "file_path": path},
                            files={"file": ("f", content)})


class Events:
    """The events of a streamed command, as they come; `begun` is called after the first."""

    def __init__(self, client: Client, box: str, command: str, begun=lambda: None, **fields):
        self.items: list[tuple[str, dict, float]] = []
        body = {"sandbox_id": box, "command": command} | fields
        with client.http.stream("POST", f"{BASE}/run-cmd", json=body,
                                headers=client.headers(Accept="text/event-stream")) as answer:
            self.status, self.headers = answer.status_code, answer.headers
            name = None
            for line in answer.iter_lines():
                line = line.rstrip("\n")
                if line.startswith("event: "):
                    name = line[7:]
                elif line.startswith("data: "):
                    self.items.append((name, json.loads(line[6:]), time.monotonic()))
                    if len(self.items) == 1:
                        begun()

    def output(self, stream: str) -> bytes:
        return b"".join(d["text"].encode() if "text" in d else base64.b64decode(d["base64"])
                        for name, d, _ in self.items if name == stream)

    @property
    def end(self) -> dict:
        assert [n for n, _, _ in self.items if n in ("exit", "error")] == ["exit"] and self.items[-1][0] == "exit", self.items[-3:]
        return self.items[-1][1]


def test_a_large_file_there_and_back_in_constant_memory(stack, alice, box):
    block = bytes(range(256)) * 4096
    content = block * (SIZE // len(block))
    before = stack.gateways[0].rss_bytes()
    peak = 0
    stop = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not stop.wait(0.02):
            peak = max(peak, stack.gateways[0].rss_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answer = upload(alice, box, "/home/user/deep/er/big.bin", content)
        assert alice.ok(answer)["bytes"] == SIZE
        digest, got = hashlib.sha256(), 0
        with alice.http.stream("POST", DOWNLOAD, json={"sandbox_id": box, "file_path": "/home/user/deep/er/big.bin"},
                               headers=alice.headers()) as answer:
            assert answer.status_code == 200 and answer.headers["Content-Type"] == "application/octet-stream"
            assert int(answer.headers["Content-Length"]) == SIZE and "X-Request-ID" in answer.headers
            for piece in answer.iter_bytes():
                digest.update(piece)
                got += len(piece)
    finally:
        stop.set()
        watcher.join()
    assert got == SIZE and digest.digest() == hashlib.sha256(content).digest()
    assert alice.run(box, "sha256sum < /home/user/deep/er/big.bin")["output"].split()[0] == digest.hexdigest()
    if "san-" not in str(stack.gateways[0].argv[0]):
        assert peak - before < 12 << 20, f"{(peak - before) >> 20} MiB more at the peak"


def test_small_files_of_every_kind(alice, box):
    for content in (b"", b"x", b"\r\n", b"--b0undar", b"\r\n--b0undar", b"\r\n--b0undarx\r\n", bytes(range(256)) * 7, "zażółć".encode(), b"\r\n--" * 5000):
        body, kind = form(("sandbox_id", box.encode()), ("file_path", b"/home/user/s.bin"), ("file", content))
        answer = alice.http.post(UPLOAD, content=body, headers=alice.headers(**{"Content-Type": kind}))
        assert alice.ok(answer)["bytes"] == len(content)
        back = alice.post(DOWNLOAD, {"sandbox_id": box, "file_path": "/home/user/s.bin"})
        assert back.status_code == 200 and back.content == content
    # chunked, in odd pieces
    body, kind = form(("sandbox_id", box.upper().encode()), ("file_path", b"/home/user/s.bin"), ("other", b"ignored"), ("file", b"abc" * 1000))
    answer = alice.http.post(UPLOAD, content=(body[i:i + 7] for i in range(0, len(body), 7)), headers=alice.headers(**{"Content-Type": kind}))
    assert alice.ok(answer)["bytes"] == 3000
    assert alice.run(box, "stat -c %U:%s /home/user/s.bin")["output"] == "user:3000\n"


def test_a_download_of_what_tells_no_size(alice, box):
    answer = alice.post(DOWNLOAD, {"sandbox_id": box, "file_path": "/proc/self/status"})
    assert answer.status_code == 200 and int(answer.headers["Content-Length"]) == len(answer.content) and b"Name:" in answer.content


def test_what_is_wrong_is_said(alice, box):
    good = [("sandbox_id", box.encode()), ("file_path", b"/home/user/no"), ("file", b"data")]
    for parts, problem in (
            (good[:2], "file is required"), (good[1:], "sandbox_id is required"), ([good[0], good[2]], "file_path is required"),
            ([good[2], good[0], good[1]], "sandbox_id is required"), (good + [("more", b"x")], "file must be the last"),
            ([good[0], good[0], good[1], good[2]], "sandbox_id is given twice"), ([("sandbox_id", b"x"), *good[1:]], "sandbox_id must be a UUID"),
            ([("sandbox_id", b"x" * 100), *good[1:]], "sandbox_id is longer"), ([good[0], ("file_path", b""), good[2]], "file_path is empty"),
            ([good[0], ("file_path", b"/a\x00b"), good[2]], "file_path is empty or not UTF-8"), ([good[0], ("file_path", b"\xff"), good[2]], "UTF-8"),
            ([good[0], ("file_path", b"/" + b"p" * 5000), good[2]], "file_path is longer"), ([], "")):
        body, kind = form(*parts)
        answer = alice.http.post(UPLOAD, content=body, headers=alice.headers(**{"Content-Type": kind}))
        assert answer.status_code == 400 and problem in answer.json()["msg"], f"{problem}: {answer.text}"
    body, kind = form(*good)
    cut = alice.http.post(UPLOAD, content=body[:-8], headers=alice.headers(**{"Content-Type": kind}))
    assert cut.status_code == 400, cut.text
    for kind in ("application/json", "multipart/form-data", "text/plain", "multipart/form-data; boundary="):
        answer = alice.http.post(UPLOAD, content=body, headers=alice.headers(**{"Content-Type": kind}))
        assert answer.status_code == (400 if kind.startswith("multipart") else 415), f"{kind}: {answer.text}"
    # nothing of all that was written
    assert alice.post(DOWNLOAD, {"sandbox_id": box, "file_path": "/home/user/no"}).json()["error"]["type"] == "file_not_found"
    assert alice.post(DOWNLOAD, {"sandbox_id": box, "file_path": "/home/user"}).json()["error"]["type"] == "is_a_directory"
    assert upload(alice, box, "/home/user", b"x").json()["error"]["type"] == "is_a_directory"
    assert upload(alice, "00000000-0000-4000-8000-000000000000", "/x", b"x").status_code == 404


def test_another_owner_has_no_part_in_it(stack, box, alice):
    mallory = stack.client("mallory")
    assert upload(mallory, box, "/home/user/mallory", b"x").json()["error"]["type"] == "sandbox_not_found"
    assert mallory.post(DOWNLOAD, {"sandbox_id": box, "file_path": "/etc/hostname"}).status_code == 404
    events = Events(mallory, box, "true")
    assert events.status == 404 and events.items == []
    assert alice.run(box, "ls /home/user/mallory")["exit_code"] != 0


def test_a_client_that_breaks_off_its_upload_leaves_no_call_behind(stack, alice, box):
    body, kind = form(("sandbox_id", box.encode()), ("file_path", b"/home/user/half"), ("file", b"z" * 3_000_000))
    host, port = stack.url.removeprefix("http://").split(":")
    head = "".join(f"{k}: {v}\r\n" for k, v in alice.headers(**{"Content-Type": kind}).items())
    with socket.create_connection((host, int(port))) as sock:
        sock.sendall(f"POST {UPLOAD} HTTP/1.1\r\nHost: t\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:2_000_000])
    wait_until("its thread is free", lambda: "sandbox_gateway_working_requests 0" in httpx.get(
        stack.url + "/metrics", trust_env=False).text, 15)


def test_a_paused_sandbox_is_resumed_for_it(alice):
    sandbox = alice.create()["sandbox_id"]
    assert upload(alice, sandbox, "/home/user/kept", b"kept").status_code == 200
    alice.pause(sandbox)
    assert alice.post(DOWNLOAD, {"sandbox_id": sandbox, "file_path": "/home/user/kept"}).content == b"kept"
    alice.pause(sandbox)
    assert Events(alice, sandbox, "cat kept").output("stdout") == b"kept"
    alice.remove(sandbox)


def test_output_comes_while_the_command_runs(alice, box):
    start = time.monotonic()
    events = Events(alice, box, "echo one; sleep 2; echo two >&2; exit 3")
    assert events.status == 200 and events.headers["Content-Type"].startswith("text/event-stream")
    assert events.output("stdout") == b"one\n" and events.output("stderr") == b"two\n"
    one, two = (t for name, _, t in events.items if name in ("stdout", "stderr"))
    assert two - one > 1.0 and events.end == events.end | {"success": False, "exit_code": 3, "timed_out": False}
    assert events.end["duration_ms"] >= 2000 and time.monotonic() - start < 20


def test_streamed_bytes_are_kept_as_they_are(alice, box):
    events = Events(alice, box, "printf 'a\\000b\\377'; printf 'zażółć'; head -c 300000 /dev/zero")
    data = events.output("stdout")
    assert data == b"a\0b\xff" + "zażółć".encode() + bytes(300000) and events.end["success"] is True
    assert Events(alice, box, "true").items[-1][1]["exit_code"] == 0
    # more than a whole answer may have
    events = Events(alice, box, "head -c 3000000 /dev/zero | tr '\\0' x")
    assert len(events.output("stdout")) == 3_000_000 and events.end["exit_code"] == 0


def test_a_streamed_command_that_takes_too_long_ends_with_one_exit(alice, box):
    events = Events(alice, box, "echo begun; sleep 60", timeout_seconds=1)
    assert events.output("stdout") == b"begun\n"
    assert events.end["timed_out"] is True and events.end["exit_code"] is None and events.end["success"] is False


def test_a_streamed_command_outlives_its_reader_but_not_its_time(alice, box):
    """As a plain one does."""
    with alice.http.stream("POST", f"{BASE}/run-cmd", headers=alice.headers(Accept="text/event-stream"),
                           json={"sandbox_id": box, "command": "exec -a lonely yes", "timeout_seconds": 4}) as answer:
        next(answer.iter_bytes())
    assert alice.run(box, "sleep 1; pgrep -f '^lonel[y]'")["exit_code"] == 0
    wait_until("the command is dead", lambda: alice.run(box, "pgrep -f '^lonel[y]'")["exit_code"] == 1, 20, 0.3)


def test_errors_before_the_stream_are_plain_answers(alice, box):
    for body, status in (({"sandbox_id": box}, 400), ({"sandbox_id": box, "command": "pwd", "cwd": "/nowhere"}, 400),
                         ({"sandbox_id": "00000000-0000-4000-8000-000000000000", "command": "x"}, 404)):
        answer = alice.post(f"{BASE}/run-cmd", body, Accept="text/event-stream")
        assert answer.status_code == status and answer.json()["code"] == status, answer.text


def test_a_stream_that_breaks_is_no_exit(alice):
    """The sandbox is deleted under the command: an error, and never an exit."""
    sandbox = alice.create()["sandbox_id"]
    killer = threading.Thread(target=lambda: Client(str(alice.http.base_url), alice.token).remove(sandbox))
    events = Events(alice, sandbox, "echo begun; sleep 30", begun=killer.start)
    killer.join()
    assert events.status == 200 and events.output("stdout") == b"begun\n"
    assert [name for name, _, _ in events.items] == ["stdout", "error"], events.items
    assert events.items[-1][1]["type"].startswith("provider"), events.items
