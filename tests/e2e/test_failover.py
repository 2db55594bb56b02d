"""Two providers: which one a create goes to, when it goes on to the other, and that it is made once
whatever happens. E2B is the fault provider, Daytona its double; both keep a ground-truth log."""

import json
import re
import threading
import time
from email.utils import formatdate

import httpx
import pytest

from tests.harness.providers import FAILOVER_FAST as FAST, Pair
from tests.harness.services import wait_until
from tests.harness.stack import BASE, Client, Stack


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    both = Pair(tmp_path_factory.mktemp("pair"))
    yield both
    both.stop()


@pytest.fixture(scope="module")
def shared(tmp_path_factory, redis, postgres, pair):
    """One system for the tests that need nothing special; its circuits do not open."""
    env = FAST | {"WORKER_BREAKER_FAILURES": "1000", "WORKER_AUTH_HOLD_MS": "3000"}
    with Stack(tmp_path_factory.mktemp("shared"), redis, postgres, pair, env=env) as running:
        yield running


@pytest.fixture
def stack(shared, pair):
    """The shared system, with nothing left of the test before."""
    pair.reset()
    shared.redis.cli("DEL", f"{shared.keys}hold:e2b", f"{shared.keys}hold:daytona")
    yield shared
    pair.reset()


@pytest.fixture
def own_pair(tmp_path):
    both = Pair(tmp_path)
    yield both
    both.stop()


@pytest.fixture
def own_stack(tmp_path, redis, postgres, own_pair):
    """A system of its own, over own_pair. Making one empties Redis, so these tests come last."""
    made = []

    def make(**options) -> Stack:
        options["env"] = FAST | {"REDIS_DATABASE": "1"} | options.get("env", {})
        made.append(Stack(tmp_path / f"stack{len(made)}", redis, postgres, own_pair, **options))
        return made[-1]

    yield make
    for running in made:
        running.__exit__(None, None, None)


def moves(client, sandbox_id: str) -> list[str]:
    items = client.ok(client.get(f"{BASE}/{sandbox_id}/events"))["items"]
    return [e["reason"] for e in items if e["from"] == e["to"] == "creating"]


def metrics(stack: Stack) -> dict[str, float]:
    """series -> value; fails on what is no Prometheus text"""
    found: dict[str, float] = {}
    typed: set[str] = set()
    for line in httpx.get(stack.url + "/metrics", trust_env=False).text.splitlines():
        if line.startswith("# TYPE "):
            name = line.split()[2]
            assert name not in typed, f"{name} has two heads"
            typed.add(name)
        elif not line.startswith("#"):
            match = re.fullmatch(r'([a-z_]+)(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? (-?\d+)', line)
            assert match, line
            assert re.sub("_(bucket|sum|count)$", "", match[1]) in typed or match[1] in typed, line
            series = re.sub(r'worker="[^"]*",?', "", match[1] + (match[2] or "")).replace("{}", "")
            assert series not in found or len(stack.workers) > 1, f"{line} is there twice"
            found[series] = found.get(series, 0) + float(match[4])
    return found


def providers_in_readyz(stack: Stack) -> dict[str, str]:
    answer = httpx.get(stack.url + "/readyz", trust_env=False)
    assert answer.status_code == 200, "a provider's trouble is no reason to take no requests"
    return answer.json()["data"]["providers"]


def test_metrics_of_each_provider(stack, pair):
    client = stack.client()
    client.create(provider="daytona")
    pair.e2b.faults({"route": "create", "mode": "reset_after"}, {"route": "connect", "mode": "status", "status": 500})
    client.create()
    pair.e2b.faults({"route": "create", "mode": "status", "status": 429})
    client.create()

    def told():
        seen = metrics(stack)
        ok = 'sandbox_provider_calls_total{provider="%s",op="create",outcome="%s"}'
        return seen if seen.get(ok % ("daytona", "ok"), 0) >= 2 and seen.get(ok % ("e2b", "ok"), 0) >= 1 else None

    seen = wait_until("the heartbeat", told)
    of = lambda name, provider, more="": seen[f'sandbox_provider_{name}{{provider="{provider}"{more}}}']  # noqa: E731
    assert of("calls_total", "e2b", ',op="create",outcome="capacity"') >= 1
    assert of("calls_total", "e2b", ',op="create",outcome="ambiguous"') >= 1
    assert of("adopted_total", "e2b") >= 1 and of("creates_moved_total", "e2b") >= 1
    assert of("orphans_killed_total", "e2b") == 0 and of("holds_total", "daytona") == 0
    assert of("breaker_state", "e2b") == 0 and of("limit", "e2b") >= 1 and of("in_flight", "daytona") >= 0
    count = of("request_duration_ms_count", "e2b", ',op="create"')
    buckets = [value for series, value in seen.items()
               if series.startswith('sandbox_provider_request_duration_ms_bucket{provider="e2b",op="create"')]
    assert buckets == sorted(buckets) and len(buckets) == 15 and buckets[-1] == count >= 3
    assert providers_in_readyz(stack) == {"e2b": "ok", "daytona": "ok"}


