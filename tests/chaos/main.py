#!/usr/bin/python3
"""A chaos run: random clients against the whole system while a nemesis breaks it, then the invariants.

    tests/chaos/main.py [--seed N] [--seconds N] [--folder DIR] [--without FAULT,FAULT]
    tests/chaos/main.py --check DIR/evidence.json

Everything random comes from the seed. After `seconds` all is mended, work comes to rest, and what is
left is checked by SQL, redis-cli and the provider's own log. The status is 0 when every invariant
holds; else the seed, what was violated and the histories of the sandboxes concerned are printed, and
the folder with all logs and the evidence is kept.
"""

from __future__ import annotations

import argparse
import collections
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.chaos import evidence as taking  # noqa: E402
from tests.chaos.clients import Crowd  # noqa: E402
from tests.chaos.cluster import Cluster  # noqa: E402
from tests.chaos.history import tell  # noqa: E402
from tests.chaos.invariants import INVARIANTS, Evidence, check  # noqa: E402
from tests.chaos.nemesis import Nemesis  # noqa: E402

CLIENTS = 16
QUIET_S = 60.0  # for all work to come to rest after the mending
HISTORIES_MAX = 3


def listing(counts: collections.Counter) -> str:
    return ", ".join(f"{name} {count}" for name, count in counts.most_common())


def claim_of(e: Evidence, pid: str, sandbox: str) -> float:
    """When the attempt began by which this provider id came into the row."""
    known = min(a["at"] for a in e.box_audit if a["provider_id"] == pid)
    return max((a["at"] for a in e.job_audit if a["sandbox"] == sandbox and a["new"] == "running" and a["at"] < known), default=0)


def numbers(e: Evidence) -> list[str]:
    """What the run consisted of: a green run of nothing proves nothing."""
    states = collections.Counter(j["state"] for j in e.jobs)
    answers = collections.Counter(r["status"] for r in e.requests)
    events = collections.Counter(x["event"] for x in e.logs)
    named = e.named()
    creates = [t for t in e.truth if t.get("effect") == "create"]
    adopted = sum(t["id"] in named and claim_of(e, t["id"], named[t["id"]]) > t["t"] for t in creates)
    killed = sum(1 for t in creates if t["id"] not in named)
    faults = collections.Counter(w["what"] for w in e.windows)
    reasons = collections.Counter(event["reason"] for event in e.events)
    misbehaved = sum(1 for t in e.truth if t.get("call") and t["fault"])
    return [
        f"requests {len(e.requests)} ({listing(answers)}; 0 is no answer)",
        f"jobs {len(e.jobs)} ({listing(states)}), sandboxes {len(e.boxes)}",
        f"faults {len(e.windows)} ({listing(faults)}), provider calls that misbehaved {misbehaved}",
        f"missing {reasons['missing_at_provider']}, seen again {reasons['seen_at_provider']}, lost {reasons['provider_lost']}, "
        f"given back {reasons['given_back']}, reached at the end {len(e.reached)}",
        f"creates at the provider {len(creates)}, adopted {adopted}, orphans killed {killed}; leases taken over "
        f"{sum(j['crashes'] > 0 for j in e.jobs)}, fenced {events['job.fenced'] + events['job.lease_lost']}; samples {e.samples}",
    ]


def report(e: Evidence, wrong: list[str]) -> int:
    """Prints the numbers and every violation; returns how many there are."""
    for line in numbers(e):
        print(f"  {line}")
    violations = check(e)
    for number in sorted({v.number for v in violations}):
        mine = [v for v in violations if v.number == number]
        titles = "; ".join(title for n, title, _ in INVARIANTS if n == number)
        print(f"VIOLATED invariant {number}: {titles} ({len(mine)} times)")
        for violation in mine[:8]:
            print(f"    {violation.text}" + (f" (sandbox {violation.sandbox})" if violation.sandbox else ""))
    for line in wrong:
        print(f"WRONG {line}")
    concerned = list(dict.fromkeys(v.sandbox for v in violations if v.sandbox))
    for sandbox in concerned[:HISTORIES_MAX]:
        print(tell(e, sandbox))
    return len(violations) + len(wrong)


def run(seed: int, seconds: float, folder: Path, without: tuple[str, ...]) -> int:
    cluster = Cluster(folder, seed)
    wrong: list[str] = []
    try:
        crowd, nemesis, stop = Crowd(cluster, seed, CLIENTS), Nemesis(cluster, seed, without), threading.Event()
        sampler = taking.Sampler(cluster)
        killer = threading.Thread(target=nemesis.run, args=(stop,), name="nemesis", daemon=True)
        crowd.start()
        stop.wait(1.0)
        before = cluster.usage()
        killer.start()
        stop.wait(seconds)
        stop.set()
        killer.join()
        deaths = cluster.deaths()
        cluster.heal()
        crowd.finish()
        quiet = cluster.wait_quiet(QUIET_S)
        if redriven := cluster.redrive_dead_deletes():
            print(f"  {redriven} dead deletes redriven")
        crowd.ask_again()
        quiet += cluster.wait_quiet(QUIET_S)
        reached = crowd.reach_all()
        quiet += cluster.wait_quiet(QUIET_S)
        sampler.finish()
        evidence, moved = taking.take(cluster, crowd, nemesis, sampler, before, deaths + cluster.deaths())
        evidence.reached = reached
        wrong += moved
        wrong += crowd.errors + nemesis.errors
        print(f"  quiet {quiet:.1f} s after the mending")
    finally:
        wrong += cluster.stop()
    taking.save(evidence, folder / "evidence.json")
    return report(evidence, wrong)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--without", default="", help="faults (as the numbers name them) that are left out")
    parser.add_argument("--check", type=Path)
    options = parser.parse_args()
    if options.check:
        return 1 if report(taking.load(options.check), []) else 0
    folder = options.folder or Path(tempfile.mkdtemp(prefix="sandbox-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("chaos: told to end"))  # and nothing stays behind
    print(f"chaos: seed {options.seed}, {options.seconds:.0f} s", flush=True)
    start = time.monotonic()
    violations = run(options.seed, options.seconds, folder, tuple(options.without.split(",")))
    verdict = "green" if violations == 0 else f"{violations} VIOLATIONS; logs and evidence are in {folder}"
    print(f"chaos: seed {options.seed}, {time.monotonic() - start:.0f} s in all: {verdict}")
    if violations == 0 and options.folder is None:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
