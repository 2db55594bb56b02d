"""E2B's own SDK, pinned in tests/sdk/package.json, against deploy/sandbox-host.

Each program in tests/sdk prints TAP; here every one of its lines becomes a test, so that a failure
names what broke. Only E2B's documented environment tells the SDK where the server is.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.node import node_for
from tests.harness.services import ROOT
from tests.harness.stack import SandboxHost

SDK = ROOT / "tests" / "sdk"
PROGRAMS = ("commands", "files", "pty", "ports", "lifecycle", "git")


@pytest.fixture(scope="session")
def node() -> str:
    return node_for(SDK)


@pytest.fixture(scope="module")
def sdk_host(tmp_path_factory):
    service = SandboxHost(tmp_path_factory.mktemp("sdk-host"), SANDBOX_HOST_ANY_TEMPLATE="0")
    yield service
    service.stop()


_results: dict[str, tuple[dict[str, bool], str]] = {}


def run_program(node: str, name: str, env: dict[str, str]) -> tuple[dict[str, bool], str]:
    if name not in _results:
        try:
            done = subprocess.run([node, f"{name}.mjs"], cwd=SDK, env=env, capture_output=True, text=True, timeout=400)
            text = done.stdout + done.stderr
        except subprocess.TimeoutExpired as exc:
            text = f"{(exc.stdout or b'').decode(errors='replace')}\nnot finished within 400 s"
        lines = {m[2]: m[1] == "ok" for m in re.finditer(r"^(ok|not ok) \d+ - (.*?)(?: # \d+ ms)?$", text, re.M)}
        _results[name] = lines, text
    return _results[name]


def declared(name: str) -> list[str]:
    return re.findall(r"^test\('([^']+)'", (SDK / f"{name}.mjs").read_text(), re.M)


@pytest.mark.parametrize("program,title", [(p, t) for p in PROGRAMS for t in declared(p)])
def test_sdk(node, sdk_host, program, title):
    env = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")} | sdk_host.env
    lines, text = run_program(node, program, env)
    if not lines.get(title, False):
        found = re.search(rf"^not ok \d+ - {re.escape(title)}\n((?:  #.*\n?)*)", text, re.M)
        raise AssertionError(found[1] if found else text[-3000:])


def test_the_host_leaves_nothing_behind(node, sdk_host):
    assert sdk_host.list() == []
