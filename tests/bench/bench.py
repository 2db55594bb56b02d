#!/usr/bin/python3
"""`make bench`: the figures this system promises, each beside the machine's own limit in the same
run, as a ratio: figures of different machines and hours can then be compared.

Everything runs on loopback and is bounded in time (about a minute and a half in all).
"""

from __future__ import annotations

import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
for name in list(os.environ):
    if re.match(r"(E2B|DAYTONA|SANDBOX|REDIS|DATABASE|GATEWAY|WORKER|REAPER|JWT|RUN_CMD)_", name):
        del os.environ[name]

from tests.harness.services import Postgres, Process, Redis, free_port, wait_until  # noqa: E402
from tests.harness.stack import BASE, FaultProvider, SandboxHost, Stack  # noqa: E402

import httpx  # noqa: E402

rows: list[tuple[str, str, str, str]] = []


# one user asks for all of it
UNLIMITED = {"GATEWAY_CALLS_PER_SECOND": "0", "SANDBOX_MAX_PER_USER": "0", "GATEWAY_USER_SHARE_PERCENT": "100"}


def row(what: str, value: str, limit: str = "", ratio: str = "") -> None:
    rows.append((what, value, limit, ratio))
    print(f"  {what:<58} {value:>16} {limit:>34} {ratio:>7}", flush=True)


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.1f} ms"


def p50(values: list[float]) -> float:
    return statistics.median(values)


def p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def post(port: int, path: str, key: str, body: dict) -> tuple[float, dict]:
    """One POST without our system between; http.client sends at once (TCP_NODELAY)."""
    link = http.client.HTTPConnection("127.0.0.1", port)
    start = time.monotonic()
    link.request("POST", path, json.dumps(body), {"X-API-Key": key, "Content-Type": "application/json"})
    answer = json.loads(link.getresponse().read())
    took = time.monotonic() - start
    link.close()
    return took, answer


def wrk(url: str, headers: dict[str, str], connections: int = 64, seconds: int = 5) -> tuple[float, str]:
    argv = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    for key, value in headers.items():
        argv += ["-H", f"{key}: {value}"]
    text = subprocess.run([*argv, url], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        raise SystemExit(f"bench: {url} answered errors:\n{text}")
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text).group(1))
    return rate, re.search(r"99%\s+(\S+)", text).group(1)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-", ignore_cleanup_errors=True) as temp:
        os.chmod(temp, 0o755)
        folder = Path(temp)
        redis, postgres = Redis(folder / "redis"), Postgres(folder)
        try:
            run(folder, redis, postgres)
        finally:
            redis.stop()
            postgres.stop()


