"""A node for the official SDKs, with the pinned packages beside their programs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.services import ROOT, installing


def npm_ci(folder: Path) -> None:
    """The pinned packages, exactly as the lock file says; fetched once, whichever test process comes first."""
    with installing(folder):
        install(folder)


def install(folder: Path) -> None:
    marker = folder / "node_modules" / ".package-lock.json"
    if marker.exists() and marker.stat().st_mtime >= (folder / "package-lock.json").stat().st_mtime:
        return
    done = subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder,
                          capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        if re.search(r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ENETUNREACH", done.stderr):
            pytest.skip("the npm registry cannot be reached")
        raise AssertionError(done.stderr[-3000:])
    marker.touch()


def node_for(folder: Path) -> str:
    """A node the SDKs run on (>= 20.18.1), with the packages of `folder` installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    npm_ci(folder)
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(int(n) for n in re.findall(r"\d+", version)[:3]) >= (20, 18, 1):
        return "node"
    npm_ci(ROOT / "tests" / "sdk" / "node")
    return str(next((ROOT / "tests" / "sdk" / "node" / "node_modules").glob("node-linux-*/bin/node")))
