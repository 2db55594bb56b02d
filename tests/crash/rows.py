"""The crash table: what dies, when it dies, who repairs it and how soon. One function per row, run
once for each kind of job that can get there.

A bound is a formula over the settings (scene.Timing). With the programs' defaults it must stay within
what the table promises; with the settings of the run, scaled down as a rule, the
measured repair must stay within it.
"""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.crash.scene import CREATE_SENT_SLACK_MS, KIND, KINDS, LOOK, PATIENCE_S, SLACK_MS, TIMING, Kind, Scene, Timing
from tests.harness.services import Postgres, Process, wait_until


@dataclass(frozen=True)
class Row:
    name: str
    left: str  # behind by the crash
    promise_s: float  # the bound at the programs' defaults
    bound: Callable[[Timing], int]
    play: Callable[[Scene, Kind], float]  # returns the measured repair, ms
    kinds: tuple[Kind, ...]
    own_postgres: bool
    env: dict[str, str]


ROWS: list[Row] = []
WORKERS_KINDS = (*KINDS, LOOK)


def row(left: str, promise_s: float, bound: Callable[[Timing], int], kinds: tuple[Kind, ...] = KINDS,
        own_postgres: bool = False, **env: str):
    def add(play: Callable[[Scene, Kind], float]) -> Callable[[Scene, Kind], float]:
        ROWS.append(Row(play.__name__, left, promise_s, bound, play, kinds, own_postgres, env))
        return play
    return add


def kill(point: str) -> dict[str, str]:
    return {"CRASHPOINT": f"{point}:1:KILL"}


def freeze(point: str) -> dict[str, str]:
    return {"CRASHPOINT": f"{point}:1:STOP"}


# ---- the gateway ------------------------------------------------------------------------------------

def gateway_dies(scene: Scene, kind: Kind, point: str) -> float:
    """The caller loses its connection and sends the same again, with its key, to another gateway."""
    scene.prepare(kind)
    armed = scene.start_gateway(**kill(point))
    with pytest.raises(httpx.TransportError):
        scene.call(kind, armed.url, key="again")
    died = scene.died(armed)
    if point == "gateway_accepting":
        assert scene.sql(f"select count(*) from jobs where op = '{kind.op}'") == [("0",)]
    answer = scene.call(kind, key="again")
    took = (time.monotonic() - died) * 1000
    assert answer.status_code == 200, answer.text
    assert answer.headers.get("idempotency-replayed") == (None if point == "gateway_accepting" else "true")
    assert scene.sql(f"select count(*) from jobs where op = '{kind.op}'") == [("1",)]
    scene.settled(kind)
    scene.went(kind)
    return took


@row("nothing but a claim of the key", 30, Timing.lost_claim)
def gateway_before_the_commit(scene: Scene, kind: Kind) -> float:
    return gateway_dies(scene, kind, "gateway_accepting")


@row("a queued job without an entry", 6, Timing.lost_wakeup)
def gateway_between_commit_and_wakeup(scene: Scene, kind: Kind) -> float:
    return gateway_dies(scene, kind, "gateway_accepted")


@row("a job that nobody waits for", 1, Timing.lost_reply)
def gateway_while_the_caller_waits(scene: Scene, kind: Kind) -> float:
    # the gateway's thread that dies is not the one that answers: no answer before its death
    scene.fault(kind, "delay", delay_ms=300)
    return gateway_dies(scene, kind, "gateway_enqueued")


# ---- the worker -------------------------------------------------------------------------------------

def worker_dies(scene: Scene, kind: Kind, point: str) -> float:
    """Another worker brings the job to its end, and the caller never notices."""
    scene.prepare(kind)
    scene.retire(scene.worker)
    armed = scene.next_worker(**kill(point))
    call = scene.ask(kind)
    died = scene.died(armed)
    scene.next_worker()
    took = scene.answered(call, died)
    # a deadline may be set twice to the same end; everything else happens once
    scene.settled(kind, effects=(1, 2) if kind.op == "timeout" else (1,))
    scene.went(kind)
    return took


