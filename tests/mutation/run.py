#!/usr/bin/python3
"""Do the tests bite? Breaks the product on purpose, one patch at a time, and wants to see red.

    tests/mutation/run.py [NAME ...]      (make mutation)

Each tests/mutation/NAME.patch takes one safeguard out of a copy of the tree, so the product itself knows
nothing of this. Its head says what is removed and which tests must notice:

    Removes: the comparison of the lease token when a job is finished
    Tests: integration test_store_races
    Tests: crash zombie_while_another_works

A test line is a layer and what of it: `integration BINARY`, or `crash EXPRESSION` / `e2e EXPRESSION` for
pytest's -k. All of them must be green without the patch, and each must be red with it. A patch that
does not apply to the letter, a copy that does not build and a test run that ends in any other way
than by failing tests are failures of this program, not successes of the patch.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
from tests.harness.services import Postgres, Redis  # noqa: E402

BUILDS = {"integration": "release", "e2e": "release", "crash": "crashpoints"}


@dataclass(frozen=True)
class Mutant:
    name: str
    removes: str
    tests: tuple[tuple[str, str], ...]  # (layer, what of it)
    patch: Path


def load(patch: Path) -> Mutant:
    head = patch.read_text().split("\n--- ", 1)[0]
    removes = re.findall(r"^Removes: (.+)$", head, re.MULTILINE)
    tests = re.findall(r"^Tests: (\w+) (.+)$", head, re.MULTILINE)
    if len(removes) != 1 or not tests or not all(layer in BUILDS for layer, _ in tests):
        sys.exit(f"{patch}: the head must have one Removes: line and Tests: lines of {', '.join(BUILDS)}")
    return Mutant(patch.stem, removes[0], tuple(tests), patch)


class Copy:
    """The tree as it is now, where it may be broken."""

    def __init__(self, folder: Path):
        self.folder = folder
        names = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                               capture_output=True, check=True).stdout
        packed = subprocess.run(["tar", "--create", "--null", "--files-from=-"], input=names, cwd=ROOT,
                                capture_output=True, check=True).stdout
        subprocess.run(["tar", "--extract", f"--directory={folder}"], input=packed, check=True)
        for variant in set(BUILDS.values()):
            if (ROOT / "build" / variant).is_dir():  # objects are newer than their sources here as there
                subprocess.run(["cp", "-a", "--parents", f"build/{variant}", str(folder)], cwd=ROOT, check=True)
        self.redis = Redis(folder / "redis")
        self.postgres = Postgres(folder / "postgres", fsync="off")
        self.databases = 0

    def close(self) -> None:
        self.redis.stop()
        self.postgres.stop()

    def run(self, argv: list[str], **env: str) -> subprocess.CompletedProcess[str]:
        child = subprocess.Popen(argv, cwd=self.folder, env=dict(os.environ) | env, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, text=True, errors="replace")
        try:
            text, _ = child.communicate(timeout=900)
        except BaseException:
            child.send_signal(signal.SIGINT)  # pytest then ends what it has started
            child.communicate(timeout=60)
            raise
        return subprocess.CompletedProcess(argv, child.returncode, text)

    def build(self, tests: tuple[tuple[str, str], ...]) -> str | None:
        """Builds what these tests need; the compiler's words if it cannot."""
        for variant in {BUILDS[layer] for layer, _ in tests}:
            targets = ["build"] + [f"build/release/tests/integration/{what}" for layer, what in tests
                                   if layer == "integration" and variant == "release"]
            done = self.run(["make", "-s", f"-j{os.cpu_count()}", f"BUILD=build/{variant}",
                             *(["CRASHPOINTS=1"] if variant == "crashpoints" else []), *targets])
            if done.returncode != 0:
                return done.stdout[-3000:]
        return None

    def patch(self, mutant: Mutant, *, back: bool = False) -> str | None:
        """Applies or takes back; patch's words if it does not fit to the letter."""
        done = self.run(["patch", "-p1", "--fuzz=0", "--batch", "--no-backup-if-mismatch", "-i", str(mutant.patch),
                         *(["--reverse"] if back else ["--forward"])])
        return done.stdout if done.returncode != 0 else None

    def test(self, layer: str, what: str) -> tuple[str, str]:
        """(green, red or broken; what it printed)."""
        env = {"PYTHONPATH": str(self.folder), "PYTHONDONTWRITEBYTECODE": "1", "SOURCE_DIR": str(self.folder),
               "BUILD_DIR": str(self.folder / "build" / BUILDS[layer])}
        if layer == "integration":
            self.databases += 1
            self.redis.cli("FLUSHALL")
            url = self.postgres.create_database(f"mutation_{self.databases}")
            done = self.run([f"build/release/tests/integration/{what}"], DATABASE_URL=url, **env, **self.redis.env)
            if done.returncode == 0 and "[  PASSED  ]" in done.stdout:
                return "green", done.stdout
            return ("red" if "[  FAILED  ]" in done.stdout else "broken"), done.stdout
        done = self.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"tests/{layer}", "-k", what],
                        **env)
        return {0: "green", 1: "red"}.get(done.returncode, "broken"), done.stdout


def judge(copy: Copy, mutant: Mutant) -> list[str]:
    """What is wrong; nothing = every test named went red."""
    words = copy.patch(mutant)
    if words is not None:
        return [f"the patch does not apply:\n{words}"]
    try:
        words = copy.build(mutant.tests)
        if words is not None:
            return [f"the mutant does not build:\n{words}"]
        wrong = []
        for layer, what in mutant.tests:
            colour, text = copy.test(layer, what)
            if colour == "green":
                wrong.append(f"survived {layer} {what}")
            elif colour == "broken":
                wrong.append(f"{layer} {what} did not run:\n{text[-3000:]}")
        return wrong
    finally:
        words = copy.patch(mutant, back=True)
        if words is not None:
            sys.exit(f"{mutant.name} cannot be taken back:\n{words}")


def main(names: list[str]) -> int:
    mutants = [load(patch) for patch in sorted(Path(__file__).parent.glob("*.patch"))]
    unknown = set(names) - {mutant.name for mutant in mutants}
    if unknown:
        sys.exit(f"no such mutant: {', '.join(sorted(unknown))}")
    mutants = [mutant for mutant in mutants if not names or mutant.name in names]
    folder = Path(tempfile.mkdtemp(prefix="sandbox-mutation-"))
    folder.chmod(0o755)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # what was started is to end
    copy = Copy(folder)
    bad = 0
    try:
        tests = tuple(dict.fromkeys(test for mutant in mutants for test in mutant.tests))
        words = copy.build(tests)
        if words is not None:
            sys.exit(f"the tree does not build:\n{words}")
        for layer, what in tests:
            colour, text = copy.test(layer, what)
            if colour != "green":
                sys.exit(f"{layer} {what} is {colour} without any patch:\n{text[-6000:]}")
        print(f"unbroken: {len(tests)} test runs green", flush=True)
        for mutant in mutants:
            start = time.monotonic()
            wrong = judge(copy, mutant)
            bad += bool(wrong)
            print(f"{'FAIL' if wrong else 'ok  '} {mutant.name}: without {mutant.removes} "
                  f"({time.monotonic() - start:.0f} s)", *wrong, sep="\n     ", flush=True)
    finally:
        copy.close()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{len(mutants) - bad} mutants killed, {bad} not")
    return 1 if bad or not mutants else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
