"""Idempotency-Key: the same request sent again is the same request."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE


def keyed(key: str, **more: str) -> dict[str, str]:
    return {"Idempotency-Key": key} | more


def create(client, key, body=None, **headers):
    return client.post(f"{BASE}/create", body or {"user_id": "k"}, **keyed(key, **headers))


def fresh() -> str:
    return f"key {uuid.uuid4()}"


@pytest.fixture(scope="module")
def keys(tmp_path_factory, redis, postgres):
    from tests.harness.stack import FaultProvider, Stack
    provider = FaultProvider(tmp_path_factory.mktemp("keys-provider"))
    with Stack(tmp_path_factory.mktemp("keys"), redis, postgres, provider, gateways=2,
               env={"REAPER_PRUNE_MS": "1000", "SANDBOX_JOB_ATTEMPTS": "1"}) as running:
        yield running
    provider.stop()


def test_the_answer_is_replayed_to_the_letter(keys):
    client, key = keys.client(), fresh()
    first = create(client, key)
    assert first.status_code == 200 and "idempotency-replayed" not in first.headers, first.text
    again = create(client, key)
    assert again.status_code == 200 and again.headers["idempotency-replayed"] == "true"
    assert again.content == first.content
    # white space is not another body; another gateway knows the key too
    other = keys.client(gateway=1)
    raw = other.http.post(f"{BASE}/create", content=b'{ "user_id" : "k" }',
                          headers=other.headers() | keyed(key) | {"Content-Type": "application/json"})
    assert raw.status_code == 200 and raw.content == first.content, raw.text
    # and it stays the first answer when the sandbox is long gone
    client.remove(first.json()["data"]["sandbox_id"])
    assert create(client, key).content == first.content


def test_another_body_is_422(keys):
    client, key = keys.client(), fresh()
    first = create(client, key).json()["data"]["sandbox_id"]
    for answer in (create(client, key, {"user_id": "other"}),
                   client.post(f"{BASE}/connect", {"sandbox_id": first}, **keyed(key)),
                   client.delete(f"{BASE}/{first}", **keyed(key))):
        assert answer.status_code == 422, answer.text
        assert answer.json()["error"]["type"] == "idempotency_mismatch"
        assert "idempotency-replayed" not in answer.headers
    assert client.status(first) == "running"


def test_a_hundred_at_once_make_one_sandbox(keys):
    clients, key = [keys.client(gateway=i) for i in (0, 1)], fresh()
    keys.provider.config(delay_ms=300)
    before = len(keys.provider.state()["sandboxes"])
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda i: create(clients[i % 2], key), range(100)))
    keys.provider.config(delay_ms=0)
    assert {a.status_code for a in answers} == {200}, {a.text for a in answers}
    assert len({a.json()["data"]["sandbox_id"] for a in answers}) == 1
    assert sum("idempotency-replayed" not in a.headers for a in answers) == 1
    assert len(keys.provider.state()["sandboxes"]) == before + 1
    assert keys.sql("select count(*) from jobs where op = 'create' and sandbox_id = "
                    f"'{answers[0].json()['data']['sandbox_id']}'")[0][0] == "1"


def test_owners_do_not_share_keys(keys):
    key = fresh()
    one, two = (create(keys.client(user), key) for user in ("alice", "bob"))
    assert one.status_code == two.status_code == 200
    assert one.json()["data"]["sandbox_id"] != two.json()["data"]["sandbox_id"]


def test_pending_is_joined_and_then_final(keys):
    client, key = keys.client(), fresh()
    keys.provider.config(delay_ms=1400)
    first = create(client, key, Prefer="respond-async")
    assert first.status_code == 202
    second = create(client, key, Prefer="respond-async")
    assert second.status_code == 202 and second.headers["idempotency-replayed"] == "true"
    last = create(client, key)
    keys.provider.config(delay_ms=0)
    assert last.status_code == 200 and last.headers["idempotency-replayed"] == "true"
    ids = {a.json()["data"]["sandbox_id"] for a in (first, second, last)}
    assert len(ids) == 1


def test_a_connect_that_was_pending_is_answered_by_its_job(keys):
    client, key = keys.client(), fresh()
    sandbox = client.create()["sandbox_id"]
    client.pause(sandbox)
    keys.provider.config(delay_ms=700)
    body = {"sandbox_id": sandbox}
    assert client.post(f"{BASE}/connect", body, Prefer="respond-async", **keyed(key)).status_code == 202
    keys.provider.config(delay_ms=0)
    keys.quiet()
    # it runs now, and still the job's end is what is kept under the key
    second = client.post(f"{BASE}/connect", body, **keyed(key))
    assert second.status_code == 200 and second.headers["idempotency-replayed"] == "true"
    client.remove(sandbox)
    assert client.post(f"{BASE}/connect", body, **keyed(key)).content == second.content


def test_every_lifecycle_call_takes_a_key(keys):
    client = keys.client()
    sandbox = client.create()["sandbox_id"]
    calls = {
        "timeout": lambda key: client.post(f"{BASE}/schedule-timeout", {"sandbox_id": sandbox, "timeout_seconds": 600},
                                           **keyed(key)),
        "pause": lambda key: client.post(f"{BASE}/{sandbox}/pause", None, **keyed(key)),
        "resume": lambda key: client.post(f"{BASE}/connect", {"sandbox_id": sandbox}, **keyed(key)),
        "running": lambda key: client.post(f"{BASE}/connect", {"sandbox_id": sandbox}, **keyed(key)),
        "delete": lambda key: client.delete(f"{BASE}/{sandbox}", **keyed(key)),
    }
    for name, call in calls.items():
        key = fresh()
        first = call(key)
        jobs = keys.sql("select count(*) from jobs")[0][0]
        again = call(key)
        assert first.status_code == again.status_code == 200, (name, first.text, again.text)
        assert again.content == first.content and again.headers["idempotency-replayed"] == "true", name
        assert keys.sql("select count(*) from jobs")[0][0] == jobs, name


def test_a_failure_of_the_provider_is_an_answer_too(keys):
    client, key = keys.client(), fresh()
    body = {"user_id": "k", "sandbox_template_id": "no-such-template"}
    keys.provider.faults({"route": "create", "mode": "status", "status": 400, "times": 1})
    first = create(client, key, body)
    assert first.status_code == 502, first.text
    again = create(client, key, body)
    assert again.status_code == 502 and again.headers["idempotency-replayed"] == "true"
    assert again.json()["error"] == first.json()["error"]


def test_what_was_not_accepted_frees_the_key(keys):
    client, key = keys.client(), fresh()
    assert create(client, key, {"user_id": 5}).status_code == 400
    assert client.post(f"{BASE}/connect", {"sandbox_id": str(uuid.uuid4())}, **keyed(key)).status_code == 404
    assert create(client, key).status_code == 200
    assert keys.sql(f"select count(*) from idempotency_keys where key = '{key}'")[0][0] == "1"


@pytest.mark.parametrize("key", ["", "x" * 256, "caf\u00e9"])
def test_bad_keys_are_named(keys, key):
    client = keys.client()
    answer = client.http.post(f"{BASE}/create", json={"user_id": "k"},
                              headers=[*client.headers().items(), ("Idempotency-Key", key.encode())])
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "header_invalid", answer.text
    assert "Idempotency-Key" in answer.json()["error"]["detail"]


def test_a_gateway_killed_before_it_accepted_blocks_nobody_for_long(keys):
    """A claim without a job, as a killed gateway leaves it: a young one is waited for, an old one taken over."""
    client, key = keys.client(), fresh()
    assert create(client, key).status_code == 200
    row = f"where key = '{key}'"
    keys.sql(f"update idempotency_keys set job_id = null, sandbox_id = null, status = null, body = null, "
             f"claim = gen_random_uuid(), claimed_at = now() - interval '29 seconds' {row}")
    answer = create(client, key)
    assert answer.status_code == 200 and "idempotency-replayed" not in answer.headers


def test_old_keys_are_new_again_and_removed(keys):
    client, key = keys.client(), fresh()
    first = create(client, key).json()["data"]["sandbox_id"]
    keys.sql(f"update idempotency_keys set created_at = now() - interval '25 hours' where key = '{key}'")
    second = create(client, key, {"user_id": "another body"})
    assert second.status_code == 200 and second.json()["data"]["sandbox_id"] != first
    keys.sql(f"update idempotency_keys set created_at = now() - interval '25 hours' where key = '{key}'")
    wait_until("the reaper to remove it",
               lambda: keys.sql(f"select count(*) from idempotency_keys where key = '{key}'")[0][0] == "0")


# ---- calls into a sandbox whose answer is slow or lost -------------------------------------------

def test_a_command_under_way_is_waited_for(keys):
    key, box = fresh(), keys.client().create()["sandbox_id"]
    gateways = [keys.client(gateway=n) for n in (0, 1, 0)]
    before = keys.provider.state()["calls"].get("exec", 0)
    keys.provider.config(delay_ms=500)
    with ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(lambda client: client.post(f"{BASE}/run-cmd", {"sandbox_id": box, "command": "x"}, **keyed(key)), gateways))
    keys.provider.config(delay_ms=0)
    assert {a.status_code for a in answers} == {200} and len({a.content for a in answers}) == 1, [a.text for a in answers]
    assert sorted("idempotency-replayed" in a.headers for a in answers) == [False, True, True]
    assert keys.provider.state()["calls"]["exec"] == before + 1


def test_a_command_that_may_have_run_is_not_run_again(keys):
    client, key = keys.client(), fresh()
    body = {"sandbox_id": client.create()["sandbox_id"], "command": "x"}
    keys.provider.faults({"route": "exec", "mode": "reset_after", "times": 1})
    first = client.post(f"{BASE}/run-cmd", body, **keyed(key))
    before = keys.provider.state()["calls"]["exec"]
    again = client.post(f"{BASE}/run-cmd", body, **keyed(key))
    assert first.status_code == 502 and "may have run" in first.json()["error"]["detail"], first.text
    assert again.content == first.content and again.headers["idempotency-replayed"] == "true"
    assert keys.provider.state()["calls"]["exec"] == before


# ---- answers that say "try again" ---------------------------------------------------------------

def test_an_answer_that_says_try_again_is_not_kept(keys):
    """A create that gets 503 because the provider is away runs again, as the same request, when it is back."""
    client, key = keys.client(), fresh()
    full = {"code": 503, "message": "no", "error_code": "sandbox_capacity_unavailable"}
    keys.provider.faults({"route": "create", "mode": "status", "status": 503, "body": full, "times": -1})
    first = create(client, key, {"user_id": key})
    assert first.status_code == 503 and "retry-after" in first.headers, first.text
    assert create(client, key, {"user_id": "another body"}).status_code == 422
    keys.provider.faults()
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: create(client, key, {"user_id": key}), range(4)))
    assert {a.status_code for a in answers} == {200}, [a.text for a in answers]
    assert len({a.json()["data"]["sandbox_id"] for a in answers}) == 1
    assert keys.sql(f"select count(*) from sandboxes where user_id = '{key}' and status = 'running'")[0][0] == "1"
    replayed = create(client, key, {"user_id": key})
    assert replayed.status_code == 200 and replayed.headers["idempotency-replayed"] == "true"
    # the job is gone with its sandbox, its answer was never taken: nobody waits for it
    key = fresh()
    sandbox = create(client, key, {"user_id": key}, Prefer="respond-async").json()["data"]["sandbox_id"]
    keys.quiet()
    for table in ("events", "jobs"):
        keys.sql(f"delete from {table} where sandbox_id = '{sandbox}'")
    gone = create(client, key, {"user_id": key})
    assert gone.status_code == 404 and gone.json()["error"]["type"] == "sandbox_not_found", gone.text
