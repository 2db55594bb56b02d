"""Create exactly once, and the sweep that finds what no job can: copies that appear late, sandboxes
the provider lost, states that differ."""

import json
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, DaytonaDouble, Stack


def creates_at(provider) -> int:
    return sum(1 for e in provider.effects() if e["effect"] == "create")


def live(provider) -> dict[str, str]:
    """provider id -> our sandbox id"""
    return {pid: s["metadata"].get("sandbox_id", "") for pid, s in provider.state()["sandboxes"].items()}


def named(stack: Stack) -> dict[str, str]:
    return dict(stack.sql("select provider_sandbox_id, id::text from sandboxes where status not in ('deleted', 'failed')"))


# ---- create exactly once ---------------------------------------------------------------------

def test_each_create_that_went_out_gets_its_own_time_to_appear(fault_stack, fault_provider):
    """The second create is the lost one: the time the first had been given says nothing about it."""
    stack = fault_stack(env={"SANDBOX_SETTLE_MS": "2000"})
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": "reset_before", "times": 1},
                          {"route": "create", "mode": "late", "delay_ms": 1200, "times": 1})
    data = client.create()
    stack.quiet()
    assert fault_provider.state()["calls"]["create"] == 2 and creates_at(fault_provider) == 1
    assert live(fault_provider) == {data["provider_sandbox_id"]: data["sandbox_id"]} == named(stack)


def test_of_several_copies_the_oldest_is_adopted(fault_stack, fault_provider):
    """As zombies may leave them; more than one lookup kills at a time."""
    stack = fault_stack(env={"WORKER_RETRY_BASE_MS": "2000", "WORKER_RETRY_CAP_MS": "2000", "REAPER_RECONCILE_MS": "86400000"})
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": "reset_after", "times": 1})
    answer = client.post(f"{BASE}/create", {"user_id": "x"}, Prefer="respond-async")
    sid = answer.json()["data"]["sandbox_id"]
    wait_until("the first", lambda: creates_at(fault_provider) == 1)
    [first] = live(fault_provider)
    tags = fault_provider.state()["sandboxes"][first]["metadata"]
    fault_provider.seed(*[tags] * 7)
    wait_until("running", lambda: client.status(sid) == "running")
    assert live(fault_provider) == {first: sid} == named(stack)
    assert fault_provider.state()["calls"]["create"] == 1


# ---- the sweep -------------------------------------------------------------------------------

SWEEPS = {"REAPER_RECONCILE_MS": "200", "WORKER_RECONCILE_MIN_AGE_MS": "600", "WORKER_HEARTBEAT_MS": "200",
          "RECONCILE_LOOK_AGAIN_MS": "100", "RECONCILE_ABSENT_MS": "500"}


def orphan_of(deployment: str) -> dict[str, str]:
    return {"sandbox_deployment": deployment, "sandbox_id": str(uuid.uuid4()), "sandbox_job": "j"}


def sweeps_done(stack: Stack, count: int, provider: str = "e2b") -> None:
    """Waits for so many more complete sweeps, counted by the workers' logs of them."""
    seen = set()

    def look():
        seen.update(row for row in stack.sql(
            f"select sweep_id::text from provider_sweeps where provider='{provider}' and state='done'"))
        return len(seen) >= count + 1

    wait_until(f"{count} sweeps", look, 20, 0.01)


def history(stack: Stack, sandbox_id: str) -> list[str]:
    return [row[0] for row in stack.sql(f"select reason from events where sandbox_id='{sandbox_id}' order by id")]


def test_a_create_that_lands_after_everything_is_settled_is_killed(fault_stack, fault_provider):
    """Its effect comes 3 s after the client left, and 1 s after an empty list counted as proof."""
    stack = fault_stack(env=SWEEPS | {"SANDBOX_SETTLE_MS": "1000"}, workers=2, reapers=2)
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": "late", "delay_ms": 3000, "times": 1})
    data = client.create()
    wait_until("the late one", lambda: creates_at(fault_provider) == 2)
    wait_until("the copy killed", lambda: live(fault_provider) == {data["provider_sandbox_id"]: data["sandbox_id"]})
    assert client.status(data["sandbox_id"]) == "running" and named(stack) == live(fault_provider)
    wait_until("why", lambda: any(r.startswith("orphan ") for r in history(stack, data["sandbox_id"])))


