"""One small system per case, everything in it its own but PostgreSQL, and what must be true of it
once the dust has settled."""

from __future__ import annotations

import os
import re
import subprocess
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from pathlib import Path

import httpx
import psycopg2
import redis as redis_client

from tests.harness.services import Postgres, Process, Redis, build_dir, wait_until
from tests.harness.stack import BASE, Client, FaultProvider, Stack


CREATE_SENT_SLACK_MS = 1000  # lifecycle-worker/drive.h


@dataclass(frozen=True)
class Timing:
    """The settings, in milliseconds, that every bound of the crash table is made of."""

    WORKER_ATTEMPT_MS: int
    WORKER_LEASE_MS: int
    WORKER_MIN_IDLE_MS: int
    SANDBOX_SETTLE_MS: int
    REAPER_TICK_MS: int
    REAPER_OUTBOX_MS: int
    REAPER_OUTBOX_BASE_MS: int
    SANDBOX_IDEMPOTENCY_CLAIM_MS: int
    REAPER_RECONCILE_MS: int
    REAPER_LIFETIMES_MS: int
    WORKER_RECONCILE_CONFIRM: int
    WORKER_RECONCILE_MIN_AGE_MS: int
    WORKER_RECONCILE_SWEEP_MS: int

    @classmethod
    def production(cls) -> "Timing":
        """The defaults, as the programs themselves print them."""
        text = "".join(subprocess.run([build_dir() / program, "--help"], capture_output=True, text=True, check=True).stdout
                       for program in ("sandbox-gateway", "sandbox-worker", "sandbox-reaper"))
        found = dict(re.findall(r"^  ([A-Z_]+) .*\(default (\d+)\)", text, re.MULTILINE))
        return cls(**{field.name: int(found[field.name]) for field in fields(cls)})

    def env(self) -> dict[str, str]:
        return {field.name: str(getattr(self, field.name)) for field in fields(self)}

    # ---- how long what was lost stays lost ---------------------------------------------------
    def lost_wakeup(self) -> int:
        return self.REAPER_OUTBOX_BASE_MS + self.REAPER_OUTBOX_MS

    def lost_lease(self) -> int:
        return self.WORKER_LEASE_MS + self.REAPER_OUTBOX_MS

    def lost_create(self) -> int:
        """An empty list tells nothing before the settle window is over."""
        return max(self.lost_lease(), CREATE_SENT_SLACK_MS + self.SANDBOX_SETTLE_MS + self.REAPER_OUTBOX_MS)

    def frozen(self) -> int:
        """A frozen worker's parked read swallows the first wake-up after its lease."""
        return self.lost_lease() + self.lost_wakeup()

    def frozen_create(self) -> int:
        return max(self.frozen(), self.lost_create() + self.lost_wakeup())

    def pending_entry(self) -> int:
        return self.WORKER_MIN_IDLE_MS + min(self.WORKER_MIN_IDLE_MS // 4, 5000)

    def lost_reply(self) -> int:
        return 1000  # gateway/work/waiter.c: POLL_AFTER_MS + POLL_EVERY_MS

    def lost_claim(self) -> int:
        return self.SANDBOX_IDEMPOTENCY_CLAIM_MS

    def lost_reaper(self) -> int:
        return self.REAPER_TICK_MS

    def lost_mark(self) -> int:
        return self.REAPER_OUTBOX_MS

    def swept(self) -> int:
        """Seen by as many sweeps as make it sure, the first of them an interval away."""
        return (self.WORKER_RECONCILE_CONFIRM + 1) * self.REAPER_RECONCILE_MS

    def lost_sweep(self) -> int:
        """The next one waits for the lease of the lost one, and counts again what may not have been written down."""
        return self.WORKER_RECONCILE_SWEEP_MS + min(self.WORKER_RECONCILE_SWEEP_MS, 15000) + self.orphaned()

    def extended(self) -> int:
        return self.REAPER_LIFETIMES_MS

    def orphaned(self) -> int:
        """An orphan has its grace from the first sweep that sees it; the sweep after that acts."""
        return max(self.WORKER_RECONCILE_MIN_AGE_MS + 2 * self.REAPER_RECONCILE_MS, self.swept())


SCALED = Timing(WORKER_ATTEMPT_MS=1500, WORKER_LEASE_MS=1800, WORKER_MIN_IDLE_MS=2000, SANDBOX_SETTLE_MS=2500,
                REAPER_TICK_MS=50, REAPER_OUTBOX_MS=100, REAPER_OUTBOX_BASE_MS=600, SANDBOX_IDEMPOTENCY_CLAIM_MS=500,
                REAPER_LIFETIMES_MS=100, REAPER_RECONCILE_MS=500, WORKER_RECONCILE_CONFIRM=2, WORKER_RECONCILE_MIN_AGE_MS=1500,
                WORKER_RECONCILE_SWEEP_MS=1000)
QUICKLY = {"E2B_REQUEST_TIMEOUT_MS": "1400", "WORKER_RETRY_BASE_MS": "50", "WORKER_RETRY_CAP_MS": "200",
           "WORKER_HEARTBEAT_MS": "300"}
SLOWLY = {"E2B_REQUEST_TIMEOUT_MS": "20000", "WORKER_RETRY_BASE_MS": "1000", "WORKER_RETRY_CAP_MS": "60000"}
# the same cases at the settings of production take minutes: make takeover
PRODUCTION = os.environ.get("CRASH_TIMING") == "production"
TIMING = Timing.production() if PRODUCTION else SCALED
# a caller waits for the end, however late; a dozen gateways run side by side
ENV = TIMING.env() | (SLOWLY if PRODUCTION else QUICKLY) | {
    "SANDBOX_WAIT_SECONDS": "600", "DATABASE_POOL": "4", "GATEWAY_THREADS": "16"}
PATIENCE_S = 20 + max(TIMING.frozen_create(), TIMING.orphaned()) / 1000
# the machine's share of a measured time: a program must start, and twelve scenes share two cores
SLACK_MS = 1500


@dataclass(frozen=True)
class Kind:
    """One kind of job: how it is asked for, and what it leaves at the provider and in the history."""

    op: str
    route: str  # of the fault provider
    effect: str  # in its log of the truth
    before: str | None  # status it starts from
    path: tuple[str, ...]  # statuses it goes through
    successor: str  # asked for while this one is under way

    def __str__(self) -> str:
        return self.op


KINDS = (
    Kind("create", "create", "create", None, ("creating", "running"), "pause"),
    Kind("pause", "pause", "pause", "running", ("pausing", "paused"), "resume"),
    Kind("resume", "connect", "resume", "paused", ("resuming", "running"), "pause"),
    Kind("delete", "delete", "delete", "running", ("deleting", "deleted"), "resume"),
    Kind("timeout", "timeout", "timeout", "running", (), "pause"),
)
# asked for by what a sweep sees, never by a caller: the sandbox is paused behind our back
LOOK = Kind("reconcile", "get", "set", "running", ("paused",), "resume")
KIND = {kind.op: kind for kind in (*KINDS, LOOK)}


class Scene(Stack):
    def __init__(self, folder: Path, postgres: Postgres, **env: str):
        folder.mkdir(parents=True)
        self.threads = ThreadPoolExecutor(4)
        self.own_redis = Redis(folder / "redis")
        self.truth = FaultProvider(folder)
        super().__init__(folder / "stack", self.own_redis, postgres, self.truth,
                         env=ENV | env)
        self.database_connection = None
        self.keys = redis_client.Redis(port=self.own_redis.port, decode_responses=True)
        self.sandbox = ""

    def sql(self, text: str) -> list[tuple]:
        """As text, like Stack.sql, on a connection that is kept."""
        for again in (True, False):
            try:
                if self.database_connection is None:
                    self.database_connection = psycopg2.connect(self.postgres.url(self.database))
                    self.database_connection.autocommit = True
                with self.database_connection.cursor() as cursor:
                    cursor.execute(text)
                    rows = cursor.fetchall() if cursor.description else []
                return [tuple(None if v is None else str(v) for v in row) for row in rows]
            except (psycopg2.OperationalError, psycopg2.InterfaceError):
                self.database_connection = None
                if not again:
                    raise
        raise AssertionError("not reached")

    def drop_database(self) -> None:
        """Left where it is: the cluster ends with the session, and a DROP is a checkpoint."""
        if self.database_connection is not None:
            self.database_connection.close()

    def stop(self):
        try:
            return super().stop()
        finally:
            self.threads.shutdown(wait=False, cancel_futures=True)
            self.truth.stop()
            self.own_redis.stop()

    # ---- the cast -----------------------------------------------------------------------------

    @property
    def worker(self) -> Process:
        return self.workers[-1]

    @property
    def reaper(self) -> Process:
        return self.reapers[-1]

    def next_worker(self, **env: str) -> Process:
        """Another worker; the last one must be dead, frozen or stopped here."""
        self.workers.append(self.start_worker(**env))
        return self.worker

    def next_reaper(self, **env: str) -> Process:
        self.reapers.append(self.spawn("reaper", "sandbox-reaper", **env))
        return self.reaper

    def retire(self, process: Process) -> None:
        assert process.stop(10) == 0, f"{process.name} did not end in order"

    def died(self, process: Process, seconds: float = PATIENCE_S) -> float:
        """Waits for the SIGKILL a crash point sends; returns when it came."""
        status = process.proc.wait(seconds)
        assert status == -9, f"{process.name} ended with {status}, not at its crash point:\n{process.log()[-2000:]}"
        return time.monotonic()

    def froze(self, process: Process, seconds: float = PATIENCE_S) -> float:
        def stopped() -> bool:
            assert process.alive(), f"{process.name} ended instead of freezing"
            return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"

        wait_until(f"{process.name} frozen", stopped, seconds)
        return time.monotonic()

    # ---- asking -------------------------------------------------------------------------------

    def prepare(self, kind: Kind) -> None:
        """Brings about what `kind` starts from, by the ordinary way."""
        client = self.client()
        if kind.before is not None:
            self.sandbox = client.create()["sandbox_id"]
        if kind.before == "paused":
            client.pause(self.sandbox)
        self.mark = len(self.truth.effects())

    def call(self, kind: Kind, url: str | None = None, key: str | None = None, seconds: int = 600) -> httpx.Response:
        client = Client(url or self.url, self.client().token, timeout=PATIENCE_S)
        headers = {"Idempotency-Key": key} if key else {}
        body = {"sandbox_id": self.sandbox}
        if kind.op == "create":
            return client.post(f"{BASE}/create", {"user_id": "crash"}, **headers)
        if kind.op == "pause":
            return client.post(f"{BASE}/{self.sandbox}/pause", **headers)
        if kind.op == "resume":
            return client.post(f"{BASE}/connect", body, **headers)
        if kind.op == "reconcile":
            return self.paused_behind_our_back(client)
        if kind.op == "delete":
            return client.delete(f"{BASE}/{self.sandbox}", **headers)
        return client.post(f"{BASE}/schedule-timeout", body | {"timeout_seconds": seconds}, **headers)

    def paused_behind_our_back(self, client: Client) -> httpx.Response:
        """As by a zombie's late call; answered when the row says so too."""
        ((pid,),) = self.sql("select provider_sandbox_id from sandboxes")
        self.truth.set(pid, state="paused")
        wait_until("the row follows", lambda: client.status(self.sandbox) == "paused", PATIENCE_S)
        return client.get(f"{BASE}/{self.sandbox}/status")

    def ask(self, kind: Kind) -> "Future[httpx.Response]":
        self.client()  # the login is no part of the call
        return self.threads.submit(self.call, kind)

    def reaches_provider(self, kind: Kind, seconds: float = PATIENCE_S) -> None:
        wait_until(f"{kind} at the provider", lambda: self.truth.state()["calls"][kind.route] > self.calls[kind.route],
                   seconds)

    def fault(self, kind: Kind, mode: str, **more) -> None:
        """The next request of this kind's route meets a fault."""
        self.calls = self.truth.state()["calls"]
        self.truth.faults({"route": kind.route, "mode": mode} | more)

    def hold(self, kind: Kind) -> None:
        """The next request of this kind's route takes long enough for anything to happen meanwhile."""
        self.fault(kind, "delay", delay_ms=1000)

    # ---- what must be true --------------------------------------------------------------------

    def answered(self, call: "Future[httpx.Response]", since: float, status: int = 200) -> float:
        """The caller's own answer says that it is done; returns how long that took, in ms."""
        answer = call.result(PATIENCE_S)
        took = (time.monotonic() - since) * 1000
        assert answer.status_code == status, f"{answer.status_code} {answer.text}"
        return took

    def settled(self, kind: Kind, effects: tuple[int, ...] = (1,)) -> None:
        """The job came to its one end, the provider agrees with the row, the history is the straight one."""
        if not self.sandbox:
            ((self.sandbox,),) = self.sql("select id from sandboxes")
        jobs = self.at_rest(
            f"select state, crashes from jobs where sandbox_id = '{self.sandbox}' and op = '{kind.op}' order by seq", PATIENCE_S)
        assert jobs[-1][0] == "done", jobs
        self.agrees()
        happened = [e for e in self.truth.effects()[self.mark:] if e["effect"] == kind.effect]
        assert len(happened) in effects, f"{kind.effect} happened {len(happened)} times: {happened}"

    def went(self, kind: Kind) -> None:
        """The last statuses of the sandbox are those of the straight path, each entered once."""
        events = self.sql(
            f"select from_status, to_status from events where sandbox_id = '{self.sandbox}' "
            "and from_status <> to_status order by id")
        steps = list(zip((kind.before or "",) + kind.path, kind.path))
        assert events[len(events) - len(steps):] == steps, events

    def streams_empty(self, within_ms: float) -> float:
        """No entry is left on a work stream, delivered or not; returns how long that took, in ms."""
        start = time.monotonic()

        def empty() -> bool:
            for key in self.keys.scan_iter("sandbox:jobs:*"):
                if key == "sandbox:jobs:dead":
                    continue
                if self.keys.xlen(key) or self.keys.xpending(key, "lifecycle-workers")["pending"]:
                    return False
            return True

        wait_until("empty streams", empty, within_ms / 1000, 0.05)
        return (time.monotonic() - start) * 1000
