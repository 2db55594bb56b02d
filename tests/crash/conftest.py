"""Plays the selected cases side by side: they wait for leases most of their time."""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

pytest.register_assert_rewrite("tests.crash.rows", "tests.crash.scene")

from tests.crash.rows import ROWS, Case  # noqa: E402
from tests.harness.services import Postgres, build_dir  # noqa: E402

PARALLEL = int(os.environ.get("CRASH_PARALLEL", "12"))
measured: dict[str, list[float]] = {}


def pytest_sessionstart():
    version = subprocess.run([build_dir() / "sandbox-worker", "--version"], capture_output=True, text=True, check=True).stdout
    assert version.strip().endswith("-crashpoints"), f"{build_dir()} is not built with CRASHPOINTS=1"


@pytest.fixture(scope="session")
def fresh_postgres(tmp_path_factory):
    """Never started again: to be copied."""
    service = Postgres(tmp_path_factory.mktemp("fresh"))
    service.process.stop()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def postgres(tmp_path_factory, fresh_postgres):
    # what a killed process leaves is in the page cache: only a power cut would need more
    service = Postgres(tmp_path_factory.mktemp("pg"), copy_of=fresh_postgres, fsync="off")
    yield service
    service.stop()


@pytest.fixture(scope="session")
def plays(request, tmp_path_factory, postgres, fresh_postgres):
    """case -> the future of its measured repair."""
    folder = tmp_path_factory.mktemp("crash")
    cases = [item.callspec.params["case"] for item in request.session.items
             if "case" in getattr(getattr(item, "callspec", None), "params", {})]
    with ThreadPoolExecutor(PARALLEL) as pool:
        yield {case: pool.submit(case.run, folder / str(case), postgres, fresh_postgres) for case in cases}
        pool.shutdown(cancel_futures=True)


@pytest.fixture
def repaired(plays):
    def take(case: Case) -> float:
        took = plays[case].result()
        measured.setdefault(ROWS[case.row].name, []).append(took)
        return took
    return take


def pytest_terminal_summary(terminalreporter):
    from tests.crash.scene import TIMING
    if measured:
        terminalreporter.write_line("repair after a crash, ms (slowest kind of job; bound at these settings):")
    for me in ROWS:
        if me.name in measured:
            terminalreporter.write_line(f"  {me.name:45} {max(measured[me.name]):6.0f} {me.bound(TIMING):6d}")
