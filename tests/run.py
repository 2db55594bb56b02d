#!/usr/bin/python3
"""Runs every layer of the tests and ends with one line: `N passed, N failed, N skipped`.

    tests/run.py [--only lint,unit,integration,e2e,crash,chaos,san,tsan] [-k expression] [--jobs N] [--all]

Layers: lint (rules of the tree), unit (pure C, and the kept inputs of the fuzz targets), integration
(C against real Redis and PostgreSQL), e2e (the built programs over HTTP; the official SDK), crash
(every row of the crash table, with programs built to die where a test wants it), chaos (a minute of
faults, and the checks of its checker), san (unit, integration and e2e again under ASan + UBSan), tsan
(the C tests and the threads of the running system under ThreadSanitizer). It starts its own services
on free ports and leaves nothing running, also when it is killed: what it starts dies with it
(tests/harness/watchdog.py). The ten slowest tests and every skip with its reason come at the end.

The end-to-end tests wait more than they compute, so the variants that later layers need are compiled beside
them. --all also runs under the sanitizers what only repeats other tests there (e2e/reached_elsewhere.txt).
With CI=1 a skip for a reason that EXPECTED_SKIPS does not list is a failure.
"""

from __future__ import annotations

import argparse
import collections
import ctypes
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.harness import watchdog  # noqa: E402
from tests.harness.services import Postgres, Redis  # noqa: E402

CHAOS_SEED, CHAOS_SECONDS = 7, 45  # with start, mending and rest about a minute
THREADED = "test_contract or test_recovery or test_auth or test_tool_server"
SLOWEST = 10
# of a provider that has no such thing, of a registry that is away, of what a container cannot give
EXPECTED_SKIPS = re.compile(
    r"this sandbox host takes any template|this one loses nothing|nothing is mounted read-only here|its disk is not small here|"
    r"cannot be reached|needs a second file system|this file system has no user attributes|"
    r"no slirp4netns or /dev/net/tun|no cgroup to measure by|this machine gives \d+ descriptors|no chromium|"
    r"an ordinary user|only a host that runs as root|only root gives|takes root")
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)
_lock = threading.Lock()
totals = collections.Counter()
slowest: list[tuple[float, str]] = []
skips: collections.Counter = collections.Counter()


def die_with(sig: int) -> None:
    """The kernel sends this process `sig` when its parent dies."""
    _libc.prctl(PR_SET_PDEATHSIG, sig)


def run(argv: list[str], **kwargs) -> subprocess.CompletedProcess:
    """A command that does not outlive this program. The caller's thread must live as long as it."""
    return subprocess.run(argv, cwd=ROOT, preexec_fn=lambda: die_with(signal.SIGKILL), **kwargs)


def report(name: str, good: int, bad: int, seconds: float, skipped: int = 0, details: str = "") -> None:
    with _lock:
        totals.update(passed=good, failed=bad, skipped=skipped)
        more = f", {skipped} skipped" if skipped else ""
        print(f"{details}{'ok  ' if bad == 0 else 'FAIL'} {name}: {good} passed, {bad} failed{more} ({seconds:.1f} s)", flush=True)


def took(name: str, seconds: float) -> None:
    with _lock:
        slowest.append((seconds, name))


def run_program(argv: list[str], env: dict[str, str], seconds: int) -> tuple[str, int]:
    """Its output and exit status; -1 for one that takes longer."""
    try:
        done = run(argv, env=env, capture_output=True, text=True, errors="replace", timeout=seconds)
        return done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as exc:
        return f"{exc.stdout}\n{exc.stderr}\ntimed out after {seconds} s", -1


def run_cmocka(binary: Path, env: dict[str, str]) -> None:
    """A program that ends without cmocka's summary, or with a bad status, is a failure."""
    start = time.monotonic()
    text, status = run_program([str(binary)], env, 300)
    good = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", text))
    bad = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", text))
    if (status != 0 and bad == 0) or (good == 0 and bad == 0):
        bad += 1
    seconds, name = time.monotonic() - start, f"{binary.parent.name}/{binary.name}"
    took(name, seconds)
    report(name, good, bad, seconds, details=text[-6000:] + "\n" if bad else "")


def read_junit(path: str, label: str) -> tuple[int, int, int]:
    """passed, failed, skipped of one run of pytest."""
    try:
        suite = ET.parse(path).getroot().find("testsuite")
        total, errors, failures, skipped = (int(suite.get(k)) for k in ("tests", "errors", "failures", "skipped"))
    except (ET.ParseError, AttributeError):
        return 0, 1, 0
    for case in suite.iter("testcase"):
        took(f"{label}: {case.get('classname')}::{case.get('name')}", float(case.get("time") or 0))
        if (reason := case.find("skipped")) is not None:
            skips[f"{case.get('classname')}: {reason.get('message')}"] += 1
    return total - errors - failures - skipped, errors + failures, skipped


