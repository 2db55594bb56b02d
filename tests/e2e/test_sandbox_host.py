"""The local sandbox host beside others of its kind."""

from __future__ import annotations

import os
import re
import subprocess

import httpx
import pytest

from tests.harness.services import build_dir
from tests.harness.stack import SandboxHost


def create(host: SandboxHost) -> str:
    made = httpx.post(f"{host.url}/sandboxes", headers={"X-API-Key": host.key}, trust_env=False, timeout=30,
                      json={"templateID": "base", "timeout": 60})
    assert made.status_code == 201, made.text
    return made.json()["sandboxID"]


def user_ids(host: SandboxHost) -> set[int]:
    """The user ids of everything below the host's process, but for its own warden."""
    text = subprocess.run(["ps", "-eo", "pid=,ppid=,uid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=3) for line in text.splitlines()]
    below, found = {str(host.process.pid)}, set()
    for _ in range(6):
        for pid, parent, uid, args in rows:
            if parent in below and pid not in below:
                below.add(pid)
                if not args.startswith("sandbox-host warden"):
                    found.add(int(uid))
    return found


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives each sandbox a user id of its own")
def test_two_hosts_share_no_user_id(tmp_path_factory):
    hosts = [SandboxHost(tmp_path_factory.mktemp("pair")) for _ in range(2)]
    try:
        for host in hosts:
            create(host)
            create(host)
        one, two = (user_ids(host) for host in hosts)
        assert len(one) == 2 and len(two) == 2, (one, two)
        assert not one & two and 0 not in one | two
    finally:
        for host in hosts:
            host.stop()


def test_doctor_says_what_works_and_disturbs_no_host(host):
    box = create(host)
    done = subprocess.run([str(build_dir() / "sandbox-host"), "doctor"], env=dict(os.environ) | host.own_env,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^sandbox +starts and answers$", done.stdout, re.M), done.stdout
    assert re.search(r"^pause +works$", done.stdout, re.M), done.stdout
    # the host of the same settings still has its warden's socket, and its sandbox is reached
    assert (host.state / "warden").exists() and (host.state / "s" / box / "record.json").exists()
    health = httpx.get(f"{host.url}/health", headers={"E2b-Sandbox-Id": box, "E2b-Sandbox-Port": "49983"},
                       trust_env=False, timeout=30)
    assert health.status_code == 204, health.text
    killed = httpx.delete(f"{host.url}/sandboxes/{box}", headers={"X-API-Key": host.key}, trust_env=False, timeout=30)
    assert killed.status_code == 204, killed.text


def test_a_bad_setting_is_named_at_start(host):
    for name, value in {"SANDBOX_HOST_LISTEN": "nonsense", "SANDBOX_HOST_PROCESSES": "1", "LOG_LEVEL": "loud",
                        "SANDBOX_HOST_API_KEY": "short"}.items():
        env = dict(os.environ) | host.own_env | {name: value, "SANDBOX_HOST_STATE_DIR": f"{host.state}-bad"}
        done = subprocess.run([str(build_dir() / "sandbox-host")], env=env, capture_output=True, text=True, timeout=20)
        assert done.returncode == 78 and name in done.stderr, (name, done.returncode, done.stderr)
    subprocess.run(["rm", "-rf", f"{host.state}-bad"], check=True)
