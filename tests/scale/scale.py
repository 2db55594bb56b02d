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
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "sandbox-scale"
BASE = "/agent/sandboxes/sandboxes"
USER, PASSWORD = "scale", "TestPass123!"
GATEWAY_PORT, PROVIDER_PORT = 8790, 9700


def compose_command() -> list[str]:
    v2 = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    if not v2 and not shutil.which("docker-compose"):
        sys.exit("scale: needs docker compose (v2) or docker-compose (1.29)")
    return ["docker", "compose"] if v2 else ["docker-compose"]


class Deployment:
    def __init__(self, in_flight: int):
        self.command = compose_command() + ["-p", PROJECT, "-f", "docker-compose.yml", "-f", "tests/scale/compose.yml"]
        self.env = dict(os.environ, WORKER_MAX_IN_FLIGHT=str(in_flight), GATEWAY_PUBLISH=f"127.0.0.1:{GATEWAY_PORT}",
                        SCALE_PROVIDER_PORT=str(PROVIDER_PORT), E2B_API_KEY="", LOG_LEVEL="warn")

    def run(self, *args: str, input: str | None = None) -> str:
        done = subprocess.run(self.command + list(args), cwd=ROOT, env=self.env, input=input, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"scale: {' '.join(args)}: {done.stderr[-2000:]}")
        return done.stdout

    def up(self, workers: int, *more: str) -> None:
        self.run("up", "-d", "--scale", f"lifecycle-worker={workers}", *more)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if f"ok ({workers})" in call(GATEWAY_PORT, "GET", "/readyz")[1]:
                return
            time.sleep(0.2)
        sys.exit(f"scale: {workers} workers did not come up")

    def down(self) -> None:
        subprocess.run(self.command + ["down", "-v", "-t", "5"], cwd=ROOT, env=self.env, capture_output=True)


def call(port: int, method: str, path: str, body: object = None, token: str = "", connection=None) -> tuple[int, str]:
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    headers = {"User-Agent": "scale/1.0", "X-Request-ID": str(uuid.uuid4()), "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        own.request(method, path, None if body is None else json.dumps(body), headers)
        answer = own.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as exc:
        if connection:
            raise
        return 0, str(exc)
    finally:
        if connection is None:
            own.close()


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
        deployment.run("exec", "-T", "gateway", "sandbox-gateway", "user", "add", USER, "--password-stdin", input=PASSWORD)
        status, text = call(GATEWAY_PORT, "POST", f"/api/v1/auth/login/swagger?username={USER}&password={PASSWORD}")
        token = json.loads(text)["access_token"]
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
        rows = deployment.run("exec", "-T", "postgres", "psql", "-U", "sandbox", "-d", "sandbox", "-Atc",
                              "select count(*) from sandboxes where status = 'running'").strip()
        there = len(json.loads(call(PROVIDER_PORT, "GET", "/_state")[1])["sandboxes"])
        print(f"{rows} sandboxes running in the database, {there} at the provider")
        return 0 if int(rows) == there else 1
    finally:
        deployment.down()


if __name__ == "__main__":
    sys.exit(main())
