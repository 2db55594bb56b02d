"""Takes the evidence of a run: by SQL, redis-cli, the provider's log, and every member's log."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from pathlib import Path

from tests.chaos.clients import Crowd
from tests.chaos.cluster import LEASE_S, SETTLE_S, Cluster
from tests.chaos.history import parse_time
from tests.chaos.invariants import Evidence
from tests.chaos.nemesis import Nemesis
from tests.harness.services import build_dir

SAMPLE_S = 0.25
TRIES, REST_S = 6, 5.0  # how often, and for how long what is under way may take to end
GRACE_S = 3.0  # a deadline is acted on within a second, and its pause done within an attempt

JOBS = """select id, sandbox_id, seq, op, state, origin, attempt, max_attempts, crashes, request_id, outcome, error,
    extract(epoch from created_at)::float8 as created, extract(epoch from finished_at)::float8 as finished from jobs"""
BOXES = """select id, status, status_reason, provider_sandbox_id, timeout_mode, on_timeout,
    extract(epoch from expires_at)::float8 as expires from sandboxes"""
JOB_AUDIT = """select n, extract(epoch from at)::float8 as at, job, sandbox, seq, op, origin, old, new, token, owner, attempt
    from chaos.jobs order by n"""
BOX_AUDIT = """select n, extract(epoch from at)::float8 as at, sandbox, old, new, version, provider_id,
    extract(epoch from expires)::float8 as expires from chaos.sandboxes order by n"""
EVENTS = """select sandbox_id, from_status, to_status, reason, actor, job_id, extract(epoch from at)::float8 as at from events
    order by id"""
KEYS = "select owner, key, job_id, sandbox_id, status from idempotency_keys"
MARK = "select (select max(n) from chaos.jobs) as jobs, (select max(n) from chaos.sandboxes) as boxes"
DOUBLES = """select sandbox_id::text as sandbox, count(*), extract(epoch from clock_timestamp())::float8 as at from jobs
    where state = 'running' and sandbox_id is not null group by sandbox_id having count(*) > 1"""


class Sampler:
    """Looks all the time for what must never be, not even for a moment."""

    def __init__(self, cluster: Cluster):
        self.cluster, self.doubles, self.samples = cluster, [], 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self.run, name="sampler", daemon=True)
        self.thread.start()

    def run(self) -> None:
        while not self.stop.wait(SAMPLE_S):
            try:
                self.doubles += self.cluster.rows(DOUBLES)
                self.samples += 1
            except AssertionError:
                pass  # the nemesis has PostgreSQL

    def finish(self) -> None:
        self.stop.set()
        self.thread.join()


def take(cluster: Cluster, crowd: Crowd, nemesis: Nemesis, sampler: Sampler, before: dict[str, dict],
         deaths: list[str]) -> tuple[Evidence, list[str]]:
    """While nothing moves: no deadline falls due meanwhile, and what was under way has come to its end. Evidence that
    was taken while something moved is of no use: then the second result says so."""
    for _ in range(TRIES):
        with cluster.nothing_falls_due():
            frozen_at = time.time()  # what falls due from now on is acted on later
            cluster.wait_quiet(REST_S)
            evidence, at_rest = look(cluster, crowd, nemesis, sampler, frozen_at, deaths)
        if at_rest:
            break
        cluster.wait_quiet(10)
    for request in evidence.requests:
        if request["op"] == "timeout" and request["status"] == 200:
            request["expires"] = parse_time(request["data"]["expires_at"])
    if "san" in build_dir().name:
        evidence.rss_slack = 1 << 30  # a sanitizer keeps what was freed
    for name, use in cluster.usage().items():
        if name in before:
            evidence.usage[name] = {what: (before[name][what], use[what]) for what in ("fds", "kept", "rss")}
    return evidence, [] if at_rest else [f"the system did not come to rest in {TRIES} tries of {REST_S:.0f} s: the evidence moved"]


def look(cluster: Cluster, crowd: Crowd, nemesis: Nemesis, sampler: Sampler, taken_at: float, deaths: list[str]) -> tuple[Evidence, bool]:
    """The evidence, and whether nothing has changed while it was taken."""
    still = cluster.unfinished() == 0
    mark, live = cluster.rows(MARK), cluster.provider.state()["sandboxes"]
    evidence = Evidence(
        taken_at=taken_at, deployment=cluster.deployment, lease_s=LEASE_S, settle_s=SETTLE_S, grace_s=GRACE_S,
        jobs=cluster.rows(JOBS), boxes=cluster.rows(BOXES), job_audit=cluster.rows(JOB_AUDIT), box_audit=cluster.rows(BOX_AUDIT),
        events=cluster.rows(EVENTS), keys=cluster.rows(KEYS), requests=list(crowd.requests), doubles=sampler.doubles, samples=sampler.samples,
        streams=cluster.streams(), dead_letters=cluster.dead_letters(), live_workers=cluster.live_workers(),
        live=live, truth=cluster.provider.log(), windows=nemesis.windows,
        logs=[entry | {"at": parse_time(entry["ts"])} for m in cluster.members for entry in cluster.events(m)], deaths=deaths)
    return evidence, still and mark == cluster.rows(MARK) and live == cluster.provider.state()["sandboxes"]


def save(evidence: Evidence, path: Path) -> None:
    path.write_text(json.dumps(dataclasses.asdict(evidence), default=list))


def load(path: Path) -> Evidence:
    return Evidence(**json.loads(path.read_text()))
