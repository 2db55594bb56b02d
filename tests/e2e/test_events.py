"""What happened and what it used: the event feed by pages and as a stream, the usage ledger, each owner its own."""

from __future__ import annotations

import csv
import datetime
import json
import threading

import httpx
import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, LOCAL, Client, FaultProvider, Stack

FEED, USAGE = "/api/v1/events", "/api/v1/usage"
TYPES = ["sandbox.created", "sandbox.running", "sandbox.pausing", "sandbox.paused", "sandbox.resuming", "sandbox.resumed",
         "sandbox.deleting", "sandbox.deleted"]


@pytest.fixture(scope="module")
def two(tmp_path_factory, redis, postgres):
    provider = FaultProvider(tmp_path_factory.mktemp("provider"))
    with Stack(tmp_path_factory.mktemp("events"), redis, postgres, provider, gateways=2, env={
            "GATEWAY_THREADS": "16", "USAGE_PRICES": "e2b:100/s, e2b.paused:0.5/s"}) as running:
        yield running
    provider.stop()


def whole(client: Client, query: str = "limit=3", after: str | None = None) -> list[dict]:
    """Every event, page by page, until the feed says that there is no more."""
    seen = []
    while True:
        page = client.ok(client.get(f"{FEED}?{query}" + (f"&after={after}" if after else "")))
        seen += page["items"]
        after = page["next_cursor"]
        if not page["more"]:
            return seen


def settled(client: Client, number: int, query: str = "limit=200") -> list[dict]:
    """An event is shown once no older transaction runs."""
    wait_until(f"{number} events", lambda: len(whole(client, query)) >= number, 10)
    return whole(client, query)


def one_life(client: Client) -> str:
    box = client.create()["sandbox_id"]
    client.pause(box)
    client.connect(box)
    client.remove(box)
    return box