@pytest.mark.release_only
def test_the_same_after_its_sandbox_was_deleted(fault_stack, fault_provider):
    stack = fault_stack(env=SWEEPS | {"SANDBOX_SETTLE_MS": "300", "SANDBOX_WAIT_SECONDS": "1"})
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": "late", "delay_ms": 3000, "times": 1},
                          {"route": "create", "mode": "status", "status": 429, "times": -1})
    answer = client.post(f"{BASE}/create", {"user_id": "x"})
    sid = stack.sql("select id::text from sandboxes")[0][0]
    assert answer.status_code in (202, 503)
    client.ok(client.delete(f"{BASE}/{sid}"))
    assert live(fault_provider) == {} and creates_at(fault_provider) == 0
    wait_until("the late one", lambda: creates_at(fault_provider) == 1)
    wait_until("killed", lambda: live(fault_provider) == {})


def test_a_create_that_waits_is_woken_by_what_the_sweep_sees(fault_stack, fault_provider):
    """The job would look again in a minute; the sweep has seen its sandbox."""
    stack = fault_stack(env=SWEEPS | {"WORKER_RETRY_BASE_MS": "60000", "WORKER_RETRY_CAP_MS": "60000"})
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": "reset_after", "times": 1})
    start = time.monotonic()
    data = client.create()
    assert time.monotonic() - start < 15
    assert live(fault_provider) == {data["provider_sandbox_id"]: data["sandbox_id"]}
    assert creates_at(fault_provider) == 1
    assert wait_until("counted", lambda: counters(stack)["adopted"] == 1)


def counters(stack: Stack, provider: str = "e2b") -> dict[str, int]:
    """Summed over the live workers' heartbeats."""
    total: dict[str, int] = {}
    for key in stack.redis.cli("KEYS", f"{stack.keys}workers:*").split():
        for name, value in json.loads(stack.redis.cli("GET", key))["providers"][provider].items():
            if isinstance(value, int):
                total[name] = total.get(name, 0) + value
    return total


def test_what_the_provider_lost_is_deleted_and_says_so(fault_stack, fault_provider):
    stack = fault_stack(env=SWEEPS | {"WORKER_RECONCILE_MAX_PERCENT": "100"}, reapers=2)
    client = stack.client()
    boxes = [client.create() for _ in range(4)]
    client.pause(boxes[1]["sandbox_id"])
    for box in boxes[:2]:
        fault_provider.forget(box["provider_sandbox_id"])
    wait_until("noticed", lambda: stack.sql("select count(*) from sandboxes where status='deleted'") == [("2",)])
    stack.quiet()
    for box in boxes[:2]:
        assert stack.sql(f"select status, status_reason from sandboxes where id='{box['sandbox_id']}'") == [("deleted", "provider_lost")]
        assert history(stack, box["sandbox_id"])[-1] == "provider_lost"
        assert client.get(f"{BASE}/{box['sandbox_id']}/status").status_code == 404
    assert named(stack) == live(fault_provider) and len(live(fault_provider)) == 2
    wait_until("counted", lambda: counters(stack)["lost"] == 2)


