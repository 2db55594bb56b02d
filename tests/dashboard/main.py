#!/usr/bin/python3
"""The Grafana dashboard with live data, as a picture.

    tests/dashboard/main.py [--seconds N] --out FILE.png

A whole system (two gateways, three workers, two reapers, two providers) runs under random load for
that time and has its bad moments; a real Prometheus scrapes it as it does when deployed; then a real
browser draws the dashboard and takes the picture (shot.mjs). It is drawn with the libraries of
components that Grafana is made of: Grafana's server is not here.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.chaos.clients import Crowd  # noqa: E402
from tests.harness.node import npm_ci  # noqa: E402
from tests.harness.prometheus import Prometheus  # noqa: E402
from tests.harness.providers import Pair  # noqa: E402
from tests.harness.services import Postgres, Process, Redis  # noqa: E402
from tests.harness.stack import Stack  # noqa: E402

HERE = ROOT / "tests/dashboard"
CLIENTS = 24
# so that orphans are found within the time
RECONCILE = {"REAPER_RECONCILE_MS": "10000", "WORKER_RECONCILE_MIN_AGE_MS": "8000"}
EVERYDAY = [{"route": "*", "mode": "delay", "delay_ms": 900, "probability": 0.04, "times": -1},
            {"route": "*", "mode": "status", "status": 500, "probability": 0.03, "times": -1},
            {"route": "*", "mode": "status", "status": 429, "headers": {"Retry-After": "1"}, "probability": 0.01, "times": -1}]
DOWN = [{"route": "*", "mode": "status", "status": 503, "times": -1}]


def tell(processes: list[Process], sig: signal.Signals) -> None:
    for process in processes:
        process.send(sig)


def lose_and_orphan(stack: Stack, pair: Pair) -> None:
    """The provider loses sandboxes, and has one that no row names."""
    for (provider_id,) in stack.sql("select provider_sandbox_id from sandboxes where status = 'paused' and provider = 'e2b' limit 5"):
        pair.e2b.forget(provider_id)
    [(deployment,)] = stack.sql("select id from deployment")
    pair.e2b.seed(*[{"sandbox_deployment": deployment, "sandbox_id": str(uuid.uuid4()), "sandbox_job": "j"} for _ in range(3)])


def bad_moments(stack: Stack, pair: Pair) -> list[tuple[float, object]]:
    """(after which part of the time, what happens)"""
    return [(0.00, lambda: pair.e2b.faults(*EVERYDAY)),
            (0.25, lambda: pair.e2b.faults(*DOWN)),
            (0.35, lambda: pair.e2b.faults(*EVERYDAY)),
            (0.55, lambda: tell(stack.workers, signal.SIGSTOP)),
            (0.60, lambda: tell(stack.workers, signal.SIGCONT)),
            (0.70, lambda: lose_and_orphan(stack, pair)),
            (0.80, stack.workers[0].kill9),
            (0.90, stack.start_worker),
            (1.00, lambda: None)]


def live(seconds: float, folder: Path, undo: contextlib.ExitStack) -> str:
    """Runs the system for that time, and leaves it running until `undo`. Prometheus' URL."""
    def keep(service):
        undo.callback(service.stop)
        return service

    pair = keep(Pair(folder))
    pair.e2b.config(delay_ms=60, jitter_ms=150)
    pair.daytona.config(delay_ms=120)
    stack = keep(Stack(folder / "stack", keep(Redis(folder / "redis")), keep(Postgres(folder)), pair,
                       gateways=2, workers=3, reapers=2, env=RECONCILE))
    prometheus = keep(Prometheus(folder, [gateway.url for gateway in stack.gateways], scrape_interval="5s"))
    crowd = Crowd(SimpleNamespace(stack=stack, of=lambda _: stack.gateways), 1, CLIENTS)
    crowd.start()
    undo.callback(crowd.finish)
    start = time.monotonic()
    for part, happen in bad_moments(stack, pair):
        time.sleep(max(0.0, start + part * seconds - time.monotonic()))
        happen()
    if crowd.errors:
        raise AssertionError(crowd.errors)
    return prometheus.url


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    npm_ci(HERE)
    print(f"dashboard: the system runs for {options.seconds:.0f} s", flush=True)
    with contextlib.ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="sandbox-dashboard-")))
        folder.chmod(0o755)  # PostgreSQL's user goes through it
        url = live(options.seconds, folder, undo)
        now = time.time()
        shot = subprocess.run(["node", "shot.mjs", url, str(int((now - options.seconds) * 1000)), str(int(now * 1000)),
                               str(options.out.resolve())], cwd=HERE)
    if shot.returncode == 0:
        subprocess.run(["pngquant", "--force", "--speed=1", "--output", options.out, options.out], check=True)
        print(f"dashboard: {options.out}")
    return shot.returncode


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("dashboard: told to end"))  # and nothing stays behind
    sys.exit(main())
