"""The system under chaos: two gateways, three workers, two reapers, in two zones, each zone with
proxies of its own before Redis, PostgreSQL and the provider.

Owns every process of a run, the audit triggers that write down what the programs do to the tables,
and what is asked of the services at the end. What it is told to break is the nemesis' decision.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path

import httpx

from tests.harness.services import ROOT, Postgres, Process, Redis, free_port, wait_until
from tests.harness.stack import FaultProvider, Stack

LEASE_S = 4.0
SETTLE_S = 4.0
WAIT_S = 8
MAX_LIFE_S = 90
ENV = {
    "WORKER_LEASE_MS": str(int(LEASE_S * 1000)), "WORKER_ATTEMPT_MS": "2500", "WORKER_MIN_IDLE_MS": "4500",
    "WORKER_HEARTBEAT_MS": "1000", "WORKER_RETRY_BASE_MS": "100", "WORKER_RETRY_CAP_MS": "1000",
    "WORKER_CAPACITY_BASE_MS": "1000", "WORKER_BREAKER_OPEN_MS": "2000", "WORKER_DRAIN_MS": "3000",
    "GATEWAY_DRAIN_MS": "3000", "GATEWAY_THREADS": "64", "SANDBOX_WAIT_SECONDS": str(WAIT_S),
    "E2B_REQUEST_TIMEOUT_MS": "1500", "E2B_MAX_TIMEOUT_SECONDS": str(MAX_LIFE_S), "SANDBOX_TIMEOUT_SECONDS": "25",
    "SANDBOX_LIFETIME_GRACE_MS": "15000", "REAPER_LIFETIMES_MS": "1000",
    # longer than most faults delay a create's effect, shorter than one of them
    "SANDBOX_SETTLE_MS": str(int(SETTLE_S * 1000)), "SANDBOX_SETTLE_UNPROVEN_MS": "30000",
    "WORKER_MAX_CRASHES": "2",
    "REAPER_RECONCILE_MS": "1500", "WORKER_RECONCILE_MIN_AGE_MS": "8000", "WORKER_RECONCILE_SWEEP_MS": "3000",
    # shorter than the longest time for which the provider hides sandboxes: some rows end, and are given back
    "RECONCILE_LOOK_AGAIN_MS": "300", "RECONCILE_ABSENT_MS": "4000", "RECONCILE_ABSENT_UNPROVEN_MS": "12000",
    "REAPER_OUTBOX_BASE_MS": "1000", "REAPER_HEARTBEAT_MS": "1000", "REAPER_PRUNE_MS": "2000",
    "REDIS_CONNECTION_MAX_AGE_MS": "5000", "REAPER_CONSUMER_IDLE_MS": "10000", "REAPER_STATS_MS": "5000",
}
MEMBERS = [("gateway", "a"), ("gateway", "b"), ("worker", "a"), ("worker", "a"), ("worker", "b"), ("reaper", "a"), ("reaper", "b")]
SERVICES = ("redis", "postgres", "provider")
OPS = ("create", "resume", "pause", "delete", "timeout", "reconcile")

# The checker's own memory of every change of a row, whoever made it.
AUDIT = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.jobs (n bigserial, at timestamptz, job uuid, sandbox uuid, seq bigint, op text, origin text,
                         old text, new text, token bigint, owner text, attempt integer);
CREATE TABLE chaos.sandboxes (n bigserial, at timestamptz, sandbox uuid, old text, new text, version bigint,
                              provider_id text, expires timestamptz);
CREATE FUNCTION chaos.note_job() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos.jobs (at, job, sandbox, seq, op, origin, old, new, token, owner, attempt)
    VALUES (clock_timestamp(), NEW.id, NEW.sandbox_id, NEW.seq, NEW.op, NEW.origin,
            CASE WHEN TG_OP = 'UPDATE' THEN OLD.state END, NEW.state, NEW.lease_token, NEW.lease_owner, NEW.attempt);
    RETURN NULL; END $$;
CREATE FUNCTION chaos.note_sandbox() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO chaos.sandboxes (at, sandbox, old, new, version, provider_id, expires)
    VALUES (clock_timestamp(), NEW.id, CASE WHEN TG_OP = 'UPDATE' THEN OLD.status END, NEW.status, NEW.version,
            NEW.provider_sandbox_id, NEW.expires_at);
    RETURN NULL; END $$;
CREATE TRIGGER chaos_job_new AFTER INSERT ON jobs FOR EACH ROW EXECUTE FUNCTION chaos.note_job();
CREATE TRIGGER chaos_job AFTER UPDATE ON jobs FOR EACH ROW
    WHEN (OLD.state <> NEW.state OR OLD.lease_token <> NEW.lease_token) EXECUTE FUNCTION chaos.note_job();
CREATE TRIGGER chaos_sandbox_new AFTER INSERT ON sandboxes FOR EACH ROW EXECUTE FUNCTION chaos.note_sandbox();
CREATE TRIGGER chaos_sandbox AFTER UPDATE ON sandboxes FOR EACH ROW
    WHEN (OLD.status <> NEW.status OR OLD.expires_at IS DISTINCT FROM NEW.expires_at
          OR OLD.provider_sandbox_id IS DISTINCT FROM NEW.provider_sandbox_id) EXECUTE FUNCTION chaos.note_sandbox();
"""