def run_pytest(label: str, env: dict[str, str], expression: str | None, marks: str | None = None,
               folder: str = "tests/e2e", quiet: bool = False, jobs: int = 1) -> None:
    """quiet: what pytest says is shown when it has ended, for runs side by side. jobs: files side by side."""
    start = time.monotonic()
    # a folder of its own: pytest closes the one that all its runs share to other accounts whenever one starts, and
    # sandboxes of a run beside it then cannot reach their templates
    with tempfile.NamedTemporaryFile(suffix=".xml") as out, tempfile.TemporaryDirectory(
            prefix="sandbox-pytest-", ignore_cleanup_errors=True) as base:
        os.chmod(base, 0o755)
        argv = [sys.executable, "-m", "pytest", "-q", folder, f"--junitxml={out.name}",
                "-p", "no:cacheprovider", f"--basetemp={base}/t"]
        if jobs > 1:
            argv += ["-n", str(jobs), "--dist", "loadfile"]
        if expression:
            argv += ["-k", expression]
        if marks:
            argv += ["-m", marks]
        done = run(argv, env=env, text=True, errors="replace",
                   stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None)
        status = done.returncode
        good, bad, skipped = read_junit(out.name, label)
        if status == 5 and expression:  # nothing of this kind has such a name
            bad = 0
        elif status not in (0, 1) and bad == 0:
            bad = 1
    report(label, good, bad, time.monotonic() - start, skipped, done.stdout if quiet else "")


def make(*args: str, nice: bool = False) -> bool:
    """nice: beside tests, whose bounds on time it must not eat."""
    return run([*(["nice", "-n19"] if nice else []), "make", f"-j{os.cpu_count()}", "--no-print-directory", "-s",
                *args]).returncode == 0


def side_by_side(calls: list, jobs: int) -> None:
    with ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(*call) for call in calls]:
            done.result()


def c_tests(build: Path, kind: str, env: dict[str, str]) -> None:
    """Those that share the run's Redis and PostgreSQL one after the other, the rest beside them."""
    sharing, apart = [], []
    for source in sorted((ROOT / "tests" / kind).glob("test_*.c")):
        shares = re.search(r"store_fixture\.h|DATABASE_URL|REDIS_", source.read_text())
        (sharing if shares else apart).append(build / "tests" / kind / source.stem)

    def in_turn() -> None:
        for binary in sharing:
            run_cmocka(binary, env)

    side_by_side([(in_turn,), *((run_cmocka, binary, env) for binary in apart)], os.cpu_count() or 1)


def fuzz_corpus(build: Path, env: dict[str, str], target: str) -> None:
    start = time.monotonic()
    text, status = run_program([str(build / "tests" / "fuzz" / f"replay_{target}"), f"tests/fuzz/corpus/{target}"], env, 120)
    report(f"fuzz/{target}", int(status == 0), int(status != 0), time.monotonic() - start,
           details=text[-6000:] + "\n" if status != 0 else "")


def fuzz_corpora(build: Path, env: dict[str, str]) -> None:
    """The kept inputs of every fuzz target; the search for new ones is `make fuzz`."""
    targets = sorted(source.stem.removeprefix("fuzz_") for source in (ROOT / "tests" / "fuzz").glob("fuzz_*.c"))
    side_by_side([(fuzz_corpus, build, env, target) for target in targets], os.cpu_count() or 1)


def run_chaos(env: dict[str, str]) -> None:
    """One run of a fixed seed counts as one test; the seed is printed with the verdict."""
    run_pytest("chaos, checker and tools", env, None, folder="tests/chaos")
    start = time.monotonic()
    status = run([sys.executable, "tests/chaos/main.py", "--seed", str(CHAOS_SEED), "--seconds", str(CHAOS_SECONDS)],
                 env=env).returncode
    report(f"chaos, seed {CHAOS_SEED}", int(status == 0), int(status != 0), time.monotonic() - start)


def build(variant: str, *flags: str, targets: tuple[str, ...] = ("build", "tests-build"), nice: bool = False) -> Path | None:
    """The folder of the built variant, or None when it does not build, which is then a failure."""
    folder, start = ROOT / "build" / variant, time.monotonic()
    # as make itself names it: a target under another name has none of the headers it was made from
    good = make(*flags, f"BUILD={folder.relative_to(ROOT)}", *targets, nice=nice)
    report(f"build {variant}", int(good), int(not good), time.monotonic() - start)
    return folder if good else None


def environment(base: dict[str, str], folder: Path) -> dict[str, str]:
    return dict(base, BUILD_DIR=str(folder), SOURCE_DIR=str(ROOT),
                ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:handle_abort=1",
                UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1",
                TSAN_OPTIONS=f"halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT}/tests/tsan.supp")


# what a layer runs beside the release build: folder, flags, targets
VARIANTS = {"crash": ("crashpoints", ("CRASHPOINTS=1",), ("build",)),
            "san": ("san-address-undefined", ("SAN=address,undefined", "CC=clang"), ("build", "tests-build")),
            "tsan": ("san-thread", ("SAN=thread", "CC=clang"), ("build", "tests-build"))}