def test_when_nearly_all_seem_lost_nothing_is_given_up(fault_stack, fault_provider):
    """A key of another team lists nothing and answers 404 to everything."""
    stack = fault_stack(env=SWEEPS | {"WORKER_RECONCILE_MAX_PERCENT": "100"})
    client = stack.client()
    with ThreadPoolExecutor(12) as pool:
        boxes = list(pool.map(lambda _: client.create(), range(12)))
    sweeps_done(stack, 2)
    fault_provider.faults({"route": "list", "mode": "status", "status": 200, "body": [], "times": -1},
                          {"route": "get", "mode": "status", "status": 404, "times": -1})
    wait_until("all are missing", lambda: stack.sql("select count(*) from sandboxes where missing_since is not null") == [("12",)])
    time.sleep(0.5)  # RECONCILE_ABSENT_MS: with proof they would be lost by now
    sweeps_done(stack, 3)
    assert {client.status(box["sandbox_id"]) for box in boxes} == {"running"}
    fault_provider.faults()
    wait_until("all are seen", lambda: stack.sql("select count(*) from sandboxes where missing_since is not null") == [("0",)])


def test_a_row_follows_what_the_provider_is(fault_stack, fault_provider):
    """As after a pause or a resume of a worker that had lost its lease."""
    stack = fault_stack(env=SWEEPS)
    client = stack.client()
    running, paused = client.create(), client.create()
    client.pause(paused["sandbox_id"])
    fault_provider.set(running["provider_sandbox_id"], state="paused")
    fault_provider.set(paused["provider_sandbox_id"], state="running")
    wait_until("corrected", lambda: (client.status(running["sandbox_id"]), client.status(paused["sandbox_id"])) == ("paused", "running"))
    assert history(stack, running["sandbox_id"])[-1] == "seen_at_provider"
    client.connect(running["sandbox_id"])
    assert client.run(running["sandbox_id"], "true")["exit_code"] == 0
    wait_until("counted", lambda: counters(stack)["corrected"] == 2)


def test_what_is_not_ours_is_left_alone(fault_stack, fault_provider):
    stack = fault_stack(env=SWEEPS | {"WORKER_RECONCILE_MIN_AGE_MS": "0"})
    client = stack.client()
    data = client.create()
    ours = stack.sql("select id::text from deployment")[0][0]
    other = str(uuid.uuid4())
    strangers = [
        {}, {"user": "tag"},
        {"sandbox_deployment": other, "sandbox_id": str(uuid.uuid4()), "sandbox_job": "j"},
        {"sandbox_id": data["sandbox_id"]},
        {"sandbox_deployment": ours},
        {"sandbox_deployment": ours, "sandbox_id": "not one of ours"},
        {"sandbox_deployment": ours.upper(), "sandbox_id": str(uuid.uuid4())},
    ]
    ids = set(fault_provider.seed(*strangers))
    [orphan] = fault_provider.seed(orphan_of(ours))
    wait_until("the orphan killed", lambda: orphan not in live(fault_provider))
    sweeps_done(stack, 4)
    fault_provider.faults({"route": "list", "mode": "unfiltered", "times": -1})
    sweeps_done(stack, 4)
    assert set(live(fault_provider)) == ids | {data["provider_sandbox_id"]}
    assert stack.sql("select count(*) from events where sandbox_id is null and reason like 'orphan %'") == [("1",)]


@pytest.mark.release_only
def test_nothing_is_acted_on_before_it_is_sure(fault_stack, fault_provider):
    """Four lists in a row, and an orphan's grace from the first of them, however old it is."""
    stack = fault_stack(env=SWEEPS | {"WORKER_RECONCILE_MIN_AGE_MS": "2500", "WORKER_RECONCILE_CONFIRM": "4"})
    client = stack.client()
    lost, moved = client.create(), client.create()
    ours = stack.sql("select id::text from deployment")[0][0]
    changed = time.time()
    old, young = fault_provider.seed(orphan_of(ours), orphan_of(ours))
    fault_provider.set(old, born=time.time() - 3600)
    fault_provider.set(moved["provider_sandbox_id"], state="paused")
    fault_provider.forget(lost["provider_sandbox_id"])
    wait_until("all is done", lambda: live(fault_provider) == {moved["provider_sandbox_id"]: moved["sandbox_id"]} and dict(
        stack.sql("select id::text, status from sandboxes")) == {moved["sandbox_id"]: "paused", lost["sandbox_id"]: "deleted"})
    log = [line for line in fault_provider.log() if line["t"] > changed]
    lists = [line["t"] for line in log if line.get("call") == "list"]
    acted = {(line.get("call") or line["effect"], line["id"]): line["t"] for line in reversed(log) if line["id"]}

    def lists_before(what: str, pid: str) -> int:
        return sum(1 for t in lists if t < acted[what, pid])

    assert lists_before("delete", old) >= 4
    assert lists_before("get", lost["provider_sandbox_id"]) >= 4 and lists_before("get", moved["provider_sandbox_id"]) >= 4
    assert acted["delete", young] - changed > 2.3 and acted["delete", old] - changed > 2.3


