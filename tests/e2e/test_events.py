"""The event feed: by pages and as a stream, each owner its own, each event once."""

from __future__ import annotations

import json
import threading

import httpx
import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, LOCAL, Client, FaultProvider, Stack

FEED = "/api/v1/events"
TYPES = ["sandbox.created", "sandbox.running", "sandbox.pausing", "sandbox.paused", "sandbox.resuming", "sandbox.resumed",
         "sandbox.deleting", "sandbox.deleted"]


@pytest.fixture(scope="module")
def two(tmp_path_factory, redis, postgres):
    provider = FaultProvider(tmp_path_factory.mktemp("provider"))
    with Stack(tmp_path_factory.mktemp("events"), redis, postgres, provider, gateways=2, env={"GATEWAY_THREADS": "16"}) as running:
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