def run(folder: Path, redis: Redis, postgres: Postgres) -> None:
    print(f"  {'figure':<58} {'measured':>16} {'limit in the same run':>34} {'ratio':>7}")

    # ---- limits of this machine, now
    hello = folder / "hello"
    subprocess.run(["gcc", "-O2", "-o", str(hello), str(ROOT / "tests/bench/hello.c"), "-lcivetweb", "-pthread"], check=True)
    port = free_port()
    bare = Process("hello", [str(hello), str(port)], None, folder / "hello.log")
    wait_until("hello", lambda: httpx.get(f"http://127.0.0.1:{port}/", trust_env=False).status_code == 200)
    bare_rate, _ = wrk(f"http://127.0.0.1:{port}/", {})
    bare.stop()
    text = subprocess.run(["redis-benchmark", "-p", str(redis.port), "-c", "50", "-n", "100000", "-q", "XADD",
                           "bench", "*", "job_id", "x" * 36, "op", "create"], capture_output=True, text=True).stdout
    xadd_rate = float(re.findall(r"([\d.]+) requests per second", text)[-1])
    redis.cli("DEL", "bench")
    env = dict(os.environ, PGHOST="127.0.0.1", PGPORT=str(postgres.port), PGUSER="postgres")
    pgbench = sorted(Path("/usr/lib/postgresql").glob("*/bin/pgbench"))[-1]
    postgres.sql("create database pgb")
    subprocess.run([pgbench, "-i", "-q", "pgb"], env=env, check=True, capture_output=True)
    text = subprocess.run([pgbench, "-S", "-M", "prepared", "-c8", "-j1", "-T4", "pgb"], env=env, capture_output=True, text=True).stdout
    select_rate = float(re.search(r"tps = ([\d.]+)", text).group(1))
    text = subprocess.run([pgbench, "-N", "-M", "prepared", "-c8", "-j1", "-T4", "pgb"], env=env, capture_output=True, text=True).stdout
    write_rate = float(re.search(r"tps = ([\d.]+)", text).group(1))
    row("machine: bare CivetWeb handler", f"{bare_rate:,.0f}/s")
    row("machine: redis-benchmark XADD -c50", f"{xadd_rate:,.0f}/s")
    row("machine: pgbench -S -c8 / -N -c8", f"{select_rate:,.0f}/s", f"{write_rate:,.0f}/s")

    # ---- with the local sandbox host: what a user feels
    host = SandboxHost(folder)
    with Stack(folder / "host-stack", redis, postgres, host, env=UNLIMITED) as stack:
        client = stack.client()
        for _ in range(3):
            client.remove(client.create()["sandbox_id"])
        taken, ids = [], []
        for _ in range(20):
            start = time.monotonic()
            ids.append(client.create()["sandbox_id"])
            taken.append(time.monotonic() - start)
        direct = []
        for _ in range(10):
            took, made = post(host.port, "/sandboxes", host.key, {"templateID": "base", "timeout": 60, "secure": True})
            direct.append(took)
            httpx.delete(f"{host.url}/sandboxes/{made['sandboxID']}", headers={"X-API-Key": host.key}, trust_env=False)
        row("create in all, p50 (want < 80 ms)", ms(p50(taken)), f"sandbox-host alone {ms(p50(direct))}", f"{p50(direct) / p50(taken):.2f}")
        taken = []
        for _ in range(50):
            start = time.monotonic()
            client.run(ids[0], "true")
            taken.append(time.monotonic() - start)
        row("run-cmd `true`, p50", ms(p50(taken)))
        rate, late = wrk(f"{stack.url}{BASE}/{ids[0]}/status", client.headers())
        row("GET status, 64 connections (p99 " + late + ")", f"{rate:,.0f}/s", f"bare handler {bare_rate:,.0f}/s", f"{rate / bare_rate:.2f}")
        for sid in ids:
            client.remove(sid)
    host.stop()

    # ---- with a provider of known delay: the queue itself
    provider = FaultProvider(folder)
    with Stack(folder / "queue-stack", redis, postgres, provider, env=UNLIMITED) as stack:
        client = stack.client()
        for _ in range(5):
            client.create()
        start_id = int(stack.sql("select count(*) from jobs")[0][0])
        taken, answered = [], []
        for _ in range(100):
            start = time.monotonic()
            client.create()
            taken.append(time.monotonic() - start)
            answered.append(time.time())
        times = [(float(a) * 1000, float(f)) for a, f in stack.sql(
            "select extract(epoch from started_at - created_at), extract(epoch from finished_at) from jobs "
            f"where op = 'create' order by created_at offset {start_id}")]
        start_hop = [a for a, _ in times]
        # both clocks are this machine's; the answer's way to the client is part of it
        answer_hop = [(at - finished) * 1000 for at, (_, finished) in zip(answered, times, strict=True)]
        both = [a + b for a, b in zip(start_hop, answer_hop, strict=True)]
        direct = []
        for _ in range(100):
            direct.append(post(provider.port, "/sandboxes", "k", {"templateID": "b", "timeout": 60})[0])
        row("accept to worker start, p50 / p99", f"{p50(start_hop):.2f} ms", f"p99 {p99(start_hop):.2f} ms")
        row("result to the waiting client, p50 / p99", f"{p50(answer_hop):.2f} ms", f"p99 {p99(answer_hop):.2f} ms")
        row("both hops together, p50 / p99 (want < 2 ms)", f"{p50(both):.2f} ms", f"p99 {p99(both):.2f} ms")
        row("create over an instant provider, p50 / p99", ms(p50(taken)), f"p99 {ms(p99(taken))}, provider {ms(p50(direct))}")

        provider.config(delay_ms=500)
        with ThreadPoolExecutor(200) as pool:
            start = time.monotonic()
            answers = list(pool.map(lambda _: client.post(f"{BASE}/create", {"user_id": "b"}), range(200)))
            took = time.monotonic() - start
        assert all(a.status_code == 200 for a in answers)
        row("200 creates at once, provider 500 ms, one worker", f"{took:.2f} s", "provider alone 0.50 s", f"{0.5 / took:.2f}")

        provider.config(delay_ms=3000)
        ready = answers[0].json()["data"]["sandbox_id"]
        threads = [threading.Thread(target=client.post, args=(f"{BASE}/create", {"user_id": "b"})) for _ in range(400)]
        for t in threads:
            t.start()
        wait_until("400 accepted", lambda: int(stack.sql("select count(*) from jobs where state in ('queued','running')")[0][0]) >= 400, 20)
        taken = []
        for _ in range(50):
            start = time.monotonic()
            client.status(ready)
            taken.append(time.monotonic() - start)
        row("GET status with 400 clients waiting, p50 / p99", ms(p50(taken)), f"p99 {ms(p99(taken))}")
        row("RSS gateway, 400 waiting (want < 48 MB)", f"{stack.gateways[0].rss_bytes() / 2**20:.1f} MB")
        row("RSS worker, 256 in flight (want < 25 MB)", f"{stack.workers[0].rss_bytes() / 2**20:.1f} MB")
        row("RSS reaper (want < 10 MB)", f"{stack.reapers[0].rss_bytes() / 2**20:.1f} MB")
        for t in threads:
            t.join()
        provider.config(delay_ms=0)
        stack.quiet(60)

        done, stop = [], time.monotonic() + 8

        def loop(_):
            while time.monotonic() < stop:
                client.create()
                done.append(1)

        start = time.monotonic()
        with ThreadPoolExecutor(64) as pool:
            list(pool.map(loop, range(64)))
        rate = len(done) / (time.monotonic() - start)
        row("creates, 64 clients (python clients share the 2 cores)", f"{rate:,.0f}/s", f"pgbench -N {write_rate:,.0f}/s", f"{rate / write_rate:.2f}")
    provider.stop()


if __name__ == "__main__":
    main()
