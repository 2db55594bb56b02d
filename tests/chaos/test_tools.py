"""The tools break what they say they break: each fault of the provider, each mode of the proxies."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

import httpx
import pytest

from tests.harness.services import ROOT, Process, free_port, wait_until
from tests.harness.stack import FaultProvider

KEY = {"X-API-Key": "e2b_00"}


@pytest.fixture(scope="module")
def provider(tmp_path_factory):
    service = FaultProvider(tmp_path_factory.mktemp("provider"))
    yield service
    service.stop()


@pytest.fixture
def api(provider):
    provider.faults()
    with httpx.Client(base_url=provider.url, headers=KEY, trust_env=False, timeout=2) as client:
        yield client
    provider.faults()
    for pid in provider.state()["sandboxes"]:
        provider.forget(pid)


def create(api: httpx.Client, tag: str = "t") -> httpx.Response:
    return api.post("/sandboxes", json={"templateID": "base", "timeout": 60, "metadata": {"sandbox_id": tag}})


def made(provider: FaultProvider) -> int:
    return len(provider.state()["sandboxes"])


# mode -> (what the client sees, sandboxes that are there afterwards)
SEEN = {
    "status": (503, 0), "reset_before": (httpx.ReadError, 0), "hang": (httpx.ReadTimeout, 0), "reset_after": (httpx.ReadError, 1),
    "hang_after": (httpx.ReadTimeout, 1), "late": (httpx.ReadError, 1), "garbage": (ValueError, 1),
    "html": (503, 0), "stranger": (403, 0), "hidden": (201, 1), "cut": (ValueError, 1), "truncated": (httpx.RemoteProtocolError, 1), "content_type": (201, 1), "delay": (201, 1),
}


def test_a_hidden_sandbox_is_not_found_by_any_route_and_the_others_are(provider, api):
    shown, hidden = (create(api).json()["sandboxID"] for _ in range(2))
    provider.faults({"route": "*", "mode": "hidden", "ids": [hidden], "times": -1})
    for sid, statuses in ((shown, [200, 200, 204, 200]), (hidden, [404, 502, 404, 404])):
        envd = {"E2b-Sandbox-Id": sid, "E2b-Sandbox-Port": "49983"}
        assert [api.get(f"/sandboxes/{sid}").status_code, api.post("/process.Process/Start", headers=envd).status_code,
                api.post(f"/sandboxes/{sid}/pause").status_code,
                api.get(f"/sandboxes/{sid}").status_code] == statuses
    assert [item["sandboxID"] for item in api.get("/v2/sandboxes").json()] == [shown]
    provider.faults()
    assert {item["sandboxID"] for item in api.get("/v2/sandboxes").json()} == {shown, hidden}


@pytest.mark.parametrize("mode", SEEN)
def test_each_fault_is_seen_and_has_its_effect_or_none(provider, api, mode):
    seen, there = SEEN[mode]
    provider.faults({"route": "create", "mode": mode, "status": 503, "delay_ms": 200})
    if isinstance(seen, int):
        assert create(api).status_code == seen
    else:
        with pytest.raises(seen):
            create(api).json()
    wait_until("the effect", lambda: made(provider) == there, 3)
    assert [e["effect"] for e in provider.effects()].count("create") >= there
    assert provider.log()[-1].get("call") == "create"

def test_a_slow_answer_drips(provider, api):
    provider.faults({"route": "get", "mode": "slow"})
    with socket.create_connection(("127.0.0.1", provider.port), timeout=2) as peer:
        peer.sendall(b"GET /sandboxes/i0 HTTP/1.1\r\nHost: x\r\nX-API-Key: x\r\n\r\n")
        got, end = b"", time.monotonic() + 0.6
        while time.monotonic() < end:
            got += peer.recv(100)
    assert 1 <= len(got) <= 14 and got == b"HTTP/1.1 404 X"[:len(got)], got


def test_a_huge_answer_is_huge(provider, api):
    provider.faults({"route": "get", "mode": "huge"})
    with api.stream("GET", "/sandboxes/i0", timeout=10) as answer:
        assert int(answer.headers["Content-Length"]) == 64 << 20
        assert len(next(answer.iter_raw(1 << 20))) == 1 << 20


def test_lists_lag_and_pages_fail(provider, api):
    first, gone = create(api, "one").json()["sandboxID"], create(api, "two").json()["sandboxID"]
    time.sleep(0.3)
    api.delete(f"/sandboxes/{gone}")
    create(api, "three")
    provider.faults({"route": "list", "mode": "stale", "delay_ms": 200})
    assert {s["sandboxID"] for s in api.get("/v2/sandboxes").json()} == {first, gone}
    assert len(api.get("/v2/sandboxes").json()) == 2
    provider.faults({"route": "list", "mode": "page_error", "times": -1})
    page = api.get("/v2/sandboxes")
    assert len(page.json()) == 1
    assert api.get("/v2/sandboxes", params={"nextToken": page.headers["X-Next-Token"]}).status_code == 500


def test_a_sandbox_is_paused_at_its_end(provider, api):
    sid = api.post("/sandboxes", json={"templateID": "base", "timeout": 0}).json()["sandboxID"]
    assert api.get(f"/sandboxes/{sid}").json()["state"] == "paused"
    assert provider.effects()[-1] == provider.effects()[-1] | {"effect": "expire", "id": sid}


def test_a_caller_is_named_in_the_log(provider, api):
    assert api.get("/as/worker7/v2/sandboxes").status_code == 200
    # the line of a call is written when it has been answered
    wait_until("the call's line", lambda: provider.log()[-1].get("call") == "list")
    assert provider.log()[-1]["by"] == "worker7"


# ---- proxies -------------------------------------------------------------------------------------


class Echo:
    """A server that sends back what it gets."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                peer, _ = self.socket.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(peer,), daemon=True).start()

    @staticmethod
    def serve(peer: socket.socket) -> None:
        with peer:
            try:
                while data := peer.recv(4096):
                    peer.sendall(data)
            except OSError:
                return