def test_a_list_that_is_not_whole_does_nothing(fault_stack, fault_provider):
    """The first page comes, the second does not: everything on it would seem lost."""
    stack = fault_stack(env=SWEEPS | {"WORKER_RECONCILE_MIN_AGE_MS": "0", "REAPER_RECONCILE_MS": "100", "WORKER_AUTH_HOLD_MS": "100",
                                      "WORKER_BREAKER_OPEN_MS": "100"})
    client = stack.client()
    ours = stack.sql("select id::text from deployment")[0][0]
    fault_provider.faults({"route": "list", "mode": "status", "status": 500, "times": -1})
    data = client.create()
    orphans = set(fault_provider.seed(*(orphan_of(ours) for _ in range(120))))
    for fault in [{"mode": "status", "status": 500}, {"mode": "status", "status": 401},
                  {"mode": "status", "status": 429, "headers": {"Retry-After": "1"}}, {"mode": "garbage"}, {"mode": "cut"},
                  {"mode": "truncated"}, {"mode": "reset_after"}, {"mode": "status", "status": 200, "body": {"items": []}}]:
        before = wait_until("a heartbeat", lambda: counters(stack))["sweeps_failed"]
        fault_provider.faults({"route": "list", "page": 2, "times": -1} | fault)
        wait_until("failed sweeps", lambda: counters(stack)["sweeps_failed"] >= before + 3, interval=0.1)
    assert set(live(fault_provider)) == orphans | {data["provider_sandbox_id"]}
    assert stack.sql("select count(*) from jobs where op='reconcile'") == [("0",)]
    assert stack.sql("select count(*) from provider_sightings") == [("0",)]
    fault_provider.faults()
    wait_until("the next whole list is acted on", lambda: len(live(fault_provider)) < 121)


@pytest.mark.release_only
def test_one_sweep_kills_a_fifth_at_most(fault_stack, fault_provider):
    stack = fault_stack(env=SWEEPS | {"WORKER_RECONCILE_MIN_AGE_MS": "0", "REAPER_RECONCILE_MS": "1200"})
    ours = stack.sql("select id::text from deployment")[0][0]
    fault_provider.seed(*(orphan_of(ours) for _ in range(150)))
    left = []
    wait_until("most gone", lambda: (left.append(len(live(fault_provider))), left[-1] < 80)[1], 30)
    deaths = [e["t"] for e in fault_provider.effects() if e["effect"] == "delete"]
    for moment in deaths:
        assert sum(1 for t in deaths if moment <= t < moment + 0.3) <= 30, "more than a fifth of 150 at once"


def test_a_worker_that_dies_in_the_middle_of_a_sweep(fault_stack, fault_provider):
    stack = fault_stack(workers=2, env=SWEEPS | {"WORKER_RECONCILE_MIN_AGE_MS": "0", "WORKER_RECONCILE_SWEEP_MS": "1000"})
    ours = stack.sql("select id::text from deployment")[0][0]
    fault_provider.faults({"route": "list", "mode": "hang", "times": 1})
    wait_until("sweeping", lambda: stack.sql("select count(*) from provider_sweeps where state='running'") == [("1",)])
    holder = stack.sql("select lease_owner from provider_sweeps")[0][0]
    victim = next(w for w in stack.workers if f":{w.pid}:" in holder)
    fault_provider.seed(orphan_of(ours))
    victim.kill9()
    wait_until("swept by the other", lambda: live(fault_provider) == {}, 30)


