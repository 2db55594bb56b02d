"""The story of one sandbox, from everything that wrote about it, in order of time."""

from __future__ import annotations

import datetime

from tests.chaos.invariants import Evidence


def moment(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%H:%M:%S.%f")[:-3]


def parse_time(text: str) -> float:
    """RFC 3339 -> seconds since the epoch"""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def lines_of(e: Evidence, sandbox: str) -> list[tuple[float, str, str]]:
    lines = []
    pids = {a["provider_id"] for a in e.box_audit if a["sandbox"] == sandbox and a["provider_id"]}
    pids |= {t["id"] for t in e.truth if t.get("effect") == "create" and t["metadata"].get("sandbox_id") == sandbox}
    jobs = {j["id"]: j for j in e.jobs if j["sandbox_id"] == sandbox}
    for r in e.requests:
        if r["sandbox"] == sandbox:
            key = f" key {r['key'][-6:]}" if r["key"] else ""
            lines.append((r["t0"], f"client {r['client']}", f"{r['op']} {r['asked'] or ''} -> {r['gateway']}{key} [{r['request_id'][:8]}]"))
            lines.append((r["t1"], f"client {r['client']}", f"{r['op']} [{r['request_id'][:8]}] = {r['status']} {r['error']}"
                          + (" replayed" if r["replayed"] else "")))
    for a in e.job_audit:
        if a["sandbox"] == sandbox:
            lines.append((a["at"], "job row", f"{a['job'][:8]} seq {a['seq']} {a['op']} ({a['origin']}): {a['old'] or 'new'} -> {a['new']}, "
                          f"token {a['token']}, attempt {a['attempt']}, owner {a['owner'] or '-'}"))
    for a in e.box_audit:
        if a["sandbox"] == sandbox:
            expires = moment(a["expires"]) if a["expires"] else "-"
            lines.append((a["at"], "sandbox row", f"{a['old'] or 'new'} -> {a['new']}, provider id {a['provider_id'] or '-'}, expires {expires}"))
    for t in e.truth:
        if "effect" in t and t["id"] in pids:
            lines.append((t["t"], "provider", f"EFFECT {t['effect']} {t['id']}"))
        elif "call" in t and (t["id"] in pids or t.get("sandbox") == sandbox):
            lines.append((t["t"], "provider", f"call {t['call']} {t['id']} by {t['by']}, fault {t['fault']}: {t.get('status', 'none')}"
                          f"{'' if t['answered'] else ', not answered'} after {t['end'] - t['t']:.3f} s"))
    for event in e.logs:
        if event.get("sandbox_id") == sandbox or event.get("provider_sandbox_id") in pids or event.get("job_id") in jobs:
            rest = {k: v for k, v in event.items() if k not in ("ts", "at", "level", "service", "pid", "by", "event", "request_id", "sandbox_id")}
            lines.append((event["at"], event["by"], f"{event['event']} {rest}"))
    if lines:
        first, last = min(lines)[0], max(lines)[0]
        for w in e.windows:
            if first - 1 <= w["t0"] <= last + 1 or first - 1 <= (w["t1"] or last) <= last + 1:
                lines.append((w["t0"], "NEMESIS", f"{w['what']} {w['target']}"))
                if w["t1"] and w["t1"] - w["t0"] > 0.05:
                    lines.append((w["t1"], "NEMESIS", f"{w['what']} is over"))
    return sorted(lines)


def tell(e: Evidence, sandbox: str) -> str:
    row = e.row(sandbox)
    head = f"history of sandbox {sandbox}" + (f" (row: {row['status']}, {row['status_reason']!r})" if row else " (no row)")
    return "\n".join([head] + [f"  {moment(at)}  {who:<12} {what}" for at, who, what in lines_of(e, sandbox)])
