"""The checker can fail: a run in which all is well is accepted, and each thing that may go wrong in it
is found by the invariant that names it."""

from __future__ import annotations

import contextlib
import copy

import pytest

from tests.chaos.evidence import take
from tests.chaos.history import tell
from tests.chaos.invariants import INVARIANTS, Evidence, check

SANDBOX, OTHER = "11111111-0000-4000-8000-000000000000", "22222222-0000-4000-8000-000000000000"
START = 1_800_000_000.0


def job(number: int, sandbox: str, seq: int, op: str, state: str = "done", origin: str = "client", **more) -> dict:
    return {"id": f"job-{number}", "sandbox_id": sandbox, "seq": seq, "op": op, "state": state, "origin": origin, "attempt": 1,
            "max_attempts": 8, "crashes": 0, "request_id": f"request-{number}", "outcome": "ok", "error": "",
            "created": START + number, "finished": START + number + 0.5} | more


def well() -> Evidence:
    """Two sandboxes: one was made by an ambiguous create and adopted, paused by its deadline, and is
    paused; the other was made twice (the copy was killed) and deleted."""
    jobs = [job(1, SANDBOX, 1, "create"), job(2, SANDBOX, 2, "timeout"), job(3, SANDBOX, 3, "pause", origin="deadline", created=START + 20,
            finished=START + 20.5, request_id=""), job(4, OTHER, 1, "create"), job(5, OTHER, 2, "delete"),
            job(6, OTHER, 3, "resume", state="dead", error="workers died")]
    audit, n = [], 0
    for j in jobs:
        for old, new, token, at in ((None, "queued", 0, j["created"]), ("queued", "running", 1, j["created"] + 0.1),
                                    ("running", j["state"], 1, j["finished"])):
            n += 1
            audit.append({"n": n, "at": at, "job": j["id"], "sandbox": j["sandbox_id"], "seq": j["seq"], "op": j["op"],
                          "origin": j["origin"], "old": old, "new": new, "token": token, "owner": "w", "attempt": 1})
    boxes = [{"id": SANDBOX, "status": "paused", "status_reason": "", "provider_sandbox_id": "i1", "timeout_mode": "absolute",
              "on_timeout": "pause", "expires": START + 19},
             {"id": OTHER, "status": "deleted", "status_reason": "", "provider_sandbox_id": "i2", "timeout_mode": "idle",
              "on_timeout": "pause", "expires": START + 30}]
    box_audit = [{"n": i, "at": at, "sandbox": sandbox, "old": old, "new": new, "version": i, "provider_id": pid, "expires": expires}
                 for i, (at, sandbox, old, new, pid, expires) in enumerate([
                     (START + 1, SANDBOX, None, "creating", None, None), (START + 1.5, SANDBOX, "creating", "running", "i1", START + 60),
                     (START + 2.5, SANDBOX, "running", "running", "i1", START + 19), (START + 20.1, SANDBOX, "running", "pausing", "i1", START + 19),
                     (START + 20.5, SANDBOX, "pausing", "paused", "i1", START + 19), (START + 4, OTHER, None, "creating", None, None),
                     (START + 4.5, OTHER, "creating", "running", "i2", START + 30), (START + 5.5, OTHER, "deleting", "deleted", "i2", START + 30)])]

    def request(number: int, op: str, sandbox: str, status: int = 200, **more) -> dict:
        return {"client": 0, "op": op, "sandbox": sandbox, "key": "", "asked": None, "request_id": f"request-{number}", "gateway": "gateway0",
                "pid": 1, "t0": START + number, "t1": START + number + 1, "status": status, "data": {}, "error": "", "again": False,
                "replayed": False} | more

    requests = [request(1, "create", SANDBOX, key="k1"), request(10, "create", SANDBOX, key="k1", replayed=True),
                request(2, "timeout", SANDBOX, data={"expires_at": "x"}, expires=START + 19), request(4, "create", OTHER),
                request(5, "delete", OTHER)]
    tags = {"sandbox_deployment": "d", "sandbox_id": SANDBOX}
    truth = [{"t": START + 1.2, "effect": "create", "id": "i1", "metadata": tags},
             {"t": START + 1.2, "end": START + 1.3, "call": "create", "by": "worker0", "id": "i1", "fault": "reset_after", "answered": False,
              "sandbox": SANDBOX, "job": "job-1", "status": 201},
             {"t": START + 4.2, "effect": "create", "id": "i2", "metadata": tags | {"sandbox_id": OTHER}},
             {"t": START + 4.2, "end": START + 4.4, "call": "create", "by": "worker0", "id": "i2", "fault": None, "answered": True,
              "sandbox": OTHER, "job": "job-4", "status": 201},
             {"t": START + 4.3, "effect": "create", "id": "i3", "metadata": tags | {"sandbox_id": OTHER}},
             {"t": START + 4.3, "end": START + 4.4, "call": "create", "by": "worker1", "id": "i3", "fault": None, "answered": True,
              "sandbox": OTHER, "job": "job-4", "status": 201},
             {"t": START + 5.2, "effect": "delete", "id": "i2"}, {"t": START + 6.2, "effect": "delete", "id": "i3"},
             {"t": START + 20.2, "end": START + 20.3, "call": "pause", "by": "worker0", "id": "i1", "fault": "status", "answered": True,
              "status": 429, "retry_after": 2.0},
             {"t": START + 22.4, "end": START + 22.5, "call": "pause", "by": "worker0", "id": "i1", "fault": None, "answered": True, "status": 204},
             {"t": START + 22.4, "effect": "pause", "id": "i1"}]
    logs = [{"event": "provider.breaker_open", "by": "worker0", "at": START + 30, "open_ms": 2000, "ts": ""}]
    return Evidence(
        taken_at=START + 60, deployment="d", lease_s=4, settle_s=4, grace_s=3, jobs=jobs, boxes=boxes, job_audit=audit, box_audit=box_audit,
        events=[{"sandbox_id": a["sandbox"], "from_status": a["old"] or "", "to_status": a["new"], "reason": "", "actor": "w", "at": a["at"] + 0.01,
                 "job_id": "job-3" if a["new"] == "paused" else None} for a in box_audit if a["old"] != a["new"]],
        keys=[{"owner": "o", "key": "k1", "job_id": "job-1", "sandbox_id": SANDBOX, "status": 200}], requests=requests, doubles=[],
        samples=100, streams={"create": {"length": 0, "pending": 0, "consumers": {"w": 0}}}, dead_letters=["job-6"], live_workers={"w"},
        live={"i1": {"state": "paused", "metadata": tags}}, reached={SANDBOX: 200}, truth=truth,
        windows=[{"what": "freeze_worker_one_lease", "target": "worker0", "t0": START + 4, "t1": START + 4.1}], logs=logs, deaths=[],
        usage={"worker0": {"fds": (20, 21), "kept": (1, 20), "rss": (10 << 20, 11 << 20)}})


