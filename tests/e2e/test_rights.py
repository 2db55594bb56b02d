"""The end of a right is the end of it on every gateway within 5 s; whose word makes an admin."""

import json
import threading
import time
import uuid

import httpx
import jwt
import pytest

from tests.harness.services import wait_until
from tests.harness.stack import BASE, LOCAL, PASSWORD, SECRET, Client, Stack

NO_SUCH = "00000000-0000-4000-8000-000000000000"
KNOWN_EVERYWHERE_S = 5


@pytest.fixture(scope="module")
def two(tmp_path_factory, redis, postgres, host):
    with Stack(tmp_path_factory.mktemp("two"), redis, postgres, host, gateways=2) as running:
        yield running


def answers(stack: Stack, token: str) -> set[str]:
    """What each gateway says of the token: an error type."""
    return {Client(g.url, token).get(f"{BASE}/{NO_SUCH}/status").json()["error"]["type"] for g in stack.gateways}


def test_disable_and_passwd_end_every_token_everywhere(two):
    two.run("user", "add", "ivan", "--role", "admin", "--password-stdin", input=PASSWORD)
    for change in (("disable", "ivan"), ("passwd", "ivan", "--password-stdin")):
        tokens = [Client(g.url).login("ivan").token for g in two.gateways]
        assert all(answers(two, token) == {"sandbox_not_found"} for token in tokens)
        two.run("user", *change, input=PASSWORD if "passwd" in change else None)
        for token in tokens:
            wait_until("revoked everywhere", lambda: answers(two, token) == {"token_revoked"}, KNOWN_EVERYWHERE_S)
        two.run("user", "enable", "ivan")
        assert Client(two.url).login("ivan").get(f"{BASE}").status_code == 200


def test_a_running_stream_ends_with_its_user(two):
    """One that prints and one that is silent, through different gateways."""
    client = two.client("judy")
    box = client.create()["sandbox_id"]
    ends: list[tuple[float, str]] = []

    def follow(url: str, command: str) -> None:
        with httpx.stream("POST", f"{url}{BASE}/run-cmd", json={"sandbox_id": box, "command": command, "timeout_seconds": 60},
                          headers=client.headers(Accept="text/event-stream"), timeout=60, **LOCAL) as answer:
            text = "".join(answer.iter_text())
        ends.append((time.monotonic(), text))

    commands = ("echo go; while sleep 0.2; do echo tick; touch /tmp/ticked; done", "echo go; sleep 55.5")
    threads = [threading.Thread(target=follow, args=(g.url, c)) for g, c in zip(two.gateways, commands, strict=True)]
    for thread in threads:
        thread.start()
    admin = two.client("root", role="admin")

    def running() -> str:
        """Which of them run: the one that ticks, by its file's age; the other by its process."""
        return admin.run(box, "find /tmp/ticked -newermt '-2 seconds' 2>/dev/null; pgrep -f 'sleep 55.[5]' >/dev/null && echo sleeps; true")["output"]

    wait_until("both run", lambda: running() == "/tmp/ticked\nsleeps\n", 10)
    start = time.monotonic()
    two.run("user", "disable", "judy")
    for thread in threads:
        thread.join(20)
    assert len(ends) == 2 and max(at for at, _ in ends) - start < KNOWN_EVERYWHERE_S + 1
    for _, text in ends:
        name, data = text.strip().split("\n\n")[-1].split("\n")
        assert name == "event: error" and json.loads(data.removeprefix("data: "))["type"] == "token_revoked"
    wait_until("nothing of it runs", lambda: running() == "", 10)
    admin.remove(box)


def foreign(**claims) -> str:
    return jwt.encode({"sub": str(uuid.uuid4()), "exp": int(time.time()) + 600} | claims, SECRET)


def test_another_issuers_claim_makes_no_admin_unless_told(two):
    alice = two.client("alice")
    box = alice.create()["sandbox_id"]
    told = two.start_gateway(JWT_ADMIN_CLAIM="realm.roles", JWT_ADMIN_VALUES="ops,root")
    for claims, admin in (({"role": "admin"}, False), ({"realm": {"roles": ["ops"]}}, True), ({"realm": {"roles": "dev"}}, False)):
        token = foreign(**claims)
        assert Client(two.url, token).get(f"{BASE}/{box}/status").status_code == 404
        assert Client(told.url, token).get(f"{BASE}/{box}/status").status_code == (200 if admin else 404)
    alice.remove(box)


def test_a_token_of_16_kb_is_accepted(two):
    token = foreign(groups="g" * 12000)
    assert 16000 < len(token) < 16384
    assert Client(two.url, token).get(f"{BASE}/{NO_SUCH}/status").json()["error"]["type"] == "sandbox_not_found"
    longer = Client(two.url, foreign(groups="g" * 12500)).get(f"{BASE}/{NO_SUCH}/status")
    assert longer.status_code == 401 and longer.json()["error"]["type"] == "token_malformed"
