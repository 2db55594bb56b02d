"""Ten thousand deadlines in the same second."""

import hashlib
import threading
import time
import uuid

import pytest

from tests.harness.services import wait_until

COUNT = 10_000


def added_to(stack) -> int:
    """Entries ever put on the pause stream, since it was last made."""
    fields = stack.redis.cli("XINFO", "STREAM", f"{stack.keys}jobs:pause").split("\n")
    return int(fields[fields.index("entries-added") + 1]) if "entries-added" in fields else 0


@pytest.mark.alone
@pytest.mark.release_only
def test_ten_thousand_deadlines_due_in_the_same_second(fault_stack, fault_provider):
    """Each is on its stream within a second of its time; Redis is wiped while they are worked on."""
    stack = fault_stack(workers=2, reapers=2, env={"WORKER_MAX_IN_FLIGHT": "64"})  # what the double can answer in time
    ours = stack.sql("select id::text from deployment")[0][0]
    tags = [{"sandbox_deployment": ours, "sandbox_id": str(uuid.UUID(hashlib.md5(f"{n}".encode()).hexdigest()))} for n in range(COUNT)]
    fault_provider.seed(*tags, ids=[f"i{n:020}" for n in range(COUNT)])
    stack.sql(f"""
        insert into sandboxes (id, owner, user_id, provider, provider_sandbox_id, template_id, status, timeout_mode, on_timeout,
                               timeout_ms, started_at, provider_expires_at, expires_at)
        select md5(n::text)::uuid, 'alice', 'x', 'e2b', 'i' || lpad(n::text, 20, '0'), 'base', 'running', 'absolute', 'pause',
               60000, now(), now() + interval '1 hour', now() + interval '1 hour' from generate_series(0, {COUNT - 1}) n;
        analyze sandboxes""")
    due = float(stack.sql(f"""
        with due as (select date_trunc('second', now()) + interval '4 seconds' as at),
        u as (update sandboxes s set expires_at = due.at + hashtext(s.id::text) % 500 * interval '1 millisecond' from due)
        select extract(epoch from at) + 0.5 from due""")[0][0])
    seen: list[tuple[float, int]] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append((time.time(), added_to(stack)))
            stop.wait(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        wait_until("all on the stream", lambda: seen and seen[-1][1] >= COUNT, 15)
    finally:
        stop.set()
        watcher.join()
    waiting = int(stack.sql("select count(*) from jobs where state <> 'done'")[0][0])
    stack.redis.cli("FLUSHALL")
    assert waiting > COUNT / 10, "the wipe came too late to be in the middle"
    assert stack.sql("select count(*), count(distinct sandbox_id), min(op) from jobs") == [(str(COUNT), str(COUNT), "pause")]
    early = stack.sql("select count(*) from jobs j join sandboxes s on s.id = j.sandbox_id where j.created_at < s.expires_at")
    assert early == [("0",)], "none before its time"
    # the stream's own count by the wall clock, against the last of the deadlines
    p99 = next(at for at, count in seen if count >= COUNT * 0.99) - due
    each = float(stack.sql("select percentile_disc(0.99) within group (order by extract(epoch from j.created_at - s.expires_at)) "
                           "from jobs j join sandboxes s on s.id = j.sandbox_id")[0][0])
    print(f"\n99 % on the stream {p99:.3f} s after the last deadline, decided {each:.3f} s after their own; "
          f"{waiting} unfinished at the wipe")
    assert p99 < 1.0 and each < 1.0

    wait_until("all acted on", lambda: stack.sql("select count(*) from sandboxes where status='paused'") == [(str(COUNT),)], 90, 0.25)
    stack.quiet(10)
    state = fault_provider.state()
    assert {s["state"] for s in state["sandboxes"].values()} == {"paused"} and len(state["sandboxes"]) == COUNT
    assert state["calls"]["pause"] == COUNT, "once each"
    assert stack.sql("select count(*) from jobs") == [(str(COUNT),)]