def test_the_first_choice_has_no_reason(stack):
    client = stack.client()
    data = client.create()
    assert (data["provider"], data["provider_reason"]) == ("e2b", None)
    assert client.create(provider="daytona")["provider"] == "daytona"
    assert moves(client, data["sandbox_id"]) == []


@pytest.mark.parametrize("fault,why", [
    (None, "is out of reach"),
    ({"status": 429}, "has no capacity for it"),
    ({"status": 503, "body": {"code": 503, "message": "no", "error_code": "sandbox_capacity_unavailable"}},
     "has no capacity for it"),
    ({"status": 429, "headers": {"Retry-After": "60"}}, "limits the rate for too long"),
    ({"status": 429, "headers": {"Retry-After-Ms": "60000"}}, "limits the rate for too long"),
    ({"status": 401}, "refuses our key"),
], ids=["down", "quota", "capacity", "limited", "limited-ms", "key"])
def test_goes_on_at_once_when_the_first_certainly_made_none(stack, pair, fault, why, slow):
    client = stack.client()
    if fault is None:
        pair.e2b.process.kill9()
    else:
        pair.e2b.faults({"route": "create", "mode": "status", "times": -1} | fault)
    start = time.monotonic()
    data = client.create()
    assert time.monotonic() - start < 1.5 * slow
    assert data["provider"] == "daytona" and data["status"] == "running"
    assert data["provider_reason"] == f"at daytona, because e2b {why}"
    assert moves(client, data["sandbox_id"]) == [data["provider_reason"]]
    assert client.info(data["sandbox_id"])["provider_reason"] == data["provider_reason"]
    assert pair.made()[data["sandbox_id"]] == ["daytona"]
    # it lives there from now on
    client.pause(data["sandbox_id"])
    assert client.connect(data["sandbox_id"])["provider"] == "daytona"
    client.remove(data["sandbox_id"])
    assert data["provider_sandbox_id"] not in pair.daytona.ids()


@pytest.mark.parametrize("headers", [
    {"Retry-After": "1"}, {"Retry-After-Ms": "1000"}, {"Retry-After-Sandbox-Create": "1"}, {"retry-after": "DATE"}],
    ids=["seconds", "ms", "throttler", "date"])
def test_a_short_rate_limit_is_waited_for_in_every_spelling(stack, pair, headers):
    client = stack.client()
    if headers == {"retry-after": "DATE"}:
        until = int(time.time() + 1.4)  # whole seconds, and within the patience
        headers = {"retry-after": formatdate(until, usegmt=True)}
    else:
        until = time.time() + 0.95
    pair.e2b.faults({"route": "create", "mode": "status", "status": 429, "headers": headers})
    data = client.create()
    assert time.time() > until
    assert (data["provider"], data["provider_reason"]) == ("e2b", None)
    assert stack.sql(f"select attempt from jobs where sandbox_id='{data['sandbox_id']}'") == [("1",)]


def test_a_hold_set_by_another_is_known_before_anything_is_sent(stack, pair):
    client = stack.client()
    before = pair.e2b.state()["calls"]["create"]
    stack.redis.cli("SET", f"{stack.keys}hold:e2b", "rate_limited", "PX", "60000")
    data = client.create()
    assert data["provider"] == "daytona" and "limits the rate for another" in data["provider_reason"]
    assert pair.e2b.state()["calls"]["create"] == before


def test_a_refusal_for_good_goes_nowhere_else(stack, pair):
    client = stack.client()
    before = pair.made()
    pair.e2b.faults({"route": "create", "mode": "status", "status": 400, "times": -1})
    assert client.post(f"{BASE}/create", {"user_id": "x"}).status_code == 502
    assert pair.made() == before


def test_an_unknown_provider_is_refused(stack):
    answer = stack.client().post(f"{BASE}/create", {"user_id": "x", "provider": "elsewhere"})
    assert answer.status_code == 400 and "provider" in answer.json()["error"]["detail"]