class Run:
    """One run of the chosen layers over services of its own."""

    def __init__(self, layers: set[str], expression: str | None, jobs: int, everything: bool, env: dict[str, str], temp: Path):
        self.layers, self.expression, self.jobs, self.env, self.temp = layers, expression, jobs, env, temp
        self.everything = everything
        self.services: tuple[Redis, Postgres] | None = None
        self.builder = ThreadPoolExecutor(1)  # its thread lives as long as what it starts
        self.builds: dict[str, Future] = {}

    def begin_builds(self) -> None:
        for layer, (name, flags, targets) in VARIANTS.items():
            if layer in self.layers:
                self.builds[layer] = self.builder.submit(build, name, *flags, targets=targets, nice=True)

    def end_builds(self) -> None:
        for begun in self.builds.values():
            begun.result()

    def variant(self, layer: str) -> Path | None:
        if layer not in self.layers:
            return None
        if layer not in self.builds:
            name, flags, targets = VARIANTS[layer]
            return build(name, *flags, targets=targets)
        return self.builds[layer].result()

    def integration(self, folder: Path, env: dict[str, str]) -> None:
        if self.services is None:
            self.services = Redis(self.temp / "redis"), Postgres(self.temp)
        redis, postgres = self.services
        redis.cli("FLUSHALL")
        url = postgres.create_database("t_" + folder.name.replace("-", "_"))
        c_tests(folder, "integration", dict(env, DATABASE_URL=url, **redis.env))

    def release(self) -> None:
        if not self.layers & {"unit", "integration", "e2e", "crash", "chaos"} or not (folder := build("release")):
            return
        env = environment(self.env, folder)
        if "unit" in self.layers:
            c_tests(folder, "unit", env)
            fuzz_corpora(folder, env)
        if "integration" in self.layers:
            self.integration(folder, env)
        if "e2e" in self.layers:
            self.begin_builds()
            run_pytest("e2e", env, self.expression, "not alone", jobs=self.jobs)
            self.end_builds()
            run_pytest("e2e, one at a time", env, self.expression, "alone")
        if "chaos" in self.layers:
            run_chaos(env)
        if crashing := self.variant("crash"):
            run_pytest("crash", dict(environment(self.env, crashing), RELEASE_DIR=str(folder)), self.expression,
                       folder="tests/crash")

    def sanitizers(self) -> None:
        # threads meet in the gateway and the hosts: what else there is, ASan has covered
        expressions = {"san": self.expression, "tsan": self.expression or THREADED}
        marks = "not release_only" if self.everything else "not release_only and not reached_elsewhere"
        running = []
        for layer, expression in expressions.items():
            if not (folder := self.variant(layer)):
                continue
            env = environment(self.env, folder)
            c_tests(folder, "unit", env)
            fuzz_corpora(folder, env)
            self.integration(folder, env)
            # all the threads of a file meet in one process anyway; ASan's run is the long one
            jobs = self.jobs if layer == "san" else 1
            running.append((run_pytest, f"e2e {folder.name}", env, expression, marks, "tests/e2e", True, jobs))
        # side by side: they wait more than they compute, and their bounds on time are wide
        if running:
            side_by_side(running, len(running))

    def stop(self) -> None:
        self.builder.shutdown(cancel_futures=True)
        for service in self.services or ():
            service.stop()


def summary() -> None:
    print(f"\nthe {SLOWEST} slowest:")
    for seconds, name in sorted(slowest, reverse=True)[:SLOWEST]:
        print(f"  {seconds:6.1f} s  {name}")
    for reason, count in sorted(skips.items()):
        print(f"skipped, {count} times: {reason}")
        if os.environ.get("CI") == "1" and not EXPECTED_SKIPS.search(reason):
            print("FAIL that reason is not in EXPECTED_SKIPS")
            totals.update(failed=count, skipped=-count)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="lint,unit,integration,e2e,crash,chaos,san,tsan")
    parser.add_argument("-k", dest="expression")
    parser.add_argument("--all", action="store_true", help="nothing is left out of the sanitizers' end-to-end tests")
    parser.add_argument("--jobs", type=int, default=(os.cpu_count() or 1) + 2,
                        help="files of the end-to-end tests side by side, default two more than there are processors")
    options = parser.parse_args()
    layers = set(options.only.split(","))
    env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
    # a developer's own settings must not leak into tests
    for name in list(env):
        if re.match(r"(E2B|DAYTONA|SANDBOX|REDIS|DATABASE|GATEWAY|WORKER|REAPER|JWT|RUN_CMD)_", name):
            del env[name]

    die_with(signal.SIGTERM)  # when make is killed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if "lint" in layers:
        start = time.monotonic()
        good = run(["bash", "tests/lint.sh"]).returncode == 0
        report("lint", int(good), int(not good), time.monotonic() - start)
    with tempfile.TemporaryDirectory(prefix="sandbox-test-", ignore_cleanup_errors=True) as temp:
        watchdog.add_folder(Path(temp))
        os.chmod(temp, 0o755)
        this = Run(layers, options.expression, options.jobs, options.all, env, Path(temp))
        try:
            this.release()
            this.sanitizers()
        finally:
            this.stop()
    watchdog.remove_folder(Path(temp))
    summary()
    print(f"{totals['passed']} passed, {totals['failed']} failed, {totals['skipped']} skipped")
    return 0 if totals["failed"] == 0 and totals["passed"] > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