@row("a pending entry", 6, Timing.lost_wakeup, kinds=WORKERS_KINDS)
def worker_between_read_and_claim(scene: Scene, kind: Kind) -> float:
    return worker_dies(scene, kind, "worker_read")


@row("a pending entry", 50, Timing.pending_entry, kinds=WORKERS_KINDS)
def worker_leaves_its_entry(scene: Scene, kind: Kind) -> float:
    worker_dies(scene, kind, "worker_read")
    return scene.streams_empty(TIMING.pending_entry() + SLACK_MS)


@row("a running job, nothing sent", 45, Timing.lost_lease, kinds=tuple(k for k in WORKERS_KINDS if k.op != "create"))
def worker_between_claim_and_send(scene: Scene, kind: Kind) -> float:
    return worker_dies(scene, kind, "worker_claimed")


@row("a running job that had been woken often", 45, Timing.lost_lease, kinds=tuple(k for k in KINDS if k.op != "create"))
def worker_dies_of_a_job_from_a_backlog(scene: Scene, kind: Kind) -> float:
    """Waking ever more seldom is for a backlog; a claim ends it."""
    scene.prepare(kind)
    scene.retire(scene.worker)
    call = scene.ask(kind)
    wait_until("queued", lambda: scene.keys.xlen(f"sandbox:jobs:{kind.op}") == 1)
    scene.sql("update jobs set enqueue_count = 7, enqueued_at = now() where state = 'queued'")
    died = scene.died(scene.next_worker(**kill("worker_claimed")))
    scene.next_worker()
    took = scene.answered(call, died)
    scene.settled(kind)
    return took


@row("a running create; nothing tells that it was not sent", 45, Timing.lost_create, kinds=(KIND["create"],))
def worker_between_claim_and_create(scene: Scene, kind: Kind) -> float:
    return worker_dies(scene, kind, "worker_claimed")


def provider_outlives_worker(scene: Scene, kind: Kind, mode: str, delay_ms: int = 500) -> float:
    scene.prepare(kind)
    scene.fault(kind, mode, delay_ms=delay_ms)
    call = scene.ask(kind)
    scene.reaches_provider(kind)
    scene.worker.kill9()
    died = time.monotonic()
    scene.next_worker()
    took = scene.answered(call, died)
    if mode == "delay":
        # the answer may have come before the effect; that it does no harm shows only once it is there
        time.sleep(max(0.0, died + delay_ms / 1000 + 0.2 - time.monotonic()))
    scene.settled(kind, effects=(1, 2) if kind.op == "timeout" else (1,))
    scene.went(kind)
    return took


@row("an effect that lands after the worker's death", 45, Timing.lost_lease)
def worker_between_send_and_effect(scene: Scene, kind: Kind) -> float:
    return provider_outlives_worker(scene, kind, "delay")


@row("an effect that lands after the lease: the next worker's list does not have it yet", 45, Timing.lost_create,
     kinds=(KIND["create"],))
def worker_between_send_and_late_effect(scene: Scene, kind: Kind) -> float:
    return provider_outlives_worker(scene, kind, "delay", TIMING.lost_lease() + 1000)


@row("a create that was sent long after its claim", 45, Timing.lost_create, kinds=(KIND["create"],),
     WORKER_ATTEMPT_MS="3500", WORKER_LEASE_MS="4000", WORKER_MIN_IDLE_MS="4500")
def worker_sends_late(scene: Scene, kind: Kind) -> float:
    """The settle window counts from the sending, which the worker writes down before it."""
    scene.prepare(kind)
    scene.retire(scene.worker)
    late = scene.next_worker(**freeze("worker_claimed"))
    scene.fault(kind, "hang")
    call = scene.ask(kind)
    scene.froze(late)
    time.sleep(CREATE_SENT_SLACK_MS / 1000)
    ((woken,),) = scene.sql("select clock_timestamp()")
    late.send(signal.SIGCONT)
    scene.reaches_provider(kind)
    assert scene.sql(f"select create_sent_at >= '{woken}' from sandboxes") == [("True",)]
    late.kill9()
    died = time.monotonic()
    scene.next_worker()
    took = scene.answered(call, died)
    scene.settled(kind)
    return took


