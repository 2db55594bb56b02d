"""Two providers: which one a create goes to, when it goes on to the other, and that it is made once
whatever happens. E2B is the fault provider, Daytona its double; both keep a ground-truth log."""

import time

import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, DaytonaDouble, FaultProvider, Stack

# a second for everything that is many in production
FAST = {"SANDBOX_FAILOVER_PATIENCE_MS": "1500", "SANDBOX_FAILOVER_UNSETTLED_MS": "3000",
        "WORKER_BREAKER_OPEN_MS": "2000", "WORKER_CAPACITY_BASE_MS": "300",
        "E2B_REQUEST_TIMEOUT_MS": "1000", "DAYTONA_REQUEST_TIMEOUT_MS": "1000"}


class Pair:
    """An E2B and a Daytona, in this order."""

    order = "e2b,daytona"

    def __init__(self, folder):
        self.e2b, self.daytona = FaultProvider(folder), DaytonaDouble(folder)

    @property
    def env(self) -> dict[str, str]:
        return self.e2b.env | self.daytona.env | {"SANDBOX_PROVIDERS": self.order}

    def made(self) -> dict[str, list[str]]:
        """our sandbox id -> where it was ever created, by the ground-truth logs"""
        made: dict[str, list[str]] = {}
        for effect in self.e2b.effects():
            if effect["effect"] == "create":
                made.setdefault(effect["metadata"]["sandbox_id"], []).append("e2b")
        for effect in self.daytona.effects():
            if effect["effect"] == "create":
                made.setdefault(effect["labels"]["sandbox_id"], []).append("daytona")
        return made

    def stop(self) -> None:
        self.e2b.stop()
        self.daytona.stop()


@pytest.fixture
def pair(tmp_path):
    both = Pair(tmp_path)
    yield both
    both.stop()


@pytest.fixture
def pair_stack(tmp_path, redis, postgres, pair):
    made = []

    def make(**options) -> Stack:
        options["env"] = FAST | options.get("env", {})
        made.append(Stack(tmp_path / f"stack{len(made)}", redis, postgres, pair, **options))
        return made[-1]

    yield make
    for running in made:
        running.__exit__(None, None, None)


def moves(client, sandbox_id: str) -> list[str]:
    items = client.ok(client.get(f"{BASE}/{sandbox_id}/events"))["items"]
    return [e["reason"] for e in items if e["from"] == e["to"] == "creating"]


def test_the_first_choice_has_no_reason(pair_stack, pair):
    client = pair_stack().client()
    data = client.create()
    assert (data["provider"], data["provider_reason"]) == ("e2b", None)
    assert client.create(provider="daytona")["provider"] == "daytona"
    assert moves(client, data["sandbox_id"]) == []


@pytest.mark.parametrize("name,fault,why", [
    ("out of reach", None, "is out of reach"),
    ("full", {"status": 429}, "has no capacity for it"),
    ("capacity", {"status": 503, "body": {"code": 503, "message": "no", "error_code": "sandbox_capacity_unavailable"}},
     "has no capacity for it"),
    ("limited", {"status": 429, "headers": {"Retry-After": "60"}}, "limits the rate for too long"),
    ("limited, other spelling", {"status": 429, "headers": {"Retry-After-Ms": "60000"}}, "limits the rate for too long"),
    ("key refused", {"status": 401}, "refuses our key"),
], ids=lambda v: v if isinstance(v, str) and "is" not in v else "")
def test_goes_on_at_once_when_the_first_certainly_made_none(pair_stack, pair, name, fault, why):
    stack = pair_stack(env={"WORKER_AUTH_HOLD_MS": "5000"})
    client = stack.client()
    if fault is None:
        pair.e2b.process.kill9()
    else:
        pair.e2b.faults({"route": "create", "mode": "status", "times": -1} | fault)
    start = time.monotonic()
    data = client.create()
    assert time.monotonic() - start < 1.5
    assert data["provider"] == "daytona" and data["status"] == "running"
    assert data["provider_reason"] == f"at daytona, because e2b {why}"
    assert moves(client, data["sandbox_id"]) == [data["provider_reason"]]
    assert client.info(data["sandbox_id"])["provider_reason"] == data["provider_reason"]
    assert pair.made() == {data["sandbox_id"]: ["daytona"]}
    # it lives there from now on
    client.pause(data["sandbox_id"])
    assert client.connect(data["sandbox_id"])["provider"] == "daytona"
    client.remove(data["sandbox_id"])
    assert pair.daytona.ids() == []


def test_a_short_rate_limit_is_waited_for(pair_stack, pair):
    client = pair_stack().client()
    pair.e2b.faults({"route": "create", "mode": "status", "status": 429, "headers": {"Retry-After": "1"}})
    start = time.monotonic()
    data = client.create()
    assert time.monotonic() - start > 0.9
    assert (data["provider"], data["provider_reason"]) == ("e2b", None)


def test_a_hold_set_by_another_is_known_before_anything_is_sent(pair_stack, pair):
    stack = pair_stack()
    client = stack.client()
    stack.redis.cli("SET", "sandbox:hold:e2b", "1", "PX", "60000")
    data = client.create()
    assert data["provider"] == "daytona" and "limits the rate for another" in data["provider_reason"]
    assert pair.e2b.state()["calls"]["create"] == 0