class Cluster:
    def __init__(self, folder: Path, seed: int, env: dict[str, str] | None = None):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as undo:
            self.open(seed, env or {}, undo)
            self.undo = undo.pop_all()

    def open(self, seed: int, env: dict[str, str], undo: contextlib.ExitStack) -> None:
        """Starts everything; what was started before a failure is ended by `undo`."""
        self.redis = Redis(self.folder / "redis")
        undo.callback(self.redis.stop)
        self.postgres = Postgres(self.folder)
        undo.callback(self.postgres.stop)
        self.provider = FaultProvider(self.folder, max_timeout=MAX_LIFE_S, seed=seed)
        undo.callback(self.provider.stop)
        # as slow as a real one: whatever dies has work in flight
        self.provider.config(delay_ms=20, jitter_ms=500)
        self.ports = {f"{service}-{zone}": free_port() for service in SERVICES for zone in "ab"}
        self.proxy = self.start_proxy()
        undo.callback(self.proxy.kill9)
        self.control = undo.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{self.control_port}", trust_env=False, timeout=10))
        wait_until("proxies", lambda: self.control.get("/_state").status_code == 200)
        self.stack = Stack(self.folder / "stack", self.redis, self.postgres, self.provider, workers=0, reapers=0, gateways=0,
                           env=ENV | env)
        self.stack.sql(AUDIT)
        self.deployment = self.stack.sql("select id from deployment")[0][0]
        self.members: list[Process] = []
        undo.callback(lambda: [member.kill9() for member in self.members])
        for kind, zone in MEMBERS:
            self.members.append(self.start_member(kind, zone))
        for gateway in self.of("gateway"):
            wait_until("gateway ready", lambda g=gateway: httpx.get(g.url + "/readyz", trust_env=False).status_code == 200, 30)
        self.stack.gateways = self.of("gateway")

    # ---- processes -------------------------------------------------------------------------

    def start_proxy(self) -> Process:
        targets = {"redis": self.redis.port, "postgres": self.postgres.port, "provider": self.provider.port}
        self.control_port = free_port()
        argv = [sys.executable, str(ROOT / "tests/harness/tcp_proxy.py"), "--control", str(self.control_port)]
        for name, port in self.ports.items():
            argv += ["--route", f"{name}={port}:{targets[name.split('-')[0]]}"]
        return Process("proxy", argv, dict(os.environ), self.folder / "proxy.log")

    def start_member(self, kind: str, zone: str) -> Process:
        name = f"{kind}{sum(1 for p in self.stack.processes if p.name.startswith(kind))}"
        url = f"http://127.0.0.1:{self.ports['provider-' + zone]}/as/{name}"
        env = {"REDIS_PORT": str(self.ports["redis-" + zone]), "E2B_API_URL": url, "E2B_SANDBOX_URL": url,
               "DATABASE_URL": self.stack.env["DATABASE_URL"].replace(f":{self.postgres.port}/", f":{self.ports['postgres-' + zone]}/")}
        if kind == "gateway":
            port = free_port()
            env["GATEWAY_LISTEN"] = f"127.0.0.1:{port}"
            member = self.stack.spawn(kind, "sandbox-gateway", "serve", **env)
            member.url = f"http://127.0.0.1:{port}"
        else:
            member = self.stack.spawn(kind, f"sandbox-{kind}", **env)
        member.name, member.kind, member.zone, member.may_be_down = name, kind, zone, False
        return member

    def of(self, kind: str) -> list[Process]:
        return [m for m in self.members if m.kind == kind]

    def wait_listening(self, member: Process) -> None:
        """A gateway that has just been started is one only when it accepts connections."""
        def connect() -> bool:
            with socket.create_connection(("127.0.0.1", int(member.url.rsplit(":", 1)[1])), timeout=1):
                return True

        if member.kind == "gateway":
            wait_until(f"{member.name} to listen", connect, 20)

    def heal(self) -> None:
        """Undoes everything that a nemesis can have done."""
        for route in self.ports:
            self.set_proxy(route, "pass")
        self.provider.faults()
        if not self.redis.process.alive():
            self.redis.restart()
        if not self.postgres.process.alive():
            self.postgres.restart()
        for member in self.members:
            if member.alive():
                member.send(signal.SIGCONT)
            elif member.may_be_down:
                member.start()
                self.wait_listening(member)
            member.may_be_down = False

    def deaths(self) -> list[str]:
        """Members that ended without being told to."""
        return [f"{m.name} ended with status {m.proc.returncode}" for m in self.members if not m.may_be_down and not m.alive()]

    def stop(self) -> list[str]:
        """Ends everything; returns what is wrong with how it ended."""
        wrong = []
        try:
            self.heal()
            wrong += self.deaths()
            for name, status in self.stack.stop():
                if status != 0:
                    wrong.append(f"{name} ended with status {status}")
            for member in self.members:
                text = member.log()
                if "Sanitizer" in text or "runtime error" in text:
                    wrong.append(f"{member.name}: a sanitizer's report, see {member.log_path}")
        finally:
            self.undo.close()
        return wrong

    # ---- what can be broken ----------------------------------------------------------------

    def set_proxy(self, route: str, mode: str, ms: int = 0) -> None:
        self.control.post("/_mode", json={"route": route, "mode": mode, "ms": ms}).raise_for_status()

    # ---- what can be asked -----------------------------------------------------------------

    def rows(self, query: str) -> list[dict]:
        answer = self.stack.sql(f"select coalesce(json_agg(t), '[]') from ({query}) t")
        return json.loads("\n".join(line[0] for line in answer))

    def count(self, query: str) -> int:
        return int(self.stack.sql(query)[0][0])

    def streams(self) -> dict[str, dict]:
        """Length, pending entries and consumers of each work stream."""
        found = {}
        for op in OPS:
            key = f"sandbox:jobs:{op}"
            length = self.redis.cli("XLEN", key)
            pending = self.redis.cli("XPENDING", key, "lifecycle-workers").splitlines()
            fields = self.redis.cli("XINFO", "CONSUMERS", key, "lifecycle-workers").splitlines()
            # XINFO CONSUMERS: name N pending N idle N [inactive N]
            consumers, name = {}, ""
            for label, value in zip(fields[::2], fields[1::2]):
                if label == "name":
                    name = value
                elif label == "pending":
                    consumers[name] = int(value)
            found[op] = {"length": int(length or 0), "consumers": consumers,
                         "pending": int(pending[0]) if pending and pending[0].isdigit() else 0}
        return found

    def dead_letters(self) -> list[str]:
        """Job ids of sandbox:jobs:dead."""
        fields = self.redis.cli("XRANGE", "sandbox:jobs:dead", "-", "+").splitlines()
        return [fields[i + 1] for i, text in enumerate(fields[:-1]) if text == "job_id"]

    def live_workers(self) -> set[str]:
        """Names of the workers whose heartbeat has not expired."""
        prefix = "sandbox:workers:"
        return {key[len(prefix):] for key in self.redis.cli("KEYS", prefix + "*").splitlines()}

    def usage(self) -> dict[str, dict]:
        """File descriptors and memory of every member. Connections to the provider are counted apart: as many are kept for
        later as calls were under way at once, which a takeover of all others' work makes many."""
        ports = {port for name, port in self.ports.items() if name.startswith("provider-")}
        return {m.name: {"pid": m.pid, "fds": m.fd_count() - (kept := m.connections_to(ports)), "kept": kept, "rss": m.rss_bytes()}
                for m in self.members if m.alive()}

    def events(self, member: Process) -> list[dict]:
        """The member's log."""
        found = []
        for line in member.log().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # the line a kill cut off
            if isinstance(entry, dict) and "event" in entry:
                found.append(entry | {"by": member.name})
        return found

    def unfinished(self) -> int:
        """Jobs not at their end."""
        return self.count("select count(*) from jobs where state in ('queued','running','retry_wait')")

    def disagreements(self) -> int:
        """Rows and provider's sandboxes that do not match."""
        rows = {r["pid"]: r["status"] for r in self.rows(
            "select provider_sandbox_id as pid, status from sandboxes where status not in ('deleted','failed')")}
        live = {pid: box["state"] for pid, box in self.provider.state()["sandboxes"].items()}
        return sum(1 for pid in rows.keys() | live.keys() if rows.get(pid) != live.get(pid))

    @contextlib.contextmanager
    def nothing_falls_due(self):
        """The reapers stand still: no deadline, no extension and no sweep begins meanwhile."""
        reapers = [m for m in self.of("reaper") if m.alive()]
        for reaper in reapers:
            reaper.send(signal.SIGSTOP)
        try:
            yield
        finally:
            for reaper in reapers:
                reaper.send(signal.SIGCONT)

    def redrive_dead_deletes(self) -> int:
        """What an operator does about a delete whose workers died too often: nobody else may give up on it."""
        dead = self.rows("select j.id from jobs j join sandboxes s on s.id = j.sandbox_id where j.state = 'dead' and j.op = 'delete' "
                         "and s.status <> 'deleted'")
        for job in dead:
            self.stack.run("jobs", "redrive", job["id"])
        return len(dead)

    def wait_quiet(self, seconds: float) -> float:
        """Waits until all work is done, the streams are empty and both sides agree; returns how long it
        took. Not getting there is no error here: the invariants say what is wrong."""
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            if self.unfinished() == 0 and self.disagreements() == 0 and all(
                    s["length"] == 0 and s["pending"] == 0 for s in self.streams().values()):
                break
            time.sleep(0.25)
        return time.monotonic() - start
