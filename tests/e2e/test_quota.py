"""What one user may have: exact over several gateways, whatever dies, and told in a way a client can act on."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, Client

CREATE = f"{BASE}/create"
BODY = {"user_id": "q"}


def refused(answer, name: str, limit: int) -> dict:
    assert answer.status_code == 429, f"{answer.status_code} {answer.text}"
    error = answer.json()["error"]
    assert error["type"] == "quota_exceeded" and error["detail"].startswith(name)
    assert error["limit"] == limit <= error["used"]
    return error


def alive(stack) -> int:
    return int(stack.sql("select count(*) from sandboxes where status in ('creating','running','pausing','resuming')")[0][0])


@pytest.fixture
def small(fault_stack):
    """Two gateways, two workers, room for 20 sandboxes a user."""
    return fault_stack(gateways=2, workers=2, env={"SANDBOX_MAX_PER_USER": "20"})


@pytest.mark.release_only
def test_200_creates_at_once_give_exactly_20(small, fault_provider):
    """Over two gateways, and a worker dies in the middle of them."""
    users = [small.client("alice", gateway=g) for g in (0, 1)]
    fault_provider.config(delay_ms=150)
    killer = threading.Timer(0.4, small.workers[0].kill9)
    killer.start()
    with ThreadPoolExecutor(200) as pool:
        answers = list(pool.map(lambda i: users[i % 2].post(CREATE, BODY, Prefer="respond-async"), range(200)))
    killer.join()
    assert sorted(a.status_code for a in answers) == [202] * 20 + [429] * 180
    for answer in answers:
        if answer.status_code == 429:
            refused(answer, "max_sandboxes", 20)
            assert "Retry-After" not in answer.headers  # time does not help
    assert small.sql("select count(*) from sandboxes") == [("20",)]
    small.quiet(60)
    small.agrees()
    assert alive(small) == 20
    refused(users[0].post(CREATE, BODY), "max_sandboxes", 20)
    # another user has room of its own
    assert small.client("bob").post(CREATE, BODY).status_code == 200


def test_wait_in_line_and_resume(fault_stack):
    stack = fault_stack(env={"SANDBOX_MAX_PER_USER": "2", "SANDBOX_MAX_PAUSED_PER_USER": "2"})
    client = stack.client("alice")
    first, second = (client.create()["sandbox_id"] for _ in range(2))

    start = time.monotonic()
    refused(client.post(CREATE, BODY, Prefer="wait=1"), "max_sandboxes", 2)
    assert 0.9 < time.monotonic() - start < 4
    threading.Timer(0.5, client.remove, [first]).start()
    third = client.ok(client.post(CREATE, BODY, Prefer="wait=20"))["sandbox_id"]

    # a paused one is not alive; resuming it needs room again, by whichever call
    client.pause(second)
    fourth = client.create()["sandbox_id"]
    for answer in (client.post(f"{BASE}/connect", {"sandbox_id": second}),
                   client.post(f"{BASE}/run-cmd", {"sandbox_id": second, "command": "true"})):
        refused(answer, "max_sandboxes", 2)
    # paused ones are counted, too: no more of them, nor of what would become one
    client.pause(third)
    refused(client.post(CREATE, BODY), "max_paused", 2)
    refused(client.post(f"{BASE}/{fourth}/pause"), "max_paused", 2)
    assert client.connect(second)["status"] == "running"
    assert {client.status(s) for s in (second, fourth)} == {"running"}


def in_line(stack) -> list[str]:
    return [owner for owner, in stack.sql("select owner from create_line order by place")]


def test_waiting_creates_are_served_first_in_first_out(fault_stack):
    """Over two gateways: none overtakes, and a dead gateway's request has its place again."""
    stack = fault_stack(gateways=2, env={"SANDBOX_MAX_PER_USER": "1", "SANDBOX_IDEMPOTENCY_CLAIM_MS": "12000"})
    users = [stack.client("alice", gateway=g) for g in (0, 1)]
    box = users[0].create()["sandbox_id"]
    served: list[tuple[int, str]] = []

    def create(number: int, gateway: int) -> None:
        try:
            answer = users[gateway].post(CREATE, BODY, Prefer="wait=25", **{"Idempotency-Key": f"line-{number}"})
        except httpx.HTTPError:
            return  # its gateway is killed
        served.append((number, users[gateway].ok(answer)["sandbox_id"]))

    def wait_in_line(number: int, gateway: int) -> threading.Thread:
        places = len(in_line(stack))
        thread = threading.Thread(target=create, args=(number, gateway))
        thread.start()
        wait_until("a place in line", lambda: len(in_line(stack)) > places)
        return thread

    threads = [wait_in_line(number, number % 2) for number in range(5)]
    # who does not wait overtakes nobody, not even in the moment in which there is room
    users[0].remove(box)
    for number in range(2):
        wait_until("the next one is served", lambda: len(served) > number)
        refused(users[1].post(CREATE, BODY), "max_sandboxes", 1)
        if number == 0:
            users[0].remove(served[0][1])
    assert [number for number, _ in served] == [0, 1]
    # 3 waits at gateway 1, which dies; its client asks again at gateway 0, and is still before 4
    stack.gateways[1].kill9()
    threads.append(threading.Thread(target=create, args=(3, 0)))
    threads[-1].start()
    for place in range(1, 4):
        users[0].remove(served[place][1])
        wait_until("the next one is served", lambda: len(served) > place + 1, 30)
    for thread in threads:
        thread.join()
    assert [number for number, _ in served] == [0, 1, 2, 3, 4]
    assert in_line(stack) == []


