"""Two providers under load: the primary down in four ways, a thousand creates with failures nobody can
tell the end of, a storm of 429, and one that accepts and never answers. Numbers are printed (-s)."""

import itertools
import os
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.providers import FAILOVER_FAST, Pair
from tests.harness.services import wait_until
from tests.harness.stack import BASE, Stack

pytestmark = [pytest.mark.release_only, pytest.mark.alone]


@pytest.fixture
def pair(tmp_path):
    both = Pair(tmp_path)
    yield both
    both.stop()


@pytest.fixture
def run(tmp_path, redis, postgres, pair):
    made = []

    def start(**options) -> Stack:
        made.append(Stack(tmp_path / "stack", redis, postgres, pair, **options))
        return made[-1]

    yield start
    for running in made:
        running.__exit__(None, None, None)


def create_many(client, count: int, at_once: int = 100, **fields) -> list[tuple[float, dict]]:
    """(seconds, answer) of each; a 202 is waited for."""
    def one(_):
        start = time.monotonic()
        answer = client.post(f"{BASE}/create", {"user_id": "load"} | fields)
        assert answer.status_code in (200, 202), answer.text
        return time.monotonic() - start, answer.json()["data"]

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(one, range(count)))


def live_places(pair: Pair) -> dict[str, list[str]]:
    """our sandbox id -> where it is now, by the doubles themselves"""
    found: dict[str, list[str]] = {}
    for box in pair.e2b.state()["sandboxes"].values():
        found.setdefault(box["metadata"]["sandbox_id"], []).append("e2b")
    for box in pair.daytona.state()["sandboxes"].values():
        found.setdefault(box["labels"]["sandbox_id"], []).append("daytona")
    return found


def percentile(values: list[float], percent: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * percent / 100))]


@pytest.mark.parametrize("way", ["refused", "5xx", "hanging", "storm"])
def test_primary_down(run, pair, way):
    """Every create succeeds on the second: at once where the first certainly made none, and within the
    time for a provider that answers nothing where that is all there is to go by."""
    stack = run(env=FAILOVER_FAST)
    client = stack.client()
    if way == "refused":
        pair.e2b.process.kill9()
    else:
        fault = {"5xx": {"mode": "status", "status": 503}, "hanging": {"mode": "hang"},
                 "storm": {"mode": "status", "status": 429, "headers": {"Retry-After": "30"}}}[way]
        pair.e2b.faults({"route": "*", "times": -1} | fault)
    # some at once, when nothing is known yet; then, with the circuit open, some more
    first = create_many(client, 60, 60)
    later = create_many(client, 60, 20)
    took = [seconds for seconds, _ in first + later]
    assert {data["provider"] for _, data in first + later} == {"daytona"}
    print(f"\nprimary {way}: first p50 {percentile([s for s, _ in first], 50):.2f} s, max {max(s for s, _ in first):.2f} s; "
          f"later p50 {percentile([s for s, _ in later], 50):.3f} s, max {max(s for s, _ in later):.2f} s")
    # FAILOVER_FAST: a patience of 1.5 s; 3 s and a request's 1.5 s for one that answers nothing
    assert max(took) < (9.0 if way in ("hanging", "5xx") else 4.0)
    assert percentile([s for s, _ in later], 50) < 1.4  # less than the patience
    made = pair.made()
    assert len(made) == 120 and set(map(tuple, made.values())) == {("daytona",)}