@pytest.mark.release_only
def test_a_fleet_of_sixty_thousand_is_swept_in_little_memory(fault_stack, fault_provider):
    """1,200 pages, none of them held: all but two of our rows are listed, and one sandbox that no row names."""
    stack = fault_stack(env={"REAPER_RECONCILE_MS": "86400000", "LOG_LEVEL": "debug"})
    wait_until("swept once", lambda: stack.sql("select count(*) from provider_sweeps where state = 'done'") == [("1",)])
    idle = stack.workers[0].rss_bytes()
    stack.sql("""insert into sandboxes (id, owner, user_id, provider, provider_sandbox_id, template_id, status, timeout_mode, on_timeout,
                   timeout_ms, created_at, started_at, expires_at, provider_expires_at)
                 select id, 'o', 'x', 'e2b', 'i' || id, 'base', 'running', 'absolute', 'pause', 3000000, now(), now(), now() + interval '1 day',
                   now() + interval '2 days' from (select gen_random_uuid() as id from generate_series(1, 60000)) n""")
    *listed, absent, missed = [box for (box,) in stack.sql("select id from sandboxes order by id")]
    stranger = str(uuid.uuid4())
    fault_provider.config(fleet=listed + [stranger] + listed[-50:])
    before = fault_provider.state()["calls"]["list"]
    stack.sql("update provider_sweeps set asked_at = now() - interval '2 days'")
    wait_until("swept again", lambda: stack.sql("select count(*) from provider_sightings") == [("3",)], 60, 0.2)
    assert sorted(stack.sql("select provider_sandbox_id, finding from provider_sightings")) == \
        sorted([("i" + absent, "absent"), ("i" + missed, "absent"), ("i" + stranger, "orphan")])
    (swept,) = wait_until("told", lambda: [e for e in stack.workers[0].events() if e["event"] == "reconcile.swept" and e["listed"] > 0])
    assert (swept["listed"], swept["rows"]) == (59_999, 60_000)
    assert fault_provider.state()["calls"]["list"] - before == 1201
    assert stack.workers[0].rss_bytes() - idle < 8 << 20, "the list or the rows are held whole"


# ---- the same at Daytona -----------------------------------------------------------------------

def test_daytona_is_swept_too(tmp_path, redis, postgres):
    """A list that lags behind, a sandbox that failed, one that is gone, and strangers."""
    double = DaytonaDouble(tmp_path)
    try:
        with Stack(tmp_path / "s", redis, postgres, double, env=SWEEPS | {"WORKER_RECONCILE_MAX_PERCENT": "100", "REAPER_RECONCILE_MS": "500"}) as stack:
            client = stack.client()
            ours = stack.sql("select id::text from deployment")[0][0]
            keep, stopped, lost = (client.create() for _ in range(3))
            double.config(list_lag_ms=300)
            key = {"Authorization": f"Bearer {double.key}"}
            made = [double.http.post("/api/sandbox", json={"labels": labels}, headers=key).json()["id"]
                    for labels in [{"sandbox_id": str(uuid.uuid4())}, {}] + [orphan_of(ours) for _ in range(5)]]
            double.set(stopped["provider_sandbox_id"], state="stopped")
            double.forget(lost["provider_sandbox_id"])
            wait_until("orphans killed", lambda: set(double.ids()) == {keep["provider_sandbox_id"], stopped["provider_sandbox_id"], *made[:2]}, 30)
            wait_until("rows corrected", lambda: dict(stack.sql("select id::text, status from sandboxes")) == {
                keep["sandbox_id"]: "running", stopped["sandbox_id"]: "paused", lost["sandbox_id"]: "deleted"})
            wait_until("counted", lambda: [counters(stack, "daytona")[name] for name in ("orphans_killed", "lost", "corrected")] == [5, 1, 1])
            client.connect(stopped["sandbox_id"])
            assert client.status(keep["sandbox_id"]) == "running"
    finally:
        double.stop()