def test_a_pinned_create_goes_nowhere_else(pair_stack, pair):
    stack = pair_stack(env={"SANDBOX_JOB_ATTEMPTS": "2"})
    client = stack.client()
    pair.e2b.faults({"route": "create", "mode": "status", "status": 429, "times": -1})
    answer = client.post(f"{BASE}/create", {"user_id": "x", "provider": "e2b"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "provider_unavailable"), answer.text
    assert pair.made() == {} and pair.e2b.state()["calls"]["create"] == 2
    answer = client.post(f"{BASE}/create", {"user_id": "x", "provider": "elsewhere"})
    assert answer.status_code == 400 and "provider" in answer.json()["error"]["detail"]


def test_a_refusal_for_good_goes_nowhere_else(pair_stack, pair):
    client = pair_stack().client()
    pair.e2b.faults({"route": "create", "mode": "status", "status": 400, "times": -1})
    assert client.post(f"{BASE}/create", {"user_id": "x"}).status_code == 502
    assert pair.made() == {}


def test_an_open_circuit_is_gone_round(pair_stack, pair):
    stack = pair_stack(env={"WORKER_BREAKER_FAILURES": "2"})
    client = stack.client()
    pair.e2b.process.kill9()
    for _ in range(2):
        client.create()
    data = client.create()
    assert data["provider_reason"] == "at daytona, because e2b is failing: its circuit is open"
    # and closes again
    pair.e2b.process.start()
    wait_until("e2b is back", lambda: client.create()["provider"] == "e2b", 10, 0.2)


def test_templates_are_mapped(pair_stack, pair):
    stack = pair_stack(env={"SANDBOX_TEMPLATES": "python=e2b:py-e2b, daytona:python:3.12; only=daytona:one",
                            "DAYTONA_SNAPSHOT": "plain"})
    client = stack.client()
    assert client.info(client.create(sandbox_template_id="python")["sandbox_id"])["template"] == "py-e2b"
    only = client.create(sandbox_template_id="only")
    assert (only["provider"], client.info(only["sandbox_id"])["template"]) == ("daytona", "one")
    answer = client.post(f"{BASE}/create", {"user_id": "x", "sandbox_template_id": "only", "provider": "e2b"})
    assert answer.status_code == 400 and "sandbox_template_id" in answer.json()["error"]["detail"]
    pair.e2b.faults({"route": "create", "mode": "status", "status": 429, "times": -1})
    moved = client.create(sandbox_template_id="python")
    assert (moved["provider"], client.info(moved["sandbox_id"])["template"]) == ("daytona", "python:3.12")
    plain = client.create()
    assert (plain["provider"], client.info(plain["sandbox_id"])["template"]) == ("daytona", "plain")
    # a provider's own name for a template means nothing to another
    raw = client.post(f"{BASE}/create", {"user_id": "x", "sandbox_template_id": "rawname"}, Prefer="respond-async")
    assert raw.status_code == 202
    time.sleep(0.5)
    assert client.info(raw.json()["data"]["sandbox_id"])["provider"] == "e2b"
    shown = {box["snapshot"] for box in pair.daytona.state()["sandboxes"].values()}
    assert shown == {"python:3.12", "one", "plain"}


@pytest.mark.parametrize("mode,more", [("reset_after", {}), ("late", {"delay_ms": 700}), ("garbage", {})],
                         ids=["reset_after", "late", "garbage"])
def test_an_ambiguous_create_that_was_made_stays(pair_stack, pair, mode, more):
    client = pair_stack().client()
    pair.e2b.faults({"route": "create", "mode": mode} | more)
    data = client.create()
    assert (data["provider"], data["provider_reason"]) == ("e2b", None)
    assert pair.made() == {data["sandbox_id"]: ["e2b"]}


@pytest.mark.parametrize("mode,more", [("reset_before", {}), ("hang", {}), ("status", {"status": 500})],
                         ids=["reset_before", "hang", "500"])
def test_an_ambiguous_create_that_was_not_made_goes_on_when_that_is_proved(pair_stack, pair, mode, more):
    stack = pair_stack()
    client = stack.client()
    pair.e2b.faults({"route": "create", "mode": mode} | more)
    data = client.create()
    assert data["provider"] == "daytona" and "did not say what became of it" in data["provider_reason"]
    assert pair.made() == {data["sandbox_id"]: ["daytona"]}
    assert pair.e2b.state()["calls"]["list"] > 0


def test_a_provider_that_answers_nothing_is_left_unsettled_in_the_end(pair_stack, pair):
    stack = pair_stack()
    client = stack.client()
    pair.e2b.faults({"route": "create", "mode": "hang", "times": -1}, {"route": "*", "mode": "hang", "times": -1})
    start = time.monotonic()
    data = client.create()
    took = time.monotonic() - start
    assert data["provider"] == "daytona" and "does not answer" in data["provider_reason"]
    assert 3.0 <= took < 8.0, took
    assert pair.made() == {data["sandbox_id"]: ["daytona"]}


def test_no_provider_left_is_said_so(pair_stack, pair):
    stack = pair_stack(env={"SANDBOX_JOB_ATTEMPTS": "3"})
    client = stack.client()
    pair.e2b.process.kill9()
    pair.daytona.process.kill9()
    answer = client.post(f"{BASE}/create", {"user_id": "x"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "provider_unavailable"), answer.text
    assert stack.sql("select status, status_reason from sandboxes") == [("failed", "transient")]