@row("a request that never has an effect", 45, Timing.lost_create)
def worker_waits_for_what_never_comes(scene: Scene, kind: Kind) -> float:
    return provider_outlives_worker(scene, kind, "hang")


@row("an effect that nobody wrote down", 45, Timing.lost_lease, kinds=WORKERS_KINDS)
def worker_between_reply_and_commit(scene: Scene, kind: Kind) -> float:
    return worker_dies(scene, kind, "worker_ended")


@row("a done job, its waiter blind", 1, Timing.lost_reply)
def worker_between_commit_and_reply(scene: Scene, kind: Kind) -> float:
    return worker_dies(scene, kind, "worker_committed")


@row("a done job, its entry pending", 50, Timing.pending_entry, kinds=WORKERS_KINDS)
def worker_between_commit_and_ack(scene: Scene, kind: Kind) -> float:
    worker_dies(scene, kind, "worker_committed")
    return scene.streams_empty(TIMING.pending_entry() + SLACK_MS)


@row("a queued successor without an entry", 6, Timing.lost_wakeup)
def worker_between_commit_and_successor(scene: Scene, kind: Kind) -> float:
    scene.prepare(kind)
    scene.retire(scene.worker)
    armed = scene.next_worker(**kill("worker_committed"))
    scene.hold(kind)
    first = scene.ask(kind)
    scene.reaches_provider(kind)
    if not scene.sandbox:
        ((scene.sandbox,),) = scene.sql("select id from sandboxes")
    second = scene.ask(KIND[kind.successor])
    wait_until("both accepted", lambda: scene.sql(
        "select count(*) from jobs where state in ('queued', 'running')") == [("2",)])
    died = scene.died(armed)
    scene.next_worker()
    scene.answered(first, died)
    took = scene.answered(second, died, 404 if kind.op == "delete" else 200)
    scene.settled(kind if kind.op == "delete" else KIND[kind.successor])
    return took


# ---- frozen workers ---------------------------------------------------------------------------------

def overtaken(scene: Scene, kind: Kind, point: str) -> tuple[Process, float]:
    """A worker frozen at a point, and how long another took to bring its job to its end, ms."""
    scene.prepare(kind)
    scene.retire(scene.worker)
    zombie = scene.next_worker(**freeze(point))
    call = scene.ask(kind)
    froze = scene.froze(zombie)
    scene.next_worker()
    return zombie, scene.answered(call, froze)


def told(zombie: Process) -> None:
    wait_until("the zombie is told", lambda: "job.fenced" in zombie.log() or "job.lease_lost" in zombie.log(), 10)


def zombie_wakes(scene: Scene, kind: Kind, point: str, effects: tuple[int, ...]) -> float:
    """A worker freezes beyond its lease; when it wakes, the job is another's and has ended."""
    zombie, took = overtaken(scene, kind, point)
    # what the zombie may add is a look at what its late call has done
    jobs = "select id, state, lease_token, outcome, finished_at from jobs where op <> 'reconcile' order by id"
    ended = scene.sql(jobs)
    zombie.send(signal.SIGCONT)
    told(zombie)
    if kind.op == "create" and point == "worker_sending":
        wait_until("its copy is killed", lambda: "provider.copy_killed" in zombie.log(), 10)
    assert scene.sql(jobs) == ended
    scene.settled(kind, effects)
    scene.went(kind)
    scene.retire(zombie)
    return took


@row("a zombie that has sent nothing", 49, Timing.frozen_create, kinds=WORKERS_KINDS)
def zombie_before_it_looks_at_its_lease(scene: Scene, kind: Kind) -> float:
    return zombie_wakes(scene, kind, "worker_claimed", (1,))


@row("a zombie that makes one late call", 49, Timing.frozen_create, kinds=WORKERS_KINDS)
def zombie_after_it_looked_at_its_lease(scene: Scene, kind: Kind) -> float:
    # a late create makes a copy, which is killed; a late deadline is set again to the same end
    return zombie_wakes(scene, kind, "worker_sending", (1, 2) if kind.op in ("create", "timeout") else (1,))


