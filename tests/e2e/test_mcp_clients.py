"""Official MCP software from npm, pinned in tests/mcp/package.json: the TypeScript client, the
inspector's CLI and the conformance suite, against the tool server and through a sandbox's mcp_url."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.harness.mcp import ToolServer, base_template
from tests.harness.node import node_for, npm_ci
from tests.harness.services import ROOT
from tests.harness.stack import SandboxHost, Stack

pytestmark = pytest.mark.release_only  # the server itself: test_tool_server.py

MCP = ROOT / "tests" / "mcp"
PACKAGES = MCP / "node_modules" / "@modelcontextprotocol"
TITLES = re.findall(r"^test\('([^']+)'", (MCP / "client.mjs").read_text(), re.M)
PASSING = {"server-initialize", "ping", "tools-list", "server-sse-polling", "server-sse-multiple-streams",
           "dns-rebinding-protection"}


@pytest.fixture(scope="module")
def node() -> str:
    """A Node.js of the packages' own: the inspector and the suite need a newer one than Debian has."""
    node_for(MCP)
    return str(next((MCP / "node_modules").glob("node-linux-*/bin/node")))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    running = ToolServer(tmp_path_factory.mktemp("mcp"), MCP_TOKEN="t0ken")
    yield running
    running.stop()


@pytest.fixture(scope="module")
def open_server(tmp_path_factory):
    running = ToolServer(tmp_path_factory.mktemp("mcp-open"))
    yield running
    running.stop()


def run(argv: list[str], cwd: Path = MCP) -> str:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, timeout=120)
    return f"{done.stdout}{done.stderr}\nexit status {done.returncode}"


@pytest.fixture(scope="module")
def client_output(node, server) -> str:
    return run([node, "client.mjs", server.url + "/mcp", "t0ken"])


@pytest.mark.parametrize("title", TITLES)
def test_the_typescript_client(client_output, title):
    if not re.search(rf"^ok \d+ - {re.escape(title)}$", client_output, re.M):
        found = re.search(rf"^not ok \d+ - {re.escape(title)}\n((?:  #.*\n?)*)", client_output, re.M)
        raise AssertionError(found[1] if found else client_output[-3000:])


def test_the_inspector(node, server):
    inspector = [node, str(PACKAGES / "inspector/clients/launcher/build/index.js"), "--cli", server.url + "/mcp",
                 "--transport", "http", "--header", "Authorization: Bearer t0ken"]
    # --strict: it also looks for schemas that some models' clients would not take
    listed = run([*inspector, "--method", "tools/list", "--strict"])
    assert listed.endswith("exit status 0"), listed
    assert '"name": "run_command"' in listed
    ran = run([*inspector, "--method", "tools/call", "--tool-name", "run_command", "--tool-arg", "command=echo $((6*7))"])
    assert ran.endswith("exit status 0") and '"output": "42\\n"' in ran, ran
    refused = run([*inspector[:-1], "Authorization: Bearer wrong", "--method", "tools/list"])
    assert not refused.endswith("exit status 0"), refused


def test_the_conformance_suite(node, open_server, tmp_path):
    text = run([node, str(PACKAGES / "conformance/dist/index.js"), "server", "--url",
                f"http://localhost:{open_server.port}/mcp", "--suite", "all",
                "--expected-failures", str(MCP / "conformance.yml")], tmp_path)
    assert text.endswith("exit status 0"), text[-4000:]
    assert set(re.findall(r"^✓ ([\w-]+):", text, re.M)) == PASSING


def test_an_mcp_client_in_a_sandbox(node, tmp_path, redis, postgres):
    """What `make run` gives: create, take mcp_url from the answer, and it works."""
    host = SandboxHost(tmp_path, SANDBOX_HOST_TEMPLATES=str(base_template(tmp_path / "template")))
    try:
        with Stack(tmp_path / "stack", redis, postgres, host, env={"SANDBOX_SERVICES": "mcp"}) as stack:
            user = stack.client()
            box = user.create()
            assert box["services"] == {"mcp": "ready"}
            text = run([node, "client.mjs", box["mcp_url"]])
            assert text.endswith("exit status 0") and len(re.findall("^ok ", text, re.M)) == len(TITLES), text
            inspector = PACKAGES / "inspector/clients/launcher/build/index.js"
            text = run([node, str(inspector), "--cli", box["mcp_url"] + "/mcp", "--method", "tools/call",
                        "--tool-name", "write_file", "--tool-arg", "path=met", "content=one sandbox"])
            assert text.endswith("exit status 0"), text
            # the same sandbox, whichever way one comes in
            assert user.run(box["sandbox_id"], "cat met")["output"] == "one sandbox"
            user.remove(box["sandbox_id"])
    finally:
        host.stop()
