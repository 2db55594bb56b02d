"""deploy/dev/stack.sh, which `make run`, `make start` and `make stop` call: every way of starting ends in a
running system or in the failing program's own words with nothing left running."""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.harness.services import ROOT, build_dir, free_port, wait_until
from tests.harness.stack import LOCAL, PASSWORD

pytestmark = pytest.mark.release_only  # shell; the programs run under sanitizers elsewhere


class Dev:
    """One development system in a folder of its own, with a .env of its own."""

    def __init__(self, folder: Path):
        self.var, self.dotenv, self.port = folder / "var", folder / "dotenv", free_port()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith("SANDBOX_")} | {
            "SANDBOX_VAR_DIR": str(self.var), "SANDBOX_DOTENV": str(self.dotenv), "BUILD_DIR": str(build_dir()),
            "GATEWAY_LISTEN": f"127.0.0.1:{self.port}", "SANDBOX_HOST_PORT": str(free_port()),
            "GATEWAY_SANDBOX_LISTEN": f"127.0.0.1:{free_port()}"}  # by default the port after the gateway's
        self.url = f"http://127.0.0.1:{self.port}"

    def call(self, verb: str, **env: str) -> subprocess.CompletedProcess:
        return subprocess.run(["deploy/dev/stack.sh", verb], cwd=ROOT, env=self.env | env, capture_output=True, text=True,
                              timeout=90)

    def processes(self) -> list[str]:
        """Everything that carries this system's mark in its environment."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if f"STACK_RUN_DIR={self.var}/run\0".encode() in (entry / "environ").read_bytes():
                        found.append(f"{entry.name} {(entry / 'cmdline').read_bytes()[:80]!r}")
        return found

    def pid(self, name: str) -> int:
        return int((self.var / "run" / f"{name}.pid").read_text().split()[0])

    def login(self) -> int:
        return httpx.post(f"{self.url}/api/v1/auth/login/swagger", params={"username": "sandbox_test", "password": PASSWORD},
                          timeout=10, **LOCAL).status_code


@pytest.fixture
def dev(tmp_path):
    made = Dev(tmp_path)
    yield made
    ended = made.call("stop")
    assert ended.returncode == 0 and not made.processes(), ended.stdout + ended.stderr
    # where other accounts cannot enter tmp_path their data lies elsewhere, in a folder named after it
    number = subprocess.run(["cksum"], input=str(made.var), capture_output=True, text=True, check=True).stdout.split()[0]
    for elsewhere in ("/var/lib/sandbox-server-dev", f"/tmp/sandbox-server-{os.getuid()}"):
        shutil.rmtree(Path(elsewhere) / number, ignore_errors=True)


def test_a_file_written_on_windows_starts_a_system_that_shows_no_password(dev):
    dev.dotenv.write_bytes(b"SANDBOX_TIMEOUT_SECONDS=600\r\nREDIS_HOST=\r\nLOG_LEVEL=\"info\"\r\n")
    # two at once: one starts, the other says so
    with ThreadPoolExecutor() as pool:
        both = [done.result() for done in [pool.submit(dev.call, "start") for _ in range(2)]]
    assert sorted(done.returncode for done in both) == [0, 1], [done.stderr for done in both]
    assert "another start or stop of this system is under way" in next(d.stderr for d in both if d.returncode == 1)
    assert dev.login() == 200
    again = dev.call("start")
    assert again.returncode == 0 and "already running" in again.stdout

    status = dev.call("status")
    assert status.returncode == 0, status.stdout
    secrets = [(dev.var / "secrets" / name).read_text() for name in ("postgres_password", "redis_password", "jwt_secret",
                                                                     "host_api_key", "postgres_admin")]
    assert not [secret for secret in secrets if secret in status.stdout]
    env = dev.call("env").stdout
    assert f"export SANDBOX_TIMEOUT_SECONDS=600\n" in env and f"export REDISCLI_AUTH={secrets[1]}" in env
    for log in (dev.var / "log").iterdir():
        assert stat.S_IMODE(log.stat().st_mode) == 0o600, log
        assert not [secret for secret in secrets if secret in log.read_text(errors="replace")], log
    assert '"queue.wiped"' not in (dev.var / "log" / "reaper.log").read_text()

    # the host on this machine is called so wherever an operator reads, and keeps its id in the API
    shell = {name: "".join(shlex.split(value)) for name, value in (line.removeprefix("export ").split("=", 1) for line in
                                                                   env.splitlines() if line.startswith("export "))
             if "$" not in value}
    doctor = subprocess.run([str(build_dir() / "sandbox-gateway"), "doctor"], env=dev.env | shell, capture_output=True, text=True)
    assert "local takes our key" in doctor.stdout, doctor.stdout
    providers = wait_until("the worker beats", lambda: httpx.get(f"{dev.url}/readyz", **LOCAL).json()["data"].get("providers"))
    assert providers == {"local": "ok"}
    metrics = httpx.get(f"{dev.url}/metrics", **LOCAL).text
    assert 'provider="local"' in metrics and 'provider="e2b"' not in metrics

    # Redis asks for its password, and is not root
    port = next(line.partition("=")[2] for line in env.splitlines() if line.startswith("export REDIS_PORT="))
    ping = ["redis-cli", "-p", port, "PING"]
    assert "NOAUTH" in subprocess.run(ping, capture_output=True, text=True).stdout
    assert subprocess.run(ping, env=dict(os.environ, REDISCLI_AUTH=secrets[1]), capture_output=True, text=True).stdout == "PONG\n"
    assert secrets[1] not in Path(f"/proc/{dev.pid('redis')}/cmdline").read_text()
    if os.geteuid() == 0:
        assert os.stat(f"/proc/{dev.pid('redis')}").st_uid != 0

    # what runs is found and stopped even when nothing tells of it any more
    os.kill(int((dev.var / "run" / "worker.supervisor.pid").read_text().split()[0]), signal.SIGKILL)
    shutil.rmtree(dev.var / "run")
    stopped = dev.call("stop")
    assert stopped.returncode == 0 and not dev.processes(), stopped.stderr
    with pytest.raises(httpx.ConnectError):
        dev.login()


@pytest.mark.parametrize("setting, program", [
    ("GATEWAY_DRAIN_MS=soon", "GATEWAY_DRAIN_MS: 'soon'"), ("WORKER_LEASE_MS=x", "WORKER_LEASE_MS: 'x'"),
    ("REAPER_TICK_MS=-", "REAPER_TICK_MS: '-'"), ("SANDBOX_HOST_MAX_SANDBOXES=many", "SANDBOX_HOST_MAX_SANDBOXES: 'many'"),
    ("DATABASE_URL=postgresql://nobody@127.0.0.1:1/x", "127.0.0.1")])
def test_a_bad_value_ends_the_start_with_the_program_s_own_sentence(dev, setting, program):
    dev.dotenv.write_text(setting + "\n")
    done = dev.call("start")
    assert done.returncode == 1 and program in done.stderr, done.stderr
    assert "Sandbox Server is up" not in done.stdout and "==>" not in done.stderr
    assert not dev.processes()


def test_a_start_that_is_interrupted_leaves_nothing(dev):
    starting = subprocess.Popen(["deploy/dev/stack.sh", "start"], cwd=ROOT, env=dev.env, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)
    wait_until("PostgreSQL is on its way", lambda: (dev.var / "run" / "postgres.supervisor.pid").exists(), 30)
    starting.send_signal(signal.SIGTERM)
    output = starting.communicate(timeout=60)[0]
    assert starting.returncode != 0, output
    assert not dev.processes(), output
