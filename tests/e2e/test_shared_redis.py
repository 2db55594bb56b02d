"""Several deployments on one Redis database; a Redis that takes no more writes; a key that is something else."""

import re
import subprocess
import time

import httpx
import pytest

from tests.e2e.test_operator import ask
from tests.harness.services import Redis, build_dir, wait_until
from tests.harness.stack import BASE, Stack


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


def readyz(stack: Stack) -> tuple[int, dict]:
    answer = httpx.get(stack.url + "/readyz", trust_env=False)
    body = answer.json()
    return answer.status_code, body["data"] or body["error"]


def figure(stack: Stack, series: str) -> int:
    """The value of the only series in /metrics that begins so."""
    (line,) = [line for line in httpx.get(stack.url + "/metrics", trust_env=False).text.splitlines() if line.startswith(series)]
    return int(line.split()[-1])


def all_kinds(stack: Stack, client, seconds: float) -> None:
    """A job of each kind, none slower than that."""
    def quick(call, *args):
        start = time.monotonic()
        result = call(*args)
        took = time.monotonic() - start
        assert took < seconds, f"{call} took {took:.1f} s"
        return result

    box = quick(client.create)["sandbox_id"]
    assert quick(client.pause, box)["status"] == "paused"
    assert quick(client.connect, box)["status"] == "running"
    client.ok(quick(client.post, f"{BASE}/schedule-timeout", {"sandbox_id": box, "timeout_seconds": 600}))
    quick(client.remove, box)


@pytest.mark.release_only
def test_a_full_redis_slows_nothing_to_seconds(tmp_path, postgres, fault_provider):
    redis = Redis(tmp_path / "own-redis")
    try:
        with Stack(tmp_path / "s", redis, postgres, fault_provider, env={"REAPER_RECONCILE_MS": "500"}) as stack:
            client = stack.client()
            all_kinds(stack, client, 2)
            redis.cli("CONFIG", "SET", "maxmemory", "1mb")
            assert "OOM" in redis.cli("SET", "x", "y")
            wait_until("the worker has seen it", lambda: [e for e in stack.workers[0].events() if e["event"] == "queue.degraded"], 15)
            for _ in range(3):
                all_kinds(stack, client, 3)
            # long enough that its heartbeats in Redis are gone
            wait_until("no heartbeat in Redis", lambda: not redis.cli("KEYS", f"{stack.keys}workers:*"), 15)
            status, ready = readyz(stack)
            assert status == 200 and ready["redis"].startswith("degraded: it is full") and ready["workers"] == "ok (1)", ready
            assert ask(stack, "sandbox-worker", "health") == (0, "")
            # nor are its figures lost, nor the sweeps that Redis tells no worker of
            sweeps = figure(stack, 'sandbox_provider_sweeps_total{')
            assert figure(stack, 'sandbox_worker_done_total{') >= 15
            wait_until("swept", lambda: figure(stack, 'sandbox_provider_sweeps_total{') >= sweeps + 2, 20)
            status, text = ask(stack, "sandbox-gateway", "doctor")
            assert status == 1 and re.search(r"^FAIL +redis +it is full", text, re.M), text
            all_kinds(stack, client, 3)
            redis.cli("CONFIG", "SET", "maxmemory", "0")
            wait_until("whole again", lambda: readyz(stack)[1]["redis"] == "ok" and [
                e for e in stack.workers[0].events() if e["event"] == "queue.whole"], 20)
            all_kinds(stack, client, 2)
            stack.quiet()
            stack.agrees()
            assert not [e for p in stack.processes for e in p.events() if e["event"] in ("queue.down", "queue.unavailable")]
    finally:
        redis.stop()


@pytest.mark.release_only
def test_a_key_of_another_type_breaks_its_own_kind_only(fault_stack):
    stack = fault_stack(workers=2)
    client = stack.client()
    box = client.create()["sandbox_id"]
    key = f"{stack.keys}jobs:pause"
    stack.redis.cli("DEL", key)
    assert stack.redis.cli("SET", key, "x") == "OK"
    assert client.pause(box)["status"] == "paused"  # found in PostgreSQL
    for process in (stack.gateways[0], *stack.workers):
        wait_until(f"{process.name} names it", lambda p=process: [
            e for e in p.events() if e["event"] == "queue.degraded" and key in e["error"]], 15)
    for _ in range(2):
        all_kinds(stack, client, 3)
    status, ready = readyz(stack)
    assert status == 200 and ready["redis"] == f"degraded: {key} is a string, not a stream", ready
    status, text = ask(stack, "sandbox-gateway", "doctor")
    assert status == 1 and re.search(rf"^FAIL +redis +{key} is a string", text, re.M), text
    # a worker that starts now reads the other streams, too
    stack.start_worker()
    wait_until("it reads", lambda: stack.redis.cli(
        "XINFO", "CONSUMERS", f"{stack.keys}jobs:create", "lifecycle-workers").count("name") >= 3, 10)
    # the others are read as ever: no entry is left, and none had to be looked up
    assert stack.redis.cli("XLEN", f"{stack.keys}jobs:create") == "0"
    stack.redis.cli("DEL", key)
    wait_until("whole again", lambda: readyz(stack)[1]["redis"] == "ok" and all(
        [e for e in w.events() if e["event"] == "queue.whole"] for w in stack.workers[:2]), 25)
    all_kinds(stack, client, 2)
    stack.quiet()
    stack.agrees()
    wait_until("streams are empty", lambda: stack.redis.cli("XLEN", key) == "0", 10)
    assert not [e for p in stack.processes for e in p.events() if e["event"] in ("queue.down", "queue.unavailable")]