@row("a zombie with an effect to write down", 46, Timing.frozen, kinds=WORKERS_KINDS)
def zombie_before_its_commit(scene: Scene, kind: Kind) -> float:
    return zombie_wakes(scene, kind, "worker_ended", (1, 2) if kind.op == "timeout" else (1,))


@row("a late call that undoes what came after it", 300, Timing.swept, kinds=(KIND["pause"], KIND["resume"]))
def zombie_undoes_what_came_after(scene: Scene, kind: Kind) -> float:
    """Nothing at the provider tells a late call from a wanted one. Its maker has the sandbox looked at as soon as it
    learns that it was late; a sweep would, in its time."""
    zombie, _ = overtaken(scene, kind, "worker_sending")
    scene.answered(scene.ask(KIND[kind.successor]), time.monotonic())
    scene.agrees()
    zombie.send(signal.SIGCONT)
    told(zombie)
    apart = time.monotonic()
    wait_until("agreement", lambda: scene.agrees() or True, PATIENCE_S)
    took = (time.monotonic() - apart) * 1000
    scene.settled(kind, (2,))
    assert scene.sql("select status_reason from sandboxes") == [("seen_at_provider",)]
    scene.retire(zombie)
    return took


@row("a late call that shortens a later deadline", 10, Timing.extended, kinds=(KIND["timeout"],))
def zombie_shortens_a_later_deadline(scene: Scene, kind: Kind) -> float:
    """The provider would end the sandbox before its time: its own end is put behind the deadline again."""
    zombie, _ = overtaken(scene, kind, "worker_sending")
    assert scene.call(kind, seconds=3000).status_code == 200
    scene.retire(scene.reaper)  # until the damage is seen
    zombie.send(signal.SIGCONT)
    told(zombie)

    def kept() -> bool:
        ((deadline,),) = scene.sql("select extract(epoch from expires_at) from sandboxes")
        (box,) = scene.truth.state()["sandboxes"].values()
        return box["end"] > float(deadline)

    assert not kept()
    late = time.monotonic()
    # it looks at ends that are near; at the default, this one only minutes later
    scene.next_reaper(SANDBOX_LIFETIME_GRACE_MS="1800000")
    wait_until("the end behind the deadline", kept, PATIENCE_S)
    took = (time.monotonic() - late) * 1000
    scene.settled(kind, (4, 5))  # the holder's, the later one, the late one, the repair; once more by a slow provider
    scene.retire(zombie)
    return took


@row("a copy whose maker died before it could kill it", 360, Timing.orphaned, kinds=(KIND["create"],))
def zombie_dies_of_its_late_call(scene: Scene, kind: Kind) -> float:
    zombie, _ = overtaken(scene, kind, "worker_sending")
    scene.fault(kind, "hang_after")
    zombie.send(signal.SIGCONT)
    wait_until("its copy", lambda: len(scene.truth.state()["sandboxes"]) == 2)
    zombie.kill9()
    apart = time.monotonic()
    wait_until("agreement", lambda: scene.agrees() or True, PATIENCE_S)
    took = (time.monotonic() - apart) * 1000
    scene.settled(kind, (2,))
    scene.went(kind)
    wait_until("why", lambda: scene.sql("select reason from events order by id desc limit 1")[0][0].startswith("orphan "))
    return took


@row("a zombie with an effect to write down, while another has the job", 46, Timing.frozen, kinds=WORKERS_KINDS)
def zombie_while_another_works(scene: Scene, kind: Kind) -> float:
    """Only the lease token tells the two holders apart."""
    scene.prepare(kind)
    scene.retire(scene.worker)
    zombie = scene.next_worker(**freeze("worker_ended"))
    call = scene.ask(kind)
    froze = scene.froze(zombie)
    ((job,),) = scene.sql("select id from jobs where state = 'running'")
    holder = scene.next_worker(**freeze("worker_ended"))
    took = (scene.froze(holder) - froze) * 1000
    zombie.send(signal.SIGCONT)
    told(zombie)
    assert scene.sql(f"select state, lease_token from jobs where id = '{job}'") == [("running", "2")]
    holder.send(signal.SIGCONT)
    scene.answered(call, froze)
    scene.settled(kind, (1, 2) if kind.op == "timeout" else (1,))
    scene.went(kind)
    scene.retire(zombie)
    return took