def test_a_thousand_creates_with_random_ambiguous_failures_double_none(run, pair):
    """Both providers lose answers, answer late, hang, fail and refuse, at random."""
    stack = run(workers=2, env=FAILOVER_FAST | {
        "SANDBOX_FAILOVER_UNSETTLED_MS": "30000", "WORKER_BREAKER_FAILURES": "50", "WORKER_BREAKER_OPEN_MS": "500",
        "SANDBOX_JOB_ATTEMPTS": "50", "WORKER_RETRY_BUDGET_PER_SECOND": "1000"})
    client = stack.client()
    fault = lambda mode, probability, **more: {"route": "create", "mode": mode, "probability": probability, "times": -1} | more  # noqa: E731
    pair.e2b.faults(fault("reset_after", .06), fault("late", .06, delay_ms=400), fault("reset_before", .06), fault("hang", .02),
                    fault("status", .04, status=500), fault("garbage", .06), fault("truncated", .06), fault("status", .08, status=429),
                    {"route": "list", "mode": "status", "status": 500, "probability": .05, "times": -1})
    pair.daytona.faults(fault("reset_after", .06), fault("late", .06, delay_ms=400), fault("reset_before", .06), fault("hang", .02),
                        fault("status", .04, status=500), fault("garbage", .06), fault("truncated", .06),
                        {"route": "get", "mode": "status", "status": 500, "probability": .05, "times": -1})
    start = time.monotonic()
    answers = create_many(client, 1000, 150)
    stack.quiet(60)
    took = time.monotonic() - start
    ids = {data["sandbox_id"] for _, data in answers}
    made, live = pair.made(), live_places(pair)
    rows = dict(stack.sql("select id::text, provider from sandboxes where status = 'running'"))
    twice = {box: places for box, places in made.items() if len(places) > 1}
    moved = stack.sql("select count(*) from sandboxes where provider_reason <> ''")[0][0]
    print(f"\n1000 creates in {took:.1f} s: {sum(p == 'e2b' for p in rows.values())} at e2b, "
          f"{sum(p == 'daytona' for p in rows.values())} at daytona ({moved} moved), {len(twice)} made twice, "
          f"p50 {statistics.median(s for s, _ in answers):.2f} s")
    assert len(ids) == 1000 and set(rows) == ids
    assert twice == {}
    assert live == {box: [provider] for box, provider in rows.items()}
    assert min(sum(p == name for p in rows.values()) for name in ("e2b", "daytona")) > 50, "one of them was never used"


def test_a_storm_of_429_is_kept_within_what_retry_after_allows(run, pair):
    """Two workers, one limit of 20 creates a second. Nothing is sent while it says to wait, but for what was
    on its way; everything gets done, and what belongs to one sandbox in order."""
    stack = run(workers=2, env={"SANDBOX_PROVIDERS": "daytona", "SANDBOX_WAIT_SECONDS": "60"})
    client = stack.client()
    pair.daytona.config(throttle={"create": {"limit": 20, "window_ms": 1000}, "lifecycle": {"limit": 60, "window_ms": 1000}})
    answers = create_many(client, 150, 150)
    some = [data["sandbox_id"] for _, data in answers[:30]]

    def use(box):
        # asked for at once, done one after the other
        later = {"Prefer": "respond-async"}
        calls = [client.post(f"{BASE}/{box}/pause", **later), client.post(f"{BASE}/connect", {"sandbox_id": box}, **later),
                 client.post(f"{BASE}/{box}/pause?reason=again", **later), client.delete(f"{BASE}/{box}", **later)]
        return [c.status_code for c in calls]

    with ThreadPoolExecutor(30) as pool:
        codes = set(itertools.chain(*pool.map(use, some)))
    assert codes <= {200, 202}, codes
    stack.quiet(60)
    # by the double's log: the calls of each limit, and the times at which it had said to wait
    classes = {"create": ("create",), "lifecycle": ("start", "stop", "delete", "pause", "recover")}
    early = refused = total = 0
    for routes in classes.values():
        calls = sorted((line for line in pair.daytona.log() if line.get("call") in routes), key=lambda c: c["t"])
        shut = [(c["end"], c["t"] + c["retry_after"]) for c in calls if "retry_after" in c]
        total, refused = total + len(calls), refused + len(shut)
        # a call that was sent before the answer that said to wait can have been read was on its way, for as long as
        # a busy machine takes to read it
        early += sum(any(told + 0.4 < c["t"] < until - 0.05 for told, until in shut) for c in calls)
    print(f"\n429 storm: {total} calls, {refused} refused, {early} sent while told to wait; "
          f"slowest create {max(s for s, _ in answers):.1f} s")
    assert refused > 0 and early == 0
    assert stack.sql("select count(*) from jobs where origin = 'client' and state <> 'done' and state <> 'superseded'") == [("0",)]
    assert stack.sql("select count(*) from jobs where op = 'create' and attempt > 1") == [("0",)], "a rate limit costs no attempt"
    # in order per sandbox: by seq, each ended before the next began
    assert stack.sql("""select count(*) from jobs a join jobs b on a.sandbox_id = b.sandbox_id and a.seq < b.seq
                        where a.state = 'done' and b.state = 'done' and b.started_at < a.finished_at""") == [("0",)]
    assert {pair.daytona.state()["sandboxes"].get(data["provider_sandbox_id"]) is None
            for _, data in answers if data["sandbox_id"] in some} == {True}