def add_audit(e: Evidence, name: str, **values) -> None:
    last = [a for a in e.job_audit if a["job"] == name][-1]
    e.job_audit.append(last | {"n": len(e.job_audit) + 1} | values)


def stop_early(e: Evidence) -> None:
    e.requests[2].update(expires=START + 25)
    for a in e.box_audit[2:5]:
        a["expires"] = START + 25


def swap_order(e: Evidence) -> None:
    for a in e.job_audit:
        if a["job"] == "job-2" and a["new"] == "running":
            a["n"] = 0


# what goes wrong -> the invariant that must say so
WRONGS = {
    "a 200 for a sandbox that has no row": (1, lambda e: e.boxes.pop(1)),
    "a 200 for what no job did": (1, lambda e: e.requests[4].update(request_id="nobody's", t0=START + 40, t1=START + 41)),
    "a 202 for what no job did": (1, lambda e: e.requests[4].update(request_id="nobody's", status=202, t0=START + 40, t1=START + 41)),
    "a job left queued": (2, lambda e: e.jobs[1].update(state="queued", finished=None)),
    "a job left running": (2, lambda e: e.jobs[1].update(state="running", finished=None)),
    "a sandbox left pausing": (2, lambda e: e.boxes[0].update(status="pausing")),
    "two running jobs of a sandbox": (3, lambda e: e.doubles.append({"sandbox": SANDBOX, "count": 2, "at": START})),
    "a job that began before its predecessor ended": (4, swap_order),
    "a token used twice": (5, lambda e: add_audit(e, "job-2", old="retry_wait", new="running", token=1)),
    "a token that fell": (5, lambda e: add_audit(e, "job-2", old="retry_wait", new="queued", token=0)),
    "a job that ended twice": (5, lambda e: add_audit(e, "job-2", old="running", new="failed", token=2)),
    "a lease taken before its end": (5, lambda e: add_audit(e, "job-2", at=START + 2.5, old="running", new="running", token=2)),
    "a job ended by one who had lost it": (5, lambda e: e.events[3].update(actor="zombie")),
    "a job that rose from the dead": (5, lambda e: add_audit(e, "job-6", old="dead", new="queued")),
    "an orphan at the provider": (6, lambda e: e.live.update(i9={"state": "running", "metadata": {"sandbox_deployment": "d", "sandbox_id": OTHER}})),
    "a row whose sandbox is gone": (6, lambda e: e.live.clear()),
    "a second copy": (6, lambda e: e.live.update(i3={"state": "paused", "metadata": e.live["i1"]["metadata"]})),
    "a provider id that was never made": (7, lambda e: e.box_audit[1].update(provider_id="i77")),
    "a provider id of another row": (7, lambda e: e.box_audit[6].update(provider_id="i1")),
    "running here, paused there": (8, lambda e: e.boxes[0].update(status="running", expires=None)),
    "deleted here, alive there": (8, lambda e: e.live.update(i2={"state": "running", "metadata": {}})),
    "a delete answered 200 and not done": (8, lambda e: e.boxes[1].update(status="failed")),
    "a transition that no event tells": (8, lambda e: e.events.pop(1)),
    "running after the deadline": (9, lambda e: e.boxes[0].update(status="running")),
    "stopped before the deadline": (9, stop_early),
    "a deadline acknowledged and not kept": (9, lambda e: e.requests[2].update(expires=START + 33)),
    "a key that became two jobs": (10, lambda e: e.jobs.append(job(10, OTHER, 9, "create"))),
    "a key with two answers": (10, lambda e: e.requests[1].update(sandbox=OTHER)),
    "a key that forgot its job": (10, lambda e: e.keys.clear()),
    "a key that takes another body": (10, lambda e: e.requests[1].update(asked={"user_id": "other"})),
    "too many attempts": (11, lambda e: e.jobs[1].update(attempt=9)),
    "dead and not in the dead letters": (11, lambda e: e.dead_letters.clear()),
    "in the dead letters and done": (11, lambda e: e.dead_letters.append("job-1")),
    "an entry left on a stream": (12, lambda e: e.streams["create"].update(length=1)),
    "an entry left pending": (12, lambda e: e.streams["create"].update(pending=1)),
    "an entry of a worker that is gone": (12, lambda e: e.streams["create"]["consumers"].update(gone=1)),
    "a create nobody adopted or killed": (13, lambda e: e.truth.pop(7)),
    "a create repeated beside its effect": (13, lambda e: e.windows.clear()),
    "a sandbox deleted twice": (13, lambda e: e.truth.append({"t": START, "effect": "delete", "id": "i2"})),
    "a create for no row": (13, lambda e: e.truth[4].update(metadata={"sandbox_deployment": "d", "sandbox_id": "unknown"})),
    "a Retry-After that was not waited for": (14, lambda e: e.truth[9].update(t=START + 21)),
    "a call while the breaker was open": (14, lambda e: e.truth.append(
        {"t": START + 31, "end": START + 31.1, "call": "delete", "by": "worker0", "id": "i2", "fault": None, "answered": True, "status": 204})),
    "killed, and nobody had asked": (16, lambda e: e.truth.append({"t": START + 50, "effect": "delete", "id": "i1"})),
    "gone, and nobody had asked": (16, lambda e: e.live.clear()),
    "given up, and nobody had asked": (16, lambda e: e.boxes[0].update(status="deleted", status_reason="provider_lost")),
    "not reached through its row": (16, lambda e: e.reached.update({SANDBOX: 503})),
    "an answer after 31 s": (15, lambda e: e.requests[0].update(t1=START + 32.5)),
    "no answer from a healthy gateway": (15, lambda e: e.requests[0].update(status=0, error="ReadError")),
    "a 500": (15, lambda e: e.requests[0].update(status=500)),
    "a 503 without Retry-After": (15, lambda e: e.requests[0].update(status=503, error="overloaded without Retry-After")),
    "a process that died": (15, lambda e: e.deaths.append("worker1 ended with status -11")),
    "connections to the provider that grow": (15, lambda e: e.usage["worker0"].update(kept=(1, 90))),
    "file descriptors that grow": (15, lambda e: e.usage["worker0"].update(fds=(20, 60))),
    "memory that grows": (15, lambda e: e.usage["worker0"].update(rss=(10 << 20, 90 << 20))),
}


