"""More than there is room for: of jobs, calls, connections, memory; and clients that are slow on purpose."""

import json
import re
import shlex
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.harness.services import ROOT, build_dir, wait_until
from tests.harness.stack import BASE, PASSWORD, Client, Stack

pytestmark = pytest.mark.alone


def metric(url: str, name: str) -> int:
    text = httpx.get(url + "/metrics", trust_env=False, timeout=10).text
    return sum(int(m) for m in re.findall(rf"^{name}(?:\{{.*\}})? (\d+)$", text, re.M))


def at_once(count: int, call) -> list:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def assert_refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503, f"{answer.status_code} {answer.text}"
    assert answer.json()["error"]["type"] == "overloaded"
    assert int(answer.headers["Retry-After"]) >= 1


def dial(url: str, data: bytes = b"", receive_buffer: int = 0) -> socket.socket:
    host, port = url.removeprefix("http://").split(":")
    sock = socket.socket()
    if receive_buffer:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.settimeout(30)
    sock.connect((host, int(port)))
    sock.sendall(data)
    return sock


def connections(url: str) -> list[str]:
    """What the other side still holds, the ends of closed connections too."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # 0A: LISTEN, 06: TIME_WAIT
    return [row[2] for row in rows if row[1].endswith(port) and row[3] not in ("0A", "06")]


def read_all(sock: socket.socket) -> bytes:
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def raw(client: Client, path: str, body: bytes, length: int | None = None) -> bytes:
    """A POST as it goes over the wire; `length` is what it claims."""
    head = "".join(f"{k}: {v}\r\n" for k, v in client.headers().items())
    return (f"POST {path} HTTP/1.1\r\nHost: t\r\n{head}Content-Type: application/json\r\n"
            f"Content-Length: {len(body) if length is None else length}\r\n\r\n").encode() + body


@pytest.mark.release_only
def test_the_queue_is_bounded_before_anything_is_accepted(fault_stack):
    stack = fault_stack(env={"ADMISSION_QUEUE_DEPTH": "20", "ADMISSION_QUEUE_MAX": "40"})
    client = stack.client()
    running = [client.create()["sandbox_id"] for _ in range(2)]
    stack.workers[0].send(signal.SIGSTOP)  # nothing ends
    answers = at_once(8, lambda _: [client.post(f"{BASE}/create", {"user_id": "q"}, Prefer="respond-async")
                                    for _ in range(8)])
    answers = [a for some in answers for a in some]
    accepted = [a for a in answers if a.status_code == 202]
    for answer in answers:
        if answer.status_code != 202:
            assert_refused(answer)
    # eight clients may pass the check at the same moment; the two before may count a moment longer
    assert 18 <= len(accepted) <= 28, len(accepted)
    assert stack.sql("select count(*) from jobs where op = 'create'") == [(str(len(accepted) + 2),)]
    # what makes room again, and what is needed to use a sandbox, is not refused yet
    assert client.post(f"{BASE}/{running[0]}/pause", None, Prefer="respond-async").status_code == 202
    assert client.http.delete(f"{BASE}/{running[1]}", headers=client.headers(Prefer="respond-async")).status_code == 202
    stack.workers[0].send(signal.SIGCONT)
    stack.quiet()
    wait_until("creates are taken again", lambda: client.post(
        f"{BASE}/create", {"user_id": "q"}, Prefer="respond-async").status_code == 202, 10)


@pytest.mark.release_only
def test_a_worker_with_few_slots_keeps_them_busy(fault_stack, fault_provider):
    stack = fault_stack(env={"WORKER_MAX_IN_FLIGHT": "8"})
    client = stack.client()
    fault_provider.config(delay_ms=200)  # 40 creates/s is what 8 slots can do

    def rate(count: int = 48) -> float:
        stack.workers[0].send(signal.SIGSTOP)  # the clients' own pace does not matter
        try:
            answers = at_once(8, lambda _: [client.post(f"{BASE}/create", {"user_id": "q"}, Prefer="respond-async").status_code
                                            for _ in range(count // 8)])
        finally:
            stack.workers[0].send(signal.SIGCONT)
        assert answers == [[202] * (count // 8)] * 8
        stack.quiet()
        (seconds,), = stack.sql("select extract(epoch from max(finished_at) - min(started_at)) from (select started_at, finished_at "
                                f"from jobs where op = 'create' and state = 'done' order by created_at desc limit {count}) last")
        return count / float(seconds)

    # the machine may be busy with something else for a moment
    rates: list[float] = []
    while not rates or (max(rates) < 24 and len(rates) < 4):
        rates.append(rate())
    assert max(rates) >= 24, rates


@pytest.mark.release_only
def test_a_full_queue_takes_deletes_only(fault_stack):
    stack = fault_stack(env={"ADMISSION_QUEUE_DEPTH": "4", "ADMISSION_QUEUE_MAX": "8"})
    client = stack.client()
    ids = [client.create()["sandbox_id"] for _ in range(3)]
    client.pause(ids[0])
    # as many unfinished jobs as the queue may have, which nobody is going to finish
    stack.sql("insert into jobs (id, sandbox_id, seq, op, state, origin, max_attempts, run_at) select gen_random_uuid(), "
              f"'{ids[2]}', 100 + n, 'pause', 'retry_wait', 'client', 1, now() + interval '1 hour' from generate_series(1, 8) n")
    wait_until("seen", lambda: metric(stack.url, "sandbox_jobs") >= 8)
    for path, body in ((f"{BASE}/create", {"user_id": "q"}), (f"{BASE}/connect", {"sandbox_id": ids[0]}),
                       (f"{BASE}/{ids[1]}/pause", None), (f"{BASE}/run-cmd", {"sandbox_id": ids[0], "command": "true"}),
                       (f"{BASE}/schedule-timeout", {"sandbox_id": ids[1], "timeout_seconds": 60})):
        assert_refused(client.post(path, body))
    assert client.status(ids[0]) == "paused" and client.status(ids[1]) == "running"
    assert client.remove(ids[1])["status"] == "deleted"
    stack.sql("delete from jobs where seq > 100")


@pytest.mark.release_only
def test_an_old_backlog_refuses_creates(fault_stack):
    stack = fault_stack(env={"ADMISSION_QUEUE_AGE_MS": "1000"})
    client = stack.client()

    def create() -> httpx.Response:
        return client.post(f"{BASE}/create", {"user_id": "q"}, Prefer="respond-async")

    stack.workers[0].send(signal.SIGSTOP)
    try:
        begin, accepted = time.monotonic(), 0
        while (answer := create()).status_code == 202:
            accepted += 1
            assert time.monotonic() - begin < 30
            time.sleep(0.01)
        assert_refused(answer)
        # fewer would be a slow sandbox or two; younger ones no backlog
        assert accepted >= 64 and time.monotonic() - begin >= 1.0
    finally:
        stack.workers[0].send(signal.SIGCONT)
    wait_until("and taken again", lambda: create().status_code == 202, 20)


@pytest.mark.release_only
def test_waiting_calls_leave_threads_to_the_rest(fault_stack, slow):
    stack = fault_stack(env={"GATEWAY_THREADS": "40", "GATEWAY_WORK_PERCENT": "50", "GATEWAY_USER_SHARE_PERCENT": "100"})
    client = stack.client()
    ready = client.create()["sandbox_id"]
    stack.workers[0].send(signal.SIGSTOP)  # so that they wait
    result: list[httpx.Response] = []
    flood = threading.Thread(target=lambda: result.extend(at_once(
        36, lambda _: Client(stack.url, client.token).post(f"{BASE}/create", {"user_id": "w"}))))
    flood.start()
    wait_until("all places taken", lambda: metric(stack.url, "sandbox_gateway_waiting_requests") >= 20, 10)
    start = time.monotonic()
    assert client.status(ready) == "running"
    assert httpx.get(stack.url + "/healthz", trust_env=False).status_code == 200
    assert time.monotonic() - start < 3 * slow
    wait_until("the others were told no", lambda: len(
        re.findall('"error":"overloaded"', stack.gateways[0].log())) == 16, 15)
    stack.workers[0].send(signal.SIGCONT)
    flood.join()
    done = [a for a in result if a.status_code == 200]
    assert len(done) == 20, [a.status_code for a in result]
    for answer in result:
        if answer.status_code != 200:
            assert_refused(answer)
            assert answer.elapsed.total_seconds() < 5 * slow
    # nothing was accepted for those who were told no
    assert stack.sql("select count(*) from sandboxes") == [("21",)]


def assert_a_trickled_body_ends_at_its_time(client: Client, limit: float) -> None:
    sock = dial(str(client.http.base_url), raw(client, f"{BASE}/create", b'{"user_id":', 500))
    start = time.monotonic()
    answer = b""
    sock.settimeout(0.1)
    while time.monotonic() - start < 5 * limit and not answer:
        try:
            sock.send(b" ")
            answer = sock.recv(65536)
        except TimeoutError:
            continue
    assert answer.startswith(b"HTTP/1.1 408 ") and b'"request_timeout"' in answer
    assert limit - 0.2 < time.monotonic() - start < limit * 2.5


def test_slow_senders_cost_no_thread(fault_stack, slow):
    """Slowloris: more connections than there are threads, each a byte at a time."""
    stack = fault_stack(env={"GATEWAY_THREADS": "8", "GATEWAY_CONNECTION_QUEUE": "4",
                             "GATEWAY_REQUEST_TIMEOUT_MS": str(int(2000 * slow))})
    wait_until("no connection is left", lambda: not connections(stack.url))  # each has its place until it is closed
    begin = time.monotonic()
    slow_ones = [dial(stack.url, b"GET /healthz HTTP/1.1\r\nHost: t\r\n") for _ in range(24)]
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.1):
            for sock in slow_ones:
                try:
                    sock.send(b"a")
                except OSError:
                    pass

    sender = threading.Thread(target=trickle)
    sender.start()
    try:
        for _ in range(8):
            start = time.monotonic()
            answer = read_all(dial(stack.url, b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"))
            assert answer.startswith(b"HTTP/1.1 200 ") and time.monotonic() - start < 1.5 * slow
        for sock in slow_ones:
            answer = read_all(sock)
            assert not answer or answer.startswith(b"HTTP/1.1 408 "), answer
        assert 1.5 * slow < time.monotonic() - begin < 6 * slow
    finally:
        stop.set()
        sender.join()
        for sock in slow_ones:
            sock.close()
    assert metric(stack.url, "httpd_connections_refused_total") == 0
    wait_until("their connections are closed", lambda: metric(stack.url, "httpd_connections") <= 1, 10)
    assert_a_trickled_body_ends_at_its_time(stack.client(), 2 * slow)


def test_a_reader_that_stalls_ends_at_its_time(tmp_path, redis, postgres, host, slow):
    # long enough for the four to be under way at the same time
    with Stack(tmp_path / "s", redis, postgres, host, env={"GATEWAY_REQUEST_TIMEOUT_MS": str(int(1500 * slow))}) as own:
        client = own.client()
        box = client.create()["sandbox_id"]
        client.run(box, "head -c 12000000 /dev/zero | tr '\\0' x > /home/user/big")
        body = json.dumps({"sandbox_id": box, "file_path": "/home/user/big"}).encode()
        stalled = [dial(own.url, raw(client, f"{BASE}/read-file", body), 4096) for _ in range(4)]
        wait_until("they are being served", lambda: metric(own.url, "sandbox_gateway_buffer_bytes") > 12_000_000 * 4, 20)
        start = time.monotonic()
        wait_until("given up", lambda: metric(own.url, "sandbox_gateway_buffer_bytes") == 0 and
                   metric(own.url, "sandbox_gateway_working_requests") == 0, 30)
        assert time.monotonic() - start < 10 * slow
        for sock in stalled:
            sock.close()
        client.remove(box)


def test_large_bodies_share_one_budget(fault_stack):
    """The second large body is refused while the first is still being sent, and taken afterwards. What a client
    says that it will send costs nothing: what has come does."""
    stack = fault_stack(env={"GATEWAY_MAX_FILE_BYTES": "1048576", "GATEWAY_BUFFER_BYTES": "24000000",
                             "GATEWAY_USER_SHARE_PERCENT": "100"})
    client = stack.client()
    box = client.create()["sandbox_id"]
    text = json.dumps({"sandbox_id": box, "file_path": "/f", "content": "x" * 1_000_000}).encode()
    declared = [dial(stack.url, raw(client, f"{BASE}/write-file", b"", len(text))) for _ in range(4)]
    wait_until("they are being read", lambda: metric(stack.url, "sandbox_gateway_working_requests") == 4, 10)
    assert metric(stack.url, "sandbox_gateway_buffer_bytes") == 0
    for sock in declared:
        sock.close()
    wait_until("they are gone", lambda: metric(stack.url, "sandbox_gateway_working_requests") == 0, 10)
    first = dial(stack.url, raw(client, f"{BASE}/write-file", text[:-1000], len(text)))
    wait_until("it is being read", lambda: metric(stack.url, "sandbox_gateway_buffer_bytes") > 10_000_000, 10)
    second = raw(stack.client("other"), f"{BASE}/write-file", text)  # of the same user it would be 429
    answer = read_all(dial(stack.url, second))
    assert answer.startswith(b"HTTP/1.1 503 ") and b'"overloaded"' in answer and b"Retry-After" in answer
    # what is small is served
    assert client.status(box) == "running"
    assert client.post(f"{BASE}/read-file", {"sandbox_id": box, "file_path": ""}).status_code == 400
    first.sendall(text[-1000:])
    assert not first.recv(65536).startswith(b"HTTP/1.1 503 ")
    wait_until("given back", lambda: metric(stack.url, "sandbox_gateway_buffer_bytes") == 0, 10)
    assert client.post(f"{BASE}/write-file", text).status_code != 503


def test_a_listing_that_runs_out_of_memory_is_refused_whole(tmp_path, redis, postgres, host):
    """There is room for the provider's answer and for some of the entries; a part of a folder would look like all of it."""
    with Stack(tmp_path / "s", redis, postgres, host, env={
            "GATEWAY_MAX_FILE_BYTES": "1048576", "GATEWAY_BUFFER_BYTES": "24000000",
            "GATEWAY_USER_SHARE_PERCENT": "100"}) as own:
        client = own.client()
        box = client.create()["sandbox_id"]
        client.run(box, "mkdir /tmp/d && cd /tmp/d && tail=$(printf %0200d 0) && for n in $(seq 1000 1999); do : > $n$tail; done")
        listing = {"sandbox_id": box, "path": "/tmp/d"}
        assert len(client.ok(client.post(f"{BASE}/list-files", listing))["entries"]) == 1000
        held = raw(own.client("other"), f"{BASE}/write-file", b'{"sandbox_id":"' + b"x" * 49_900, 50_000)
        other = dial(own.url, held)
        wait_until("it is being read", lambda: metric(own.url, "sandbox_gateway_buffer_bytes") > 1_000_000, 10)
        assert_refused(client.post(f"{BASE}/list-files", listing))
        # what fits is still answered
        assert client.ok(client.post(f"{BASE}/list-files", listing | {"path": "/home/user"}))["truncated"] is False
        other.close()
        wait_until("given back", lambda: metric(own.url, "sandbox_gateway_buffer_bytes") == 0, 10)
        assert len(client.ok(client.post(f"{BASE}/list-files", listing))["entries"]) == 1000
        client.remove(box)


