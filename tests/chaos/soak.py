#!/usr/bin/python3
"""A long run of ordinary load, in which nothing may grow: memory, file descriptors, connections,
pending entries, the list of consumers, the streams.

    tests/chaos/soak.py [--seed N] [--seconds N]

Nothing is broken but one thing that adds something each time: a worker is replaced every half
minute, by SIGTERM and by SIGKILL in turn, and its consumers must be removed. A sample is taken each
second; what a quantity was in the second quarter of the time is compared with the last quarter.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.chaos.clients import Crowd  # noqa: E402
from tests.chaos.cluster import Cluster  # noqa: E402

CLIENTS = 16
REPLACE_S, QUIET_S = 30, 60
# (a gateway's file descriptors are mostly its clients' connections, which come and go)
# quantity -> what the median of the last quarter may exceed that of the second by
SLACK = {"rss_kb": 2048, "fds": 10, "connections": 3, "redis_connections": 4, "pending": 16, "consumers": 18, "length": 32, "reply_keys": 1}


def sample(cluster: Cluster, steady: list) -> dict[str, float]:
    """One look at everything that could grow. Members that are replaced begin anew and tell nothing."""
    values: dict[str, float] = {}
    for member in steady:
        values[f"{member.name} rss_kb"] = member.rss_bytes() / 1024
        values[f"{member.name} fds"] = member.fd_count()
    streams = cluster.streams()
    values["pending"] = sum(s["pending"] for s in streams.values())
    values["length"] = sum(s["length"] for s in streams.values())
    values["consumers"] = sum(len(s["consumers"]) for s in streams.values())
    values["connections"] = cluster.count("select count(*) from pg_stat_activity where application_name like 'sandbox-%'")
    values["redis_connections"] = cluster.redis.cli("CLIENT", "LIST", "TYPE", "normal").count("addr=")
    values["reply_keys"] = len(cluster.redis.cli("KEYS", "sandbox:reply:*").splitlines())
    return values


def grown(samples: list[dict[str, float]]) -> list[str]:
    """Prints what each quantity did; returns those that grew."""
    quarter, wrong = len(samples) // 4, []
    for name in samples[-1]:
        early = statistics.median(s[name] for s in samples[quarter:2 * quarter])
        late = statistics.median(s[name] for s in samples[-quarter:])
        slack = SLACK[name.split()[-1]]
        peak = max(s[name] for s in samples)
        bad = late > early + slack
        print(f"  {'GREW' if bad else 'ok  '} {name:<24} {early:10.0f} -> {late:10.0f}   (peak {peak:.0f}, slack {slack})")
        if bad:
            wrong.append(name)
    return wrong


def replace_worker(member, number: int) -> None:
    sig = signal.SIGTERM if number % 2 else signal.SIGKILL
    member.may_be_down = True
    member.send(sig)
    member.proc.wait(20)
    member.start()
    member.may_be_down = False


def run(seed: int, seconds: float, folder: Path) -> int:
    cluster = Cluster(folder, seed)
    wrong: list[str] = []
    try:
        crowd, tick = Crowd(cluster, seed, CLIENTS, pause_s=(0.02, 0.3)), threading.Event()
        replaced = cluster.of("worker")[-1]
        steady = [m for m in cluster.members if m is not replaced]
        crowd.start()
        start = time.monotonic()
        samples, replacements = [], 0
        while (passed := time.monotonic() - start) < seconds:
            tick.wait(1.0)
            samples.append(sample(cluster, steady))
            if passed > (replacements + 1) * REPLACE_S:
                replacements += 1
                replace_worker(replaced, replacements)
        crowd.finish()
        if cluster.wait_quiet(QUIET_S) >= QUIET_S:
            wrong.append(f"after {QUIET_S} s {cluster.unfinished()} jobs are left, {cluster.disagreements()} sandboxes are not what "
                         f"the provider has, streams {cluster.streams()}")
        jobs = cluster.count("select count(*) from jobs")
        wrong += crowd.errors + cluster.deaths()
        print(f"  requests {len(crowd.requests)}, jobs {jobs}, samples {len(samples)}, workers replaced {replacements}")
        wrong += [f"{name} grew" for name in grown(samples)]
        if len(samples) < seconds / 4 or jobs < seconds:
            wrong.append("too few samples or jobs to tell")
    finally:
        wrong += cluster.stop()
    for line in wrong:
        print(f"WRONG {line}")
    return len(wrong)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=600)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="sandbox-soak-"))
    os.chmod(folder, 0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: told to end"))  # and nothing stays behind
    print(f"soak: seed {options.seed}, {options.seconds:.0f} s", flush=True)
    bad = run(options.seed, options.seconds, folder)
    print("soak: nothing grew" if bad == 0 else f"soak: {bad} things are wrong; logs are in {folder}")
    if bad == 0:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
