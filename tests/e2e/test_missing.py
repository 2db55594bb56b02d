"""A provider that wrongly says that it does not know a sandbox: nobody asked to end it, so it lives on.

Every test here is a way in which healthy sandboxes were once killed.
"""

import datetime
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.e2e.test_reconcile import SWEEPS, counters, history, live, named, sweeps_done
from tests.harness.services import wait_until
from tests.harness.stack import BASE

ABSENT_MS = 1500
# an orphan has no grace at all: what is not given back is killed at once
SCALED = SWEEPS | {"WORKER_RECONCILE_MIN_AGE_MS": "0", "WORKER_RECONCILE_MAX_PERCENT": "100", "RECONCILE_LOOK_AGAIN_MS": "200",
                   "RECONCILE_ABSENT_MS": str(ABSENT_MS), "RECONCILE_ABSENT_UNPROVEN_MS": "4000", "WORKER_RETRY_BASE_MS": "50",
                   "WORKER_RETRY_CAP_MS": "200", "WORKER_BREAKER_OPEN_MS": "300", "WORKER_AUTH_HOLD_MS": "300"}
PATIENT = SCALED | {"RECONCILE_ABSENT_MS": "300000", "RECONCILE_ABSENT_UNPROVEN_MS": "3600000"}
WRONG = [{"mode": "html"}, {"mode": "html", "status": 403}, {"mode": "status", "status": 404},
         {"mode": "status", "status": 404, "body": {"message": "no Route matched with those values"}}]


def deletes(provider) -> list[str]:
    return [e["id"] for e in provider.effects() if e["effect"] == "delete"]


def unavailable(answer) -> None:
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "provider_unavailable"), answer.text
    assert int(answer.headers["Retry-After"]) > 0


def seen_again(client, sid: str) -> None:
    wait_until("seen again", lambda: client.info(sid)["missing_since"] is None)
    assert client.info(sid)["status_reason"] != "missing_at_provider"


