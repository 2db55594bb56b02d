"""Nothing is spent on a stranger: connections without a whole request, bodies that are only announced, and who
the client is behind a proxy."""

import json
import resource
import socket
import statistics
import subprocess
import sys
import time

import httpx
import pytest

from tests.harness.services import ROOT, wait_until
from tests.harness.stack import BASE, LOCAL, PASSWORD, Stack

from tests.e2e.test_overload import dial, metric, raw, read_all

SILENT, SLOW_HEADS, SLOW_BODIES = 5000, 5000, 1000


def p99(call, count: int) -> float:
    taken = []
    for _ in range(count):
        start = time.monotonic()
        call()
        taken.append(time.monotonic() - start)
    return sorted(taken)[int(count * 0.99)]


@pytest.fixture(scope="module")
def open_stack(tmp_path_factory, redis, postgres, host):
    with Stack(tmp_path_factory.mktemp("door"), redis, postgres, host, env={"TRUSTED_PROXIES": "127.0.0.9"}) as stack:
        yield stack


@pytest.mark.release_only
@pytest.mark.alone
def test_eleven_thousand_useless_connections_are_not_noticed(open_stack, slow):
    """From the very address of the client that is served meanwhile."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < 12_500:
        pytest.skip(f"this machine gives {hard} descriptors to a process")
    client = open_stack.client("reader")
    gateway = open_stack.gateways[0]
    box = client.create()["sandbox_id"]
    new = httpx.Client(base_url=open_stack.url, **LOCAL, headers={"Connection": "close"})
    calls = {"status": (lambda: client.status(box), 150), "run-cmd": (lambda: client.run(box, "true"), 15),
             "healthz over new connections": (lambda: new.get("/healthz").raise_for_status(), 50)}
    for call, _ in calls.values():
        call()
    rounds = 3
    idle = {what: statistics.median(p99(*of) for _ in range(rounds)) for what, of in calls.items()}
    rss = gateway.rss_bytes()
    attack = subprocess.Popen([sys.executable, str(ROOT / "tests/harness/attack.py"),
                               open_stack.url.rpartition(":")[2], *map(str, (SILENT, SLOW_HEADS, SLOW_BODIES))],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        attack.stdin.write(client.token + "\n")
        attack.stdin.flush()
        assert attack.stdout.readline() == "open\n"
        busy = {what: statistics.median(p99(*of) for _ in range(rounds)) for what, of in calls.items()}
        grown = gateway.rss_bytes() - rss
        shed = metric(open_stack.url, "httpd_connections_shed_total")
        attack.stdin.close()
        made = int(attack.stdout.readline())
    finally:
        attack.kill()
        attack.wait()
    print({what: f"{idle[what] * 1000:.1f} -> {busy[what] * 1000:.1f} ms" for what in calls}, f"{grown >> 20} MB")
    # 25 ms: the attacker's own work on the same two cores
    for what in calls:
        assert busy[what] < 2 * idle[what] + 0.025 * slow, f"{what}: p99 {busy[what]:.4f} s, idle {idle[what]:.4f} s"
    assert grown < 64 << 20, f"{grown >> 20} MB more"
    assert made >= SILENT + SLOW_HEADS + SLOW_BODIES and shed > 5000
    wait_until("they are gone", lambda: metric(open_stack.url, "httpd_connections") <= 4, 15)
    client.remove(box)


def test_announced_bodies_cost_nobody_anything(open_stack):
    """36 of these made every call of everyone 503: memory was taken for a length that was only said."""
    client = open_stack.client("reader")
    head = b"POST /api/v1/auth/login HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
    held = [dial(open_stack.url, head % 4096) for _ in range(36)]
    big = [dial(open_stack.url, head % 1048576) for _ in range(36)]
    for sock in big:
        assert read_all(sock).startswith(b"HTTP/1.1 413 ")
    # the gauge is of the last second, which another test may have filled
    wait_until("nothing is charged", lambda: metric(open_stack.url, "sandbox_gateway_buffer_bytes") == 0, 10)
    box = client.create()["sandbox_id"]
    client.run(box, "true")
    assert client.post("/api/v1/auth/login", {"username": "reader", "password": PASSWORD}).status_code == 200
    client.remove(box)
    for sock in held:
        sock.close()


def test_one_users_slow_bodies_leave_the_threads_to_the_others(open_stack):
    """From many addresses: 470 of these made another user's run-cmd 503."""
    greedy, other = open_stack.client("greedy"), open_stack.client("reader")
    box = other.create()["sandbox_id"]
    host, port = open_stack.url.removeprefix("http://").split(":")
    begun = raw(greedy, f"{BASE}/write-file", b'{"content":"', 100_000)
    held = []
    for n in range(120):
        sock = socket.create_connection((host, int(port)), timeout=30, source_address=(f"127.0.1.{n % 20 + 1}", 0))
        sock.sendall(begun)
        held.append(sock)
    share = 512 * 12 // 100
    wait_until("they are waited for", lambda: metric(open_stack.url, "sandbox_gateway_working_requests") == share, 10)
    other.run(box, "true")
    refused = read_all(held[-1])
    assert refused.startswith(b"HTTP/1.1 503 ") and b"Retry-After: " in refused and b'"overloaded"' in refused
    for sock in held:
        sock.close()
    wait_until("their places are free", lambda: metric(open_stack.url, "sandbox_gateway_working_requests") == 0, 10)
    other.remove(box)


