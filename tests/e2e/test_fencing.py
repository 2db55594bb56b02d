"""Many at once on the same sandboxes, and a worker that sleeps through its leases: the database and
the provider agree, each transition was one call, and delete wins."""

import os
import random
import signal
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, Client, Stack

# a provider's effect for each transition that has come to rest
EFFECTS = {("creating", "running"): "create", ("pausing", "paused"): "pause", ("resuming", "running"): "resume",
           ("deleting", "deleted"): "delete"}
ASYNC = {"Prefer": "respond-async"}


def act(client: Client, sandbox_id: str, op: str):
    if op == "pause":
        return client.post(f"{BASE}/{sandbox_id}/pause", **ASYNC)
    if op == "connect":
        return client.post(f"{BASE}/connect", {"sandbox_id": sandbox_id}, **ASYNC)
    if op == "timeout":
        return client.post(f"{BASE}/schedule-timeout", {"sandbox_id": sandbox_id, "timeout_seconds": 600}, **ASYNC)
    return client.delete(f"{BASE}/{sandbox_id}", **ASYNC)


def transitions(stack: Stack) -> dict[str, list[str]]:
    """sandbox -> the effects its history says it had"""
    found = defaultdict(list)
    for sid, before, after in stack.sql("select sandbox_id::text, from_status, to_status from events order by id"):
        if (before, after) in EFFECTS:
            found[sid].append(EFFECTS[before, after])
    return dict(found)


def assert_agreement(stack: Stack, provider) -> None:
    rows = stack.sql("select provider_sandbox_id, status from sandboxes where status <> 'deleted'")
    assert dict(rows) == {pid: s["state"] for pid, s in provider.state()["sandboxes"].items()}


@pytest.mark.release_only
def test_a_thousand_random_runs(fault_stack, fault_provider):
    stack = fault_stack(workers=3, gateways=2, reapers=2)
    clients = [stack.client(gateway=g) for g in (0, 1)]
    rng = random.Random(4)
    answers = defaultdict(list)

    def run(n: int, ops: list[str]) -> None:
        sid = clients[n % 2].ok(clients[n % 2].post(f"{BASE}/create", {"user_id": "x"}))["sandbox_id"]
        with ThreadPoolExecutor(len(ops)) as pool:
            calls = [(op, pool.submit(act, clients[i % 2], sid, op)) for i, op in enumerate(ops)]
        answers[sid] = [(op, call.result().status_code) for op, call in calls]
        if n % 10 == 0:  # at random a connect rarely meets a paused sandbox; these wait, so that each resumes
            answers[sid] += [("pause", clients[0].post(f"{BASE}/{sid}/pause").status_code),
                             ("connect", clients[1].post(f"{BASE}/connect", {"sandbox_id": sid}).status_code)]

    plans = [rng.choices(["pause", "connect", "timeout", "delete"], [4, 4, 1, 1], k=rng.randint(2, 5)) for _ in range(1000)]
    with ThreadPoolExecutor(24) as pool:
        for future in [pool.submit(run, n, ops) for n, ops in enumerate(plans)]:
            future.result()
    stack.quiet(60)

    assert_agreement(stack, fault_provider)
    names = dict(stack.sql("select provider_sandbox_id, id::text from sandboxes"))
    effects = defaultdict(list)
    for effect in fault_provider.effects():
        if effect["effect"] != "timeout":
            effects[names[effect["id"]]].append(effect["effect"])
    assert dict(effects) == transitions(stack), "each transition is one effect, in this order"
    had = Counter(name for one in effects.values() for name in one)
    calls = fault_provider.state()["calls"]
    assert (calls["create"], calls["pause"], calls["connect"], calls["delete"]) == \
        (had["create"], had["pause"], had["resume"], had["delete"]), "and one call"
    assert had["create"] == 1000

    status = dict(stack.sql("select id::text, status from sandboxes"))
    for sid, done in answers.items():
        assert all(code in (200, 202, 404, 409) for _, code in done), done
        if any(op == "delete" and code in (200, 202) for op, code in done):
            assert status[sid] == "deleted" and effects[sid].count("delete") == 1 and effects[sid][-1] == "delete"
        else:
            assert status[sid] in ("running", "paused")
    assert had["delete"] > 100 and had["pause"] > 300 and had["resume"] > 50, had
    # no two jobs of a sandbox at once: the next is claimed after the one before has ended
    assert stack.sql("select count(*) from jobs a join jobs b on a.sandbox_id = b.sandbox_id and a.seq < b.seq "
                     "where b.started_at < a.finished_at") == [("0",)]


@pytest.mark.release_only
def test_a_worker_that_sleeps_through_its_leases(fault_stack, fault_provider):
    """Two leases long (FREEZE_SECONDS for longer), in the middle of every kind of job."""
    freeze = float(os.environ.get("FREEZE_SECONDS", "9"))
    stack = fault_stack(workers=2, env={"REAPER_RECONCILE_MS": "300", "WORKER_RECONCILE_MIN_AGE_MS": "1000"})
    client = stack.client()
    with ThreadPoolExecutor(40) as pool:
        boxes = [b["sandbox_id"] for b in pool.map(lambda _: client.create(), range(40))]
        list(pool.map(client.pause, boxes[10:20]))
        fault_provider.config(delay_ms=1300)
        calls = [pool.submit(act, client, sid, "pause") for sid in boxes[:10]]
        calls += [pool.submit(act, client, sid, "connect") for sid in boxes[10:20]]
        calls += [pool.submit(act, client, sid, "delete") for sid in boxes[20:30]]
        calls += [pool.submit(client.post, f"{BASE}/create", {"user_id": "x"}, **ASYNC) for _ in range(20)]
        wait_until("its jobs are under way", lambda: int(stack.sql(
            f"select count(*) from jobs where state='running' and lease_owner like '%:{stack.workers[0].pid}:%'")[0][0]) >= 5, interval=0)
        os.kill(stack.workers[0].pid, signal.SIGSTOP)
        frozen = time.monotonic()
        assert all(call.result().status_code in (200, 202) for call in calls)
        fault_provider.config(delay_ms=0)
        stack.quiet(30)  # while it sleeps: the other does its work
        # and goes on with the same sandboxes, so that what the sleeper knows is old
        list(pool.map(lambda sid: act(client, sid, "connect"), boxes[:10]))
        list(pool.map(lambda sid: act(client, sid, "pause"), boxes[10:20]))
        stack.quiet(30)
        threading.Event().wait(max(0.0, freeze - (time.monotonic() - frozen)))
        os.kill(stack.workers[0].pid, signal.SIGCONT)
        list(pool.map(lambda sid: act(client, sid, "timeout"), boxes[:10]))
    stack.quiet(30)
    wait_until("agreement", lambda: assert_agreement(stack, fault_provider) is None, 15)
    tags = Counter(s["metadata"]["sandbox_id"] for s in fault_provider.state()["sandboxes"].values())
    assert len(tags) == 50 and set(tags.values()) == {1}
    assert stack.sql("select max(crashes) < 3, count(*) filter (where state in ('dead', 'failed')) from jobs") == [("t", "0")]
    wait_until("it works again", lambda: client.create()["status"] == "running")
