"""Several deployments on one Redis database; a Redis that takes no more writes; a key that is something else."""

import re
import subprocess

from tests.harness.services import build_dir, wait_until
from tests.harness.stack import Stack


def refused(stack: Stack, program: str, *args: str, **env: str) -> str:
    """What a program says that does not start with these settings."""
    done = subprocess.run([build_dir() / program, *args], env=stack.env | env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78, done
    return done.stdout + done.stderr


def test_two_deployments_share_a_redis(tmp_path, redis, postgres, fault_provider):
    with Stack(tmp_path / "a", redis, postgres, fault_provider) as one, Stack(tmp_path / "b", redis, postgres, fault_provider) as two:
        assert one.keys != two.keys
        clients = [one.client(), two.client()]
        boxes = [[client.create()["sandbox_id"] for _ in range(5)] for client in clients]
        for client, ids in zip(clients, boxes, strict=True):
            assert [client.pause(sid)["status"] for sid in ids] == ["paused"] * 5
        ids = {stack.sql("select id from deployment")[0][0]: stack for stack in (one, two)}
        for own, stack in ids.items():
            assert redis.cli("GET", f"{stack.keys}mark") == own
        # with the other's prefix no program starts, and it says why
        for program, args in (("sandbox-worker", ()), ("sandbox-reaper", ()), ("sandbox-gateway", ("serve",))):
            said = refused(two, program, *args, REDIS_PREFIX=one.keys, GATEWAY_LISTEN="127.0.0.1:0")
            assert all(own in said for own in ids) and "REDIS_PREFIX" in said, said
        assert redis.cli("GET", f"{one.keys}mark") == one.sql("select id from deployment")[0][0]
        assert "REDIS_PREFIX" in refused(two, "sandbox-worker", REDIS_PREFIX="all*:")


def test_keys_that_become_another_deployments_are_left_alone(fault_stack):
    """Redis was wiped and the other was quicker: its entries stay, our jobs are found in PostgreSQL."""
    stack = fault_stack()
    client = stack.client()
    box = client.create()["sandbox_id"]
    stack.redis.cli("SET", f"{stack.keys}mark", "11111111-1111-4111-8111-111111111111")
    for process in (stack.workers[0], stack.reapers[0], stack.gateways[0]):
        wait_until(f"{process.name} has seen it", lambda p=process: [
            e for e in p.events() if "11111111-1111-4111-8111-111111111111" in str(e.get("error", ""))], 15)
    length = stack.redis.cli("XLEN", f"{stack.keys}jobs:pause")
    stack.redis.cli("XADD", f"{stack.keys}jobs:pause", "*", "job_id", "22222222-2222-4222-8222-222222222222")
    assert client.pause(box)["status"] == "paused"
    assert stack.redis.cli("XLEN", f"{stack.keys}jobs:pause") == str(int(length) + 1)
    stack.redis.cli("DEL", f"{stack.keys}mark")
    own = stack.sql("select id from deployment")[0][0]
    wait_until("it is ours again", lambda: stack.redis.cli("GET", f"{stack.keys}mark") == own, 10)
    wait_until("what is there is taken", lambda: stack.redis.cli("XLEN", f"{stack.keys}jobs:pause") == "0", 10)
    assert client.connect(box)["status"] == "running"