def test_the_client_behind_a_trusted_proxy_is_who_is_limited(tmp_path, redis, postgres, fault_stack):
    """The wrong passwords of one do not slow another, and nobody gets rid of his by a header of his own."""
    stack = fault_stack(env={"TRUSTED_PROXIES": "127.0.0.1"})
    gateway = stack.gateways[0]

    def seen(forwarded: dict[str, str]) -> str:
        mark = len(gateway.events())
        answer = httpx.post(stack.url + "/api/v1/auth/login", json={"username": "nobody", "password": "x"}, headers=forwarded, **LOCAL)
        assert answer.status_code == 401
        lines: list[dict] = []  # written after the answer
        wait_until("its line", lambda: bool(lines.extend(e for e in gateway.events(mark) if e["event"] == "http.request") or lines))
        return lines[0]["peer"]

    assert seen({}) == "127.0.0.1"
    assert seen({"X-Forwarded-For": "198.51.100.7"}) == "198.51.100.7"
    assert seen({"X-Forwarded-For": "203.0.113.1, 198.51.100.7"}) == "198.51.100.7"
    assert seen({"Forwarded": "for=203.0.113.1, for=198.51.100.7"}) == "198.51.100.7"


def test_http_as_clients_and_proxies_write_it(open_stack):
    def ask(raw: bytes) -> bytes:
        return read_all(dial(open_stack.url, raw))

    last = b"Connection: close\r\n\r\n"
    for target in (b"/healthz", b"http://elsewhere.example/healthz"):
        assert ask(b"GET " + target + b" HTTP/1.1\r\nHost: t\r\n" + last).startswith(b"HTTP/1.1 200 ")
    answer = ask(b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: t\r\n" + last)
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.count(b"HTTP/1.1 ") == 1
    body = json.dumps({"username": "nobody", "password": "x"}).encode()
    answer = ask(b"POST /api/v1/auth/login HTTP/1.1\r\nHost: t\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
                 b"%x;name=\"value\"\r\n%s\r\n0;last\r\n\r\n" % (len(body), body))
    assert answer.startswith(b"HTTP/1.1 401 ") and b"invalid_credentials" in answer
    assert ask(b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n").startswith(b"HTTP/1.1 431 ")
    answer = ask(b"TRACE /healthz HTTP/1.1\r\nHost: t\r\n" + last)
    assert answer.startswith(b"HTTP/1.1 405 ") and b"\r\nAllow: GET, HEAD\r\n" in answer
    page = httpx.get(open_stack.url + "/", **LOCAL)
    assert page.status_code == 200 and "Sandbox Server" in page.text and 'href="/docs"' in page.text
    assert page.headers["Content-Type"].startswith("text/html")


def test_the_message_of_a_status_is_a_sentence(open_stack):
    client = open_stack.client("reader")
    box = client.create()["sandbox_id"]

    def message() -> str:
        return client.ok(client.get(f"{BASE}/{box}/status"))["message"]

    assert message() == "The sandbox is running"
    client.pause(box)
    assert message() == "The sandbox is paused"
    client.remove(box)
