#!/usr/bin/python3
"""Runs every layer of the tests and ends with one line: `N passed, N failed`.

    tests/run.py [--only lint,unit,integration,e2e,crash,chaos,san,tsan] [-k expression]

Layers: lint (rules of the tree), unit (pure C, and the kept inputs of the fuzz targets), integration
(C against real Redis and PostgreSQL), e2e (the built programs over HTTP; the official SDK), crash
(every row of the crash table, with programs built to die where a test wants it), chaos (a minute of
faults, and the checks of its checker), san (unit, integration and e2e again under ASan + UBSan), tsan
(the C tests and the threads of the running system under ThreadSanitizer). It starts its own services
on free ports and leaves nothing running.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.harness.services import Postgres, Redis  # noqa: E402

CHAOS_SEED, CHAOS_SECONDS = 7, 45  # with start, mending and rest about a minute
THREADED = "test_contract or test_recovery or test_auth or test_tool_server"

passed = failed = 0


def report(name: str, good: int, bad: int, seconds: float) -> None:
    global passed, failed
    passed += good
    failed += bad
    print(f"{'ok  ' if bad == 0 else 'FAIL'} {name}: {good} passed, {bad} failed ({seconds:.1f} s)", flush=True)


def run_cmocka(binary: Path, env: dict[str, str]) -> None:
    """A program that ends without cmocka's summary, or with a bad status, is a failure."""
    start = time.monotonic()
    try:
        done = subprocess.run([str(binary)], env=env, capture_output=True, text=True, errors="replace",
                              timeout=300, cwd=ROOT)
        text, status = done.stdout + done.stderr, done.returncode
    except subprocess.TimeoutExpired as exc:
        text, status = f"{exc.stdout}\n{exc.stderr}\ntimed out after 300 s", -1
    good = sum(int(n) for n in re.findall(r"\[  PASSED  \] (\d+) test", text))
    bad = sum(int(n) for n in re.findall(r"\[  FAILED  \] (\d+) test", text))
    if (status != 0 and bad == 0) or (good == 0 and bad == 0):
        bad += 1
    if bad:
        print(text[-6000:])
    report(f"{binary.parent.name}/{binary.name}", good, bad, time.monotonic() - start)


def run_pytest(label: str, env: dict[str, str], expression: str | None, marks: str | None = None,
               folder: str = "tests/e2e", quiet: bool = False) -> None:
    """quiet: what pytest says is shown when it has ended, for runs side by side."""
    start = time.monotonic()
    with tempfile.NamedTemporaryFile(suffix=".xml") as out:
        argv = [sys.executable, "-m", "pytest", "-q", folder, f"--junitxml={out.name}",
                "-p", "no:cacheprovider"]
        if expression:
            argv += ["-k", expression]
        if marks:
            argv += ["-m", marks]
        done = subprocess.run(argv, env=env, cwd=ROOT, text=True, errors="replace",
                              stdout=subprocess.PIPE if quiet else None, stderr=subprocess.STDOUT if quiet else None)
        status = done.returncode
        if quiet:
            print(done.stdout, end="", flush=True)
        try:
            suite = ET.parse(out.name).getroot().find("testsuite")
            total, errors, failures, skipped = (int(suite.get(k)) for k in ("tests", "errors", "failures", "skipped"))
            good, bad = total - errors - failures - skipped, errors + failures
        except (ET.ParseError, AttributeError):
            good, bad = 0, 1
        if status not in (0, 1) and bad == 0:
            bad = 1
    report(f"{label}", good, bad, time.monotonic() - start)


def make(*args: str) -> bool:
    return subprocess.run(["make", f"-j{os.cpu_count()}", "--no-print-directory", *args], cwd=ROOT).returncode == 0


def c_tests(build: Path, kind: str, env: dict[str, str]) -> None:
    for source in sorted((ROOT / "tests" / kind).glob("test_*.c")):
        run_cmocka(build / "tests" / kind / source.stem, env)


def fuzz_corpora(build: Path, env: dict[str, str]) -> None:
    """The kept inputs of every fuzz target; the search for new ones is `make fuzz`."""
    for source in sorted((ROOT / "tests" / "fuzz").glob("fuzz_*.c")):
        target = source.stem.removeprefix("fuzz_")
        start = time.monotonic()
        try:
            done = subprocess.run([str(build / "tests" / "fuzz" / f"replay_{target}"), f"tests/fuzz/corpus/{target}"],
                                  env=env, capture_output=True, text=True, errors="replace", timeout=120, cwd=ROOT)
            text, status = done.stdout + done.stderr, done.returncode
        except subprocess.TimeoutExpired as exc:
            text, status = f"{exc.stdout}\n{exc.stderr}\ntimed out after 120 s", -1
        if status != 0:
            print(text[-6000:])
        report(f"fuzz/{target}", int(status == 0), int(status != 0), time.monotonic() - start)


