"""What comes up in a sandbox, and what a create says of it: deploy/template/sandbox-services and the
gateway's waiting.

code-server itself is not on a test machine: a stand-in takes its place that understands the options the
script gives it, asks for the same password and answers /healthz.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time

import httpx
import pytest

from tests.harness.mcp import McpClient, base_template
from tests.harness.services import Process, free_port, wait_until
from tests.harness.stack import BASE, SandboxHost, Stack, fetch_here

CODE_SERVER = '''#!/usr/bin/python3
import argparse, http.server, os
options = argparse.ArgumentParser()
options.add_argument("--bind-addr", required=True)
options.add_argument("--auth", required=True, choices=["password"])
for flag in ("telemetry", "update-check", "workspace-trust"):
    options.add_argument("--disable-" + flag, action="store_true", required=True)
options.add_argument("folder")
given = options.parse_args()
assert os.path.isdir(given.folder) and "MCP_TOKEN" not in os.environ
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        good = self.path == "/healthz" or self.headers.get("X-Password") == os.environ["PASSWORD"]
        self.send_response(200 if good else 401)
        self.end_headers()
    def log_message(self, *_): pass
host, port = given.bind_addr.split(":")
http.server.ThreadingHTTPServer((host, int(port)), Handler).serve_forever()
'''
# a second system beside the module's: its workers must not read each other's wake-ups
BESIDE = {"REDIS_DATABASE": "1"}
PASSWORD_FILE = "/home/user/.config/sandbox/vscode-password"


@pytest.fixture(scope="module")
def service_host(tmp_path_factory):
    templates = base_template(tmp_path_factory.mktemp("services"), code_server=CODE_SERVER)
    without = base_template(tmp_path_factory.mktemp("without"))
    shutil.copy(without / "base.json", templates / "without.json")
    running = SandboxHost(tmp_path_factory.mktemp("service-host"), SANDBOX_HOST_TEMPLATES=str(templates))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def service_stack(tmp_path_factory, redis, postgres, service_host):
    with Stack(tmp_path_factory.mktemp("service-stack"), redis, postgres, service_host,
               env={"SANDBOX_SERVICES": "mcp,vscode", "SANDBOX_SERVICES_WAIT_MS": "20000",
                    "SANDBOX_SERVICES_TEMPLATES": "base,without"}) as running:
        yield running


def editor(host: SandboxHost, box: dict, password: str = "", path: str = "/") -> int:
    url = httpx.URL(box["vscode_url"] + path)
    return httpx.get(host.url + path, headers={"Host": url.netloc.decode(), "X-Password": password}, trust_env=False).status_code


def test_both_are_up_and_only_the_owner_opens_the_editor(service_stack, service_host):
    user = service_stack.client()
    boxes = [user.create() for _ in range(2)]
    passwords = []
    for box in boxes:
        assert box["services"] == {"mcp": "ready", "vscode": "ready"}
        assert fetch_here(service_host.url, box["mcp_url"] + "/health").json()["status"] == "ok"
        # the API hands the password out, to the sandbox's owner alone
        asked = {"sandbox_id": box["sandbox_id"], "file_path": PASSWORD_FILE}
        passwords.append(user.ok(user.post(f"{BASE}/read-file", asked))["content"].strip())
        assert service_stack.client("mallory").post(f"{BASE}/read-file", asked).status_code == 404
        assert editor(service_host, box) == 401 and editor(service_host, box, passwords[-1]) == 200
        assert user.run(box["sandbox_id"], f"stat -c %a {PASSWORD_FILE}")["output"] == "600\n"
    assert len(set(passwords)) == 2 and all(len(p) == 32 for p in passwords)
    assert editor(service_host, boxes[0], passwords[1]) == 401
    for box in boxes:
        user.remove(box["sandbox_id"])


def test_without_code_server_its_port_says_how_to_get_it(service_stack, service_host):
    user = service_stack.client()
    box = user.create(sandbox_template_id="without")
    assert box["services"] == {"mcp": "ready", "vscode": "not installed"}
    page = fetch_here(service_host.url, box["vscode_url"])
    assert page.status_code == 501 and page.headers["Content-Type"].startswith("text/html")
    assert "make run WITH_CODE_SERVER=1" in page.text
    user.remove(box["sandbox_id"])


def test_a_token_of_the_sandbox(service_stack, service_host):
    user = service_stack.client()
    box = user.create(envs={"MCP_TOKEN": "only me"})
    assert box["services"]["mcp"] == "ready"
    host = httpx.URL(box["mcp_url"]).netloc.decode()
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert McpClient(service_host.url, Host=host).post(ping).status_code == 401
    client = McpClient(service_host.url, "only me", Host=host)
    client.initialize()
    assert client.data("run_command", command="id -un")["output"] == "user\n"
    # one put there later counts from then on
    user.ok(user.post(f"{BASE}/write-file", {"sandbox_id": box["sandbox_id"], "content": "second",
                                             "file_path": "/home/user/.config/sandbox/mcp-token"}))
    assert McpClient(service_host.url, "second", Host=host).post(ping).status_code == 200
    user.remove(box["sandbox_id"])


def test_what_dies_comes_back(service_stack, service_host):
    user = service_stack.client()
    box = user.create()
    old = user.run(box["sandbox_id"], "pgrep -x sandbox-tool-se")["output"]
    user.run(box["sandbox_id"], "pkill -9 -x sandbox-tool-se; pkill -9 -f code-server")
    wait_until("both again", lambda: fetch_here(service_host.url, box["mcp_url"] + "/health").status_code == 200
               and editor(service_host, box, path="/healthz") == 200, 15)
    assert user.run(box["sandbox_id"], "pgrep -x sandbox-tool-se")["output"] not in ("", old)
    again = user.run(box["sandbox_id"], "/opt/sandbox/bin/sandbox-services run")
    assert again["exit_code"] == 0 and "already running" in again["stderr"]
    user.remove(box["sandbox_id"])


def test_after_a_pause(service_stack):
    user = service_stack.client()
    box = user.create()
    user.pause(box["sandbox_id"])
    assert user.connect(box["sandbox_id"])["services"] == {"mcp": "ready", "vscode": "ready"}
    assert "services" not in user.connect(box["sandbox_id"])  # it ran: nothing came up
    user.remove(box["sandbox_id"])


def test_a_template_without_services_is_not_asked(service_stack):
    user = service_stack.client()
    box = user.create(sandbox_template_id="bare")
    assert box["success"] is True and "services" not in box
    user.remove(box["sandbox_id"])


@pytest.mark.release_only
def test_a_service_that_does_not_come_fails_no_create(tmp_path, redis, postgres, service_host):
    with Stack(tmp_path, redis, postgres, service_host, env={
            "SANDBOX_SERVICES": "mcp", "SANDBOX_SERVICES_TEMPLATES": "*", "SANDBOX_SERVICES_WAIT_MS": "1500"} | BESIDE) as stack:
        user = stack.client()
        start = time.monotonic()
        box = user.create(sandbox_template_id="bare")
        assert time.monotonic() - start >= 1.45
        assert box["status"] == "running" and box["services"] == {"mcp": "starting"}
        # who does not wait for the create does not wait for this
        start = time.monotonic()
        answer = user.post(f"{BASE}/create", {"user_id": "tests", "sandbox_template_id": "bare"}, Prefer="respond-async")
        assert answer.status_code == 202 and time.monotonic() - start < 1.45
        stack.quiet()
        for item in user.ok(user.get(f"{BASE}/"))["items"]:
            user.remove(item["id"])


@pytest.mark.release_only
def test_no_way_there_is_unavailable(tmp_path, redis, postgres, service_host):
    with Stack(tmp_path, redis, postgres, service_host, env={
            "SANDBOX_SERVICES": "mcp,vscode", "SANDBOX_SERVICES_WAIT_MS": "0",
            "E2B_SANDBOX_URL": f"http://127.0.0.1:{free_port()}"} | BESIDE) as stack:
        user = stack.client()
        box = user.create()
        assert box["services"] == {"mcp": "unavailable", "vscode": "unavailable"}
        user.remove(box["sandbox_id"])


@pytest.mark.release_only
def test_by_default_nothing_is_asked(tmp_path, redis, postgres, service_host):
    with Stack(tmp_path, redis, postgres, service_host, env=BESIDE) as stack:
        user = stack.client()
        box = user.create()
        assert "services" not in box and box["mcp_url"]
        user.remove(box["sandbox_id"])


def test_a_service_that_does_not_exist_stops_the_gateway(service_stack):
    done = subprocess.run([service_stack.gateways[0].argv[0]], env=service_stack.env | {"SANDBOX_SERVICES": "mcp,ssh"},
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 78 and "SANDBOX_SERVICES: ssh" in done.stderr


# ---- the script alone, as a provider that snapshots running machines uses it


def run_script(tmp_path, *options: str, **programs: str) -> Process:
    base_template(tmp_path, **programs)
    tools = tmp_path / "opt" / "bin"
    (tmp_path / "id").write_text("ibuild\n")
    env = dict(os.environ) | {
        "HOME": str(tmp_path), "PATH": f"{tools}:{os.environ['PATH']}", "SANDBOX_ID_FILE": str(tmp_path / "id"),
        "SANDBOX_MCP_SERVER_PORT": str(free_port()), "SANDBOX_CODE_SERVER_PORT": str(free_port())}
    return Process("sandbox-services", [str(tools / "sandbox-services"), "run", *options], env, tmp_path / "log")


def kill(running: Process) -> None:
    if running.alive():
        os.killpg(running.pid, signal.SIGKILL)
        running.proc.wait()


@pytest.fixture
def script(tmp_path):
    running = run_script(tmp_path, "--snapshot", code_server=CODE_SERVER)
    yield running
    kill(running)


def test_code_server_takes_over_from_the_page_as_soon_as_it_is_there(tmp_path):
    running = run_script(tmp_path)
    try:
        url = f"http://127.0.0.1:{running.env['SANDBOX_CODE_SERVER_PORT']}/healthz"
        wait_until("the page", lambda: httpx.get(url, trust_env=False).json() == {"status": "not installed"}, 15)
        installing = tmp_path / "opt" / "bin" / "new"
        installing.write_text(CODE_SERVER)
        installing.chmod(0o755)
        installing.rename(installing.with_name("code-server"))
        wait_until("code-server", lambda: httpx.get(url, trust_env=False).status_code == 200, 20)
        assert (tmp_path / ".config/sandbox/vscode-password").exists()
    finally:
        kill(running)


def test_a_snapshot_holds_no_password_and_each_copy_has_its_own(script, tmp_path):
    url = f"http://127.0.0.1:{script.env['SANDBOX_CODE_SERVER_PORT']}/"
    path = tmp_path / ".config/sandbox/vscode-password"

    def ready(seconds: int) -> int:
        return subprocess.run([script.argv[0], "ready", str(seconds)], env=script.env, capture_output=True, timeout=60).returncode

    def opens(password: str) -> bool:
        return httpx.get(url, headers={"X-Password": password}, trust_env=False).status_code == 200

    assert ready(20) == 0  # the template's ready command: now the snapshot is taken
    assert not path.exists()
    with pytest.raises(httpx.ConnectError):
        opens("")
    passwords = []
    for copy in ("icopy1", "icopy2"):
        (tmp_path / "id").write_text(f"{copy}\n")
        wait_until("a password of its own", lambda: path.exists() and path.read_text().strip() not in passwords, 15)
        passwords.append(path.read_text().strip())
        wait_until("it is the one asked for", lambda: opens(passwords[-1]), 20)
        assert path.stat().st_mode & 0o777 == 0o600 and ready(5) == 0
    assert not opens(passwords[0]) and not opens("")
    script.send(signal.SIGTERM)
    assert script.proc.wait(10) == 0
    assert ready(0) == 1
    assert path.parent.stat().st_mode & 0o777 == 0o700