def test_a_create_goes_only_where_its_network_is_kept(stack, pair):
    client = stack.client()
    rules = {"deny_out": ["10.0.0.0/8"]}
    before = pair.made()
    answer = client.post(f"{BASE}/create", {"user_id": "x", "provider": "daytona", "network": rules})
    assert answer.status_code == 422 and answer.json()["error"]["type"] == "unsupported_by_provider", answer.text
    assert "daytona" in answer.json()["error"]["detail"]
    assert pair.made() == before
    for network, places in (rules, ["e2b"]), ({"allow_internet": False}, ["e2b", "daytona"]):
        made = client.create(network=network)
        params = stack.sql(f"select params from jobs where op = 'create' and sandbox_id = '{made['sandbox_id']}'")[0][0]
        assert [p["provider"] for p in json.loads(params)["places"]] == places, params


@pytest.mark.parametrize("mode,more", [("reset_after", {}), ("late", {"delay_ms": 700}), ("garbage", {})],
                         ids=["reset_after", "late", "garbage"])
def test_an_ambiguous_create_that_was_made_stays(stack, pair, mode, more):
    pair.e2b.faults({"route": "create", "mode": mode} | more)
    data = stack.client().create()
    assert (data["provider"], data["provider_reason"]) == ("e2b", None)
    assert pair.made()[data["sandbox_id"]] == ["e2b"]


@pytest.mark.parametrize("mode,more", [("reset_before", {}), ("hang", {}), ("status", {"status": 500})],
                         ids=["reset_before", "hang", "500"])
def test_an_ambiguous_create_that_was_not_made_goes_on_when_that_is_proved(stack, pair, mode, more):
    looked = pair.e2b.state()["calls"]["list"]
    pair.e2b.faults({"route": "create", "mode": mode} | more)
    data = stack.client().create()
    assert data["provider"] == "daytona" and "did not say what became of it" in data["provider_reason"]
    assert pair.made()[data["sandbox_id"]] == ["daytona"]
    assert pair.e2b.state()["calls"]["list"] > looked


def test_a_provider_that_answers_nothing_is_left_unsettled_in_the_end(stack, pair, slow):
    pair.e2b.faults({"route": "*", "mode": "hang", "times": -1})
    start = time.monotonic()
    data = stack.client().create()
    took = time.monotonic() - start
    assert data["provider"] == "daytona" and "does not answer" in data["provider_reason"]
    assert 3.0 <= took < 8.0 * slow, took
    assert pair.made()[data["sandbox_id"]] == ["daytona"]


def test_a_refused_key_stops_that_queue_and_costs_no_attempt(stack, pair):
    client = stack.client()
    pair.e2b.faults({"route": "*", "mode": "status", "status": 401, "times": -1})
    before = pair.e2b.state()["calls"]["create"]
    pinned = [client.post(f"{BASE}/create", {"user_id": "x", "provider": "e2b"}, Prefer="respond-async").json()["data"]
              for _ in range(20)]
    wait_until("the key is seen to be refused", lambda: "provider.key_refused" in stack.workers[0].log())
    # those that were on their way, then one at the end of each hold
    time.sleep(0.7)
    asked = pair.e2b.state()["calls"]["create"] - before
    assert asked <= 20
    time.sleep(0.7)
    assert pair.e2b.state()["calls"]["create"] - before == asked
    line = next(e for e in stack.workers[0].events() if e["event"] == "provider.key_refused")
    assert line["level"] == "error" and line["provider"] == "e2b" and "key" in line["remedy"]
    assert client.create()["provider"] == "daytona"
    told = wait_until("readyz", lambda: (t := providers_in_readyz(stack))["e2b"] != "ok" and t)
    assert "refuses our API key" in told["e2b"] and told["daytona"] == "ok"
    assert metrics(stack)['sandbox_provider_key_refused{provider="e2b"}'] == 1
    pair.e2b.faults()
    stack.redis.cli("DEL", f"{stack.keys}hold:e2b")  # as an operator may, who has mended it
    for box in pinned:
        wait_until("created", lambda b=box: client.status(b["sandbox_id"]) == "running", 20)
    ids = ",".join(f"'{b['sandbox_id']}'" for b in pinned)
    wait_until("readyz", lambda: providers_in_readyz(stack)["e2b"] == "ok")
    assert stack.sql(f"select distinct attempt, state from jobs where op='create' and sandbox_id in ({ids})") == [("1", "done")]


# ---- each with a system of its own --------------------------------------------------------------