@pytest.mark.release_only
def test_logins_are_bounded(fault_stack):
    """Hashing a password takes memory and a core: few at once, the rest hear 429, reads go on."""
    stack = fault_stack(env={"LOGIN_PARALLEL": "1", "LOGIN_ADDRESS_MAX": "1000", "LOGIN_USER_MAX": "10"})
    client = stack.client()
    answers = at_once(30, lambda _: httpx.post(stack.url + "/api/v1/auth/login/swagger", trust_env=False, timeout=60,
                                               params={"username": "alice", "password": "wrong"}))
    codes = [a.status_code for a in answers]
    assert set(codes) <= {401, 429} and codes.count(401) <= 10 and codes.count(429) >= 20
    assert all(int(a.headers["Retry-After"]) >= 1 for a in answers if a.status_code == 429)
    assert PASSWORD not in stack.gateways[0].log() and "wrong" not in stack.gateways[0].log()
    assert client.get(f"{BASE}/").status_code == 200


def runbook_command(beginning: str) -> str:
    """The one that begins so in deploy/operations/queue.md."""
    text = (ROOT / "deploy/operations/queue.md").read_text().replace("|\n", "|")
    (command,) = re.findall(rf"^\$ ({re.escape(beginning)}.*)$", text, re.M)
    return command


