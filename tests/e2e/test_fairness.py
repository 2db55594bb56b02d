"""One user's burst is the user's own delay: not another's create, not another's command."""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE

CREATE = f"{BASE}/create"
BODY = {"user_id": "f"}
CALL_S = 0.3


def unfinished(stack, user: str) -> int:
    return int(stack.sql("select count(*) from jobs j join users u on u.id::text = j.owner where u.username = "
                         f"'{user}' and state in ('queued', 'running', 'retry_wait')")[0][0])


@pytest.mark.release_only
def test_a_burst_of_creates_delays_another_user_by_one_provider_call(fault_stack, fault_provider):
    stack = fault_stack(gateways=2, env={"WORKER_MAX_IN_FLIGHT": "4"})
    alice, bob = stack.client("alice"), stack.client("bob", gateway=1)
    bob.create()
    fault_provider.config(delay_ms=int(CALL_S * 1000))
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: alice.post(CREATE, BODY, Prefer="respond-async"), range(110)))
    assert {a.status_code for a in answers} == {202}
    took = []
    for _ in range(3):
        start = time.monotonic()
        bob.create()
        took.append(time.monotonic() - start)
    left = unfinished(stack, "alice")
    # its own call, at most one of another's before it, and the machine's own pace
    assert left > 20 and min(took) < 2 * CALL_S + 0.3 and max(took) < 2 * CALL_S + 1.5, (took, left)
    stack.quiet(60)
    stack.agrees()
    assert stack.sql("select count(*), count(*) filter (where state = 'done') from jobs where op = 'create'") == [("114", "114")]


@pytest.mark.release_only
def test_every_waiting_job_is_woken(fault_stack, fault_provider):
    """Many owners, two workers, one killed: turns lose nobody's wake-up."""
    stack = fault_stack(workers=2, env={"WORKER_MAX_IN_FLIGHT": "3"})
    fault_provider.config(delay_ms=50)
    clients = [stack.client(f"user{i}") for i in range(6)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda i: clients[i % 6 if i % 2 else 0].post(CREATE, BODY, Prefer="respond-async"), range(90)))
    stack.workers[0].kill9()
    stack.quiet(60)
    stack.agrees()
    assert stack.sql("select count(*) from jobs where state = 'done' and origin = 'client'") == [("90",)]


def test_one_user_holds_no_more_than_its_share_of_the_threads(fault_stack):
    """More creates that wait than the share: the rest is accepted without waiting, the other user is served."""
    stack = fault_stack(env={"GATEWAY_THREADS": "40"})
    alice, bob = stack.client("alice"), stack.client("bob")
    box, other = alice.create()["sandbox_id"], bob.create()["sandbox_id"]
    share = 40 * 90 // 100 * 50 // 100
    stack.workers[0].send(signal.SIGSTOP)  # nothing ends
    with ThreadPoolExecutor(share + 6) as pool:
        answers = [pool.submit(alice.post, CREATE, BODY) for _ in range(share + 6)]
        wait_until("those beyond the share have their answer", lambda: sum(a.done() for a in answers) == 6, 15)
        assert {a.result().status_code for a in answers if a.done()} == {202}
        listing = {"sandbox_id": box, "path": "/"}
        answer = alice.post(f"{BASE}/list-files", listing)
        assert answer.status_code == 429 and answer.json()["error"]["limit"] == share and answer.headers["Retry-After"] == "1"
        assert alice.status(box) == "running"  # what does not wait is served
        assert bob.post(f"{BASE}/list-files", listing | {"sandbox_id": other}).status_code not in (429, 503)
        stack.workers[0].send(signal.SIGCONT)
        assert sorted(a.result().status_code for a in answers) == [200] * share + [202] * 6
    stack.quiet()
    stack.agrees()
