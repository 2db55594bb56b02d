"""The limits of docker-compose.yml and the programs' defaults fit each other, and what a program allows itself
fits the box it is put in."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml

from tests.harness.services import ROOT, build_dir
from tests.harness.stack import BASE, Client, Stack

MIB = 1 << 20
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
PROGRAMS = {"gateway": "sandbox-gateway", "lifecycle-worker": "sandbox-worker", "reaper": "sandbox-reaper"}


def defaults(program: str) -> dict[str, int]:
    text = subprocess.run([build_dir() / program, "--help"], capture_output=True, text=True, check=True).stdout
    return {name: int(value) for name, value in re.findall(r"^  (\w+) .*\(default (\d+)\)", text, re.M)}


def setting(service: str, name: str) -> int:
    """What the program runs with: compose's value, or its own default."""
    value = str(SERVICES[service].get("environment", {}).get(name, ""))
    value = re.sub(r"^\$\{\w+:-(.*)\}$", r"\1", value)
    return int(value) if value else defaults(PROGRAMS[service])[name]


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([kmg])b?", str(text).lower()).groups()
    return int(number) << {"k": 10, "m": 20, "g": 30}[unit]


def seconds(service: str) -> int:
    return int(SERVICES[service]["stop_grace_period"].removesuffix("s"))


def buffer_bytes(memory: int) -> int:
    """GATEWAY_BUFFER_BYTES where nobody says it (gateway/config.c)."""
    return memory // 5 * 2


def test_the_gateway_fits_its_box():
    limit, threads = size(SERVICES["gateway"]["mem_limit"]), setting("gateway", "GATEWAY_THREADS")
    connections = setting("gateway", "GATEWAY_CONNECTIONS")
    # programs and stacks in use, 0.5 KiB a silent connection, 16 MiB of heads on their way
    beside = 32 * MIB + threads * 64 * 1024 + connections * 512 + 16 * MIB
    assert buffer_bytes(limit) + beside <= limit
    assert SERVICES["gateway"]["pids_limit"] >= threads + 64
    files = SERVICES["gateway"]["ulimits"]["nofile"]["hard"]
    assert files >= connections + threads + setting("gateway", "DATABASE_POOL") + 64
    # it starts with that much: one file of the largest size has room
    env = {"GATEWAY_BUFFER_BYTES": str(buffer_bytes(limit)), "DATABASE_URL": "postgresql:///none?host=/nonexistent",
           "REDIS_HOST": "/nonexistent", "JWT_SECRET_KEY": "x" * 32, "E2B_API_KEY": "x"}
    done = subprocess.run([build_dir() / "sandbox-gateway", "user", "list"], env=env, capture_output=True, text=True)
    assert done.returncode != 78 and "GATEWAY_" not in done.stderr, done.stderr
    env["GATEWAY_BUFFER_BYTES"] = str(48 * MIB)
    done = subprocess.run([build_dir() / "sandbox-gateway", "user", "list"], env=env, capture_output=True, text=True)
    assert done.returncode == 78 and "GATEWAY_BUFFER_BYTES" in done.stderr


def test_the_others_fit_theirs():
    redis = SERVICES["redis"]
    maximum = size(redis["command"][redis["command"].index("--maxmemory") + 1])
    # the rest is what a rewrite of its log may copy
    assert maximum <= size(redis["mem_limit"]) * 2 // 3
    # a call in flight takes less than 64 KiB, a provider's list 2 MiB and its tree
    worker = size(SERVICES["lifecycle-worker"]["mem_limit"])
    assert 48 * MIB + setting("lifecycle-worker", "WORKER_MAX_IN_FLIGHT") * 64 * 1024 <= worker
    assert size(SERVICES["postgres"]["shm_size"]) <= size(SERVICES["postgres"]["mem_limit"]) // 4
    # PostgreSQL's own max_connections is 100: eight gateways beside some workers and reapers
    assert 8 * setting("gateway", "DATABASE_POOL") <= 100 - 30


def test_a_stop_leaves_time_to_end():
    for service, name in (("gateway", "GATEWAY_DRAIN_MS"), ("lifecycle-worker", "WORKER_DRAIN_MS")):
        assert seconds(service) * 1000 >= setting(service, name) + 5000


def test_every_service_that_stays_has_a_limit():
    unbounded = [name for name, service in SERVICES.items() if "mem_limit" not in service and service.get("restart") != "no"]
    assert not unbounded


def test_caddy_has_the_address_that_the_gateway_believes():
    trusted = SERVICES["gateway"]["environment"]["TRUSTED_PROXIES"].split()
    assert trusted == [SERVICES["caddy"]["networks"]["front"]["ipv4_address"], "${TRUSTED_PROXIES:-}"]


@pytest.mark.release_only
def test_eight_large_writes_at_once_do_not_burst_the_box(tmp_path, redis, postgres, host):
    """With the old default they took more than the 256 MiB that compose gives, and the kernel killed the gateway."""
    limit = size(SERVICES["gateway"]["mem_limit"])
    with Stack(tmp_path / "s", redis, postgres, host, env={"GATEWAY_BUFFER_BYTES": str(buffer_bytes(limit))}) as own:
        client = own.client()
        box = client.create()["sandbox_id"]
        content = "x" * (15 * MIB)

        def write(n: int) -> int:
            return Client(own.url, client.token).post(f"{BASE}/write-file", {
                "sandbox_id": box, "file_path": f"/home/user/f{n}", "content": content}).status_code

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(write, range(8)))
        # 429: beyond the share of one user
        assert set(answers) <= {200, 429, 503} and answers.count(200) >= 1, answers
        peak = re.search(r"^VmHWM:\s+(\d+) kB", open(f"/proc/{own.gateways[0].pid}/status").read(), re.M)
        assert int(peak[1]) * 1024 < limit * 7 // 8
        client.remove(box)
