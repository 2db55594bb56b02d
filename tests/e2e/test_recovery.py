"""What dies, when it dies, and what is left: kill -9, restarts, and a provider that misbehaves."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.harness.services import Postgres, Redis, wait_until
from tests.harness.stack import BASE, Client, Stack


def creates(client: Client, count: int) -> list[httpx.Response]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: client.post(f"{BASE}/create", {"user_id": "many"}), range(count)))


def live_at_provider(provider) -> dict[str, str]:
    """our sandbox id -> provider id; fails if one of ours exists twice."""
    found: dict[str, str] = {}
    for pid, s in provider.state()["sandboxes"].items():
        sid = s["metadata"]["sandbox_id"]
        assert sid not in found, f"{sid} exists twice at the provider"
        found[sid] = pid
    return found


def test_two_hundred_creates_at_once_take_about_a_second(fault_stack, fault_provider, slow):
    stack = fault_stack()
    client = stack.client()
    creates(client, 4)
    fault_provider.config(delay_ms=500)
    start = time.monotonic()
    answers = creates(client, 200)
    took = time.monotonic() - start
    assert [a.status_code for a in answers] == [200] * 200
    # a second on a machine that has nothing else to do; one after the other they would take a hundred
    assert took < 5 * slow, f"{took:.2f} s"
    fault_provider.config(delay_ms=0)
    stack.agrees()
    lengths = {op: stack.redis.cli("XLEN", f"{stack.keys}jobs:{op}") for op in ("create", "pause", "delete")}
    assert wait_until("streams empty", lambda: all(
        stack.redis.cli("XLEN", f"{stack.keys}jobs:{op}") == "0" for op in lengths))


def test_status_answers_while_four_hundred_clients_wait(fault_stack, fault_provider, slow):
    # the provider takes longer than the look below, and less than a call may take: no create is repeated
    stack = fault_stack(env={"E2B_REQUEST_TIMEOUT_MS": "20000", "WORKER_ATTEMPT_MS": "25000", "WORKER_LEASE_MS": "40000",
                             "WORKER_MIN_IDLE_MS": "45000"})
    client = stack.client()
    ready = client.create()["sandbox_id"]
    idle_rss = stack.gateways[0].rss_bytes()
    fault_provider.config(delay_ms=4000)
    threads = [threading.Thread(target=client.post, args=(f"{BASE}/create", {"user_id": "w"})) for _ in range(400)]
    for t in threads:
        t.start()
    wait_until("most are accepted", lambda: int(stack.sql("select count(*) from jobs")[0][0]) >= 200, 20)
    times = []
    for _ in range(20):
        start = time.monotonic()
        assert client.status(ready) == "running"
        times.append(time.monotonic() - start)
    waiting = sum(t.is_alive() for t in threads)
    gateway_rss, worker_rss = stack.gateways[0].rss_bytes(), stack.workers[0].rss_bytes()
    fault_provider.config(delay_ms=0)
    for t in threads:
        t.join()
    assert waiting >= 200, waiting
    assert sorted(times)[10] < 0.1 * slow, times
    if slow == 1.0:
        assert gateway_rss < 48 << 20, f"gateway {gateway_rss >> 20} MB (idle {idle_rss >> 20})"
        assert worker_rss < 25 << 20, f"worker {worker_rss >> 20} MB"
        assert stack.reapers[0].rss_bytes() < 10 << 20
    stack.quiet(60)
    stack.agrees()


def test_kill_9_of_a_worker_in_the_middle_of_creates(fault_stack, fault_provider, slow):
    stack = fault_stack(workers=2)
    client = stack.client()
    fault_provider.config(delay_ms=400)
    answers: list[httpx.Response] = []
    runner = threading.Thread(target=lambda: answers.extend(creates(client, 50)))
    runner.start()
    wait_until("jobs running", lambda: stack.sql("select count(*) from jobs where state='running'") != [("0",)])
    time.sleep(0.2)
    stack.workers[0].kill9()
    runner.join()
    assert [a.status_code for a in answers] == [200] * 50
    fault_provider.config(delay_ms=0)
    stack.quiet()
    stack.agrees()
    made = [e["metadata"]["sandbox_id"] for e in fault_provider.effects() if e["effect"] == "create"]
    assert len(live_at_provider(fault_provider)) == 50 and len(set(made)) == 50


@pytest.mark.parametrize("mode,more", [
    ("reset_before", {}), ("reset_after", {}), ("garbage", {}), ("truncated", {}), ("huge", {}),
    ("status", {"status": 500}), ("status", {"status": 503}), ("status", {"status": 502}),
    ("status", {"status": 429, "headers": {"Retry-After": "1"}}), ("hang", {}), ("late", {"delay_ms": 800}),
])
def test_create_happens_once_whatever_the_provider_does(fault_stack, fault_provider, mode, more):
    stack = fault_stack()
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": mode, "times": 2} | more)
    data = client.create()
    stack.quiet()
    assert data["status"] == "running"
    assert live_at_provider(fault_provider) == {data["sandbox_id"]: data["provider_sandbox_id"]}
    stack.agrees()


def test_retry_after_is_respected(fault_stack, fault_provider):
    stack = fault_stack()
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": "status", "status": 429, "headers": {"Retry-After": "2"}, "times": 1})
    start = time.monotonic()
    client.create()
    assert time.monotonic() - start >= 1.9
    assert stack.sql("select attempt from jobs where op='create'") == [("1",)], "a rate limit costs no attempt"


def test_quota_429_without_retry_after_is_told_to_the_client(fault_stack, fault_provider):
    stack = fault_stack(env={"SANDBOX_WAIT_SECONDS": "2"})
    client = stack.client()
    fault_provider.faults({"route": "create", "mode": "status", "status": 429, "times": -1})
    answer = client.post(f"{BASE}/create", {"user_id": "q"})
    assert answer.status_code in (202, 502, 503)
    fault_provider.faults()
    client.delete(f"{BASE}/{answer.json()['data']['sandbox_id']}") if answer.status_code == 202 else None


def test_a_refused_template_is_502_with_the_providers_words(fault_stack):
    client = fault_stack().client()
    answer = client.post(f"{BASE}/create", {"user_id": "x", "sandbox_template_id": "missing"})
    assert answer.status_code == 502 and answer.json()["error"]["type"] == "provider_error"
    assert "not found" in answer.text and "e2b_" not in answer.text


def test_lost_at_the_provider_is_noticed_by_the_next_call(fault_stack, fault_provider):
    stack = fault_stack()
    client = stack.client()
    data = client.create()
    client.pause(data["sandbox_id"])
    fault_provider.forget(data["provider_sandbox_id"])
    answer = client.post(f"{BASE}/connect", {"sandbox_id": data["sandbox_id"]})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "provider_unavailable"), answer.text
    stack.quiet()
    told = client.info(data["sandbox_id"])
    assert (told["status"], told["status_reason"]) == ("paused", "missing_at_provider")  # test_missing.py: until it is believed


def test_schedule_timeout_is_clamped_to_what_the_provider_grants(fault_stack, fault_provider):
    stack = fault_stack(env={"E2B_MAX_TIMEOUT_SECONDS": "3600"})
    client = stack.client()
    sid = client.create()["sandbox_id"]
    data = client.ok(client.post(f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": 86400}))
    assert data["clamped"] is True
    ours = stack.sql(f"select extract(epoch from expires_at - now())::int from sandboxes where id='{sid}'")[0][0]
    assert 3000 <= int(ours) <= 3600


def test_delete_wins_over_everything_queued(fault_stack, fault_provider):
    stack = fault_stack()
    client = stack.client()
    sid = client.create()["sandbox_id"]
    fault_provider.config(delay_ms=300)
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(client.post, f"{BASE}/{sid}/pause"), pool.submit(client.post, f"{BASE}/connect", {"sandbox_id": sid})]
        calls += [pool.submit(client.post, f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": 60})]
        time.sleep(0.05)
        gone = pool.submit(client.delete, f"{BASE}/{sid}")
        assert gone.result().status_code == 200
        for other in calls:
            assert other.result().status_code in (200, 202, 404, 409), other.result().text
    fault_provider.config(delay_ms=0)
    stack.quiet()
    assert fault_provider.state()["sandboxes"] == {}
    assert stack.sql(f"select status from sandboxes where id='{sid}'") == [("deleted",)]


def test_redis_killed_in_the_middle(tmp_path, postgres, fault_provider):
    redis = Redis(tmp_path / "own-redis")
    try:
        with Stack(tmp_path / "s", redis, postgres, fault_provider, workers=2) as stack:
            client = stack.client()
            client.create()
            fault_provider.config(delay_ms=300)
            answers = []
            runner = threading.Thread(target=lambda: answers.extend(creates(client, 30)))
            runner.start()
            time.sleep(0.2)
            redis.process.kill9()
            time.sleep(1.0)
            redis.restart()
            runner.join()
            for answer in answers:
                assert answer.status_code in (200, 202, 503), answer.text
                assert answer.status_code != 503 or "Retry-After" in answer.headers
            fault_provider.config(delay_ms=0)
            stack.quiet()
            assert all(p.alive() for p in stack.processes)
            stack.agrees()
            wait_until("ready again", lambda: httpx.get(stack.url + "/readyz", trust_env=False).status_code == 200)
            client.create()
    finally:
        redis.stop()


def test_redis_wiped_in_the_middle(fault_stack, fault_provider):
    stack = fault_stack(workers=2)
    client = stack.client()
    fault_provider.config(delay_ms=300)
    answers = []
    runner = threading.Thread(target=lambda: answers.extend(creates(client, 40)))
    runner.start()
    time.sleep(0.15)
    stack.redis.cli("FLUSHALL")
    runner.join()
    assert [a.status_code for a in answers] == [200] * 40
    fault_provider.config(delay_ms=0)
    stack.quiet()
    stack.agrees()


def test_postgres_killed_in_the_middle(tmp_path, redis, fault_provider):
    postgres = Postgres(tmp_path / "own-pg")
    try:
        with Stack(tmp_path / "s", redis, postgres, fault_provider, workers=2) as stack:
            client = stack.client()
            client.create()
            fault_provider.config(delay_ms=300)
            answers = []
            runner = threading.Thread(target=lambda: answers.extend(creates(client, 30)))
            runner.start()
            time.sleep(0.25)
            postgres.kill9()
            down = client.post(f"{BASE}/create", {"user_id": "x"})
            assert down.status_code == 503 and int(down.headers["Retry-After"]) >= 1
            time.sleep(1.0)
            postgres.restart()
            runner.join()
            for answer in answers:
                assert answer.status_code in (200, 202, 503), answer.text
                assert answer.status_code != 503 or "Retry-After" in answer.headers
            fault_provider.config(delay_ms=0)
            wait_until("ready again", lambda: httpx.get(stack.url + "/readyz", trust_env=False).status_code == 200, 20)
            stack.quiet(60)
            assert all(p.alive() for p in stack.processes)
            stack.agrees()
            client.create()
    finally:
        postgres.stop()


def test_sigterm_of_the_worker_gives_work_back(fault_stack, fault_provider):
    stack = fault_stack(workers=2)
    client = stack.client()
    fault_provider.config(delay_ms=500)
    answers = []
    runner = threading.Thread(target=lambda: answers.extend(creates(client, 40)))
    runner.start()
    time.sleep(0.3)
    assert stack.workers[0].stop(20) == 0
    runner.join()
    assert [a.status_code for a in answers] == [200] * 40
    fault_provider.config(delay_ms=0)
    stack.quiet()
    stack.agrees()


def test_sigterm_of_the_gateway_finishes_what_it_accepted(fault_stack, fault_provider):
    stack = fault_stack(gateways=2)
    client = stack.client()
    fault_provider.config(delay_ms=1000)
    answers, refused = [], []

    def one(_):
        try:
            answers.append(client.post(f"{BASE}/create", {"user_id": "x"}))
        except httpx.TransportError as exc:
            refused.append(exc)

    with ThreadPoolExecutor(20) as pool:
        futures = [pool.submit(one, i) for i in range(20)]
        wait_until("all are accepted", lambda: stack.sql("select count(*) from jobs") == [("20",)], interval=0)
        stack.gateways[0].send(signal.SIGTERM)
        for f in futures:
            f.result()
    assert stack.gateways[0].proc.wait(20) == 0
    assert not refused and all(a.status_code in (200, 503) for a in answers)
    assert all("Retry-After" in a.headers for a in answers if a.status_code == 503)
    fault_provider.config(delay_ms=0)
    stack.quiet()
    stack.agrees()


def test_frozen_worker_does_no_harm_when_it_wakes(fault_stack, fault_provider):
    stack = fault_stack(workers=2)
    client = stack.client()
    fault_provider.config(delay_ms=300)
    answers = []
    runner = threading.Thread(target=lambda: answers.extend(creates(client, 20)))
    runner.start()
    wait_until("jobs running", lambda: stack.sql("select count(*) from jobs where state='running'") != [("0",)])
    os.kill(stack.workers[0].pid, signal.SIGSTOP)
    time.sleep(6)
    os.kill(stack.workers[0].pid, signal.SIGCONT)
    runner.join()
    assert [a.status_code for a in answers] == [200] * 20
    fault_provider.config(delay_ms=0)
    stack.quiet()
    stack.agrees()


def test_many_deadlines_at_once(fault_stack, fault_provider, slow):
    stack = fault_stack(reapers=2, workers=2)
    client = stack.client()
    answers = creates(client, 100)
    assert all(a.status_code == 200 for a in answers)
    stack.sql("update sandboxes set timeout_mode='absolute', expires_at = now() + interval '1 second'")
    wait_until("all paused", lambda: stack.sql("select count(*) from sandboxes where status <> 'paused'") == [("0",)], 6 * slow)
    stack.quiet()
    late = stack.sql("select max(extract(epoch from j.created_at - s.expires_at)) from jobs j join sandboxes s on s.id = j.sandbox_id where j.op = 'pause'")
    assert 0 <= float(late[0][0]) < 1.0 * slow
    assert stack.sql("select count(*) from jobs where op='pause'") == [("100",)]


def test_random_operations_end_in_agreement(fault_stack, fault_provider):
    import random
    rng = random.Random(7)
    stack = fault_stack(workers=3, reapers=2, gateways=2)
    client = stack.client()
    ids = [a.json()["data"]["sandbox_id"] for a in creates(client, 10)]
    fault_provider.faults({"route": "*", "mode": "status", "status": 500, "times": -1, "probability": 0.05},
                          {"route": "*", "mode": "reset_after", "times": -1, "probability": 0.03})

    def act(n: int) -> None:
        sid, kind = rng.choice(ids), rng.randrange(10)
        if kind < 4:
            client.post(f"{BASE}/{sid}/pause")
        elif kind < 8:
            client.post(f"{BASE}/connect", {"sandbox_id": sid})
        elif kind < 9:
            client.post(f"{BASE}/schedule-timeout", {"sandbox_id": sid, "timeout_seconds": rng.randrange(100, 1000)})
        elif n > 150:
            client.delete(f"{BASE}/{sid}")

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(act, range(250)))
    fault_provider.faults()
    stack.quiet(60)
    stack.agrees()
    states = {s["metadata"]["sandbox_id"]: s["state"] for s in fault_provider.state()["sandboxes"].values()}
    assert states == dict(stack.sql("select id::text, status from sandboxes where status <> 'deleted'"))
