#!/usr/bin/python3
"""Restarts each service of the compose deployment under load and shows that nothing is lost.

    tests/scale/restart.py [--services gateway,lifecycle-worker,...] [--clients 12]

Clients create, pause, resume and delete all the time. After each restart everything comes to rest and
three things must hold: every sandbox whose create was answered 200 or 202 is known in the database, the
database and the provider have the same sandboxes in the same states, and no call ended otherwise
than done, accepted or refused with "try again".
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.scale.deployment import BASE, GATEWAY_PORT, PROVIDER_PORT, Deployment, call  # noqa: E402

SERVICES = "gateway,lifecycle-worker,reaper,redis,postgres"


class Load:
    """Random clients that remember what they were told."""

    def __init__(self, token: str, clients: int):
        self.token, self.stopping, self.lock = token, threading.Event(), threading.Lock()
        self.accepted: set[str] = set()
        self.answers: Counter[str] = Counter()
        self.bad: list[str] = []
        self.threads = [threading.Thread(target=self.client, args=(n,)) for n in range(clients)]
        for thread in self.threads:
            thread.start()

    def ask(self, method: str, path: str, body: object = None) -> dict:
        status, text = call(GATEWAY_PORT, method, path, body, self.token)
        kind = "refused, try again" if status in (0, 503) else str(status)
        with self.lock:
            self.answers[kind] += 1
            # 404, 409: another client of the load was quicker
            if status not in (0, 200, 202, 404, 409, 503):
                self.bad.append(f"{method} {path}: {status} {text[:300]}")
        return json.loads(text).get("data") or {} if status in (200, 202) else {}

    def client(self, number: int) -> None:
        rng = random.Random(number)
        mine: list[str] = []
        while not self.stopping.is_set():
            if len(mine) < 3 or rng.random() < 0.3:
                made = self.ask("POST", f"{BASE}/create", {"user_id": f"client-{number}"}).get("sandbox_id")
                if made:
                    mine.append(made)
                    with self.lock:
                        self.accepted.add(made)
                else:
                    time.sleep(0.2)
                continue
            box = rng.choice(mine)
            action = rng.random()
            if action < 0.4:
                self.ask("POST", f"{BASE}/{box}/pause")
            elif action < 0.8:
                self.ask("POST", f"{BASE}/connect", {"sandbox_id": box})
            elif self.ask("DELETE", f"{BASE}/{box}"):
                mine.remove(box)

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()


def come_to_rest(deployment: Deployment) -> None:
    deadline = time.monotonic() + 120
    while deployment.sql("select count(*) from jobs where state in ('queued','running','retry_wait')") != "0":
        if time.monotonic() > deadline:
            sys.exit("restart: jobs are still unfinished after 120 s")
        time.sleep(0.5)


def check(deployment: Deployment, service: str, load: Load) -> bool:
    come_to_rest(deployment)
    known = set(deployment.sql("select id from sandboxes").splitlines())
    ours, there = deployment.in_database(), deployment.at_provider()
    lost = load.accepted - known
    differing = {i for i in ours.keys() | there.keys() if ours.get(i) != there.get(i)}
    good = not lost and not differing and not load.bad
    print(f"{'ok  ' if good else 'FAIL'} {service:17} {len(load.accepted)} creates accepted, {len(lost)} lost, "
          f"{len(differing)} differ from the provider; answers {dict(load.answers)}", flush=True)
    for line in load.bad[:5]:
        print("     " + line)
    return good


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--services", default=SERVICES)
    parser.add_argument("--clients", type=int, default=12)
    options = parser.parse_args()
    deployment = Deployment(in_flight=64)
    good = True
    try:
        deployment.down()
        deployment.up(2, "--build")
        token = deployment.login()
        call(PROVIDER_PORT, "POST", "/_config", {"delay_ms": 100})
        for service in options.services.split(","):
            load = Load(token, options.clients)
            time.sleep(3)
            deployment.run("restart", service)
            time.sleep(5)
            load.stop()
            good = check(deployment, service, load) and good
        return 0 if good else 1
    finally:
        deployment.down()


if __name__ == "__main__":
    sys.exit(main())
