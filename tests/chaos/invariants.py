"""What must hold when all is mended and all work is done, as pure functions of the evidence.

The numbers are those of the list in tests/README.md. Each check yields violations; a check that
finds nothing to check is no success, so `count_evidence` tells what there was to look at.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

TERMINAL = ("done", "failed", "dead", "superseded")
STATE_OF = {"running": "running", "paused": "paused"}  # status of a row -> state at the provider
OP_OF = {"create": "create", "connect": "resume", "pause": "pause", "delete": "delete", "timeout": "timeout"}
TICK = 0.05  # clocks are read a moment before or after what they date


@dataclass
class Violation:
    number: int
    text: str
    sandbox: str | None = None


@dataclass
class Evidence:
    """All times are seconds since the epoch."""

    taken_at: float
    deployment: str
    lease_s: float
    settle_s: float
    grace_s: float
    jobs: list[dict]
    boxes: list[dict]
    job_audit: list[dict]
    box_audit: list[dict]
    events: list[dict]
    keys: list[dict]
    requests: list[dict]
    doubles: list[dict]       # samples at which a sandbox had two running jobs
    samples: int
    streams: dict[str, dict]
    dead_letters: list[str]
    live_workers: set[str]
    live: dict[str, dict]     # the provider's sandboxes
    truth: list[dict]         # the provider's log
    windows: list[dict]       # what the nemesis did
    logs: list[dict]          # log events of all members, with `at`
    deaths: list[str]
    usage: dict[str, dict] = field(default_factory=dict)  # member -> {"fds": (before, after), "kept": ..., "rss": ...}
    reached: dict[str, int] = field(default_factory=dict)  # sandbox -> status of a command in it, at the end
    rss_slack: int = 48 << 20
    fd_slack: int = 24
    kept_max: int = 64  # connections to the provider: calls under way at once, of all clients and the sweeps' kills

    def disturbed(self, start: float, end: float, *kinds: str) -> bool:
        return any(w["t0"] <= end and (w["t1"] or end) >= start for w in self.windows if w["what"].startswith(kinds))

    def audit_of(self, job: str) -> list[dict]:
        if not hasattr(self, "_by_job"):
            self._by_job = collections.defaultdict(list)
            for row in self.job_audit:
                self._by_job[row["job"]].append(row)
        return self._by_job[job]

    def row(self, sandbox: str) -> dict | None:
        if not hasattr(self, "_by_id"):
            self._by_id = {b["id"]: b for b in self.boxes}
        return self._by_id.get(sandbox)

    def named(self) -> dict[str, str]:
        """Every provider id that a row has ever had -> that row."""
        return {a["provider_id"]: a["sandbox"] for a in self.box_audit if a["provider_id"]}


Check = Callable[[Evidence], Iterator[Violation]]


def every_answer_has_its_job(e: Evidence) -> Iterator[Violation]:
    by_request = {j["request_id"] for j in e.jobs}
    by_box = collections.defaultdict(list)
    for job in e.jobs:
        by_box[job["sandbox_id"]].append(job)
    jobs = {j["id"]: j for j in e.jobs}
    of_key = {k["key"]: jobs.get(k["job_id"]) for k in e.keys}
    for r in e.requests:
        op = OP_OF.get(r["op"])
        if r["status"] not in (200, 202) or op is None:
            continue
        if e.row(r["sandbox"]) is None:
            yield Violation(1, f"{r['op']} was answered {r['status']}, and there is no row", r["sandbox"])
        elif r["request_id"] in by_request or (r["key"] and (of_key.get(r["key"]) or {}).get("sandbox_id") == r["sandbox"]):
            continue
        elif op == "resume" and r["status"] == 200:
            continue  # a running sandbox needs no job to be connected to
        elif not any(j["op"] == op and j["created"] <= r["t1"] + TICK and (j["finished"] or r["t1"]) >= r["t0"] - TICK
                     for j in by_box[r["sandbox"]]):
            yield Violation(1, f"{r['op']} (request {r['request_id']}) was answered {r['status']}, and no job did it", r["sandbox"])


def no_work_is_left(e: Evidence) -> Iterator[Violation]:
    for job in e.jobs:
        if job["state"] not in TERMINAL:
            yield Violation(2, f"job {job['id']} ({job['op']}) is still {job['state']}", job["sandbox_id"])
    for box in e.boxes:
        if box["status"] not in ("running", "paused", "deleted", "failed"):
            yield Violation(2, f"the sandbox is still {box['status']}", box["id"])


def one_job_at_a_time(e: Evidence) -> Iterator[Violation]:
    for sample in e.doubles:
        yield Violation(3, f"{sample['count']} running jobs at {sample['at']:.3f}", sample["sandbox"])


def jobs_in_order(e: Evidence) -> Iterator[Violation]:
    by_box = collections.defaultdict(list)
    for job in e.jobs:
        if job["sandbox_id"] and any(a["new"] == "running" for a in e.audit_of(job["id"])):
            by_box[job["sandbox_id"]].append(job)
    for sandbox, jobs in by_box.items():
        jobs.sort(key=lambda j: j["seq"])
        for before, after in zip(jobs, jobs[1:]):
            end = [a["n"] for a in e.audit_of(before["id"]) if a["new"] in TERMINAL]
            start = [a["n"] for a in e.audit_of(after["id"]) if a["new"] == "running"]
            if not end or end[0] > start[0]:
                yield Violation(4, f"seq {after['seq']} ({after['op']}) began before seq {before['seq']} ({before['op']}) had ended", sandbox)


def tokens_rise(e: Evidence) -> Iterator[Violation]:
    for job in e.jobs:
        ends, token, begun = 0, -1, 0.0
        for a in e.audit_of(job["id"]):
            claimed = a["new"] == "running"
            if claimed and a["old"] == "running" and a["at"] < begun + e.lease_s - TICK:
                yield Violation(5, f"job {job['id']}: its lease was taken over after {a['at'] - begun:.2f} s", job["sandbox_id"])
            begun = a["at"] if claimed else begun
            if a["token"] < token or (claimed and a["token"] <= token and token >= 0):
                yield Violation(5, f"job {job['id']}: token {token} was followed by {a['token']}", job["sandbox_id"])
            if a["old"] in TERMINAL:
                yield Violation(5, f"job {job['id']} was {a['old']} and became {a['new']}", job["sandbox_id"])
            token = a["token"]
            ends += a["new"] in TERMINAL
        if ends > 1:
            yield Violation(5, f"job {job['id']} ended {ends} times", job["sandbox_id"])
    for event in e.events:
        if event["job_id"] is None or " started by " in event["reason"]:
            continue
        holders = [a["owner"] for a in e.audit_of(event["job_id"]) if a["new"] == "running" and a["at"] < event["at"]]
        if holders and event["actor"] != holders[-1]:
            yield Violation(5, f"job {event['job_id']}: {event['actor']} wrote {event['from_status']} -> {event['to_status']} "
                            f"while {holders[-1]} held it", event["sandbox_id"])


def provider_has_what_rows_name(e: Evidence) -> Iterator[Violation]:
    named = {b["provider_sandbox_id"]: b["id"] for b in e.boxes if b["status"] in ("running", "paused")}
    tags = collections.Counter()
    for pid, box in e.live.items():
        if box["metadata"].get("sandbox_deployment") != e.deployment:
            continue
        tags[box["metadata"].get("sandbox_id")] += 1
        if pid not in named:
            yield Violation(6, f"{pid} lives at the provider and no row names it", box["metadata"].get("sandbox_id"))
    for pid, sandbox in named.items():
        if pid not in e.live:
            yield Violation(6, f"the row names {pid}, which the provider does not have", sandbox)
    for sandbox, count in tags.items():
        if count > 1:
            yield Violation(6, f"{count} sandboxes at the provider carry this id", sandbox)


def provider_ids_are_real(e: Evidence) -> Iterator[Violation]:
    made = {t["id"]: t["metadata"].get("sandbox_id") for t in e.truth if t.get("effect") == "create"}
    owners = collections.defaultdict(set)
    for a in e.box_audit:
        if a["provider_id"]:
            owners[a["provider_id"]].add(a["sandbox"])
    for pid, sandboxes in owners.items():
        if len(sandboxes) > 1:
            yield Violation(7, f"{pid} was named by {len(sandboxes)} rows", sorted(sandboxes)[0])
        for sandbox in sandboxes:
            if made.get(pid) != sandbox:
                yield Violation(7, f"the row named {pid}, which the provider made for {made.get(pid)}", sandbox)


def statuses_agree(e: Evidence) -> Iterator[Violation]:
    for box in e.boxes:
        pid, status = box["provider_sandbox_id"], box["status"]
        state = e.live.get(pid, {}).get("state") if pid else None
        if status in STATE_OF and state is not None and state != STATE_OF[status]:
            yield Violation(8, f"the row is {status}, the provider's is {state}", box["id"])
        if status == "deleted" and state is not None:
            yield Violation(8, f"the row is deleted, {pid} is {state}", box["id"])
    for r in e.requests:
        if r["op"] == "delete" and r["status"] == 200 and (e.row(r["sandbox"]) or {}).get("status") != "deleted":
            yield Violation(8, "a delete was answered 200, and the sandbox is not deleted", r["sandbox"])


def events_tell_it_all(e: Evidence) -> Iterator[Violation]:
    made, told = collections.defaultdict(list), collections.defaultdict(list)
    for a in e.box_audit:
        if a["old"] != a["new"]:
            made[a["sandbox"]].append((a["old"] or "", a["new"]))
    for event in e.events:
        if event["from_status"] != event["to_status"]:
            told[event["sandbox_id"]].append((event["from_status"], event["to_status"]))
    for sandbox in made.keys() | told.keys():
        if made[sandbox] != told[sandbox]:
            yield Violation(8, f"the row went {made[sandbox]}, its events say {told[sandbox]}", sandbox)


def deadlines_are_kept(e: Evidence) -> Iterator[Violation]:
    history = collections.defaultdict(list)
    for a in e.box_audit:
        history[a["sandbox"]].append(a)
    for box in e.boxes:
        if box["status"] == "running" and box["expires"] and box["expires"] < e.taken_at - e.grace_s:
            yield Violation(9, f"running {e.taken_at - box['expires']:.1f} s after its deadline", box["id"])
    for job in e.jobs:
        if job["origin"] != "deadline" or job["state"] != "done":
            continue
        claims = [a["at"] for a in e.audit_of(job["id"]) if a["new"] == "running"]
        known = [a for a in history[job["sandbox_id"]] if claims and a["at"] <= claims[-1]]
        if known and known[-1]["expires"] and known[-1]["expires"] > claims[-1] + TICK:
            yield Violation(9, f"{job['op']} {known[-1]['expires'] - claims[-1]:.3f} s before the deadline", job["sandbox_id"])
    for r in e.requests:
        if r["op"] == "timeout" and r["status"] == 200 and not any(
                a["expires"] and abs(a["expires"] - r["expires"]) < 0.002 for a in history[r["sandbox"]]):
            yield Violation(9, f"a deadline was acknowledged that was never kept: {r['data'].get('expires_at')}", r["sandbox"])


# a job that failed so was answered 503: the same request may run again under its key
TRY_AGAIN = {"rate_limited", "capacity", "transient", "ambiguous", "snooze"}


def keys_mean_one_job(e: Evidence) -> Iterator[Violation]:
    by_request = collections.defaultdict(list)
    repeatable = {j["id"] for j in e.jobs if j["state"] in ("failed", "dead") and j["outcome"] in TRY_AGAIN}
    for job in e.jobs:
        # neither a look on the way to an answer nor an operator's redrive is what a key stands for
        if job["op"] != "reconcile" and job["origin"] != "operator":
            by_request[job["request_id"]].append(job)
    by_key = collections.defaultdict(list)
    for r in e.requests:
        if r["key"]:
            by_key[r["key"]].append(r)
    rows = {k["key"]: k for k in e.keys}
    for key, requests in by_key.items():
        # a job that ended with "try again" leaves the key free, for another job or for an answer without one
        jobs = {j["id"] for r in requests for j in by_request[r["request_id"]]} - repeatable
        where = next((r["sandbox"] for r in requests if r["sandbox"]), None)
        if len(jobs) > 1:
            yield Violation(10, f"key {key} became {len(jobs)} jobs", where)
        if jobs and (rows.get(key) or {}).get("job_id") not in jobs:
            yield Violation(10, f"key {key} does not know its job", where)
        same = [r for r in requests if r["asked"] == requests[0]["asked"]]
        final = [r for r in same if r["status"] not in (0, 202, 429, 503)]
        # what was refused before a job was accepted leaves the key free; a 200 never does
        said = [r for r in final if r["status"] == 200]
        first = min((r["t1"] for r in said), default=float("inf"))
        said += [r for r in final if r["replayed"] or by_request[r["request_id"]] or r["t0"] > first]
        answers = {(r["status"], r["sandbox"] if r["op"] == "create" else "") for r in said}
        if len(answers) > 1:
            yield Violation(10, f"key {key} was answered {sorted(map(str, answers))}", where)
        for r in requests:
            if r["asked"] != requests[0]["asked"] and r["status"] not in (0, 422, 503):
                yield Violation(10, f"key {key} with another body was answered {r['status']}", where)


def attempts_and_dead_letters(e: Evidence) -> Iterator[Violation]:
    for job in e.jobs:
        # a create that may have had its effect is looked for as long as it takes, a delete never gives up
        if job["attempt"] > job["max_attempts"] and job["op"] not in ("create", "delete"):
            yield Violation(11, f"job {job['id']} had {job['attempt']} of {job['max_attempts']} attempts", job["sandbox_id"])
    dead = {j["id"]: j for j in e.jobs if j["state"] == "dead"}
    for job_id in set(e.dead_letters) - set(dead):
        state = next((j["state"] for j in e.jobs if j["id"] == job_id), "unknown")
        yield Violation(11, f"job {job_id} is in the dead letters and {state}")
    for job_id, job in dead.items():
        if job_id not in e.dead_letters:
            yield Violation(11, f"job {job_id} is dead and not in the dead letters", job["sandbox_id"])


def streams_are_empty(e: Evidence) -> Iterator[Violation]:
    for op, stream in e.streams.items():
        # a sweep of the provider is asked for again and again: one entry may just be on its way
        passing = 1 if op == "reconcile" else 0
        if stream["length"] > passing:
            yield Violation(12, f"{stream['length']} entries are left on the stream of {op}")
        if stream["pending"] > passing:
            yield Violation(12, f"{stream['pending']} entries of {op} are pending: {stream['consumers']}")
        for name, pending in stream["consumers"].items():
            if pending and name not in e.live_workers:
                yield Violation(12, f"{name} is gone and holds {pending} entries of {op}")


def every_create_is_accounted_for(e: Evidence) -> Iterator[Violation]:
    named = e.named()
    ended = collections.Counter(t["id"] for t in e.truth if t.get("effect") in ("delete", "lose"))
    for t in e.truth:
        if t.get("effect") != "create":
            continue
        kept = named.get(t["id"]) == t["metadata"].get("sandbox_id")
        if not kept and not ended[t["id"]]:
            yield Violation(13, f"{t['id']} was created, never adopted, never killed", t["metadata"].get("sandbox_id"))
        if ended[t["id"]] > 1:
            yield Violation(13, f"{t['id']} ended {ended[t['id']]} times", t["metadata"].get("sandbox_id"))
        if e.row(t["metadata"].get("sandbox_id")) is None:
            yield Violation(13, f"{t['id']} was created for a sandbox that has no row", t["metadata"].get("sandbox_id"))


def no_create_is_repeated(e: Evidence) -> Iterator[Violation]:
    """A create that had its effect is found again, and not made again beside it."""
    ended = {t["id"]: t["t"] for t in e.truth if t.get("effect") in ("delete", "lose")}
    calls = {t["id"]: t for t in e.truth if t.get("call") == "create"}

    def was_delayed(create: dict) -> bool:
        """A worker that stood still while it sent, a network or a provider that did, may deliver after the
        lookup: such a copy is for reconcile."""
        call = calls.get(create["id"])
        return call is None or call["end"] - call["t"] > e.settle_s - 1 or any(
            w["t0"] <= create["t"] and (w["t1"] or create["t"]) >= create["t"] - 9
            and (w["what"].startswith("freeze_worker") and w["target"] == call["by"]
                 or w["what"].startswith("proxy") and w["target"].startswith("provider")) for w in e.windows)

    before: dict[str, dict] = {}
    for t in sorted((t for t in e.truth if t.get("effect") == "create"), key=lambda t: t["t"]):
        sandbox = t["metadata"].get("sandbox_id")
        first = before.setdefault(sandbox, t)
        if first is not t and ended.get(first["id"], t["t"]) >= t["t"] and not was_delayed(first) and not was_delayed(t):
            yield Violation(13, f"{t['id']} was created while {first['id']} was there", sandbox)


CALLS = ("create", "get", "list", "delete", "pause", "connect", "timeout")
DISTURB_CALLS = ("proxy", "freeze", "kill", "end_member", "flushall")


def waits_are_respected(e: Evidence) -> Iterator[Violation]:
    calls = [t for t in e.truth if t.get("call") in CALLS]
    made = {t["id"]: t["metadata"].get("sandbox_id") for t in e.truth if t.get("effect") == "create"}

    def about(call: dict) -> str:
        return call.get("sandbox") or made.get(call["id"], call["id"])

    seen = collections.defaultdict(list)
    for call in sorted(calls, key=lambda c: c["t"]):
        key = (call["call"], call.get("job") or call["id"])
        if key[1]:
            for earlier in seen[key]:
                gap = call["t"] - earlier["end"]
                # by which the answer must have arrived, and the same worker have been there to heed it
                if gap < earlier["retry_after"] - TICK and not e.disturbed(earlier["t"] - 1, call["t"], *DISTURB_CALLS, "kill_redis"):
                    yield Violation(14, f"{call['call']} of {key[1]} again {gap:.2f} s after a Retry-After of {earlier['retry_after']:.0f} s")
            if call.get("retry_after") and call["answered"]:
                seen[key].append(call)
    closed = [(event["by"], event["at"]) for event in e.logs if event["event"] == "provider.breaker_closed"]
    for opened in (event for event in e.logs if event["event"] == "provider.breaker_open"):
        # a call under way that succeeds closes it before its time
        until = min([at for by, at in closed if by == opened["by"] and at >= opened["at"]], default=float("inf"))
        # a worker that is started again begins with a closed one
        until = min([until] + [w["t0"] for w in e.windows if w["what"].startswith(("kill_", "end_member"))
                               and opened["by"] in w["target"].split(",") and w["t0"] >= opened["at"]])
        start, end = opened["at"] + TICK, min(until, opened["at"] + opened["open_ms"] / 1000) - TICK
        if e.disturbed(start - 3, end, "proxy", "freeze"):
            continue
        mine = [c for c in calls if c["by"] == opened["by"]]
        # what was under way goes on to its end
        begun = {about(c) for c in mine if start - 4 < c["t"] <= start}
        late = [c for c in mine if start < c["t"] < end and about(c) not in begun]
        if late:
            yield Violation(14, f"{opened['by']} made {len(late)} new calls while its breaker was open, first {late[0]}")


def nothing_is_ended_unasked(e: Evidence) -> Iterator[Violation]:
    asked = {j["sandbox_id"] for j in e.jobs if j["op"] == "delete"}
    lost = {t["id"] for t in e.truth if t.get("effect") == "lose"}
    named = e.named()
    for t in e.truth:
        if t.get("effect") == "delete" and t["id"] in named and named[t["id"]] not in asked:
            yield Violation(16, f"{t['id']} was deleted at the provider, and nobody had asked for it", named[t["id"]])
    for box in e.boxes:
        pid = box["provider_sandbox_id"]
        if not pid or pid in lost or box["id"] in asked:
            continue
        if pid not in e.live:
            yield Violation(16, f"nobody asked to end {pid}, and it is gone", box["id"])
        elif box["status"] not in STATE_OF:
            yield Violation(16, f"nobody asked to end {pid}, and its row is {box['status']} ({box['status_reason']})", box["id"])
        elif e.reached.get(box["id"]) != 200:
            yield Violation(16, f"{pid} is not reached through its row: {e.reached.get(box['id'])}", box["id"])


def nobody_waits_for_ever(e: Evidence) -> Iterator[Violation]:
    for r in e.requests:
        took = r["t1"] - r["t0"]
        broken = e.disturbed(r["t0"], r["t1"], "kill_gateway", "end_member", "freeze")
        if took > 30:
            yield Violation(15, f"{r['op']} was answered after {took:.1f} s: {r['status']} {r['error']}", r["sandbox"])
        elif r["status"] == 0 and not broken:
            yield Violation(15, f"{r['op']} had no answer after {took:.1f} s though its gateway ran: {r['error']}", r["sandbox"])
        if "without Retry-After" in r["error"] or r["error"].startswith("not JSON"):
            yield Violation(15, f"{r['op']} was answered {r['status']} {r['error']}", r["sandbox"])
        if r["status"] in (500, 501) or (r["status"] and r["status"] not in (200, 202, 400, 404, 409, 422, 429, 502, 503)):
            yield Violation(15, f"{r['op']} was answered {r['status']} {r['error']}", r["sandbox"])
    for death in e.deaths:
        yield Violation(15, death)
    for name, use in e.usage.items():
        if use["fds"][1] > use["fds"][0] + e.fd_slack:
            yield Violation(15, f"{name} had {use['fds'][0]} file descriptors, and has {use['fds'][1]}")
        if use["kept"][1] > e.kept_max:
            yield Violation(15, f"{name} keeps {use['kept'][1]} connections to the provider")
        if use["rss"][1] > use["rss"][0] + e.rss_slack:
            yield Violation(15, f"{name} had {use['rss'][0] >> 20} MB, and has {use['rss'][1] >> 20} MB")


INVARIANTS: list[tuple[int, str, Check]] = [
    (1, "every 2xx has its row and its job", every_answer_has_its_job),
    (2, "no job is left unfinished", no_work_is_left),
    (3, "one running job per sandbox at every sample", one_job_at_a_time),
    (4, "a sandbox's jobs do not overlap and run in order of seq", jobs_in_order),
    (5, "the lease token rises, a job ends once, and by the one who holds it", tokens_rise),
    (6, "the provider has what the rows name, and nothing else of ours", provider_has_what_rows_name),
    (7, "every provider id is one row's, and the provider made it for that row", provider_ids_are_real),
    (8, "rows and provider agree on every state", statuses_agree),
    (8, "a sandbox's events are every change of its status", events_tell_it_all),
    (9, "no sandbox outlives its deadline, none is stopped before it", deadlines_are_kept),
    (10, "an Idempotency-Key is one job with one answer", keys_mean_one_job),
    (11, "attempts are bounded, and the dead letters are the dead jobs", attempts_and_dead_letters),
    (12, "the streams are empty", streams_are_empty),
    (13, "every create at the provider was adopted or killed", every_create_is_accounted_for),
    (13, "no create is repeated beside its effect", no_create_is_repeated),
    (14, "Retry-After and open breakers are respected", waits_are_respected),
    (16, "a sandbox that nobody asked to end is alive, and reached through its row", nothing_is_ended_unasked),
    (15, "every request is answered in time, and nothing leaks or dies", nobody_waits_for_ever),
]


def check(e: Evidence) -> list[Violation]:
    return [violation for _, _, look in INVARIANTS for violation in look(e)]
