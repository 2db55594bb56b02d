"""Guards of the programs that only rare interleavings need. Each has its mutant in tests/mutation."""

from __future__ import annotations

import json
import os
import signal
import threading
import uuid

from tests.harness.services import Process, build_dir, free_port, wait_until
from tests.harness.stack import BASE


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")] if path.exists() else []


def test_no_job_is_marked_enqueued_while_redis_is_away(postgres, tmp_path):
    """A reaper that cannot reach Redis looks for lost wake-ups again and again, and marks none as sent."""
    name = "guards_" + uuid.uuid4().hex[:12]
    env = dict(os.environ) | {"DATABASE_URL": postgres.create_database(name), "JWT_SECRET_KEY": "x" * 64, "E2B_API_KEY": "e2b_00",
                              "REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(free_port()), "REAPER_OUTBOX_MS": "50",
                              "REAPER_STATS_MS": "100", "REAPER_TICK_MS": "20"}
    migrate = Process("migrate", [str(build_dir() / "sandbox-gateway"), "migrate"], env, tmp_path / "migrate.log")
    assert migrate.proc.wait(30) == 0
    box = str(uuid.uuid4())
    postgres.sql(f"""insert into sandboxes (id, owner, user_id, provider, template_id, status, timeout_mode, on_timeout, timeout_ms)
                     values ('{box}', 'a', 'x', 'e2b', 'base', 'creating', 'idle', 'pause', 60000);
                     insert into jobs (id, sandbox_id, seq, op, state, origin, max_attempts, enqueued_at)
                     values (gen_random_uuid(), '{box}', 1, 'create', 'queued', 'client', 8, now() - interval '1 hour')""", name)
    reaper = Process("reaper", [str(build_dir() / "sandbox-reaper")], env, tmp_path / "reaper.log")
    try:
        wait_until("ten rounds of the reaper",
                   lambda: sum(line["event"] == "reaper.stats" for line in lines(tmp_path / "reaper.log")) >= 10)
        assert any(line["event"] == "queue.down" for line in lines(tmp_path / "reaper.log"))
        assert postgres.sql("select enqueue_count, enqueued_at < now() - interval '59 minutes' from jobs", name) == [("0", "t")]
    finally:
        reaper.kill9()
        postgres.sql(f'drop database "{name}" with (force)')


def test_no_request_begins_after_its_attempt_is_over(fault_stack, fault_provider):
    """A claim that PostgreSQL answers when the attempt is over: nothing goes out, and the next attempt does it."""
    stack = fault_stack(env={"WORKER_ATTEMPT_MS": "500"})
    client = stack.client()
    box = client.create()["sandbox_id"]
    worker = stack.workers[0]
    os.kill(worker.pid, signal.SIGSTOP)
    try:
        assert client.post(f"{BASE}/{box}/pause", None, Prefer="respond-async").status_code == 202
        holder = threading.Thread(target=stack.sql, args=(f"select 1 from sandboxes where id = '{box}' for update; select pg_sleep(1)",))
        holder.start()
        wait_until("the row is locked", lambda: stack.sql("select 1 from pg_stat_activity where query like '%pg_sleep(1)%' "
                                                          "and wait_event = 'PgSleep'"))
    finally:
        os.kill(worker.pid, signal.SIGCONT)
    holder.join()
    wait_until("paused", lambda: client.status(box) == "paused")
    retries = [line for line in lines(stack.folder / "worker-0.log") if line["event"] == "job.retry"]
    assert [line["error"] for line in retries] == ["the attempt ran out of time"], retries
    assert fault_provider.state()["calls"]["pause"] == 1