@row("a zombie that saw what has changed since", 46, Timing.frozen, kinds=(LOOK,))
def zombie_with_an_old_look(scene: Scene, kind: Kind) -> float:
    """What it saw is true no longer: to write it down would say paused of a sandbox that runs."""
    zombie, took = overtaken(scene, kind, "worker_ended")
    scene.answered(scene.ask(KIND["resume"]), time.monotonic())
    zombie.send(signal.SIGCONT)
    told(zombie)
    scene.settled(kind)
    assert scene.sql("select status from sandboxes") == [("running",)]
    scene.retire(zombie)
    return took


# ---- a sweep ----------------------------------------------------------------------------------------

def sweep_dies(scene: Scene, point: str, nth: int, killed: tuple[int, ...]) -> float:
    """What the list said is found again: three to be killed, two in one sweep at most, and a row to be corrected.
    One at the provider is not ours."""
    scene.prepare(LOOK)
    scene.retire(scene.worker)
    ((ours,),) = scene.sql("select id from deployment")
    *orphans, stranger = scene.truth.seed(*({"sandbox_deployment": of, "sandbox_id": str(uuid.uuid4()), "sandbox_job": "j"}
                                            for of in (ours, ours, ours, str(uuid.uuid4()))))
    ((pid,),) = scene.sql("select provider_sandbox_id from sandboxes")
    scene.truth.set(pid, state="paused")
    died = scene.died(scene.next_worker(CRASHPOINT=f"{point}:{nth}:KILL"))
    assert len(deaths(scene)) in killed
    scene.next_worker()

    def repaired() -> bool:
        return set(scene.truth.state()["sandboxes"]) == {pid, stranger} and \
            scene.sql("select status, status_reason from sandboxes") == [("paused", "seen_at_provider")]

    wait_until("what the sweep had found", repaired, PATIENCE_S)
    took = (time.monotonic() - died) * 1000
    scene.quiet(PATIENCE_S)
    assert sorted(deaths(scene)) == sorted(orphans), "each once"
    assert scene.sql("select state, count(*) from jobs where op = 'reconcile' group by state") == [("done", "1")]
    scene.went(LOOK)
    return took


def deaths(scene: Scene) -> list[str]:
    return [effect["id"] for effect in scene.truth.effects() if effect["effect"] == "delete"]


SWEEP = Kind("sweep", "list", "delete", None, (), "")
HALF = {"WORKER_RECONCILE_MAX_PERCENT": "50"}


@row("a list that nobody has judged", 500, Timing.lost_sweep, kinds=(SWEEP,), **HALF)
def worker_between_list_and_judgement(scene: Scene, kind: Kind) -> float:
    return sweep_dies(scene, "sweep_listed", TIMING.WORKER_RECONCILE_CONFIRM, (0,))


@row("findings that are sure, and nothing done", 500, Timing.lost_sweep, kinds=(SWEEP,), **HALF)
def worker_between_judgement_and_acts(scene: Scene, kind: Kind) -> float:
    return sweep_dies(scene, "sweep_noted", TIMING.WORKER_RECONCILE_CONFIRM, (0,))


@row("a look that is asked for, nobody woken, no kill sent", 500, Timing.lost_sweep, kinds=(SWEEP,), **HALF)
def worker_between_two_acts_of_a_sweep(scene: Scene, kind: Kind) -> float:
    return sweep_dies(scene, "sweep_asked", 1, (0,))


@row("one killed, its fellow perhaps, the others alive", 500, Timing.lost_sweep, kinds=(SWEEP,), **HALF)
def worker_in_the_middle_of_a_sweeps_kills(scene: Scene, kind: Kind) -> float:
    return sweep_dies(scene, "sweep_killed", 1, (1, 2))