def test_one_wrong_answer_to_any_call_costs_a_moment(fault_stack, fault_provider):
    """A single 404 or 403 on every route, of a proxy's and of the provider's own making."""
    stack = fault_stack(env=SCALED)
    client = stack.client()
    box = client.create()
    sid, pid = box["sandbox_id"], box["provider_sandbox_id"]
    for fault in WRONG:
        for route, call in [("pause", lambda: client.pause(sid)), ("connect", lambda: client.connect(sid)),
                            ("timeout", lambda: client.ok(client.post(f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": 600}))),
                            ("get", lambda: client.ok(client.post(f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": 600})))]:
            fault_provider.faults({"route": route, "times": 1} | fault)
            call()
            assert live(fault_provider) == {pid: sid} == named(stack)
        fault_provider.faults({"route": "list", "times": 1} | fault)
        sweeps_done(stack, 2)
        seen_again(client, sid)
    assert deletes(fault_provider) == []
    # a delete ends when the provider itself has said so, and not when a proxy has
    fault_provider.faults({"route": "delete", "times": 2, "mode": "html"})
    client.ok(client.delete(f"{BASE}/{sid}"))
    assert live(fault_provider) == {} and deletes(fault_provider) == [pid]


def test_a_missing_sandbox_is_unavailable_and_says_so(fault_stack, fault_provider):
    stack = fault_stack(env=PATIENT)
    client = stack.client()
    box, other = client.create(), client.create()
    sid, pid = box["sandbox_id"], box["provider_sandbox_id"]
    fault_provider.faults({"route": "*", "mode": "hidden", "ids": [pid], "times": -1})
    before = time.time()
    unavailable(client.post(f"{BASE}/{sid}/pause"))
    told = client.info(sid)
    assert (told["status"], told["status_reason"]) == ("running", "missing_at_provider")
    since = datetime.datetime.fromisoformat(told["missing_since"].replace("Z", "+00:00")).timestamp()
    assert before - 1 < since < time.time()
    unavailable(client.post(f"{BASE}/connect", {"sandbox_id": sid}))
    unavailable(client.post(f"{BASE}/run-cmd", {"sandbox_id": sid, "command": "true"}))
    unavailable(client.post(f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": 600}))
    assert client.run(other["sandbox_id"], "true")["exit_code"] == 0
    assert "1 sandboxes are not known to their provider" in stack.run("doctor")
    wait_until("counted", lambda: "\nsandbox_missing 1\n" in httpx.get(stack.url + "/metrics", trust_env=False).text)
    fault_provider.faults()
    seen_again(client, sid)
    assert client.run(sid, "true")["exit_code"] == 0
    assert history(stack, sid).count("missing_at_provider") == 1 == history(stack, sid).count("seen_at_provider")
    assert live(fault_provider) == named(stack) and deletes(fault_provider) == []


@pytest.mark.parametrize("fault", [{"mode": "html"}, {"mode": "stranger"}], ids=["wrong URL", "wrong team"])
def test_a_wrong_url_or_key_ends_nothing(fault_stack, fault_provider, fault):
    """Deadlines fall due and calls come in while every answer is another server's or another team's."""
    stack = fault_stack(env=SCALED | {"RECONCILE_ABSENT_UNPROVEN_MS": "3600000", "SANDBOX_WAIT_SECONDS": "4"})
    client = stack.client()
    with ThreadPoolExecutor(6) as pool:
        boxes = list(pool.map(lambda n: client.create(timeout_seconds=2 if n < 3 else 3000), range(6)))
    fault_provider.faults({"route": "*", "times": -1} | fault)
    with ThreadPoolExecutor(3) as pool:
        for answer in pool.map(lambda b: client.post(f"{BASE}/{b['sandbox_id']}/pause", {}), boxes[3:]):
            assert answer.status_code in (202, 503), answer.text
    time.sleep(2.5 * ABSENT_MS / 1000)  # a row would have ended by now, were nothing proof enough
    assert stack.sql("select count(*) from sandboxes where status = 'deleted'") == [("0",)]
    fault_provider.faults()
    for box in boxes:
        seen_again(client, box["sandbox_id"])
        assert client.run(box["sandbox_id"], "true")["exit_code"] == 0
    sweeps_done(stack, 3)
    assert deletes(fault_provider) == [] and live(fault_provider) == named(stack)


def test_another_teams_empty_list_does_not_settle_a_create(fault_stack, fault_provider):
    """The answer to a create is lost, and every list shows another team's account when its worker looks for it."""
    stack = fault_stack(env=SCALED | {"SANDBOX_SETTLE_MS": "500", "SANDBOX_SETTLE_UNPROVEN_MS": "600000", "SANDBOX_WAIT_SECONDS": "1"})
    client = stack.client()
    client.create()
    fault_provider.faults({"route": "create", "mode": "reset_after", "times": 1}, {"route": "list", "mode": "stranger", "times": -1})
    answer = client.post(f"{BASE}/create", {"user_id": "tests"})
    assert answer.status_code == 202, answer.text
    sid = answer.json()["data"]["sandbox_id"]
    wait_until("looked for, and not believed", lambda: stack.sql(
        f"select 1 from jobs where sandbox_id = '{sid}' and error like '%no list shows%' or (select count(*) from jobs where "
        f"sandbox_id = '{sid}' and state = 'done') > 0") != [])
    assert client.status(sid) == "creating"
    fault_provider.faults()
    wait_until("found", lambda: client.status(sid) == "running")
    assert live(fault_provider) == named(stack)
    assert [e["effect"] for e in fault_provider.effects() if e["effect"] in ("create", "delete")] == ["create"] * 2


def test_a_part_of_the_fleet_that_comes_back_is_given_back(fault_stack, fault_provider):
    """A node out of reach for longer than we believe it: its rows end, and its sandboxes get them back."""
    stack = fault_stack(env=SCALED, workers=2, reapers=2)
    client = stack.client()
    boxes = [client.create(timeout_seconds=3000) for _ in range(4)]
    client.pause(boxes[1]["sandbox_id"])
    away, kept = boxes[:2], boxes[2:]
    deadlines = {b["sandbox_id"]: client.info(b["sandbox_id"])["expires_at"] for b in away}
    hidden = time.time()
    fault_provider.faults({"route": "*", "mode": "hidden", "ids": [b["provider_sandbox_id"] for b in away], "times": -1})
    wait_until("lost", lambda: stack.sql("select count(*) from sandboxes where status_reason = 'provider_lost'") == [("2",)], 30)
    assert time.time() - hidden > ABSENT_MS / 1000
    for box in away:
        assert client.get(f"{BASE}/{box['sandbox_id']}/status").status_code == 404
    # as a row that was lost before its tokens were kept
    stack.sql(f"update sandboxes set access_token = '' where id = '{away[0]['sandbox_id']}'")
    sweeps_done(stack, 3)
    fault_provider.faults()
    wait_until("given back", lambda: named(stack) == live(fault_provider))
    stack.quiet()
    assert deletes(fault_provider) == []
    assert stack.sql("select count(*) from sandboxes where access_token = ''") == [("0",)]
    assert [client.status(b["sandbox_id"]) for b in boxes] == ["running", "paused", "running", "running"]
    for box in away:
        assert history(stack, box["sandbox_id"]).count("given_back") == 1
        assert client.info(box["sandbox_id"])["expires_at"] == deadlines[box["sandbox_id"]]
        client.connect(box["sandbox_id"])
        assert client.run(box["sandbox_id"], "true")["exit_code"] == 0
    assert wait_until("counted", lambda: counters(stack)["given_back"] == 2)
    assert {client.status(b["sandbox_id"]) for b in kept} == {"running"}


@pytest.mark.parametrize("routes", [["list"], ["get", "pause", "connect", "timeout"]], ids=["only gets show it", "only the list shows it"])
def test_list_and_get_disagree(fault_stack, fault_provider, routes):
    stack = fault_stack(env=SCALED)
    client = stack.client()
    box, other = client.create(), client.create()
    sid, pid = box["sandbox_id"], box["provider_sandbox_id"]
    fault_provider.faults(*({"route": route, "mode": "hidden", "ids": [pid], "times": -1} for route in routes))
    answer = client.post(f"{BASE}/{sid}/pause")
    assert answer.status_code == (200 if routes == ["list"] else 503), answer.text
    time.sleep(2.5 * ABSENT_MS / 1000)
    sweeps_done(stack, 2)
    assert stack.sql("select count(*) from sandboxes where status = 'deleted'") == [("0",)]
    fault_provider.faults()
    seen_again(client, sid)
    client.connect(sid)
    assert client.run(sid, "true")["exit_code"] == 0
    assert deletes(fault_provider) == [] and live(fault_provider) == named(stack) and client.status(other["sandbox_id"]) == "running"


def test_the_only_sandbox_is_lost_later_for_want_of_proof(fault_stack, fault_provider):
    """An empty list may be another team's: the one that is really gone ends all the same."""
    stack = fault_stack(env=SCALED)
    client = stack.client()
    box = client.create()
    gone = time.time()
    fault_provider.forget(box["provider_sandbox_id"])
    wait_until("lost", lambda: client.get(f"{BASE}/{box['sandbox_id']}/status").status_code == 404, 30)
    assert time.time() - gone > 4
    assert history(stack, box["sandbox_id"])[-2:] == ["missing_at_provider", "provider_lost"]


def test_the_grace_of_an_orphan_counts_from_the_end_of_its_row(fault_stack, fault_provider):
    """A sandbox that has run for an hour is no better an orphan than a young one."""
    stack = fault_stack(env=SCALED | {"WORKER_RECONCILE_MIN_AGE_MS": "3000"})
    client = stack.client()
    box = client.create()
    fault_provider.set(box["provider_sandbox_id"], born=time.time() - 3600)
    # the provider says that it is deleted, and it is not
    fault_provider.faults({"route": "delete", "mode": "status", "status": 404, "times": 1})
    client.ok(client.delete(f"{BASE}/{box['sandbox_id']}"))
    ended = time.time()
    wait_until("killed", lambda: live(fault_provider) == {})
    assert 2.5 < time.time() - ended < 10
