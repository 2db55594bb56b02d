"""Services that restart or move under load: nothing is lost, nothing happens twice, and none of ours
has to be started again.

The clients are those a careful caller would write: each call has its Idempotency-Key and is sent again
until it has its answer, to whichever gateway is there.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.harness.services import Postgres, Redis, free_port, wait_until
from tests.harness.stack import BASE, LOCAL, Client, Stack

pytestmark = pytest.mark.release_only

GIVE_UP_S = 60


class Load:
    """Clients that create, pause, resume, reschedule and delete, one sandbox each at a time."""

    def __init__(self, stack: Stack, clients: int = 6):
        self.stack, self.token = stack, stack.client().token
        self.stopping = threading.Event()
        self.lock = threading.Lock()
        self.done: Counter[str] = Counter()  # calls answered 200, by op
        self.trouble: Counter[str] = Counter()  # what they met on the way
        self.slowest = 0.0
        self.errors: list[BaseException] = []
        self.gateways = itertools.count()
        self.threads = [threading.Thread(target=self.live, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def call(self, op: str, method: str, path: str, body: dict | None = None) -> dict:
        """Sends one call until it has its answer."""
        headers = {"Authorization": f"Bearer {self.token}", "User-Agent": "tests/1.0", "X-Request-ID": str(uuid.uuid4()),
                   "Idempotency-Key": str(uuid.uuid4())}
        start = time.monotonic()
        while True:
            running = [g for g in self.stack.gateways if g.alive()]
            url = running[next(self.gateways) % len(running)].url
            try:
                answer = httpx.request(method, url + path, json=body, headers=headers, timeout=30, **LOCAL)
                met = str(answer.status_code)
                if answer.status_code == 200:
                    break
                assert answer.status_code in (202, 503), f"{op}: {answer.status_code} {answer.text}"
                assert answer.status_code == 202 or int(answer.headers["Retry-After"]) >= 1, answer.headers
            except httpx.TransportError as exc:
                met = type(exc).__name__
            with self.lock:
                self.trouble[met] += 1
            assert time.monotonic() - start < GIVE_UP_S, f"{op}: no answer but {met} for {GIVE_UP_S} s"
            time.sleep(0.1)
        with self.lock:
            self.done[op] += 1
            self.slowest = max(self.slowest, time.monotonic() - start)
        return answer.json()["data"]

    def live(self, number: int) -> None:
        try:
            while not self.stopping.is_set():
                sid = self.call("create", "POST", f"{BASE}/create", {"user_id": f"load-{number}"})["sandbox_id"]
                self.call("pause", "POST", f"{BASE}/{sid}/pause")
                self.call("resume", "POST", f"{BASE}/connect", {"sandbox_id": sid})
                self.call("timeout", "POST", f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": 900})
                if number % 2 == 0:
                    self.call("delete", "DELETE", f"{BASE}/{sid}")
        except BaseException as exc:  # noqa: BLE001 - told by end()
            self.errors.append(exc)

    def progress(self, calls: int = 25, seconds: float = 40) -> None:
        """Waits until the load has come on by so many calls."""
        goal = sum(self.done.values()) + calls

        def far_enough() -> bool:
            if self.errors:
                raise self.errors[0]
            return sum(self.done.values()) >= goal

        wait_until(f"{calls} more calls", far_enough, seconds)

    def end(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors

    def once_each(self) -> None:
        """As many jobs as calls, all done; at the provider what the rows say."""
        self.stack.quiet()
        jobs = {op: int(n) for op, n in self.stack.sql(
            "select op, count(*) from jobs where origin = 'client' and state = 'done' group by op")}
        assert jobs == dict(self.done)
        assert self.stack.sql("select count(*) from jobs where origin = 'client' and state <> 'done'") == [("0",)]
        self.stack.agrees()


def pids(stack: Stack) -> list[int]:
    assert all(p.alive() for p in stack.processes), "one of ours has ended"
    return [p.pid for p in stack.processes]


# ---- our own services ---------------------------------------------------------------------------------

def test_sigterm_of_each_service_under_load(fault_stack, fault_provider):
    """Twice around: a successor is started, the old one is told to end and does so in order."""
    fault_provider.config(delay_ms=50)
    stack = fault_stack(gateways=2, workers=2, reapers=2)
    load = Load(stack)
    load.progress()
    for _ in range(2):
        for group, successor in ((stack.gateways, stack.start_gateway), (stack.workers, stack.start_worker),
                                 (stack.reapers, lambda: stack.spawn("reaper", "sandbox-reaper"))):
            group.append(successor())
            assert group[0].stop(20) == 0, group[0].name
            group.pop(0)
            load.progress(15)
    load.end()
    load.once_each()
    # nobody was killed, so nothing had to be done again
    effects = Counter(e["effect"] for e in fault_provider.effects())
    assert {k: effects[k] for k in ("create", "pause", "resume", "delete")} == \
        {k: load.done[k] for k in ("create", "pause", "resume", "delete")}
    assert stack.sql("select count(*) from jobs where crashes > 0") == [("0",)]
    assert set(load.trouble) <= {"503", "ConnectError", "ReadError", "WriteError", "RemoteProtocolError"}, load.trouble


def test_sigterm_of_the_reaper_hands_its_deadlines_over(fault_stack, fault_provider):
    """Deadlines come due all the time while reapers come and go; each is acted on once and within its second."""
    stack = fault_stack(reapers=1, workers=2)
    client = stack.client()
    ids = [client.create()["sandbox_id"] for _ in range(40)]
    stack.sql("update sandboxes s set timeout_mode = 'absolute', expires_at = now() + n * interval '75 milliseconds' + "
              "interval '500 milliseconds' from (select id, row_number() over () as n from sandboxes) k where k.id = s.id")
    for _ in range(4):
        time.sleep(0.6)  # the pace of the restarts, not a wait for anything
        stack.reapers.append(stack.spawn("reaper", "sandbox-reaper"))
        assert stack.reapers.pop(0).stop(10) == 0
    wait_until("all paused", lambda: stack.sql("select count(*) from sandboxes where status <> 'paused'") == [("0",)], 20)
    late = stack.sql("select max(extract(epoch from j.created_at - s.expires_at)), count(*), count(distinct sandbox_id) "
                     "from jobs j join sandboxes s on s.id = j.sandbox_id where j.origin = 'deadline'")[0]
    assert (int(late[1]), int(late[2])) == (len(ids), len(ids))
    assert 0 <= float(late[0]) < 1.0


# ---- Redis moves --------------------------------------------------------------------------------------

@pytest.mark.parametrize("old", ("killed", "demoted"))
def test_redis_moves_to_another_address(tmp_path, postgres, fault_provider, old):
    """REDIS_HOST is a name. Its address changes in the hosts file of the programs' own mount namespace, which
    glibc reads afresh for each lookup as it would ask a name server; nobody tells the programs."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n127.0.0.2 redis.test\n")
    prefix = ("unshare", "--mount", *(() if os.geteuid() == 0 else ("--map-root-user",)),
              "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts))
    port = free_port()
    first = Redis(tmp_path / "first", host="127.0.0.2", port=port)
    second = Redis(tmp_path / "second", host="127.0.0.3", port=port)
    try:
        assert second.cli("REPLICAOF", "127.0.0.2", str(port)) == "OK"
        with Stack(tmp_path / "s", first, postgres, fault_provider, workers=2, gateways=2, prefix=prefix,
                   env={"REDIS_HOST": "redis.test", "WORKER_HEARTBEAT_MS": "300", "REAPER_HEARTBEAT_MS": "300"}) as stack:
            wait_until("replica", lambda: "master_link_status:up" in second.cli("INFO", "replication"))
            before, load = pids(stack), Load(stack)
            load.progress()
            if old == "killed":
                first.process.kill9()
                second.cli("REPLICAOF", "NO", "ONE")
            else:
                second.cli("REPLICAOF", "NO", "ONE")
                first.cli("REPLICAOF", "127.0.0.3", str(port))
            hosts.write_text("127.0.0.1 localhost\n127.0.0.3 redis.test\n")  # in place: the mount is of this file
            moved = time.monotonic()
            load.progress(50)
            # they are there, and the queue itself works: a call takes no detour by the reaper or the poll
            wait_until("workers and reaper at the new address", lambda: len(
                second.cli("KEYS", "sandbox:workers:*").split()) == 2 and second.cli("KEYS", "sandbox:reapers:*"), 15)
            assert time.monotonic() - moved < 20
            load.end()
            load.once_each()
            client = Client(stack.url, load.token)
            wait_until("a quick call", lambda: timed(client.create) < 0.5, 15)
            assert pids(stack) == before
    finally:
        first.stop()
        second.stop()


def timed(call) -> float:
    start = time.monotonic()
    call()
    return time.monotonic() - start


# ---- PostgreSQL moves ---------------------------------------------------------------------------------

@pytest.mark.parametrize("old", ("killed", "read-only"))
def test_postgres_moves_to_another_address(tmp_path, redis, fault_provider, old):
    """DATABASE_URL names both; target_session_attrs finds the one that takes writes. The standby is a
    synchronous one, so what was accepted is there."""
    first = Postgres(tmp_path / "first", fsync="off")
    second = Postgres(tmp_path / "second", standby_of=first, fsync="off")
    try:
        if old == "killed":
            first.sql("ALTER SYSTEM SET synchronous_standby_names = '*'")
            first.sql("SELECT pg_reload_conf()")
        with Stack(tmp_path / "s", redis, first, fault_provider, workers=2, gateways=2) as stack:
            stack.env["DATABASE_URL"] = (f"postgresql://postgres@127.0.0.1:{first.port},127.0.0.1:{second.port}/"
                                         f"{stack.database}?target_session_attrs=read-write")
            restart_with(stack)
            before, load = pids(stack), Load(stack)
            load.progress()
            if old == "killed":
                first.kill9()
                assert second.sql("SELECT pg_promote()") == [("t",)]
            else:
                hand_over(first, second)
            moved = time.monotonic()
            stack.postgres = second
            load.progress(50)
            assert time.monotonic() - moved < 30
            load.end()
            load.once_each()
            assert pids(stack) == before
    finally:
        first.stop()
        second.stop()


def hand_over(first: Postgres, second: Postgres) -> None:
    """The first stays up and keeps every connection, but takes no more writes."""
    first.sql("ALTER SYSTEM SET default_transaction_read_only = on")
    first.sql("SELECT pg_reload_conf()")
    wait_until("the standby has everything", lambda: second.sql(
        f"SELECT pg_last_wal_replay_lsn() >= '{first.sql('SELECT pg_current_wal_lsn()')[0][0]}'") == [("t",)])
    assert second.sql("SELECT pg_promote()") == [("t",)]


def test_a_call_that_only_waits_hears_from_the_new_primary(tmp_path, redis, fault_provider):
    """Its gateway writes nothing meanwhile, so nothing is refused there; and no reply comes by way of Redis."""
    first = Postgres(tmp_path / "first", fsync="off")
    second = Postgres(tmp_path / "second", standby_of=first, fsync="off")
    try:
        with Stack(tmp_path / "s", redis, first, fault_provider, env={"REAPER_OUTBOX_BASE_MS": "500"}) as stack:
            stack.env["DATABASE_URL"] = (f"postgresql://postgres@127.0.0.1:{first.port},127.0.0.1:{second.port}/"
                                         f"{stack.database}?target_session_attrs=read-write")
            restart_with(stack)
            client = stack.client()
            assert stack.workers.pop().stop(20) == 0
            with ThreadPoolExecutor(1) as pool:
                call = pool.submit(client.create)
                wait_until("the job", lambda: stack.sql("select count(*) from jobs") == [("1",)])
                time.sleep(1.2)  # by now it asks PostgreSQL
                hand_over(first, second)
                stack.postgres = second
                redis.cli("FLUSHALL")
                stack.workers.append(stack.start_worker())
                wait_until("done", lambda: stack.sql("select state from jobs") == [("done",)], 20)
                assert call.result(5)["status"] == "running"
    finally:
        first.stop()
        second.stop()


def restart_with(stack: Stack) -> None:
    """Every program again, with what stack.env says now."""
    for process in stack.processes:
        assert process.stop(20) == 0
    counts = len(stack.gateways), len(stack.workers), len(stack.reapers)
    stack.processes.clear()
    stack.workers = [stack.start_worker() for _ in range(counts[1])]
    stack.reapers = [stack.spawn("reaper", "sandbox-reaper") for _ in range(counts[2])]
    stack.gateways = [stack.start_gateway() for _ in range(counts[0])]


# ---- both restart -------------------------------------------------------------------------------------

def test_redis_and_postgres_restart_in_order_under_load(tmp_path, fault_provider):
    redis, postgres = Redis(tmp_path / "redis"), Postgres(tmp_path / "pg", fsync="off")
    try:
        with Stack(tmp_path / "s", redis, postgres, fault_provider, workers=2, gateways=2) as stack:
            before, load = pids(stack), Load(stack)
            for service in (redis, postgres, redis):
                load.progress()
                # an administrator's restart: SIGTERM to Redis, a fast shutdown of PostgreSQL
                service.process.stop(20, 15 if service is redis else 2)
                service.restart()
            load.progress()
            load.end()
            load.once_each()
            assert pids(stack) == before
    finally:
        redis.stop()
        postgres.stop()