@row("a row given back, nobody woken", 6, Timing.lost_wakeup, kinds=(SWEEP,))
def worker_that_has_given_a_row_back(scene: Scene, kind: Kind) -> float:
    """The sandbox of a row that ended only as lost: it is never killed, and given back once."""
    scene.prepare(LOOK)
    scene.retire(scene.worker)
    scene.sql("update sandboxes set status = 'deleted', status_reason = 'provider_lost', deleted_at = now(), lost_at = now()")
    died = scene.died(scene.next_worker(CRASHPOINT="sweep_given_back:1:KILL"))
    assert scene.sql("select status, status_reason from sandboxes") == [("running", "given_back")]
    scene.next_worker()
    wait_until("the look that follows", lambda: scene.sql("select state from jobs where op = 'reconcile'") == [("done",)], PATIENCE_S)
    took = (time.monotonic() - died) * 1000
    scene.quiet(PATIENCE_S)
    scene.agrees()
    assert deaths(scene) == [] and scene.sql("select count(*) from events where reason = 'given_back'") == [("1",)]
    return took


# ---- the reaper -------------------------------------------------------------------------------------

def make_due(scene: Scene, kind: Kind) -> None:
    """What the reaper has to decide: a deadline's pause or delete, or more life at the provider."""
    if kind.op == "timeout":
        scene.sql("update sandboxes set provider_expires_at = now() + interval '30 seconds'")
    else:
        scene.sql(f"update sandboxes set timeout_mode = 'absolute', on_timeout = '{kind.op}', expires_at = now()")


def reaper_dies(scene: Scene, kind: Kind, point: str) -> float:
    scene.prepare(kind)
    scene.retire(scene.reaper)
    make_due(scene, kind)
    died = scene.died(scene.next_reaper(**kill(point)))
    scene.next_reaper()
    wait_until(f"{kind} by the other reaper", lambda: scene.sql(
        f"select count(*) from jobs where op = '{kind.op}' and state = 'done'") == [("1",)], PATIENCE_S)
    took = (time.monotonic() - died) * 1000
    scene.settled(kind)
    scene.went(kind)
    assert scene.sql(f"select count(*) from jobs where op = '{kind.op}'") == [("1",)], "decided once"
    return took


DECIDED = (KIND["pause"], KIND["delete"], KIND["timeout"])


@row("nothing", 5, Timing.lost_reaper, DECIDED)
def reaper_before_its_look(scene: Scene, kind: Kind) -> float:
    return reaper_dies(scene, kind, "reaper_looking")


@row("a queued job without an entry", 6, Timing.lost_wakeup, DECIDED)
def reaper_between_decision_and_wakeup(scene: Scene, kind: Kind) -> float:
    return reaper_dies(scene, kind, "reaper_decided")


@row("a job marked as woken that was not", 6, Timing.lost_wakeup)
def reaper_between_retry_and_wakeup(scene: Scene, kind: Kind) -> float:
    """A retry's time has come: the reaper says so in PostgreSQL and dies before it says so in Redis."""
    scene.prepare(kind)
    scene.retire(scene.reaper)
    armed = scene.next_reaper(**kill("reaper_decided"))
    scene.fault(kind, "status", status=429, headers={"Retry-After": "1"})
    call = scene.ask(kind)
    died = scene.died(armed)
    scene.next_reaper()
    took = scene.answered(call, died)
    scene.settled(kind)
    scene.went(kind)
    return took


# ---- Redis ------------------------------------------------------------------------------------------

@row("entries unread, entries pending, connections dead", 6, Timing.lost_wakeup)
def redis_restarts_under_a_queued_job(scene: Scene, kind: Kind) -> float:
    scene.prepare(kind)
    scene.retire(scene.worker)
    call = scene.ask(kind)
    wait_until("queued", lambda: scene.keys.xlen(f"sandbox:jobs:{kind.op}") == 1)
    scene.own_redis.process.kill9()
    scene.own_redis.restart()
    back = time.monotonic()
    scene.next_worker()
    took = scene.answered(call, back)
    scene.settled(kind)
    scene.went(kind)
    scene.streams_empty(TIMING.pending_entry() + SLACK_MS)
    return took


