"""Random clients: each a thread with a sequence of calls from the run's seed, and a log of every
request with its answer. They know the contract only; what a right answer is, the invariants decide.
"""

from __future__ import annotations

import json
import random
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx

from tests.chaos.cluster import Cluster
from tests.harness.stack import BASE

OWN_MAX = 5       # sandboxes a client keeps
SHARED_MAX = 8    # sandboxes that every client may touch
TIMEOUT_S = 45.0  # longer than any answer may take
ASYNC = 0.1       # of the lifecycle calls do not wait for their end
KEYED = 0.35      # of the calls carry an Idempotency-Key and are sent several times

LIFECYCLE = ("create", "connect", "pause", "delete", "timeout")
WEIGHTS = {"create": 18, "pause": 16, "connect": 18, "timeout": 16, "delete": 10, "exec": 10, "status": 8, "burst": 4}


class Crowd:
    """All clients of a run, and their log."""

    def __init__(self, cluster: Cluster, seed: int, count: int, pause_s: tuple[float, float] = (0.05, 0.6)):
        self.cluster, self.pause_s = cluster, pause_s
        self.token = cluster.stack.client("chaos").token
        self.requests: list[dict] = []
        self.lock = threading.Lock()
        self.shared: list[str] = []
        self.stop = threading.Event()
        self.errors: list[str] = []
        self.clients = [Client(self, n, random.Random(f"client-{seed}-{n}")) for n in range(count)]
        self.threads = [threading.Thread(target=c.run, name=f"client-{c.number}", daemon=True) for c in self.clients]

    def start(self) -> None:
        for thread in self.threads:
            thread.start()

    def finish(self) -> None:
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def note(self, entry: dict) -> None:
        with self.lock:
            self.requests.append(entry)

    def reach_all(self) -> dict[str, int]:
        """A command in every sandbox that is not deleted, after all is well: its status, by sandbox."""
        def reach(sandbox: str) -> int:
            with httpx.Client(base_url=self.cluster.of("gateway")[0].url, timeout=TIMEOUT_S, trust_env=False) as http:
                for _ in range(10):
                    answer = http.post(f"{BASE}/run-cmd", json={"sandbox_id": sandbox, "command": "true"},
                                       headers={"Authorization": f"Bearer {self.token}", "User-Agent": "chaos/1",
                                                "X-Request-ID": str(uuid.uuid4())})
                    if answer.status_code not in (409, 429, 502, 503):
                        break
                    time.sleep(1)
                return answer.status_code

        boxes = [row["id"] for row in self.cluster.rows("select id from sandboxes where status not in ('deleted', 'failed')")]
        with ThreadPoolExecutor(8) as pool:
            return dict(zip(boxes, pool.map(reach, boxes)))

    def ask_again(self) -> None:
        """Every Idempotency-Key once more, after all is well: its answer must be the same."""
        first: dict[str, dict] = {}
        for entry in self.requests:
            if entry["key"]:
                first.setdefault(entry["key"], entry)
        with httpx.Client(timeout=TIMEOUT_S, trust_env=False) as http:
            client = self.clients[0]
            client.http = http
            for entry in first.values():
                sandbox = None if entry["op"] == "create" else entry["sandbox"]
                client.send(entry["op"], sandbox, entry["asked"], entry["key"], again=True)


