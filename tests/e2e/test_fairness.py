"""One user's burst is the user's own delay: not another's create, not another's command."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE

CREATE = f"{BASE}/create"
BODY = {"user_id": "f"}
CALL_S = 0.3


def unfinished(stack, user: str) -> int:
    return int(stack.sql("select count(*) from jobs j join users u on u.id::text = j.owner where u.username = "
                         f"'{user}' and state in ('queued', 'running', 'retry_wait')")[0][0])


@pytest.mark.release_only
def test_a_burst_of_creates_delays_another_user_by_one_provider_call(fault_stack, fault_provider):
    stack = fault_stack(gateways=2, env={"WORKER_MAX_IN_FLIGHT": "4"})
    alice, bob = stack.client("alice"), stack.client("bob", gateway=1)
    bob.create()
    fault_provider.config(delay_ms=int(CALL_S * 1000))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: alice.post(CREATE, BODY, Prefer="respond-async"), range(110)))
    assert {a.status_code for a in answers} == {202}
    took = []
    for _ in range(3):
        start = time.monotonic()
        bob.create()
        took.append(time.monotonic() - start)
    left = unfinished(stack, "alice")
    # its own call, at most one of another's before it, and the machine's own pace
    assert left > 20 and min(took) < 2 * CALL_S + 0.3 and max(took) < 2 * CALL_S + 1.5, (took, left)
    stack.quiet(60)
    stack.agrees()
    assert stack.sql("select count(*), count(*) filter (where state = 'done') from jobs where op = 'create'") == [("114", "114")]


@pytest.mark.release_only
def test_every_waiting_job_is_woken(fault_stack, fault_provider):
    """Many owners, two workers, one killed: turns lose nobody's wake-up."""
    stack = fault_stack(workers=2, env={"WORKER_MAX_IN_FLIGHT": "3"})
    fault_provider.config(delay_ms=50)
    clients = [stack.client(f"user{i}") for i in range(6)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda i: clients[i % 6 if i % 2 else 0].post(CREATE, BODY, Prefer="respond-async"), range(90)))
    stack.workers[0].kill9()
    stack.quiet(60)
    stack.agrees()
    assert stack.sql("select count(*) from jobs where state = 'done'") == [("90",)]


def slow_upload(client, box: str) -> socket.socket:
    """The head and the first part of an upload whose file never comes."""
    form = (f'--b\r\nContent-Disposition: form-data; name="sandbox_id"\r\n\r\n{box}\r\n'
            '--b\r\nContent-Disposition: form-data; name="file_path"\r\n\r\n/tmp/x\r\n'
            '--b\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\nfirst bytes')
    head = "".join(f"{k}: {v}\r\n" for k, v in client.headers().items())
    host, port = str(client.http.base_url).removeprefix("http://").rstrip("/").split(":")
    sock = socket.create_connection((host, int(port)), 10)
    sock.sendall((f"POST {BASE}/upload-file HTTP/1.1\r\nHost: t\r\n{head}Content-Type: multipart/form-data; boundary=b\r\n"
                  f"Content-Length: 1000000\r\n\r\n{form}").encode())
    return sock


def test_slow_uploads_of_one_user_leave_room_for_another(fault_stack):
    """More of them than there are threads: its part is held, the rest is refused, the other's call is served."""
    stack = fault_stack(env={"GATEWAY_THREADS": "40", "GATEWAY_REQUEST_TIMEOUT_MS": "20000"})
    alice, bob = stack.client("alice"), stack.client("bob")
    box, other = alice.create()["sandbox_id"], bob.create()["sandbox_id"]
    share = 40 * 90 // 100 * 50 // 100
    socks = [slow_upload(alice, box) for _ in range(share + 12)]
    refused = []
    for sock in socks:
        sock.settimeout(0.05)

    def collect() -> bool:
        for sock in [s for s in socks if s not in refused]:
            try:
                if sock.recv(4096).startswith(b"HTTP/1.1 429"):
                    refused.append(sock)
            except TimeoutError:
                pass
        return len(refused) == 12

    wait_until("those beyond the share are refused", collect, 15)
    start = time.monotonic()
    assert bob.pause(other)["status"] == "paused" and bob.connect(other)["status"] == "running"
    assert time.monotonic() - start < 5
    answer = alice.post(f"{BASE}/list-files", {"sandbox_id": box, "path": "/"})
    assert answer.status_code == 429 and answer.json()["error"]["limit"] == share and answer.headers["Retry-After"] == "1"
    # a lifecycle call is accepted all the same, and does not wait
    assert alice.post(f"{BASE}/{box}/pause").status_code == 202
    for sock in socks:
        sock.close()
    wait_until("served again", lambda: alice.status(box) == "paused" and
               alice.post(f"{BASE}/connect", {"sandbox_id": box}).status_code == 200, 15)
