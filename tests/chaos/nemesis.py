"""What goes wrong, when: a sequence of faults, and pairs of them, drawn from one seed.

Each fault is a generator: it breaks something, yields how many seconds it lasts, and mends it. Every
kind comes once before any comes twice, in an order of the seed's choosing. What was done is kept in
`windows`, for the invariants that need to know and for the history.
"""

from __future__ import annotations

import random
import shutil
import signal
import threading
import time

from tests.chaos.cluster import LEASE_S, Cluster

PAIR = 0.4  # of the faults come with a second one at the same time

# route, and what its fault may be; each with the effect, or without it
PROVIDER_FAULTS = [
    {"mode": "status", "status": 500}, {"mode": "status", "status": 503}, {"mode": "status", "status": 502},
    {"mode": "status", "status": 429, "headers": {"Retry-After": "1"}}, {"mode": "status", "status": 429},
    {"mode": "status", "status": 408}, {"mode": "hang"}, {"mode": "hang_after"}, {"mode": "slow"}, {"mode": "reset_before"},
    {"mode": "reset_after"}, {"mode": "late", "delay_ms": 400}, {"mode": "late", "delay_ms": 1500},
    {"mode": "late", "delay_ms": 6000}, {"mode": "garbage"},
    {"mode": "cut"}, {"mode": "truncated"}, {"mode": "content_type"}, {"mode": "huge"}, {"mode": "delay", "delay_ms": 1200},
]
# a refusal that is wrong: a proxy's, and one that looks like the provider's own
DENIALS = [{"mode": "html", "status": 404}, {"mode": "html", "status": 403}, {"mode": "status", "status": 404},
           {"mode": "status", "status": 403}, {"mode": "status", "status": 404, "body": {"message": "no Route matched"}}]
LIST_FAULTS = [{"mode": "stale", "delay_ms": 1500}, {"mode": "page_error"}, {"mode": "page_error", "status": 429}]
ROUTES = ("create", "get", "list", "delete", "pause", "connect", "timeout", "*")


