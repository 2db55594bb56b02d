"""E2B's own SDKs and command line, pinned in tests/sdk, against the gateway: the same programs that test_sdk.py runs
against the sandbox host, with a user's API key, and every call through the queue and the relay."""

from __future__ import annotations

import json
import os
import subprocess

import httpx
import pytest

from tests.e2e.test_sdk import SDK, check, declared, declared_in_python, node, python  # noqa: F401
from tests.harness.node import npm_ci
from tests.harness.stack import LOCAL, SandboxHost, Stack

JAVASCRIPT = ("commands", "files", "pty", "lifecycle", "ports")
PYTHON = ("sync",)


class Door:
    """Where E2B's documented environment leads."""

    def __init__(self, stack: Stack):
        client = stack.client("alice")
        port = next(e["sandbox_port"] for e in stack.gateways[0].events() if e["event"] == "gateway.started")
        key = client.ok(client.post("/api/v1/keys", {"name": "sdk", "scopes": ["sandboxes:read", "sandboxes:write", "exec"]}))["key"]
        self.env = {"E2B_API_KEY": key, "E2B_API_URL": stack.url, "E2B_SANDBOX_URL": f"http://127.0.0.1:{port}",
                    "E2B_DOMAIN": f"localhost:{port}"}


# what is not equal: inside a sandbox, and to its provider's proxy, the provider's id is known
DIFFERENT = {"an environment of the sandbox, of a command, of the host", "a closed port is 502 and says so"}


@pytest.fixture(scope="module")
def door(tmp_path_factory, redis, postgres):
    host = SandboxHost(tmp_path_factory.mktemp("sdk-host"), SANDBOX_HOST_ANY_TEMPLATE="0")
    with Stack(tmp_path_factory.mktemp("sdk-stack"), redis, postgres, host) as stack:
        yield Door(stack)
    host.stop()


@pytest.mark.parametrize("program,title", [(p, t) for p in JAVASCRIPT for t in declared(p) if t not in DIFFERENT])
def test_javascript(node, door, program, title):  # noqa: F811
    check(node, SDK / f"{program}.mjs", door, title)


@pytest.mark.parametrize("program,title", [(p, t) for p in PYTHON for t in declared_in_python(p) if t not in DIFFERENT])
def test_python(python, door, program, title):  # noqa: F811
    check(python, SDK / "python" / f"{program}.py", door, title)


def test_the_command_line_lists_runs_and_kills(node, door, tmp_path):  # noqa: F811
    npm_ci(SDK / "cli")
    env = {k: v for k, v in os.environ.items() if not k.startswith("E2B_")} | door.env | {"HOME": str(tmp_path)}

    def cli(*words: str) -> str:
        program = SDK / "cli" / "node_modules" / "@e2b" / "cli" / "dist" / "index.js"
        done = subprocess.run([node, str(program), *words], env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    headers = {"X-API-Key": door.env["E2B_API_KEY"]}
    made = httpx.post(door.env["E2B_API_URL"] + "/sandboxes", json={"templateID": "base", "timeout": 120}, headers=headers, timeout=60,
                      **LOCAL).json()["sandboxID"]
    assert made in cli("sandbox", "list")
    assert "from-the-command-line" in cli("sandbox", "exec", made, "--", "echo", "from-the-command-line")
    assert [json.loads(line)["message"] for line in cli("sandbox", "logs", made, "--format", "json").split("\n") if line] == ["started"]
    assert [t["templateID"] for t in json.loads(cli("template", "list", "--format", "json"))] == ["base"]
    assert "killed" in cli("sandbox", "kill", made) and made not in cli("sandbox", "list")