def test_one_that_never_answers_does_not_slow_the_other(run, pair):
    """Creates at both, 20 a second at the first; p99 of the second's, while the first answers and while it
    accepts every call and answers none. In turns, so that what else this machine does falls on both alike,
    and by the clock of the database, which the client's own load does not slow; the quietest turn of each
    counts, and a noisy moment is measured again. `make isolation` measures: p99 within 10%. Here, where anything
    may run beside it, one that waits for the other in any way is what is looked for."""
    measured = os.environ.get("ISOLATION") == "1"
    rounds, tries, count, at_once, allowed = (3, 5, 150, 8, 1.10) if measured else (1, 3, 60, 8, 1.5)
    stack = run(env={"E2B_REQUEST_TIMEOUT_MS": "2000"})
    client = stack.client()
    pair.daytona.config(delay_ms=80)
    create_many(client, 40, at_once, provider="daytona")

    def measure(label: str, *faults) -> None:
        stop = threading.Event()

        def first():
            while not stop.is_set():
                client.post(f"{BASE}/create", {"user_id": "first", "provider": "e2b"}, Prefer="respond-async")
                time.sleep(0.05)

        pair.e2b.faults(*faults)
        other = threading.Thread(target=first)
        other.start()
        try:
            time.sleep(0.5)
            create_many(client, count, at_once, provider="daytona", user_id=label)
        finally:
            stop.set()
            other.join()
        pair.e2b.faults()
        # what waits for the silent one is not part of the next measurement
        stack.sql("update jobs set state = 'superseded' where state in ('queued', 'retry_wait')")
        stack.quiet(60)

    def took(label: str) -> list[float]:
        return [float(row[0]) for row in stack.sql(
            f"""select extract(epoch from j.finished_at - j.created_at) * 1000 from jobs j
                join sandboxes s on s.id = j.sandbox_id where s.user_id = '{label}' and j.op = 'create'""")]

    alone, beside = [], []
    for turn in range(rounds * tries):
        measure(f"answering{turn}")
        measure(f"silent{turn}", {"route": "*", "mode": "hang", "times": -1})
        alone.append(took(f"answering{turn}"))
        beside.append(took(f"silent{turn}"))
        (a50, a99), (b50, b99) = ((min(percentile(v, 50) for v in turns), min(percentile(v, 99) for v in turns)) for turns in (alone, beside))
        print(f"\n{turn + 1} turns of {count} creates: p50/p99 {a50:.0f}/{a99:.0f} ms while the first answers, "
              f"{b50:.0f}/{b99:.0f} ms while it is silent ({(b99 / a99 - 1) * 100:+.1f}%)")
        if turn + 1 >= rounds and b99 <= a99 * allowed:
            break
    # a create that had to wait for the silent one's request would take 2 s longer
    assert b99 <= a99 * allowed or (not measured and b99 < 1500)
    assert stack.sql("select count(*) > 10 from jobs j join sandboxes s on s.id = j.sandbox_id where s.user_id = 'first' "
                     "and j.state <> 'done'") == [("t",)], "the first was never silent"