def test_a_pinned_create_goes_nowhere_else(own_stack, own_pair):
    client = own_stack(env={"SANDBOX_JOB_ATTEMPTS": "2"}).client()
    own_pair.e2b.faults({"route": "create", "mode": "status", "status": 429, "times": -1})
    answer = client.post(f"{BASE}/create", {"user_id": "x", "provider": "e2b"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "provider_unavailable"), answer.text
    assert own_pair.made() == {} and own_pair.e2b.state()["calls"]["create"] == 2


def test_an_open_circuit_is_gone_round(own_stack, own_pair):
    client = own_stack(env={"WORKER_BREAKER_FAILURES": "2"}).client()
    own_pair.e2b.process.kill9()
    for _ in range(2):
        client.create()
    data = client.create()
    assert data["provider_reason"] == "at daytona, because e2b is failing: its circuit is open"
    # and closes again
    own_pair.e2b.process.start()
    wait_until("e2b is back", lambda: client.create()["provider"] == "e2b", 10, 0.2)


def test_templates_are_mapped(own_stack, own_pair):
    client = own_stack(env={"SANDBOX_TEMPLATES": "python=e2b:py-e2b, daytona:python:3.12; only=daytona:one",
                            "DAYTONA_SNAPSHOT": "plain"}).client()
    template = lambda data: client.info(data["sandbox_id"])["template"]  # noqa: E731
    assert template(client.create(sandbox_template_id="python")) == "py-e2b"
    only = client.create(sandbox_template_id="only")
    assert (only["provider"], template(only)) == ("daytona", "one")
    answer = client.post(f"{BASE}/create", {"user_id": "x", "sandbox_template_id": "only", "provider": "e2b"})
    assert answer.status_code == 400 and "sandbox_template_id" in answer.json()["error"]["detail"]
    own_pair.e2b.faults({"route": "create", "mode": "status", "status": 429, "times": -1})
    moved = client.create(sandbox_template_id="python")
    assert (moved["provider"], template(moved)) == ("daytona", "python:3.12")
    plain = client.create()
    assert (plain["provider"], template(plain)) == ("daytona", "plain")
    # a provider's own name for a template means nothing to another
    raw = client.post(f"{BASE}/create", {"user_id": "x", "sandbox_template_id": "rawname"}, Prefer="respond-async")
    raw = raw.json()["data"]["sandbox_id"]
    asked = own_pair.e2b.state()["calls"]["create"]
    wait_until("tried again", lambda: own_pair.e2b.state()["calls"]["create"] > asked)
    assert client.info(raw)["provider"] == "e2b"
    shown = {box["snapshot"] for box in own_pair.daytona.state()["sandboxes"].values()}
    assert shown == {"python:3.12", "one", "plain"}


def test_what_an_unsettled_create_left_is_removed(own_stack, own_pair):
    """The first made one, and answered nothing for so long that the create went on: two for a while, one in the end.
    It does not go back, full as the second is; and the copy is killed when it is first seen, not after minutes."""
    stack = own_stack(env={"REAPER_RECONCILE_MS": "300"})
    client = stack.client()
    own_pair.e2b.faults({"route": "create", "mode": "hang_after", "times": 1}, {"route": "*", "mode": "hang", "times": -1})
    own_pair.daytona.faults({"route": "create", "mode": "status", "status": 400, "times": 2,
                             "body": {"statusCode": 400, "message": "Total CPU limit exceeded"}})
    data = client.create()
    sid = data["sandbox_id"]
    assert data["provider"] == "daytona" and "does not answer" in data["provider_reason"]
    assert moves(client, sid) == [data["provider_reason"]]
    assert own_pair.made()[sid] == ["e2b", "daytona"]
    copy = next(iter(own_pair.e2b.state()["sandboxes"]))
    own_pair.e2b.faults()
    wait_until("the copy is gone", lambda: not own_pair.e2b.state()["sandboxes"], 20)
    wait_until("and that is told", lambda: any(
        e["reason"].startswith(f"orphan {copy} at e2b killed") for e in client.ok(client.get(f"{BASE}/{sid}/events"))["items"]))
    assert own_pair.daytona.ids() == [data["provider_sandbox_id"]]
    assert client.status(sid) == "running"


def test_a_provider_that_answers_some_questions_is_waited_for(own_stack, own_pair):
    """Its create appears late, and of two looks for it one is answered and one is not."""
    stack = own_stack(env={"SANDBOX_FAILOVER_UNSETTLED_MS": "1000", "SANDBOX_SETTLE_MS": "20000", "REAPER_RECONCILE_MS": "600000"})
    wait_until("the first sweep is over", lambda: stack.sql("select count(*) from provider_sweeps where state = 'done'") == [("2",)])
    own_pair.e2b.faults({"route": "create", "mode": "late", "delay_ms": 2600}, {"route": "list", "mode": "delay", "delay_ms": 1},
                        {"route": "list", "mode": "status", "status": 500})
    data = stack.client().create()
    assert (data["provider"], data["provider_reason"]) == ("e2b", None)
    assert own_pair.made() == {data["sandbox_id"]: ["e2b"]}


def test_a_provider_that_makes_nothing_but_says_so_is_waited_for(own_stack, own_pair):
    """It answers no create in time, and each time that there is no such sandbox: it is asked until none can appear."""
    own_pair.order = "daytona,e2b"
    stack = own_stack(env={"SANDBOX_SETTLE_MS": "2000", "WORKER_RETRY_BASE_MS": "300"})
    own_pair.daytona.faults({"route": "create", "mode": "hang", "times": -1})
    data = stack.client().create()
    assert data["provider"] == "e2b" and data["provider_reason"].endswith("did not say what became of it, and made none")
    assert own_pair.made() == {data["sandbox_id"]: ["e2b"]}


def test_a_silent_provider_does_not_take_all_of_the_gateway(own_stack, own_pair):
    """Of 20 places to wait in it gets 15; what is beyond them is answered, and the other provider finds room."""
    stack = own_stack(env={"GATEWAY_THREADS": "40", "GATEWAY_WORK_PERCENT": "50", "GATEWAY_USER_SHARE_PERCENT": "100",
                           "E2B_REQUEST_TIMEOUT_MS": "30000"})
    client = stack.client()
    box = client.create(provider="e2b")["sandbox_id"]

    def fill(route: str, path: str, body: dict, refused: int) -> list[threading.Thread]:
        """Calls that wait in all of its places; the next are answered at once, and not the other provider's."""
        before = own_pair.e2b.state()["calls"][route]
        own_pair.e2b.faults({"route": route, "mode": "hang", "times": -1})
        waiting = [threading.Thread(target=lambda: Client(stack.url, client.token).post(BASE + path, body)) for _ in range(15)]
        for thread in waiting:
            thread.start()
        wait_until("all of them wait", lambda: own_pair.e2b.state()["calls"][route] == before + 15)
        assert [client.post(BASE + path, body).status_code for _ in range(7)] == [refused] * 7
        assert client.create(provider="daytona")["provider"] == "daytona"
        return waiting

    waiting = fill("exec", "/run-cmd", {"sandbox_id": box, "command": "true"}, 503)
    own_pair.e2b.process.kill9()
    for thread in waiting:
        thread.join(60)
    own_pair.e2b.process.start()
    wait_until("the provider", own_pair.e2b.state)
    waiting = fill("create", "/create", {"user_id": "x", "provider": "e2b"}, 202)
    own_pair.e2b.process.kill9()
    stack.sql("update jobs set state = 'superseded' where state in ('queued', 'running', 'retry_wait')")
    for thread in waiting:
        thread.join(60)


def test_a_database_that_refuses_is_no_fault_of_the_provider(own_stack, own_pair):
    """A create that is sent long after its claim is written down first. When that is refused, nothing is sent: it is
    tried again where it was, and the provider's circuit, which one failure would open, stays closed."""
    stack = own_stack(env={"WORKER_BREAKER_FAILURES": "1"})
    stack.sql("create sequence turns; create sequence refusals; create function refuse() returns trigger language plpgsql as "
              "$$ declare turn bigint := nextval('turns'); begin "
              "if turn = 1 then perform pg_sleep(1.1); "  # in the claim: longer than CREATE_SENT_SLACK_MS
              "elsif turn = 2 and current_query() like 'UPDATE sandboxes s SET create_sent_at%' then "
              "perform nextval('refusals'); raise exception 'no'; end if; return new; end $$; "
              "create trigger refuse before update of create_sent_at on sandboxes for each row execute function refuse()")
    client = stack.client()
    data = client.create()
    assert stack.sql("select is_called from refusals") == [("t",)]
    assert data["provider"] == "e2b" and moves(client, data["sandbox_id"]) == []
    assert own_pair.made() == {data["sandbox_id"]: ["e2b"]}
    assert stack.sql("select attempt from jobs") == [("1",)]
    assert all('"provider.breaker_open"' not in worker.log() for worker in stack.workers)


def test_no_provider_left_is_said_so(own_stack, own_pair):
    stack = own_stack(env={"SANDBOX_JOB_ATTEMPTS": "3"})
    own_pair.e2b.process.kill9()
    own_pair.daytona.process.kill9()
    answer = stack.client().post(f"{BASE}/create", {"user_id": "x"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (503, "provider_unavailable"), answer.text
    assert stack.sql("select status, status_reason from sandboxes") == [("failed", "transient")]