def test_a_run_in_which_all_is_well_is_accepted():
    assert check(well()) == []


@pytest.mark.parametrize("what", WRONGS)
def test_what_goes_wrong_is_found(what):
    number, spoil = WRONGS[what]
    evidence = copy.deepcopy(well())
    spoil(evidence)
    found = {v.number for v in check(evidence)}
    assert number in found, f"invariant {number} did not see: {what} (found {found})"


def test_every_invariant_has_been_seen_to_fail():
    assert {number for number, _ in WRONGS.values()} == {number for number, _, _ in INVARIANTS} == set(range(1, 17))


def test_what_the_provider_has_lost_may_be_gone():
    evidence = well()
    evidence.live.clear()
    evidence.boxes[0].update(status="deleted", status_reason="provider_lost")
    evidence.truth.append({"t": START + 50, "effect": "lose", "id": "i1"})
    assert 16 not in {v.number for v in check(evidence)}


def test_a_worker_that_is_started_again_has_a_closed_breaker():
    evidence = well()
    evidence.truth.append({"t": START + 31, "end": START + 31.1, "call": "delete", "by": "worker0", "id": "i2", "fault": None, "answered": True,
                           "status": 204})
    assert 14 in {v.number for v in check(evidence)}
    evidence.windows.append({"what": "kill_all_workers", "target": "worker0,worker1", "t0": START + 30.5, "t1": START + 30.6})
    assert 14 not in {v.number for v in check(evidence)}


