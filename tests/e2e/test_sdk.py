"""E2B's own SDKs, pinned in tests/sdk, against deploy/sandbox-host.

Each program in tests/sdk prints TAP; here every one of its lines becomes a test, so that a failure
names what broke. Only E2B's documented environment tells an SDK where the server is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.host_client import HostClient
from tests.harness.node import node_for, npm_ci
from tests.harness.python import python_for
from tests.harness.services import ROOT
from tests.harness.stack import SandboxHost

SDK = ROOT / "tests" / "sdk"
# disks that outlive their processes are images, which only a host that runs as root can mount
JAVASCRIPT = ("commands", "files", "pty", "ports", "lifecycle", "git") + (("snapshots", "templates") if os.geteuid() == 0 else ())
PYTHON = ("sync", "asynchronous")


@pytest.fixture(scope="session")
def node() -> str:
    return node_for(SDK)


@pytest.fixture(scope="session")
def python() -> str:
    return python_for(SDK / "python")


@pytest.fixture(scope="module")
def sdk_host(tmp_path_factory):
    service = SandboxHost(tmp_path_factory.mktemp("sdk-host"), SANDBOX_HOST_ANY_TEMPLATE="0")
    yield service
    service.stop()


_results: dict[str, tuple[dict[str, bool], str]] = {}


def run_program(interpreter: str, program: Path, env: dict[str, str]) -> tuple[dict[str, bool], str]:
    if program.name not in _results:
        try:
            done = subprocess.run([interpreter, program.name], cwd=program.parent, env=env, capture_output=True,
                                  text=True, timeout=400)
            text = done.stdout + done.stderr
        except subprocess.TimeoutExpired as exc:
            text = f"{(exc.stdout or b'').decode(errors='replace')}\nnot finished within 400 s"
        lines = {m[2]: m[1] == "ok" for m in re.finditer(r"^(ok|not ok) \d+ - (.*?)(?: # \d+ ms)?$", text, re.M)}
        _results[program.name] = lines, text
    return _results[program.name]


def check(interpreter: str, program: Path, host: SandboxHost, title: str) -> None:
    env = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")} | host.env
    lines, text = run_program(interpreter, program, env)
    if not lines.get(title, False):
        found = re.search(rf"^not ok \d+ - {re.escape(title)}\n((?:  #.*\n?)*)", text, re.M)
        raise AssertionError(found[1] if found else text[-3000:])


def declared(name: str) -> list[str]:
    return re.findall(r"^test\('([^']+)'", (SDK / f"{name}.mjs").read_text(), re.M)


def declared_in_python(name: str) -> list[str]:
    found = re.findall(r"^@test\n(?:async )?def (\w+)", (SDK / "python" / f"{name}.py").read_text(), re.M)
    return [function.replace("_", " ") for function in found]


@pytest.mark.parametrize("program,title", [(p, t) for p in JAVASCRIPT for t in declared(p)])
def test_sdk(node, sdk_host, program, title):
    check(node, SDK / f"{program}.mjs", sdk_host, title)


@pytest.mark.parametrize("program,title", [(p, t) for p in PYTHON for t in declared_in_python(p)])
def test_python_sdk(python, sdk_host, program, title):
    check(python, SDK / "python" / f"{program}.py", sdk_host, title)


def test_e2bs_command_line_shows_logs_and_templates(node, sdk_host, tmp_path):
    npm_ci(SDK / "cli")
    box = HostClient(sdk_host).create()
    env = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")} | sdk_host.env | {"HOME": str(tmp_path)}

    def cli(*words: str) -> str:
        program = SDK / "cli" / "node_modules" / "@e2b" / "cli" / "dist" / "index.js"
        done = subprocess.run([node, str(program), *words], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert [json.loads(line)["message"] for line in cli("sandbox", "logs", box.id, "--format", "json").split("\n") if line] == [
        "started"]
    assert [t["templateID"] for t in json.loads(cli("template", "list", "--format", "json"))].count("base") == 1
    assert box.id in cli("sandbox", "list")
    assert "killed" in cli("sandbox", "kill", box.id)


def test_the_hosts_sandboxes_are_gone(sdk_host):
    assert sdk_host.list() == []
