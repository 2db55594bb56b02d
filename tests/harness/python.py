"""A Python with the official SDK, pinned beside its programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.services import installing


def python_for(folder: Path) -> str:
    """The interpreter of folder/.venv, with exactly what folder/requirements.txt names; made once, whichever test
    process comes first."""
    with installing(folder):
        return install(folder)


def install(folder: Path) -> str:
    venv, pins = folder / ".venv", folder / "requirements.txt"
    marker = venv / "installed.txt"
    if marker.exists() and marker.read_text() == pins.read_text():
        return str(venv / "bin" / "python")
    shutil.rmtree(venv, ignore_errors=True)
    made = subprocess.run(["/usr/bin/python3", "-m", "venv", str(venv)], capture_output=True, text=True)
    if made.returncode != 0:
        shutil.rmtree(venv, ignore_errors=True)
        pytest.skip("python3-venv is not installed")
    done = subprocess.run([str(venv / "bin" / "pip"), "install", "--quiet", "--no-input", "--disable-pip-version-check",
                           "--no-deps", "--only-binary", ":all:", "-r", str(pins)],
                          capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        if re.search(r"Temporary failure|Connection refused|timed out|unreachable|NewConnectionError|No matching distribution",
                     done.stdout + done.stderr):
            pytest.skip("the Python package index cannot be reached, or has nothing for this machine")
        raise AssertionError(done.stderr[-3000:])
    marker.write_text(pins.read_text())
    return str(venv / "bin" / "python")
