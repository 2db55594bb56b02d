#!/usr/bin/python3
"""What the local sandbox host promises in numbers, measured against one that this starts.

    tests/bench/host.py start     create, and create to the first command's end, one after another
    tests/bench/host.py many      100 sandboxes alive at once: the memory each costs the host
    tests/bench/host.py churn     200 creates and kills a minute for ten minutes: what is left
                                  (MINUTES, PER_MINUTE in the environment)
Ends with 1 when a promise is not kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.harness.host_client import HostClient  # noqa: E402
from tests.harness.leaks import descendants, held, warden_of  # noqa: E402
from tests.harness.stack import SandboxHost  # noqa: E402

START_P50_MS, EACH_MB, MANY = 100, 10, 100


def spread(values: list[float]) -> str:
    ordered = sorted(values)
    return f"p50 {ordered[len(ordered) // 2]:.1f}  p90 {ordered[int(len(ordered) * 0.9)]:.1f}  max {ordered[-1]:.1f}"


def pss_kb(pid: int) -> int:
    """Its own memory and its share of what it shares."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def start(host: SandboxHost) -> bool:
    client, kept = HostClient(host), True
    for label, fields in (("no internet", {"allow_internet_access": False}), ("internet", {})):
        creates, commands, kills = [], [], []
        for _ in range(50):
            begin = time.perf_counter()
            box = client.create(**fields)
            created = time.perf_counter()
            box.ok("true")
            ran = time.perf_counter()
            box.kill()
            creates.append((created - begin) * 1e3)
            commands.append((ran - begin) * 1e3)
            kills.append((time.perf_counter() - ran) * 1e3)
        print(f"{label:12} create ms: {spread(creates)}\n{'':12} create to first command ms: {spread(commands)}\n"
              f"{'':12} kill ms: {spread(kills)}")
        kept = kept and sorted(commands)[25] < START_P50_MS
    return kept


def many(host: SandboxHost) -> bool:
    client = HostClient(host)

    def memory() -> int:
        warden = warden_of(host)
        return sum(map(pss_kb, [host.process.pid, warden, *descendants(warden)]))

    client.create().ok("true")
    before, begin = memory(), time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        boxes = list(pool.map(lambda _: client.create(timeout=3600), range(MANY)))
    took = time.monotonic() - begin
    assert all(box.ok("echo alive").strip() == "alive" for box in boxes)
    each = (memory() - before) / MANY / 1024
    print(f"{MANY} alive at once after {took:.1f} s: {each:.2f} MB each (bubblewrap, agent, slirp4netns, and what the "
          f"host and its warden grew)")
    host_kb = pss_kb(host.process.pid)
    print(f"the host itself: {host_kb / 1024:.1f} MB, {held(host)['host_fds']} descriptors")
    return each < EACH_MB


def churn(host: SandboxHost) -> bool:
    minutes, per_minute = float(os.environ.get("MINUTES", "10")), int(os.environ.get("PER_MINUTE", "200"))
    client = HostClient(host)
    failures: list[str] = []

    def life(n: int) -> None:
        try:
            box = client.create(timeout=300)
            if n % 10 == 0:
                box.ok("head -c 5M /dev/urandom >f; (sleep 1000 &) >/dev/null 2>&1")
            if n % 10 == 5:
                assert box.call("pause").status_code == 204
            assert box.kill().status_code == 204
        except Exception as failure:  # noqa: BLE001 - counted, and the first few shown
            failures.append(repr(failure))

    def settle() -> dict[str, int]:
        time.sleep(3)
        blocks = sum(entry.lstat().st_blocks for entry in host.state.rglob("*"))
        return held(host) | {"disk_mb": blocks // 2048}

    for n in range(20):
        life(n)
    before, begin, done = settle(), time.monotonic(), 0
    with ThreadPoolExecutor(4) as pool:
        while (elapsed := time.monotonic() - begin) < minutes * 60:
            due = int(elapsed / 60 * per_minute)
            while done <= due:
                pool.submit(life, done)
                done += 1
            time.sleep(0.05)
    took = time.monotonic() - begin
    after = settle()
    print(f"{done} created and killed in {took:.0f} s ({done / took * 60:.0f} a minute), {len(failures)} failed")
    for failure in failures[:5]:
        print("  ", failure)
    for what in before:
        print(f"  {what:12} before {before[what]:6}  after {after[what]:6}")
    # a kept-alive connection of this program more or less
    return not failures and done / took * 60 >= per_minute * 0.9 and all(
        after[what] <= before[what] + (4 if what == "host_fds" else 0) for what in before)


def main() -> int:
    runs = {"start": start, "many": many, "churn": churn}
    if len(sys.argv) != 2 or sys.argv[1] not in runs:
        print(__doc__, file=sys.stderr)
        return 64
    os.environ.setdefault("BUILD_DIR", str(ROOT / "build/release"))
    with tempfile.TemporaryDirectory(prefix="host-bench-") as folder:
        host = SandboxHost(Path(folder), SANDBOX_HOST_MAX_SANDBOXES="200", LOG_LEVEL="warn")
        try:
            kept = runs[sys.argv[1]](host)
        finally:
            host.stop()
    print("kept" if kept else "NOT KEPT")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