def run_chaos(env: dict[str, str]) -> None:
    """One run of a fixed seed counts as one test; the seed is printed with the verdict."""
    run_pytest("chaos, checker and tools", env, None, folder="tests/chaos")
    start = time.monotonic()
    status = subprocess.run([sys.executable, "tests/chaos/main.py", "--seed", str(CHAOS_SEED), "--seconds", str(CHAOS_SECONDS)],
                            env=env, cwd=ROOT).returncode
    report(f"chaos, seed {CHAOS_SEED}", int(status == 0), int(status != 0), time.monotonic() - start)


def build(variant: str, *flags: str, targets: tuple[str, ...] = ("build", "tests-build")) -> Path | None:
    """The folder of the built variant, or None when it does not build, which is then a failure."""
    folder, start = ROOT / "build" / variant, time.monotonic()
    # as make itself names it: a target under another name has none of the headers it was made from
    good = make(*flags, f"BUILD={folder.relative_to(ROOT)}", *targets)
    report(f"build {variant}", int(good), int(not good), time.monotonic() - start)
    return folder if good else None


def environment(base: dict[str, str], folder: Path) -> dict[str, str]:
    return dict(base, BUILD_DIR=str(folder), SOURCE_DIR=str(ROOT),
                ASAN_OPTIONS="detect_leaks=1:abort_on_error=0:handle_abort=1",
                UBSAN_OPTIONS="print_stacktrace=1:halt_on_error=1",
                TSAN_OPTIONS=f"halt_on_error=1:second_deadlock_stack=1:suppressions={ROOT}/tests/tsan.supp")


class Run:
    """One run of the chosen layers over services of its own."""

    def __init__(self, layers: set[str], expression: str | None, env: dict[str, str], temp: Path):
        self.layers, self.expression, self.env, self.temp = layers, expression, env, temp
        self.services: tuple[Redis, Postgres] | None = None

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
            run_pytest("e2e", env, self.expression)
        if "chaos" in self.layers:
            run_chaos(env)
        if "crash" in self.layers and (crashing := build("crashpoints", "CRASHPOINTS=1", targets=("build",))):
            run_pytest("crash", dict(environment(self.env, crashing), RELEASE_DIR=str(folder)), self.expression,
                       folder="tests/crash")

    def sanitizers(self) -> None:
        # threads meet in the gateway and the hosts: what else there is, ASan has covered
        variants = {"san": ("san-address-undefined", "SAN=address,undefined", self.expression),
                    "tsan": ("san-thread", "SAN=thread", self.expression or THREADED)}
        running = []
        for layer, (name, flag, expression) in variants.items():
            if layer not in self.layers or not (folder := build(name, flag, "CC=clang")):
                continue
            env = environment(self.env, folder)
            c_tests(folder, "unit", env)
            fuzz_corpora(folder, env)
            self.integration(folder, env)
            running.append((f"e2e {name}", env, expression))
        # side by side: they wait more than they compute, and their bounds on time are wide
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(run_pytest, label, env, expression, "not release_only", quiet=True)
                         for label, env, expression in running]:
                done.result()

    def stop(self) -> None:
        for service in self.services or ():
            service.stop()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="lint,unit,integration,e2e,crash,chaos,san,tsan")
    parser.add_argument("-k", dest="expression")
    options = parser.parse_args()
    layers = set(options.only.split(","))
    env = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONDONTWRITEBYTECODE="1")
    # a developer's own settings must not leak into tests
    for name in list(env):
        if re.match(r"(E2B|DAYTONA|SANDBOX|REDIS|DATABASE|GATEWAY|WORKER|REAPER|JWT|RUN_CMD)_", name):
            del env[name]

    if "lint" in layers:
        start = time.monotonic()
        good = subprocess.run(["bash", "tests/lint.sh"], cwd=ROOT).returncode == 0
        report("lint", int(good), int(not good), time.monotonic() - start)
    with tempfile.TemporaryDirectory(prefix="sandbox-test-", ignore_cleanup_errors=True) as temp:
        os.chmod(temp, 0o755)
        run = Run(layers, options.expression, env, Path(temp))
        try:
            run.release()
            run.sanitizers()
        finally:
            run.stop()
    print(f"{passed} passed, {failed} failed")
    return 0 if failed == 0 and passed > 0 else 1


if __name__ == "__main__":
    sys.exit(main())
