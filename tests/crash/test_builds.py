"""What is shipped cannot be told to die; what is tested here can."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.harness.services import ROOT, build_dir

PROGRAMS = ("sandbox-gateway", "sandbox-worker", "sandbox-reaper", "sandbox-host", "sandbox-agent")
RELEASE = Path(os.environ.get("RELEASE_DIR", ROOT / "build" / "release"))


def symbols(program: Path) -> str:
    return subprocess.run(["nm", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_release_has_no_crash_points(program: str):
    assert "crashpoint" not in symbols(RELEASE / program)
    assert b"crashpoint.reached" not in (RELEASE / program).read_bytes()


@pytest.mark.parametrize("program", PROGRAMS[:3])
def test_the_build_under_test_has_them(program: str):
    assert "crashpoint_reach" in symbols(build_dir() / program)
    assert b"crashpoint.reached" in (build_dir() / program).read_bytes()


@pytest.mark.parametrize("setting", ("", "worker_claimed", "worker_claimed:0:KILL", "worker_claimed:1:TERM", "nowhere:1:KILL"))
def test_a_setting_that_means_nothing_ends_the_program(setting: str):
    """Not a test that passes because nothing happened."""
    done = subprocess.run([build_dir() / "sandbox-reaper"], capture_output=True, text=True, timeout=20, env={
        "CRASHPOINT": setting, "DATABASE_URL": "postgresql://127.0.0.1:1/none", "REDIS_PORT": "1"})
    assert done.returncode == 78 and "crashpoint.unknown" in done.stdout + done.stderr