class Moving:
    """A cluster in which a deadline falls due at every look, unless the reapers stand still."""

    deployment = "d"
    members: list = []

    def __init__(self):
        self.changes, self.frozen, self.provider = 0, False, self

    @contextlib.contextmanager
    def nothing_falls_due(self):
        self.frozen = True
        yield
        self.frozen = False

    def rows(self, query: str) -> list[dict]:
        self.changes += not self.frozen
        return [{"jobs": self.changes}] if "max(n)" in query else []

    def state(self) -> dict:
        return {"sandboxes": {}}

    def unfinished(self) -> int:
        return 0

    def wait_quiet(self, seconds: float) -> float:
        return 0.0

    def streams(self) -> dict:
        return {}

    dead_letters = live_workers = log = usage = streams


class Nothing:
    requests: list = []
    windows: list = []
    doubles: list = []
    samples = 0


def test_no_deadline_falls_due_while_the_evidence_is_taken():
    cluster = Moving()
    _, moved = evidence_of(cluster)
    assert moved == [] and not cluster.frozen
    cluster = Moving()
    cluster.nothing_falls_due = contextlib.nullcontext  # as it was once: every try was in vain, and the last one judged
    _, moved = evidence_of(cluster)
    assert len(moved) == 1


def evidence_of(cluster: Moving):
    return take(cluster, Nothing(), Nothing(), Nothing(), {}, [])


def test_what_a_fault_explains_is_no_violation():
    evidence = well()
    evidence.requests[0] |= {"status": 0, "error": "ReadError"}
    evidence.windows.append({"what": "kill_gateway", "target": "gateway0", "t0": START, "t1": START + 3})
    assert 15 not in {v.number for v in check(evidence)}


def test_an_effect_that_came_after_the_settling_is_no_repetition():
    evidence = well()
    evidence.windows.clear()
    assert 13 in {v.number for v in check(evidence)}
    next(t for t in evidence.truth if t.get("call") == "create" and t["id"] == "i2")["t"] -= 6
    assert 13 not in {v.number for v in check(evidence)}


def test_the_history_of_a_sandbox_has_every_side_of_it():
    evidence = well()
    evidence.windows.append({"what": "flushall", "target": "", "t0": START + 2, "t1": START + 2})
    text = tell(evidence, SANDBOX)
    for part in ("create", "EFFECT create i1", "queued -> running", "creating -> running", "NEMESIS", "flushall", "not answered"):
        assert part in text, part
    assert "i2" not in text