class Follower(threading.Thread):
    """Reads a stream until it has `number` events or is told to break off."""

    def __init__(self, url: str, client: Client, number: int, last: str | None = None, query: str = ""):
        super().__init__(daemon=True)
        self.url, self.number, self.query, self.events, self.ids, self.head = url, number, query, [], [], None
        self.headers = client.headers() | {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
        self.begun = threading.Event()
        self.start()

    def run(self):
        with httpx.stream("GET", self.url + FEED + self.query, headers=self.headers, timeout=60, **LOCAL) as answer:
            self.head = answer
            self.begun.set()
            for line in (text.rstrip("\n") for text in answer.iter_lines()):
                if line.startswith("id: "):
                    self.ids.append(line[4:])
                elif line.startswith("data: "):
                    self.events.append(json.loads(line[6:]))
                    if len(self.events) == self.number:
                        return


def follow(url: str, client: Client, number: int, query: str) -> Follower:
    """The streams of an earlier test hold their places until the gateway sees that their readers are gone."""
    tried = []

    def accepted() -> bool:
        tried.append(Follower(url, client, number, query=query))
        return tried[-1].begun.wait(10) and tried[-1].head.status_code == 200

    wait_until("a place for a stream", accepted, 20)
    return tried[-1]


def test_the_feed_tells_each_owner_its_own(two):
    alice, bob, admin = two.client("alice"), two.client("bob"), two.client("root", role="admin")
    boxes = {client: one_life(client) for client in (alice, bob)}
    for client, box in boxes.items():
        events = settled(client, len(TYPES))
        assert [e["type"] for e in events] == TYPES and {e["subject"] for e in events} == {box}
        assert whole(client) == events  # in any pages
    first = settled(alice, len(TYPES))[0]
    owner = two.sql("select id from users where username = 'alice'")[0][0]
    assert first == {"specversion": "1.0", "id": first["id"], "source": BASE, "type": "sandbox.created", "subject": boxes[alice],
                     "time": first["time"], "datacontenttype": "application/json", "cursor": first["cursor"],
                     "data": {"sandbox_id": boxes[alice], "from": None, "to": "creating", "reason": "create accepted",
                              "actor": {"kind": "user", "id": owner}, "job": first["data"]["job"]}}
    assert {e["subject"] for e in settled(admin, 2 * len(TYPES))} == set(boxes.values())
    assert [e["type"] for e in whole(alice, "types=sandbox.deleted,sandbox.paused")] == ["sandbox.paused", "sandbox.deleted"]
    now = alice.ok(alice.get(f"{FEED}?after=now"))
    assert now["items"] == [] and not now["more"] and whole(alice, after=now["next_cursor"]) == []


def test_a_sandbox_s_history_has_the_same_cursor(two):
    alice, bob = two.client("alice"), two.client("bob")
    box = alice.create()["sandbox_id"]
    alice.pause(box)
    url = f"{BASE}/{box}/events"
    wait_until("settled", lambda: len(alice.ok(alice.get(f"{url}?limit=200"))["items"]) == 4, 10)
    history = alice.ok(alice.get(url))
    assert [i["type"] for i in history["items"]] == TYPES[:4] and history["next_cursor"] == history["items"][-1]["cursor"]
    pages, after = [], ""
    while items := (page := alice.ok(alice.get(f"{url}?limit=3{after}")))["items"]:
        pages += items
        after = f"&after={page['next_cursor']}"
    assert pages == history["items"]
    assert bob.get(url).status_code == 404


@pytest.mark.parametrize("query", ["after=x", "after=1_", "after=-1_1", "limit=0", "limit=201", "types=sandbox.unknown",
                                   "types=sandbox.paused,", "types=" + "x" * 2000])
def test_wrong_questions_are_refused(two, query):
    answer = two.client("alice").get(f"{FEED}?{query}")
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request"


def test_a_stream_goes_on_behind_its_last_event_at_any_gateway(two):
    carol = two.client("carol")
    first = follow(two.url, carol, 3, "")
    assert first.head.headers["Content-Type"] == "text/event-stream"
    box = one_life(carol)
    first.join(20)
    second = Follower(two.gateways[1].url, carol, 5, last=first.ids[-1])
    second.join(20)
    events = first.events + second.events
    assert [e["type"] for e in events] == TYPES and {e["subject"] for e in events} == {box}
    assert [e["cursor"] for e in events] == first.ids + second.ids
    only = follow(two.url, carol, 1, "?types=sandbox.deleted")
    only.join(20)
    assert [e["type"] for e in only.events] == ["sandbox.deleted"]


def test_streams_take_no_more_than_their_share(two):
    """16 threads: 14 for calls that wait, of which a quarter may follow: 3."""
    dora, eve = two.client("dora"), two.client("eve")
    followers = [follow(two.url, dora, 2, "?after=now") for _ in range(3)]
    refused = eve.get(FEED, Accept="text/event-stream")
    assert refused.status_code == 503 and refused.json()["error"]["type"] == "overloaded"
    eve.remove(eve.create()["sandbox_id"])  # others work on
    dora.create()
    for follower in followers:
        follower.join(20)
        assert [e["type"] for e in follower.events] == TYPES[:2]


def test_a_key_and_a_deadline_are_named_as_actors(two):
    frank = two.client("frank")
    made = frank.ok(frank.post("/api/v1/keys", {"name": "k", "scopes": ["sandboxes:read", "sandboxes:write"]}))
    program = Client(two.url, made["key"])
    box = program.create(timeout_seconds=1)["sandbox_id"]
    wait_until("paused", lambda: frank.status(box) == "paused", 30)
    events = settled(program, 4)
    assert events[0]["data"]["actor"] == {"kind": "key", "id": made["id"]}
    assert [e["type"] for e in events] == [*TYPES[:2], "deadline.reached", "sandbox.paused"]
    assert [e["data"]["actor"]["kind"] for e in events] == ["key", "key", "timer", "timer"]
    follower = follow(two.url, program, 100, "")
    assert frank.delete(f"/api/v1/keys/{made['id']}").status_code == 200
    follower.join(20)  # a stream ends with the right to read it
    assert not follower.is_alive() and len(follower.events) == 4


def test_usage_is_told_by_owner_as_json_and_csv(two):
    gina, admin = two.client("gina"), two.client("root", role="admin")
    owner = two.sql("select id from users where username = 'gina'")[0][0]
    box = gina.create(user_id='a "label", =x')["sandbox_id"]
    two.sql(f"update sandboxes set usage_since = usage_since - interval '100 seconds' where id = '{box}'")
    gina.pause(box)
    two.sql(f"update sandboxes set usage_since = usage_since - interval '50 seconds' where id = '{box}'")
    now = datetime.datetime.now(datetime.timezone.utc).date()
    span = f"from={now - datetime.timedelta(2)}&to={now + datetime.timedelta(2)}"  # also when it is moved back over midnight
    (row,) = gina.ok(gina.get(f"{USAGE}?{span}"))["items"]
    assert row["provider"] == "e2b" and 100 <= row["running_seconds"] < 130 and 50 <= row["paused_seconds"] < 80
    assert 100 * 100 + 25 <= float(row["cost"]) <= 100 * 130 + 40
    query = f"?group_by=label,owner,day&{span}"
    rows = gina.ok(gina.get(USAGE + query))["items"]
    assert {(r["label"], r["owner"]) for r in rows} == {('a "label", =x', owner)} and all(set(r) == {
        "day", "label", "owner", "running_seconds", "paused_seconds", "cost"} for r in rows)
    answer = gina.get(USAGE + query, Accept="text/csv")
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    table = list(csv.DictReader(answer.text.splitlines()))
    assert [(t["day"], t["label"], t["owner"]) for t in table] == [(r["day"], r["label"], r["owner"]) for r in rows]
    assert sum(float(t["running_seconds"]) for t in table) == pytest.approx(sum(r["running_seconds"] for r in rows), abs=1)
    assert two.client("harry").ok(two.client("harry").get(USAGE))["items"] == []
    assert two.client("harry").get(f"{USAGE}?owner={owner}").status_code == 403
    assert {r["owner"] for r in admin.ok(admin.get(f"{USAGE}?group_by=owner&owner={owner}"))["items"]} == {owner}
    assert len(admin.ok(admin.get(f"{USAGE}?group_by=owner"))["items"]) > 1


def test_what_is_paused_too_long_is_deleted_by_the_timer(two):
    ivy = two.client("ivy")
    box = ivy.create(paused_ttl_seconds=3600)["sandbox_id"]
    assert ivy.info(box)["delete_at"] is None
    ivy.pause(box)
    info = ivy.info(box)
    paused, ends = (datetime.datetime.fromisoformat(info[name]) for name in ("stopped_at", "delete_at"))
    assert 3599 <= (ends - paused).total_seconds() < 3660
    two.sql(f"update sandboxes set delete_at = now() where id = '{box}'")
    wait_until("deleted", lambda: ivy.get(f"{BASE}/{box}/status").status_code == 404, 30)
    last = settled(ivy, 6)[-2:]
    assert [(e["type"], e["data"]["actor"]["kind"]) for e in last] == [("sandbox.deleting", "timer"), ("sandbox.deleted", "timer")]
    assert last[1]["data"]["reason"] == "end of its life"


@pytest.mark.parametrize("query", ["from=x", "from=2026-02-30", "from=2026-2-03", "from=2026-01-02&to=2026-01-02", "from=2026-01-02&to=2026-01-01",
                                   "from=2024-01-01&to=2026-01-01", "group_by=x", "group_by=day,", "from=2026-01-01T00:00:00Z"])
def test_wrong_questions_about_usage_are_refused(two, query):
    answer = two.client("gina").get(f"{USAGE}?{query}")
    assert answer.status_code == 400 and answer.json()["error"]["type"] == "invalid_request"