class Client:
    def __init__(self, crowd: Crowd, number: int, rng: random.Random):
        self.crowd, self.number, self.rng = crowd, number, rng
        self.own: list[str] = []
        # a connection is given up before the gateway does: a request on one that is just being closed is lost
        self.http = httpx.Client(timeout=TIMEOUT_S, trust_env=False, limits=httpx.Limits(keepalive_expiry=2))

    def run(self) -> None:
        try:
            while not self.crowd.stop.is_set():
                self.act()
                self.crowd.stop.wait(self.rng.uniform(*self.crowd.pause_s))
        except Exception as exc:  # noqa: BLE001 - the run must not pass when a client has failed
            self.crowd.errors.append(f"client {self.number}: {exc!r}")
            raise
        finally:
            self.http.close()

    # ---- one request -------------------------------------------------------------------------

    def send(self, op: str, sandbox: str | None, body: dict | None = None, key: str = "", again: bool = False,
             gateway: int | None = None) -> dict:
        """Sends it to one of the gateways; logs and returns what came of it."""
        gateways = self.crowd.cluster.of("gateway")
        target = gateways[self.rng.randrange(len(gateways)) if gateway is None else gateway]
        request_id = str(uuid.uuid4())
        headers = {"User-Agent": "chaos/1", "X-Request-ID": request_id, "Authorization": f"Bearer {self.crowd.token}"}
        if key:
            headers["Idempotency-Key"] = key
        if op in LIFECYCLE and not again and self.rng.random() < ASYNC:
            headers["Prefer"] = "respond-async"
        asked = body
        method, path = {"create": ("POST", "/create"), "connect": ("POST", "/connect"), "timeout": ("POST", "/schedule-timeout"),
                        "exec": ("POST", "/run-cmd"), "pause": ("POST", f"/{sandbox}/pause"), "delete": ("DELETE", f"/{sandbox}"),
                        "status": ("GET", f"/{sandbox}/status")}[op]
        if op in ("connect", "timeout", "exec"):
            body = (body or {}) | {"sandbox_id": sandbox}
        content = None
        if method == "POST":
            headers["Content-Type"] = "application/json"
            content = json.dumps(body).encode() if body is not None else b""
        entry = {"client": self.number, "op": op, "sandbox": sandbox, "key": key, "asked": asked, "request_id": request_id,
                 "gateway": target.name, "pid": target.pid, "t0": time.time(), "status": 0, "data": None, "error": "", "again": again,
                 "replayed": False}
        try:
            answer = self.http.request(method, target.url + BASE + path, headers=headers, content=content)
            entry["status"] = answer.status_code
            entry["replayed"] = "Idempotency-Replayed" in answer.headers
            parsed = answer.json()
            entry["data"] = parsed.get("data")
            entry["error"] = (parsed.get("error") or {}).get("type", "")
            entry["detail"] = (parsed.get("error") or {}).get("detail", "")
            if answer.status_code == 503 and "Retry-After" not in answer.headers:
                entry["error"] += " without Retry-After"
        except httpx.HTTPError as exc:
            entry["error"] = type(exc).__name__
        except ValueError as exc:
            entry["error"] = f"not JSON: {exc}"
        entry["t1"] = time.time()
        if op == "create" and entry["data"]:
            entry["sandbox"] = entry["data"].get("sandbox_id")
        self.crowd.note(entry)
        return entry

    def call(self, op: str, sandbox: str | None, body: dict | None = None) -> dict:
        """A request, or the same one several times under one key: at both gateways at once, then until
        there is an answer that is final."""
        if op in ("exec", "status") or self.rng.random() >= KEYED:
            return self.send(op, sandbox, body)
        key = f"k-{self.number}-{uuid.UUID(int=self.rng.getrandbits(128))}"
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.map(lambda g: self.send(op, sandbox, body, key, gateway=g), (0, 1))
        entry = first if first["status"] == 200 else second
        for _ in range(3):
            if entry["status"] not in (0, 202, 503) or self.crowd.stop.is_set():
                break
            self.crowd.stop.wait(0.3)
            entry = self.send(op, sandbox, body, key)
        if self.rng.random() < 0.1 and entry["status"] == 200 and op == "create":
            self.send(op, None, {"user_id": "another body"}, key)
        return entry

    # ---- what to do --------------------------------------------------------------------------

    def pick(self) -> str | None:
        with self.crowd.lock:
            known = self.own + self.crowd.shared
        return self.rng.choice(known) if known else None

    def create(self) -> None:
        body = {"user_id": f"client-{self.number}", "timeout_seconds": self.rng.randint(4, 30),
                "on_timeout": self.rng.choice(["pause", "pause", "delete"])}
        if self.rng.random() < 0.2:
            body["envs"] = {"SECRET": "s3cret"}
        sandbox = self.call("create", None, body)["sandbox"]
        if sandbox is None:
            return
        with self.crowd.lock:
            if len(self.crowd.shared) < SHARED_MAX and self.rng.random() < 0.3:
                self.crowd.shared.append(sandbox)
            else:
                self.own.append(sandbox)

    def delete(self, sandbox: str) -> None:
        entry = self.call("delete", sandbox)
        if entry["status"] in (200, 202, 404):
            self.forget(sandbox)

    def forget(self, sandbox: str) -> None:
        with self.crowd.lock:
            for known in (self.own, self.crowd.shared):
                if sandbox in known:
                    known.remove(sandbox)

    def burst(self, sandbox: str) -> None:
        """Several calls on one sandbox at the same time."""
        ops = self.rng.choices(["pause", "connect", "timeout", "delete", "exec"], [4, 4, 3, 1, 2], k=self.rng.randint(2, 4))
        bodies = [self.body_of(op) for op in ops]
        with ThreadPoolExecutor(len(ops)) as pool:
            list(pool.map(lambda pair: self.send(pair[0], sandbox, pair[1]), zip(ops, bodies)))

    def body_of(self, op: str) -> dict | None:
        if op == "timeout":
            return {"timeout_seconds": self.rng.choice([1, 2, 3, 5, 8, 20, 60, 600]),
                    "on_timeout": self.rng.choice(["pause", "pause", "delete"])}
        return {"command": "true", "timeout_seconds": 5} if op == "exec" else None

    def act(self) -> None:
        op = self.rng.choices(list(WEIGHTS), list(WEIGHTS.values()))[0]
        sandbox = self.pick()
        if sandbox is None or (op == "create" and len(self.own) < OWN_MAX):
            self.create()
        elif op in ("delete", "create"):
            self.delete(sandbox)
        elif op == "burst":
            self.burst(sandbox)
        elif self.call(op, sandbox, self.body_of(op))["status"] == 404:
            self.forget(sandbox)