def runbook(stack: Stack, name: str, **values: str) -> str:
    """What the operator's handbook says to type for Redis, as it stands there."""
    told = shlex.split(runbook_command(f"docker compose exec -T redis redis-cli {name}"), comments=True)
    return stack.redis.cli(*(values.get(word, word) for word in told[6:]))


def redrive_all(stack: Stack) -> str:
    told = runbook_command("docker compose exec -T gateway sandbox-gateway jobs list dead |")
    here = told.replace("docker compose exec -T gateway sandbox-gateway", str(build_dir() / "sandbox-gateway"))
    return subprocess.run(["sh", "-c", here], env=stack.env, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.release_only
def test_a_poison_job_ends_in_the_dead_letters_and_can_be_redriven(fault_stack, fault_provider):
    stack = fault_stack(env={"WORKER_MAX_CRASHES": "2"})
    worker = stack.workers[0]
    client = stack.client()
    box = client.create()["sandbox_id"]
    fault_provider.faults({"route": "pause", "mode": "hang", "times": -1})
    assert client.post(f"{BASE}/{box}/pause", None, Prefer="respond-async").status_code == 202
    job = stack.sql("select id from jobs where op = 'pause'")[0][0]
    for crashes in range(2):
        wait_until("the job runs", lambda: stack.sql(
            f"select state, crashes from jobs where id = '{job}'") == [("running", str(crashes))], 20)
        worker.kill9()
        worker = stack.start_worker()
    wait_until("dead", lambda: stack.sql(f"select state from jobs where id = '{job}'") == [("dead",)], 20)
    # the operator's view of it, and the same from redis-cli
    assert job in stack.run("jobs", "list", "dead") and job not in stack.run("jobs", "list", "done")
    shown = stack.run("jobs", "show", job)
    assert "dead" in shown and "crashes 2" in shown and box in shown
    letters = wait_until("the dead letter", lambda: runbook(stack, "XREVRANGE"), 5)
    assert job in letters and box in letters
    # the list is made anew when Redis has lost it, and a letter that was dealt with stays away
    stack.redis.cli("FLUSHALL")
    letters = wait_until("the letter again", lambda: stack.redis.cli("XRANGE", f"{stack.keys}jobs:dead", "-", "+"), 15)
    assert letters.count(job) == 1
    assert runbook(stack, "XDEL", ENTRY_ID=letters.split()[0]) == "1"
    assert stack.redis.cli("EXISTS", f"{stack.keys}jobs:dead") == "1" and stack.redis.cli("XLEN", f"{stack.keys}jobs:dead") == "0"
    # said in the database after the letter is there
    wait_until("it is said to be there", lambda: stack.sql(f"select enqueued_at is null from jobs where id = '{job}'") == [("f",)])
    # an entry wakes the living only
    assert runbook(stack, "XADD", JOB_ID=job, SANDBOX_ID=box)
    wait_until("it is taken", lambda: stack.redis.cli("XLEN", f"{stack.keys}jobs:pause") == "0", 10)
    assert stack.sql(f"select state from jobs where id = '{job}'") == [("dead",)]
    assert client.status(box) == "running"  # nothing pretends that it was paused
    # the cause is mended; the job is given another try, as a new one
    fault_provider.faults()
    fault_provider.http.post("/_faults", json=[]).raise_for_status()
    again = redrive_all(stack).strip()
    wait_until("done", lambda: stack.sql(f"select state from jobs where id = '{again}'") == [("done",)], 20)
    assert client.status(box) == "paused"
    assert stack.sql(f"select parent_id from jobs where id = '{again}'") == [(job,)]
    # once is enough
    with pytest.raises(AssertionError, match="unfinished|cannot|redrive|conflict|found"):
        stack.run("jobs", "redrive", again)


@pytest.mark.release_only
def test_a_job_whose_wakeup_was_lost_is_woken_by_the_operator(fault_stack):
    """The reaper would do it in ten minutes."""
    stack = fault_stack(env={"REAPER_OUTBOX_BASE_MS": "600000"})
    client = stack.client()
    box = client.create()["sandbox_id"]
    assert stack.workers.pop().stop(10) == 0
    answer = client.post(f"{BASE}/{box}/pause", None, Prefer="respond-async")
    assert answer.status_code == 202, answer.text
    wait_until("its entry", lambda: stack.redis.cli("XLEN", f"{stack.keys}jobs:pause") == "1", 10)
    assert stack.redis.cli("XTRIM", f"{stack.keys}jobs:pause", "MAXLEN", "0") == "1"
    stack.start_worker()
    ((job, state),) = stack.sql("select id, state from jobs where op = 'pause'")
    assert state == "queued"
    runbook(stack, "XADD", JOB_ID=job, SANDBOX_ID=box)
    wait_until("paused", lambda: client.status(box) == "paused", 15)


def test_a_body_sent_behind_its_head_is_not_waited_for(fault_stack):
    """By a client without TCP_NODELAY: the head is acknowledged at once, or the body comes 40 ms later."""
    stack = fault_stack()
    client = stack.client()
    whole = raw(client, f"{BASE}/create", b"{}")
    sock = dial(stack.url)
    took = []
    for _ in range(20):
        start = time.monotonic()
        sock.sendall(whole[:-2])
        time.sleep(0.001)
        sock.sendall(b"{}")
        assert sock.recv(65536).startswith(b"HTTP/1.1 400")
        took.append(time.monotonic() - start)
    assert sorted(took)[10] < 0.02, took
    sock.close()