class Nemesis:
    def __init__(self, cluster: Cluster, seed: int, without: tuple[str, ...] = ()):
        self.cluster, self.rng = cluster, random.Random(f"nemesis-{seed}")
        self.windows: list[dict] = []
        self.errors: list[str] = []
        self.busy: set[str] = set()  # what a fault under way has taken, so that a second one leaves it alone
        self.bag: list = []
        kinds = [self.kill_worker, self.kill_gateway, self.kill_reaper, self.kill_all_workers, self.end_member,
                 self.freeze_worker_one_lease, self.freeze_worker_two_leases, self.freeze_other, self.kill_redis,
                 self.kill_redis_without_aof, self.flushall, self.stop_postgres, self.kill_backends,
                 self.provider_loses, self.proxy_stalls, self.proxy_holds, self.proxy_resets,
                 self.proxy_is_slow, self.proxy_holds_commits, self.proxy_holds_commits]
        kinds += [self.provider_denies, self.provider_denies, self.wrong_url, self.wrong_team, self.part_is_hidden, self.list_and_get_disagree]
        self.kinds = [k for k in kinds + 4 * [self.provider_misbehaves] if k.__name__ not in without]

    # ---- members -----------------------------------------------------------------------------

    def pick(self, *kinds: str):
        free = [m for m in self.cluster.members if m.kind in kinds and m.name not in self.busy]
        return self.rng.choice(free) if free else None

    def down(self, members: list, sig: int, seconds: float):
        """Ends members by a signal, and starts them again after `seconds`."""
        members = [m for m in members if m is not None]
        self.busy |= {m.name for m in members}
        for member in members:
            member.may_be_down = True
            if member.alive():
                member.send(sig)
        for member in members:
            if sig == signal.SIGKILL:
                member.proc.wait()
            elif member.stop(20, signal.SIGCONT) != 0:  # SIGCONT: only waits for the end
                self.errors.append(f"{member.name} ended with status {member.proc.returncode} after SIGTERM")
        yield ",".join(m.name for m in members), seconds
        for member in members:
            member.start()
        for member in members:
            self.cluster.wait_listening(member)
            member.may_be_down = False
        self.busy -= {m.name for m in members}

    def freeze(self, member, seconds: float):
        if member is None:
            return
        self.busy.add(member.name)
        member.send(signal.SIGSTOP)
        yield member.name, seconds
        member.send(signal.SIGCONT)
        self.busy.discard(member.name)

    def kill_worker(self):
        return self.down([self.pick("worker")], signal.SIGKILL, self.rng.uniform(0, 3))

    def kill_gateway(self):
        return self.down([self.pick("gateway")], signal.SIGKILL, self.rng.uniform(0, 2))

    def kill_reaper(self):
        return self.down([self.pick("reaper")], signal.SIGKILL, self.rng.uniform(0, 3))

    def kill_all_workers(self):
        free = [m for m in self.cluster.of("worker") if m.name not in self.busy]
        return self.down(free, signal.SIGKILL, self.rng.uniform(0, 2))

    def end_member(self):
        return self.down([self.pick("worker", "gateway", "reaper")], signal.SIGTERM, self.rng.uniform(0, 1))

    def freeze_worker_one_lease(self):
        return self.freeze(self.pick("worker"), LEASE_S * 1.05)

    def freeze_worker_two_leases(self):
        return self.freeze(self.pick("worker"), LEASE_S * 2.1)

    def freeze_other(self):
        return self.freeze(self.pick("gateway", "reaper"), self.rng.uniform(1, 5))

    # ---- services ----------------------------------------------------------------------------

    def take(self, what: str) -> bool:
        if what in self.busy:
            return False
        self.busy.add(what)
        return True

    def redis_down(self, keep: bool):
        if not self.take("redis"):
            return
        self.cluster.redis.process.kill9()
        if not keep:
            shutil.rmtree(self.cluster.redis.folder / "appendonlydir", ignore_errors=True)
        yield "", self.rng.uniform(0.2, 3)
        self.cluster.redis.restart()
        self.busy.discard("redis")

    def kill_redis(self):
        return self.redis_down(True)

    def kill_redis_without_aof(self):
        return self.redis_down(False)

    def flushall(self):
        if "redis" in self.busy:
            return
        self.cluster.redis.cli("FLUSHALL")
        yield "", 0

    def stop_postgres(self):
        if not self.take("postgres"):
            return
        self.cluster.postgres.process.stop(20, signal.SIGQUIT)  # immediate: no checkpoint, recovery at the start
        yield "immediate", self.rng.uniform(0.2, 3)
        self.cluster.postgres.restart()
        self.busy.discard("postgres")

    def kill_backends(self):
        if not self.take("postgres"):
            return
        for _ in range(3):
            self.cluster.postgres.sql("select count(pg_terminate_backend(pid)) from pg_stat_activity "
                                      "where application_name like 'sandbox-%'")
            yield "", 0.2
        self.busy.discard("postgres")

    # ---- the provider, and the ways to it ----------------------------------------------------

    def provider_misbehaves(self):
        if not self.take("provider"):
            return
        faults = []
        for number in range(self.rng.randint(1, 3)):
            # the one call that must not be repeated blindly, more often than the others
            route = "create" if number == 0 and self.rng.random() < 0.6 else self.rng.choice(ROUTES)
            kinds = PROVIDER_FAULTS + (LIST_FAULTS * 3 if route == "list" else [])
            faults.append({"route": route, "times": -1, "probability": self.rng.choice([0.2, 0.5, 1.0])} | self.rng.choice(kinds))
        self.cluster.provider.faults(*faults)
        told = "; ".join(f"{f['route']} {f['mode']}{f.get('status', '')} {f['probability']}" for f in faults)
        yield told, self.rng.uniform(1, 5)
        self.cluster.provider.faults()
        self.busy.discard("provider")

    def provider_answers(self, told: str, seconds: float, *faults: dict):
        if not self.take("provider"):
            return
        self.cluster.provider.faults(*({"times": -1} | fault for fault in faults))
        yield told, seconds
        self.cluster.provider.faults()
        self.busy.discard("provider")

    def provider_denies(self):
        """A single wrong refusal on each route, so that every kind of call meets one."""
        faults = [{"route": route, "times": 1} | self.rng.choice(DENIALS) for route in ROUTES if route != "*"]
        return self.provider_answers("; ".join(f"{f['route']} {f['mode']} {f['status']}" for f in faults), self.rng.uniform(2, 4), *faults)

    def wrong_url(self):
        return self.provider_answers("", self.rng.uniform(2, 6), {"route": "*", "mode": "html"})

    def wrong_team(self):
        return self.provider_answers("", self.rng.uniform(2, 8), {"route": "*", "mode": "stranger"})

    def part_is_hidden(self):
        """A node out of reach: for a moment, or for longer than its rows live without it."""
        share = self.rng.choice([0.2, 0.5, 0.9])
        return self.provider_answers(f"{share}", self.rng.choice([2, 9]), {"route": "*", "mode": "hidden", "share": share})

    def list_and_get_disagree(self):
        hidden = self.rng.choice([["list"], ["get", "pause", "connect", "timeout"]])
        return self.provider_answers(f"not shown by {','.join(hidden)}", self.rng.choice([3, 9]),
                                     *({"route": route, "mode": "hidden", "share": 0.5} for route in hidden))

    def provider_loses(self):
        ids = sorted(self.cluster.provider.state()["sandboxes"])
        lost = self.rng.sample(ids, min(len(ids), self.rng.randint(1, 2)))
        for pid in lost:
            self.cluster.provider.forget(pid)
        yield ",".join(lost), 0

    def through_proxy(self, mode: str, seconds: float, ms: int = 0, service: str = ""):
        route = self.rng.choice([name for name in sorted(self.cluster.ports) if name.startswith(service)])
        if mode == "hold" and route.startswith("provider"):
            seconds = min(seconds, 2)  # what it delivers must not come after the settle window
        if not self.take(route):
            return
        self.cluster.set_proxy(route, mode, ms)
        yield f"{route} {ms or ''}".strip(), seconds
        self.cluster.set_proxy(route, "pass")
        self.busy.discard(route)

    def proxy_stalls(self):
        return self.through_proxy("stall", self.rng.uniform(1, 6))

    def proxy_holds(self):
        return self.through_proxy("hold", self.rng.uniform(1, LEASE_S * 1.8))

    def proxy_holds_commits(self):
        """What a worker wrote arrives when its lease has just run out and another has the job."""
        return self.through_proxy("hold", LEASE_S + self.rng.uniform(0, 1.2), service="postgres")

    def proxy_resets(self):
        return self.through_proxy("reset", self.rng.choice([0, 0.5, 2]))

    def proxy_is_slow(self):
        return self.through_proxy("latency", self.rng.uniform(1, 4), self.rng.choice([20, 100, 400]))

    # ---- the sequence ------------------------------------------------------------------------

    def begin(self) -> dict | None:
        if not self.bag:
            self.bag = list(self.kinds)
            self.rng.shuffle(self.bag)
        kind = self.bag.pop()
        window = {"what": kind.__name__, "target": "", "t0": time.time(), "t1": None}
        steps = kind()
        try:
            window["target"], seconds = next(steps)
        except StopIteration:
            return None  # what it needs is taken
        self.windows.append(window)
        return window | {"steps": steps, "seconds": seconds, "window": window}

    def finish(self, fault: dict, stop: threading.Event) -> None:
        seconds = fault["seconds"]
        while True:
            left = fault["window"]["t0"] + seconds - time.time()
            stop.wait(max(0, left))
            try:
                _, more = next(fault["steps"])
                seconds += more
            except StopIteration:
                break
        fault["window"]["t1"] = time.time()

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; then what is broken is mended at once."""
        try:
            while not stop.is_set():
                faults = [f for f in (self.begin(), self.begin() if self.rng.random() < PAIR else None) if f]
                for fault in sorted(faults, key=lambda f: f["seconds"]):
                    self.finish(fault, stop)
                stop.wait(self.rng.uniform(0.3, 1.5))
        except Exception as exc:  # noqa: BLE001 - the run must not pass when its nemesis has failed
            self.errors.append(f"nemesis: {exc!r}")
            raise

    def overlaps(self, start: float, end: float, *kinds: str) -> bool:
        """Was a fault of one of these kinds (name or its beginning) under way?"""
        return any(w["t0"] <= end and (w["t1"] or end) >= start for w in self.windows if w["what"].startswith(kinds))