def test_creates_a_minute_and_a_users_own_limits(fault_stack):
    stack = fault_stack(env={"SANDBOX_CREATES_PER_MINUTE": "2"})
    client = stack.client("alice")
    for _ in range(2):
        client.remove(client.create()["sandbox_id"])
    answer = client.post(CREATE, BODY)
    refused(answer, "creates_per_minute", 2)
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    told = stack.run("user", "limit", "alice", "creates_per_minute=3", "max_sandboxes=1")
    assert "3" in told and "in use: 0 alive, 0 paused, 2 created within the last minute" in told
    client.create()
    refused(client.post(CREATE, BODY), "max_sandboxes", 1)
    stack.run("user", "limit", "alice", "creates_per_minute=0", "max_sandboxes=default")
    client.create()
    # of a token from another issuer, by its subject
    stack.run("user", "limit", "--subject", "their-user-7", "max_sandboxes=5")
    assert stack.sql("select owner, name, value from user_limits where owner = 'their-user-7'") == [("their-user-7", "max_sandboxes", "5")]


def test_a_refused_create_does_not_use_up_its_key(fault_stack):
    stack = fault_stack(env={"SANDBOX_MAX_PER_USER": "1"})
    client: Client = stack.client("alice")
    box = client.create()["sandbox_id"]
    refused(client.post(CREATE, BODY, **{"Idempotency-Key": "k"}), "max_sandboxes", 1)
    client.remove(box)
    wait_until("room", lambda: alive(stack) == 0)
    made = client.ok(client.post(CREATE, BODY, **{"Idempotency-Key": "k"}))["sandbox_id"]
    again = client.post(CREATE, BODY, **{"Idempotency-Key": "k"})
    assert again.headers["Idempotency-Replayed"] == "true" and client.ok(again)["sandbox_id"] == made


def test_calls_a_second_are_shared_by_the_gateways(fault_stack, redis):
    stack = fault_stack(gateways=2, env={"GATEWAY_CALLS_PER_SECOND": "20"})
    clients = [stack.client("alice", gateway=g) for g in (0, 1)]

    def burst() -> list:
        """Of 200 calls at both gateways at once, those that were let through."""
        start = time.monotonic()
        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda i: clients[i % 2].get(BASE), range(200)))
        passed = [a for a in answers if a.status_code == 200]
        # the bucket of 40, what came in meanwhile, and a tenth of a second's calls a gateway
        assert 30 <= len(passed) <= 40 + 20 * (time.monotonic() - start + 2 * 0.3) + 40, len(passed)
        return [a for a in answers if a.status_code != 200]

    for answer in burst():
        assert answer.status_code == 429 and answer.json()["error"]["type"] == "rate_limited"
        wait = answer.headers["Retry-After"]
        assert answer.headers["RateLimit-Reset"] == wait and 1 <= int(wait) <= 3
        assert answer.headers["RateLimit-Policy"] == '"user";q=40;w=2' and answer.headers["RateLimit"] == f'"user";r=0;t={wait}'
    wait_until("shared", lambda: redis.cli("--scan", "--pattern", "sandbox:rate:*").strip() != "", 5)
    # another user is not meant, and a user's own value wins
    assert stack.client("bob").get(BASE).status_code == 200
    stack.run("user", "limit", "alice", "calls_per_second=0")
    wait_until("no limit", lambda: all(c.get("/api/v1/limits").status_code == 200 and
                                       c.ok(c.get("/api/v1/limits"))["calls_per_second"]["limit"] is None for c in clients), 8)
    with ThreadPoolExecutor(16) as pool:
        assert {a.status_code for a in pool.map(lambda i: clients[i % 2].get(BASE), range(200))} == {200}


def test_limits_tell_what_is_used(fault_stack):
    stack = fault_stack(env={"SANDBOX_MAX_PER_USER": "3"})
    client = stack.client("alice")
    first = client.create()["sandbox_id"]
    client.create()
    client.pause(first)
    told = client.ok(client.get("/api/v1/limits"))
    assert told["max_sandboxes"] == {"limit": 3, "used": 1} and told["max_paused"] == {"limit": 10000, "used": 1}
    assert told["creates_per_minute"] == {"limit": None, "used": 2} and told["calls_per_second"]["limit"] == 1000
