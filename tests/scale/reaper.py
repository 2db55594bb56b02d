#!/usr/bin/python3
"""What the reaper costs, and how late it is, as the table grows; and that what has ended is pruned.

    tests/scale/reaper.py [--rows 1000,100000,1000000] [--ended 50000]      (make scale-reaper)

A real PostgreSQL, a real Redis and the real reaper at its default settings. Rows are written by SQL.
For each table size it prints

    tick       all looks of the reaper in a second, in milliseconds of PostgreSQL (pg_stat_statements)
    lateness   of 10,000 deadlines due in the same second: 99 % are on the stream so long after it

and compares both with their goals: a tick at the largest size within twice that at the smallest, a lateness
of 1 s at most. Before, `--ended` ended sandboxes are pruned with RETENTION_DAYS=0.001, in waves: nothing may stay,
the usage figures must, the tables may not grow from wave to wave, and no statement, which is as long as any lock of it,
nor any wait for a lock may last 100 ms. PostgreSQL looks every 5 s whether a table is to be vacuumed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psycopg2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.harness.services import Postgres, Process, Redis, build_dir, wait_until  # noqa: E402

DUE, CHUNK, WAVES = 10_000, 50_000, 5
LOCK_MS, LATE_S = 100, 1.0
PAUSE_STREAM = "sandbox:jobs:pause"


class Scene:
    def __init__(self, folder: Path):
        folder.chmod(0o755)
        self.folder = folder
        self.redis = Redis(folder / "redis")
        self.postgres = Postgres(folder / "pg", shared_preload_libraries="pg_stat_statements", shared_buffers="512MB",
                                 max_wal_size="4GB", autovacuum_naptime="5s")
        self.env = dict(os.environ) | self.redis.env | {"DATABASE_URL": self.postgres.create_database("scale"),
                                                        "RETENTION_DAYS": "0"}
        self.sql("create extension pg_stat_statements")
        migrate = Process("migrate", [str(build_dir() / "sandbox-gateway"), "migrate"],
                          self.env | {"JWT_SECRET_KEY": "x" * 64, "E2B_API_KEY": "e2b_00"}, folder / "migrate.log")
        if migrate.proc.wait(60) != 0:
            sys.exit((folder / "migrate.log").read_text())

    def stop(self) -> None:
        self.redis.stop()
        self.postgres.stop()

    def sql(self, text: str):
        return self.postgres.sql(text, "scale")

    def number(self, text: str) -> float:
        return float(self.sql(text)[0][0] or 0)

    def reaper(self, **env: str) -> Process:
        self.sql("select pg_stat_statements_reset()")
        return Process("reaper", [str(build_dir() / "sandbox-reaper")], self.env | env, self.folder / "reaper.log")

    def lives(self, count: int, vacuum: bool = True) -> None:
        """So many sandboxes that have ended, with their jobs and events."""
        self.rows(count, "deleted", vacuum)

    def rows(self, count: int, status: str, vacuum: bool = True) -> None:
        """Brings the table to this many sandboxes of this status, as their lives would have left them."""
        ended = status == "deleted"
        for first in range(int(self.number("select count(*) from sandboxes")) + 1, count + 1, CHUNK):
            last = min(first + CHUNK - 1, count)
            self.sql(f"""
                with s as (insert into sandboxes (id, owner, user_id, provider, provider_sandbox_id, template_id, status, timeout_mode,
                    on_timeout, timeout_ms, created_at, started_at, deleted_at, expires_at, provider_expires_at)
                select gen_random_uuid(), 'owner ' || n % 1000, 'x', 'e2b', 'i' || n, 'base', '{status}', 'absolute', 'pause', 3000000,
                    now() - interval '1 hour', now(), {"now() - interval '10 minutes'" if ended else "null"},
                    now() + interval '40 minutes' + n % 1000 * interval '1 second',
                    now() + interval '50 minutes' + n % 500 * interval '1 second' from generate_series({first}, {last}) n returning id),
                j as (insert into jobs (id, sandbox_id, seq, op, state, origin, max_attempts, finished_at)
                    select gen_random_uuid(), id, seq, op, 'done', 'client', 8, now() - interval '10 minutes'
                      from s, (values (1, 'create'), (2, 'delete')) v(seq, op) where {ended})
                insert into events (sandbox_id, from_status, to_status, reason, actor, at)
                    select id, was, next, 'scale', 'test', now() - ago * interval '1 minute'
                      from s, (values ('creating', 'running', 20), ('running', 'deleted', 10)) v(was, next, ago) where {ended}""")
        for table in ("sandboxes", "jobs", "events") if vacuum else ():
            self.sql(f"vacuum analyze {table}")


def tick_ms(scene: Scene) -> float:
    """What a second of the reaper costs PostgreSQL."""
    seconds = 60  # each look at least once
    reaper = scene.reaper()
    try:
        time.sleep(2)  # the first of each look reads the pages
        scene.sql("select pg_stat_statements_reset()")
        time.sleep(seconds)
        for query, ms, calls in scene.sql(
                f"select regexp_replace(left(query, 60), '\\s+', ' ', 'g'), round((total_exec_time / {seconds})::numeric, 3), calls "
                "from pg_stat_statements where query not like '%pg_stat_statements%' order by total_exec_time desc limit 5"):
            print(f"{ms:>20} ms a second, {calls:>5} calls: {query}", flush=True)
        return scene.number("select sum(total_exec_time) from pg_stat_statements "
                            "where query not like '%pg_stat_statements%'") / seconds
    finally:
        reaper.kill9()


def lateness_s(scene: Scene) -> float:
    """From the second of 10,000 deadlines to the moment 99 % of their jobs are on the stream."""
    scene.redis.cli("FLUSHALL")
    reaper = scene.reaper()
    try:
        time.sleep(2)
        due = scene.number(f"""with due as (select date_trunc('second', now()) + interval '8 seconds' as at),
            u as (update sandboxes set expires_at = due.at from due where id in (select id from sandboxes order by id limit {DUE}))
            select extract(epoch from at) from due""")

        def added() -> int:
            fields = scene.redis.cli("XINFO", "STREAM", PAUSE_STREAM).split("\n")
            return int(fields[fields.index("entries-added") + 1]) if "entries-added" in fields else 0

        while added() < 0.99 * DUE:
            if time.time() > due + 60:
                sys.exit("scale-reaper: the deadlines were not acted on")
            time.sleep(0.01)
        return time.time() - due
    finally:
        reaper.kill9()
        scene.sql("delete from jobs; update sandboxes set expires_at = now() + interval '1 hour', deadline_job_at = null "
                  "where deadline_job_at is not null")


def grow(scene: Scene, sizes: list[int]) -> bool:
    ticks, good = [], True
    for size in sizes:
        scene.rows(size, "running")
        ticks.append(tick_ms(scene))
        late = lateness_s(scene) if size >= DUE else 0.0
        good = good and late <= LATE_S
        print(f"{size:>9} rows: {ticks[-1]:7.2f} ms a second ({ticks[-1] / ticks[0]:.2f}x)"
              + (f", {DUE} deadlines at once: 99 % after {late:.2f} s" if late else ""), flush=True)
    return good and ticks[-1] <= 2 * ticks[0]


class LockWaits:
    """The longest time for which anything in the database waited for a lock, ms."""

    def __init__(self, scene: Scene):
        self.longest, self.stop = 0.0, threading.Event()
        self.connection = psycopg2.connect(scene.postgres.url("scale"))
        self.connection.autocommit = True
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self) -> None:
        with self.connection.cursor() as cursor:
            while not self.stop.wait(0.01):
                cursor.execute("select coalesce(max(extract(epoch from clock_timestamp() - waitstart)) * 1000, 0) from pg_locks "
                               "where not granted")
                self.longest = max(self.longest, float(cursor.fetchone()[0]))

    def ended(self) -> float:
        self.stop.set()
        self.thread.join()
        self.connection.close()
        return self.longest


def prune(scene: Scene, count: int) -> bool:
    """In waves, each written while the reaper is at work, so that the tables would grow if they could."""
    scene.sql("truncate sandboxes, jobs, events")
    size = "select sum(pg_total_relation_size(c)) / 1048576 from unnest(array['sandboxes', 'jobs', 'events']::regclass[]) c"
    waits, sizes, took = LockWaits(scene), [], 0.0
    reaper = scene.reaper(RETENTION_DAYS="0.001", REAPER_PRUNE_MS="1000")
    try:
        for wave in range(1, WAVES + 1):
            scene.lives(count // WAVES, vacuum=False)
            start = time.monotonic()
            wait_until("nothing left", lambda: scene.sql("select count(*) from sandboxes") == [("0",)], 300, 0.2)
            took += time.monotonic() - start
            sizes.append(int(scene.number(size)))
    finally:
        reaper.kill9()
    waited = waits.ended()
    left = scene.number("select (select count(*) from jobs) + (select count(*) from events)")
    longest = scene.number("select max(max_exec_time) from pg_stat_statements where query like '%prune_sandboxes%'")
    kept = scene.number("select sum(sandboxes) from usage") == count // WAVES * WAVES
    print(f"{count} ended sandboxes in {WAVES} waves pruned in {took:.0f} s, {left:.0f} rows of theirs left, tables "
          f"{', '.join(map(str, sizes))} MB after each, longest statement {longest:.0f} ms, longest wait for a lock {waited:.0f} ms, "
          f"usage figures {'kept' if kept else 'LOST'}", flush=True)
    return left == 0 and kept and longest < LOCK_MS and waited < LOCK_MS and sizes[-1] <= 2 * max(sizes[:2])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", default="1000,100000,1000000")
    parser.add_argument("--ended", type=int, default=50_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sandbox-scale-") as folder:
        scene = Scene(Path(folder))
        try:
            good = prune(scene, options.ended)
            scene.sql("truncate sandboxes, jobs, events, usage_of_pruned")
            good = grow(scene, [int(n) for n in options.rows.split(",")]) and good
        finally:
            scene.stop()
    print("ok" if good else "FAIL: beyond a goal")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