@pytest.fixture
def proxy(tmp_path):
    echo, control, listen = Echo(), free_port(), free_port()
    process = Process("proxy", [sys.executable, str(ROOT / "tests/harness/tcp_proxy.py"), "--control", str(control),
                                "--route", f"echo={listen}:{echo.port}"], dict(os.environ), tmp_path / "proxy.log")
    with httpx.Client(base_url=f"http://127.0.0.1:{control}", trust_env=False) as client:
        wait_until("proxy", lambda: client.get("/_state").status_code == 200)

        def mode(name: str, ms: int = 0) -> None:
            client.post("/_mode", json={"route": "echo", "mode": name, "ms": ms}).raise_for_status()

        mode.connect = lambda seconds=5: socket.create_connection(("127.0.0.1", listen), timeout=seconds)
        yield mode
    process.kill9()
    echo.socket.close()


def ask(peer: socket.socket) -> float:
    """Seconds until the echo is there."""
    start = time.monotonic()
    peer.sendall(b"x")
    assert peer.recv(1) == b"x"
    return time.monotonic() - start


def test_a_proxy_copies_and_delays(proxy):
    with proxy.connect() as peer:
        ask(peer)
        proxy("latency", 100)
        assert ask(peer) >= 0.2
        proxy("pass")
        assert min(ask(peer) for _ in range(5)) < 0.1


def test_a_holding_proxy_delivers_in_the_end(proxy):
    with proxy.connect(1) as peer:
        ask(peer)
        proxy("hold")
        with pytest.raises(TimeoutError):
            ask(peer)
        proxy("pass")
        peer.settimeout(5)
        assert peer.recv(1) == b"x"


def test_a_stalled_proxy_keeps_sockets_and_copies_nothing(proxy):
    with proxy.connect(1) as before:
        ask(before)
        proxy("stall")
        with proxy.connect(1) as during:
            for peer in (before, during):
                with pytest.raises(TimeoutError):
                    ask(peer)
            proxy("pass")
            for peer in (before, during):
                peer.settimeout(5)
                with pytest.raises(ConnectionResetError):
                    peer.recv(1)
    with proxy.connect() as after:
        ask(after)


def test_a_resetting_proxy_ends_what_is_open_and_what_comes(proxy):
    with proxy.connect() as before:
        ask(before)
        proxy("reset")
        with pytest.raises(ConnectionError):
            before.recv(1)
    with pytest.raises(ConnectionError), proxy.connect() as during:
        ask(during)
    proxy("pass")
    with proxy.connect() as after:
        ask(after)
