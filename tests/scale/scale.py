#!/usr/bin/python3
"""Shows how creates per second grow with the number of workers, in the compose deployment.

    tests/scale/scale.py [--workers 1,2,4] [--seconds 20] [--in-flight 8] [--delay-ms 200]

Needs a Docker engine and `docker compose` or `docker-compose`. Brings a project of its own up
(`sandbox-scale`), measures, takes it down with its volumes. The provider is a double that answers
each call after the given delay; its own list of sandboxes is compared with the database at the end.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.scale.deployment import BASE, GATEWAY_PORT, PROVIDER_PORT, Deployment, call  # noqa: E402


def measure(token: str, clients: int, seconds: float) -> tuple[float, int]:
    """Creates per second in the steady middle of the run, and the number of calls that failed."""
    ends: list[float] = []
    failed = 0
    lock = threading.Lock()
    start = time.monotonic()
    warm, until = start + 3, start + 3 + seconds

    def client() -> None:
        nonlocal failed
        connection = http.client.HTTPConnection("127.0.0.1", GATEWAY_PORT, timeout=90)
        while time.monotonic() < until:
            status, _ = call(GATEWAY_PORT, "POST", f"{BASE}/create", {"user_id": "scale"}, token, connection)
            with lock:
                if status == 200:
                    ends.append(time.monotonic())
                else:
                    failed += 1
        connection.close()

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(warm <= end < until for end in ends) / seconds, failed


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--in-flight", type=int, default=8)
    parser.add_argument("--delay-ms", type=int, default=200)
    options = parser.parse_args()
    counts = [int(n) for n in options.workers.split(",")]
    deployment = Deployment(options.in_flight)
    try:
        deployment.down()
        deployment.up(counts[0], "--build")
        token = deployment.login()
        call(PROVIDER_PORT, "POST", "/_config", {"delay_ms": options.delay_ms})
        limit = options.in_flight * 1000 / options.delay_ms
        print(f"provider answers after {options.delay_ms} ms, {options.in_flight} calls in flight per worker: "
              f"at most {limit:.0f} creates/s each", flush=True)
        first = 0.0
        for count in counts:
            deployment.up(count)
            rate, failed = measure(token, 4 * options.in_flight * count, options.seconds)
            first = first or rate
            print(f"{count} worker{'s' if count > 1 else ' '}  {rate:7.1f} creates/s  {rate / first:5.2f}x  {failed} failed", flush=True)
        ours, there = deployment.in_database(), deployment.at_provider()
        print(f"{len(ours)} sandboxes in the database, {len(there)} at the provider")
        return 0 if ours == there else 1
    finally:
        deployment.down()


if __name__ == "__main__":
    sys.exit(main())
