"""A database that comes and goes: what was accepted is done in the end, and nobody is blamed for it."""

import threading

import pytest

from tests.harness.services import Postgres, wait_until
from tests.harness.stack import BASE, Stack

ASYNC = {"Prefer": "respond-async"}
# a lease shorter than one absence, and a call longer than the time between two
SHORT = {"WORKER_ATTEMPT_MS": "1500", "WORKER_LEASE_MS": "1800", "WORKER_MIN_IDLE_MS": "2000", "WORKER_HEARTBEAT_MS": "300",
         "E2B_REQUEST_TIMEOUT_MS": "1400", "REAPER_OUTBOX_MS": "100", "REAPER_OUTBOX_BASE_MS": "400"}
AWAY_S = 2.5


@pytest.mark.release_only
def test_a_database_that_is_away_three_times_makes_no_job_dead(tmp_path, redis, fault_provider):
    """Each absence outlasts the leases of nine jobs, three of them deletes, that two workers are at."""
    postgres = Postgres(tmp_path / "own-pg", fsync="off")
    try:
        with Stack(tmp_path / "s", redis, postgres, fault_provider, workers=2, env=SHORT) as stack:
            client = stack.client()
            boxes = [client.create()["sandbox_id"] for _ in range(9)]
            for box in boxes[:3]:
                client.pause(box)
            fault_provider.config(delay_ms=1000)
            answers = [client.post(f"{BASE}/connect", {"sandbox_id": box}, **ASYNC) for box in boxes[:3]]
            answers += [client.post(f"{BASE}/{box}/pause", None, **ASYNC) for box in boxes[3:6]]
            answers += [client.http.delete(f"{BASE}/{box}", headers=client.headers(**ASYNC)) for box in boxes[6:]]
            assert [answer.status_code for answer in answers] == [202] * 9
            for _ in range(3):
                wait_until("nine jobs run", lambda: stack.sql(
                    "select count(*) from jobs where state = 'running' and lease_until > now() + interval '1.2 s'") == [("9",)], 20, 0)
                postgres.kill9()
                threading.Event().wait(AWAY_S)
                postgres.restart()
            fault_provider.config(delay_ms=0)
            # without the looks of workers whose leases ran out
            assert stack.at_rest("select op, state, crashes, count(*) from jobs where origin = 'client' and op <> 'create' "
                                 "group by 1, 2, 3 order by 1") == [
                ("delete", "done", "0", "3"), ("pause", "done", "0", "6"), ("resume", "done", "0", "3")]
            stack.agrees()
    finally:
        postgres.stop()


@pytest.mark.release_only
def test_a_delete_that_kills_workers_is_never_given_up(fault_stack, fault_provider):
    """Paused for a while instead, so that it does not take every worker with it."""
    stack = fault_stack(env=SHORT | {"WORKER_MAX_CRASHES": "1"})
    client, worker = stack.client(), stack.workers[0]
    box = client.create()["sandbox_id"]
    fault_provider.faults({"route": "delete", "mode": "hang", "times": -1})
    assert client.http.delete(f"{BASE}/{box}", headers=client.headers(**ASYNC)).status_code == 202
    wait_until("it runs", lambda: stack.sql("select state from jobs where op = 'delete'") == [("running",)], 10)
    worker.kill9()
    heir = stack.start_worker()
    wait_until("it is put off", lambda: [e for e in heir.events() if e["event"] == "job.delete_kills_workers"], 20)
    fault_provider.faults()
    stack.quiet()
    assert stack.sql("select state from jobs where op = 'delete'") == [("done",)]
    assert fault_provider.state()["sandboxes"] == {}