@row("a job in flight that cannot tell Redis of its end", 6, Timing.lost_wakeup)
def redis_restarts_under_a_job_in_flight(scene: Scene, kind: Kind) -> float:
    scene.prepare(kind)
    scene.hold(kind)
    call = scene.ask(kind)
    scene.reaches_provider(kind)
    scene.own_redis.process.kill9()
    scene.answered(call, time.monotonic())  # without any Redis
    scene.settled(kind)
    scene.went(kind)
    scene.own_redis.restart()
    scene.streams_empty(TIMING.pending_entry() + SLACK_MS)
    # and the queue works again
    again = KIND["delete"] if kind.op != "delete" else KIND["create"]
    return scene.answered(scene.ask(again), time.monotonic())


# only the missing mark can tell: the ordinary search would take a minute
@row("no stream, no group, no entry", 6, Timing.lost_mark, REAPER_OUTBOX_BASE_MS="60000")
def redis_wiped_under_a_queued_job(scene: Scene, kind: Kind) -> float:
    scene.prepare(kind)
    scene.retire(scene.worker)
    call = scene.ask(kind)
    wait_until("queued", lambda: scene.keys.xlen(f"sandbox:jobs:{kind.op}") == 1)
    scene.keys.flushall()
    wiped = time.monotonic()
    scene.next_worker()
    took = scene.answered(call, wiped)
    scene.settled(kind)
    scene.went(kind)
    return took


# ---- PostgreSQL -------------------------------------------------------------------------------------

def postgres_restarts(scene: Scene, kind: Kind, down_s: float) -> float:
    scene.prepare(kind)
    scene.hold(kind)
    call = scene.ask(kind)
    scene.reaches_provider(kind)
    scene.postgres.kill9()
    refused = scene.call(KIND["create"])
    assert refused.status_code == 503 and int(refused.headers["Retry-After"]) >= 1, refused.text
    wait_until("the outcome waits", lambda: "store.down" in scene.worker.log(), 10)
    time.sleep(down_s)
    scene.postgres.restart()
    back = time.monotonic()
    return scene.answered(call, back)


@row("an outcome that cannot be written yet", 6, Timing.lost_reply, own_postgres=True, WORKER_LEASE_MS="10000",
     WORKER_MIN_IDLE_MS="11000", WORKER_ATTEMPT_MS="4000", E2B_REQUEST_TIMEOUT_MS="3000")
def postgres_back_within_the_lease(scene: Scene, kind: Kind) -> float:
    took = postgres_restarts(scene, kind, 0)
    scene.settled(kind)
    scene.went(kind)
    calls = scene.truth.state()["calls"][kind.route]
    assert calls == scene.calls[kind.route] + 1, "the call was made again although its outcome was known"
    return took


@row("an outcome that is forgotten", 6, Timing.lost_wakeup, own_postgres=True)
def postgres_back_after_the_lease(scene: Scene, kind: Kind) -> float:
    took = postgres_restarts(scene, kind, TIMING.WORKER_LEASE_MS / 1000)
    scene.settled(kind, effects=(1, 2) if kind.op == "timeout" else (1,))
    scene.went(kind)
    return took


# ---- running them -----------------------------------------------------------------------------------

@dataclass(frozen=True)
class Case:
    row: int
    kind: Kind

    def __str__(self) -> str:
        return f"{ROWS[self.row].name}-{self.kind}"

    def run(self, folder: Path, postgres: Postgres, fresh: Postgres) -> float:
        """Plays the row; returns the measured repair in ms."""
        me = ROWS[self.row]
        own = Postgres(folder / "pg", copy_of=fresh, fsync="off") if me.own_postgres else None
        try:
            with Scene(folder / "scene", own or postgres, **me.env) as scene:
                return me.play(scene, self.kind)
        finally:
            if own:
                own.stop()


CASES = [Case(number, kind) for number, me in enumerate(ROWS) for kind in me.kinds]
