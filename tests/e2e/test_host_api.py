"""The control plane of the local sandbox host: every field, filter, page, status and error body of E2B's it takes."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from urllib.parse import quote

import pytest

from tests.harness.host_client import Box, HostClient
from tests.harness.services import wait_until
from tests.harness.stack import SandboxHost


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    host = SandboxHost(tmp_path_factory.mktemp("host"), SANDBOX_HOST_ANY_TEMPLATE="0", SANDBOX_HOST_MAX_SANDBOXES="24",
                       SANDBOX_HOST_MAX_TIMEOUT_SECONDS="3600")
    yield HostClient(host)
    host.stop()


@pytest.fixture(autouse=True)
def empty(client):
    yield
    for box_id in client.ids():
        client.request("DELETE", f"/sandboxes/{box_id}")


def many(client, count: int, **fields) -> list[Box]:
    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(lambda n: client.create(metadata={"n": str(n)} | fields.pop("metadata", {}), **fields),
                             range(count)))


def ends_in(box: Box) -> float:
    end = datetime.fromisoformat(box.get().json()["endAt"].replace("Z", "+00:00"))
    return (end - datetime.now(timezone.utc)).total_seconds()


def check_error(answer, status: int, text: str = "") -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["code"] == status and text in body["message"], body


def test_create_answers_and_detail(client):
    box = client.create(secure=True, autoPause=True, autoResume={"enabled": True}, timeout=600, metadata={"a": "b"},
                        allow_internet_access=False, network={"allowPublicTraffic": False}, mcp={})
    made = box.made
    assert made["domain"] == client.host.own_env["SANDBOX_HOST_DOMAIN"] and made["templateID"] == "base"
    assert made["envdAccessToken"] and made["trafficAccessToken"] and made["clientID"] and made["envdVersion"]
    detail = box.get().json()
    assert detail["state"] == "running" and detail["metadata"] == {"a": "b"}
    assert detail["lifecycle"] == {"autoResume": True, "onTimeout": "pause"}
    assert detail["allowInternetAccess"] is False and detail["network"] == {"allowPublicTraffic": False}
    assert detail["envdAccessToken"] == made["envdAccessToken"]
    assert (detail["cpuCount"], detail["memoryMB"]) == (2, 1024)
    assert 598 < ends_in(box) <= 600
    # any client id behind the id is taken, as E2B does
    assert client.request("GET", f"/sandboxes/{box.id}-6532622b").status_code == 200
    plain = client.create().get().json()
    assert plain["allowInternetAccess"] is None and "envdAccessToken" not in plain


def test_version_2_of_create_and_connect(client):
    """What E2B's newer SDKs send: always secure, 300 s unless said otherwise."""
    made = client.request("POST", "/v2/sandboxes", {"templateID": "base", "metadata": {}, "envVars": {}})
    assert made.status_code == 201 and made.json()["envdAccessToken"]
    path = f"/v2/sandboxes/{made.json()['sandboxID']}"
    detail = client.request("GET", path.removeprefix("/v2")).json()
    end = datetime.fromisoformat(detail["endAt"].replace("Z", "+00:00"))
    assert 295 < (end - datetime.now(timezone.utc)).total_seconds() <= 300
    assert client.request("POST", f"{path}/connect", {"timeout": 600}).status_code == 200
    client.request("POST", f"{path.removeprefix('/v2')}/pause")
    assert client.request("POST", f"{path}/connect", {}).status_code == 201
    check_error(client.request("POST", "/v2/sandboxes", {}), 400, "templateID")


def test_create_refuses(client):
    for field, body in {
        "templateID": {"templateID": ""}, "Timeout": {"timeout": 0}, "hours": {"timeout": 3601},
        "timeout": {"timeout": "1"},
        "autoPauseMemory": {"autoPause": True, "autoPauseMemory": False, "autoResume": {"enabled": True}},
        "autoResume": {"autoResume": True}, "secure": {"secure": 1}, "metadata": {"metadata": {"a": 1}},
        "envVars": {"envVars": []}, "allow_internet_access": {"allow_internet_access": "no"},
        "network": {"network": []}, "volumeMounts": {"volumeMounts": [{"name": "a", "path": "/a"}]},
        "allowPublicTraffic": {"network": {"allowPublicTraffic": False}},
        "network.rules": {"network": {"rules": {"a.com": []}}},
        "network.denyOut": {"network": {"denyOut": ["example.com"]}},
        "network.allowOut": {"network": {"allowOut": ["10.0.0.0/33"]}},
        "maskRequestHost": {"network": {"maskRequestHost": "a\r\nX-Evil: 1"}},
        "network: maskRequestHost": {"network": {"maskRequestHost": 80}},
    }.items():
        check_error(client.try_create(**body), 400, field)
    check_error(client.request("POST", "/sandboxes", "text"), 400)
    check_error(client.http.post("/sandboxes", content=b"{"), 400)
    check_error(client.try_create(templateID="absent"), 404, "absent")
    check_error(client.http.post("/sandboxes", json={"templateID": "base"}, headers={"X-API-Key": "e2b_00"}), 401)
    check_error(client.request("GET", "/nothing"), 404)
    check_error(client.request("PATCH", "/sandboxes"), 405)
    for bad in ("UPPER", "a.b", "-x", "a" * 40):
        check_error(client.request("GET", f"/sandboxes/{bad}"), 400)
    assert client.ids() == set()


def test_unknown_sandboxes_are_404_everywhere(client):
    gone = client.create()
    assert gone.kill().status_code == 204
    check_error(gone.kill(), 404)
    check_error(gone.get(), 404)
    for action, body in {"pause": None, "resume": {}, "connect": {"timeout": 10}, "timeout": {"timeout": 10},
                         "refreshes": {"duration": 20}}.items():
        check_error(gone.call(action, body), 404)
    for what in ("metrics", "logs"):
        check_error(gone.get(f"/{what}"), 404)


def test_too_many_are_429(client):
    many(client, 24)
    check_error(client.try_create(), 429)
    client.request("DELETE", f"/sandboxes/{next(iter(client.ids()))}")
    client.create()


def test_lists_filter_and_page(client):
    boxes = many(client, 7)
    odd = client.create(metadata={"k é": "a=b&c %", "n": "7"})
    boxes[0].call("pause")
    boxes[1].call("pause")

    def page(**params):
        return client.http.get("/v2/sandboxes", params=params)

    seen, token, pages = [], None, 0
    while pages == 0 or token:
        answer = page(limit=3, **({"nextToken": token} if token else {}))
        seen += [box["sandboxID"] for box in answer.json()]
        assert answer.headers["X-Total-Running"] == "6"
        token, pages = answer.headers.get("X-Next-Token"), pages + 1
        if pages == 1:
            # neither a new sandbox nor the end of one already seen shifts the pages
            client.create(metadata={"late": "1"}).kill()
            client.request("DELETE", f"/sandboxes/{seen[0]}")
            client.create(metadata={"n": "7"})
    assert pages == 3 and len(seen) == len(set(seen)) == 8
    started = [box["startedAt"] for box in page().json()]
    assert started == sorted(started, reverse=True)
    assert [b["startedAt"] for b in page(order="asc").json()] == sorted(started)
    assert {b["sandboxID"] for b in page(state="paused").json()} == {boxes[0].id, boxes[1].id}
    assert len(page(state="paused,running").json()) == 8
    assert [b["metadata"]["n"] for b in page(metadata=quote("n=3")).json()] == ["3"]
    if odd.id in client.ids():
        twice = "&".join(f"{quote(quote(k, safe=''), safe='')}={quote(quote(v, safe=''), safe='')}"
                         for k, v in {"k é": "a=b&c %"}.items())
        assert [b["sandboxID"] for b in page(metadata=quote(twice)).json()] == [odd.id]
    assert page(metadata=quote("n=3&n=4")).json() == []
    assert page(template="base").json() and page(template="other").json() == []
    soon = (datetime.now(timezone.utc) + timedelta(seconds=5)).isoformat()
    assert page(startedAfter=soon).json() == []
    # the old list: what runs, and no pages
    old = client.http.get("/sandboxes")
    assert {b["state"] for b in old.json()} == {"running"} and "X-Next-Token" not in old.headers
    for bad in ({"limit": 0}, {"limit": 101}, {"limit": "x"}, {"state": "gone"}, {"order": "up"},
                {"nextToken": "x"}, {"startedAfter": "yesterday"}, {"template": "a b"}):
        check_error(page(**bad), 400)


def test_timeouts(client):
    box = client.create(timeout=100)
    assert box.call("timeout", {"timeout": 30}).status_code == 204 and 28 < ends_in(box) <= 30
    # connect and refreshes only extend
    answer = box.call("connect", {"timeout": 10})
    assert answer.status_code == 200 and answer.json()["sandboxID"] == box.id and 25 < ends_in(box)
    assert box.call("connect", {"timeout": 60}).status_code == 200 and 58 < ends_in(box) <= 60
    assert box.call("refreshes", {"duration": 5}).status_code == 204 and 55 < ends_in(box)
    assert box.call("refreshes", {"duration": 90}).status_code == 204 and 88 < ends_in(box) <= 90
    # beyond the longest life it is clamped, or refused where E2B refuses
    assert box.call("timeout", {"timeout": 7200}).status_code == 204 and 3590 < ends_in(box) <= 3600
    check_error(box.call("connect", {"timeout": 7200}), 400)
    check_error(box.call("connect", {}), 400)
    check_error(box.call("refreshes", {"duration": 3601}), 400)
    check_error(box.call("timeout", {"timeout": -1}), 400)


def test_deadlines_are_kept_within_a_second(client, slow):
    boxes = many(client, 12, timeout=300)
    paused = client.create(timeout=300, autoPause=True)
    for box in boxes + [paused]:
        asked = time.monotonic()
        assert box.call("timeout", {"timeout": 2}).status_code == 204
    due = time.monotonic() + 2
    assert client.ids() == {box.id for box in boxes} | {paused.id}
    while client.ids() != {paused.id} or paused.get().json()["state"] != "paused":
        assert time.monotonic() < due + 1 * slow, "sandboxes outlived their time by more than a second"
        time.sleep(0.05)
    assert time.monotonic() > asked + 2 - 0.05


def test_pause_keeps_memory_and_resumes(client, slow):
    box = client.create(timeout=60)
    box.run("(i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done) >steps 2>&1 & disown")
    wait_until("steps", lambda: len(box.run("cat steps").out.split()) > 5)
    assert box.call("pause").status_code == 204
    check_error(box.call("pause"), 409)
    check_error(box.call("timeout", {"timeout": 10}), 404)
    check_error(box.call("pause", {"memory": 0}), 400)
    assert box.get().json()["state"] == "paused" and box.get().json()["domain"] is None
    assert box.file("/home/user/steps").status_code == 502
    time.sleep(0.5)
    answer = box.call("resume", {"timeout": 60})
    assert answer.status_code == 201
    check_error(box.call("resume", {"timeout": 60}), 409)
    time.sleep(0.2)
    steps = [int(step) for step in box.ok("cat steps").split()]
    # no step lost, none made while it was paused
    assert steps == list(range(1, len(steps) + 1)) and len(steps) < 400
    assert box.call("pause").status_code == 204
    assert box.call("connect", {"timeout": 60}).status_code == 201
    assert box.ok("kill -0 $(pgrep -f 'sleep 0.02' | head -1) && echo alive").strip() == "alive"
    assert box.call("pause").status_code == 204 and box.kill().status_code == 204


def test_a_paused_sandbox_uses_no_cpu(client):
    box = client.create()
    box.run("(while :; do :; done) >/dev/null 2>&1 & disown")
    before = box.get("/metrics").json()
    if not before:
        pytest.skip("no cgroup to measure by on this machine")
    time.sleep(0.6)
    busy = box.get("/metrics").json()[-1]["cpuUsedPct"]
    assert busy > 3
    box.call("pause")
    time.sleep(2)
    # measured over the pause and the moment after it
    box.call("connect", {"timeout": 60})
    assert box.get("/metrics").json()[-1]["cpuUsedPct"] < busy * 0.8


def test_auto_resume_by_traffic_needs_the_token(client):
    box = client.create(secure=True, autoResume={"enabled": True}, timeout=100)
    box.call("pause")
    assert client.http.get("/files", params={"path": "/etc/hosts"},
                           headers={"E2b-Sandbox-Id": box.id, "E2b-Sandbox-Port": "49983"}).status_code == 403
    assert client.http.get("/files", params={"path": "/etc/hosts"},
                           headers=box.headers() | {"X-Access-Token": "wrong"}).status_code == 403
    assert box.get().json()["state"] == "paused"
    assert box.file("/etc/hosts").status_code == 200
    assert box.get().json()["state"] == "running" and ends_in(box) > 290
    stays = client.create(timeout=100)
    stays.call("pause")
    assert stays.port(80).status_code == 502 and stays.get().json()["state"] == "paused"


def test_private_traffic_needs_its_own_token(client):
    box = client.create(secure=True, network={"allowPublicTraffic": False})
    box.run("python3 -m http.server 8000 >/dev/null 2>&1 & disown")
    headers = {"e2b-traffic-access-token": box.made["trafficAccessToken"]}
    wait_until("server", lambda: client.http.get("/", headers=box.headers("8000") | headers).status_code == 200)
    assert box.port(8000).status_code == 403
    assert client.http.get("/", headers=box.headers("8000") | {"e2b-traffic-access-token": "x"}).status_code == 403
    # the agent's own port asks for its own
    assert box.file("/etc/hosts").status_code == 200


def test_metrics_and_logs(client):
    box = client.create()
    box.ok("head -c 5M /dev/zero >f")
    samples = box.get("/metrics").json()
    if samples:
        last = samples[-1]
        assert last["memTotal"] == 1 << 30 and 0 < last["memUsed"] < last["memTotal"] and last["cpuCount"] == 2
        assert last["diskTotal"] == 0 or 5 << 20 <= last["diskUsed"] < last["diskTotal"]
        now = int(time.time())
        assert box.get(f"/metrics?start={now + 10}").json() == [] and box.get(f"/metrics?end={now - 100}").json() == []
        several = client.http.get("/sandboxes/metrics", params={"sandbox_ids": f"{box.id},absent"}).json()
        assert set(several["sandboxes"]) == {box.id}
    check_error(client.http.get("/sandboxes/metrics"), 400)
    check_error(box.get("/metrics?start=x"), 400)
    box.call("pause")
    box.call("connect", {"timeout": 100})
    logs = box.get("/logs").json()
    lines = [json.loads(entry["line"]) for entry in logs["logs"]]
    assert [(line["message"], line["level"]) for line in lines] == [(what, "info")
                                                                    for what in ("started", "paused", "resumed")]
    assert [entry["message"] for entry in logs["logEntries"]] == ["started", "paused", "resumed"]
    assert len(box.get("/logs?limit=1").json()["logs"]) == 1

    def v2(query: str) -> list[str]:
        return [e["message"] for e in client.request("GET", f"/v2/sandboxes/{box.id}/logs?{query}").json()["logs"]]

    assert v2("direction=backward&limit=2") == ["resumed", "paused"]
    assert v2("search=aus") == ["paused"] and v2("level=error") == [] and v2("cursor=99999999999999") == []
    for bad in ("direction=up", "level=loud", "limit=1001", "cursor=x"):
        check_error(client.request("GET", f"/v2/sandboxes/{box.id}/logs?{bad}"), 400)


def test_a_sandbox_that_ends_by_itself_is_gone(client):
    box = client.create()
    # its first process takes the signal: it is the sandbox's own to end
    box.run("(sleep 0.2; kill -TERM 1) >/dev/null 2>&1 & disown")
    wait_until("gone", lambda: box.get().status_code == 404, 10)
    assert box.port(80).status_code == 502


def test_what_this_host_has_not_is_said(client):
    for method, path in (("POST", "/volumes"), ("GET", "/volumes/x"), ("POST", "/templates/base/nothing")):
        answer = client.request(method, path, {})
        assert (answer.status_code, answer.json()["code"]) == (501, 501), (method, path, answer.text)
    assert client.request("GET", "/snapshotsx").status_code == 404


def test_templates_are_listed_and_found(client):
    for path in ("/templates", "/v2/templates"):
        listed = client.request("GET", path).json()
        assert [t["templateID"] for t in listed] == ["base"] and listed[0]["names"] == ["base"]
        assert listed[0]["buildStatus"] == "ready" and listed[0]["envdVersion"] and listed[0]["createdAt"]
    assert client.request("GET", "/templates/aliases/base").json() == {"templateID": "base", "public": False}
    assert client.request("GET", "/templates/aliases/team%2Fbase").json()["templateID"] == "base"
    check_error(client.request("GET", "/templates/aliases/absent"), 404)
    check_error(client.request("GET", "/templates/absent"), 404)
    check_error(client.request("GET", "/v2/templates?limit=0"), 400)
    assert client.request("GET", "/templates/base").json()["builds"][0]["status"] == "ready"
    check_error(client.request("DELETE", "/templates/base"), 400, "file of this machine")
    check_error(client.request("DELETE", "/templates/absent"), 404)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only a host that runs as root has disks that are images")


@as_root
def test_snapshots_and_forks_say_that_memory_is_not_kept(client):
    box = client.create(metadata={"m": "1"}, envVars={"FROM": "create"}, secure=True)
    box.ok("echo mine >f")
    made = box.call("snapshots", {"name": "Team/Kept:v1"})
    assert made.status_code == 201
    assert made.json() == {"snapshotID": "kept:v1", "names": ["kept:v1"], "memory": False}
    check_error(client.try_create(templateID="kept"), 404)
    check_error(client.try_create(templateID="kept:v2"), 404)
    assert client.create(templateID="kept:v1").ok("cat f").strip() == "mine"
    # the same name again: the older one cannot be reached any more, and its disk goes
    box.ok("echo newer >f")
    assert box.call("snapshots", {"name": "kept:v1"}).status_code == 201
    assert client.create(templateID="kept:v1").ok("cat f").strip() == "newer"
    assert len(list((client.host.state / "i").iterdir())) == 1
    check_error(box.call("snapshots", {"name": "base"}), 400, "template of this machine")
    check_error(box.call("snapshots", {"name": "a b"}), 400)
    forks = box.call("fork", {"count": 2, "timeout": 60})
    assert forks.status_code == 201 and [f["memory"] for f in forks.json()] == [False, False]
    fork = Box(client, forks.json()[0]["sandbox"])
    assert fork.made["templateID"] == "base" and fork.get().json()["metadata"] == {"m": "1"}
    assert fork.token and fork.token != box.token and fork.ok("cat f; echo $FROM") == "newer\ncreate\n"
    for body in ({"count": 0}, {"count": 101}, {"timeout": 0}):
        check_error(box.call("fork", body), 400)
    # more than there may be: each says for itself
    many_forks = box.call("fork", {"count": 30, "timeout": 60}).json()
    assert {("sandbox" in f) for f in many_forks} == {True, False}
    assert {f["error"]["code"] for f in many_forks if "error" in f} == {429}
    assert client.request("DELETE", "/templates/kept:v1").status_code == 204
    assert not list((client.host.state / "i").iterdir())
    box.kill()
    check_error(box.call("fork"), 404)
    check_error(box.call("snapshots", {}), 404)


@as_root
def test_memory_inside_is_the_sandboxs_own(client):
    box = client.create()
    shown = dict(line.split(":") for line in box.ok("cat /proc/meminfo").splitlines())
    assert int(shown["MemTotal"].split()[0]) == 1 << 20
    assert int(box.ok("free -b | awk '/Mem:/ {print $2}'")) == 1 << 30
    box.run("python3 -c 'import time; x = bytearray(200 << 20); time.sleep(30)' >/dev/null 2>&1 & disown")
    wait_until("its use to be shown", lambda: int(box.ok("free -m | awk '/Mem:/ {print $3}'")) >= 200, 10)
    assert box.run("echo x | sudo tee /proc/meminfo").code != 0


@as_root
def test_a_build_is_refused_or_runs_as_its_steps_say(client):
    def request(name: str, **body):
        return client.request("POST", "/v3/templates", {"name": name} | body)

    check_error(request("base"), 400, "template of this machine")
    check_error(request("a b"), 400)
    check_error(client.request("POST", "/v3/templates", {}), 400, "name")
    check_error(request("built", tags=["a b"]), 400, "tags")
    made = request("built:v1", tags=["v2"])
    assert made.status_code == 202 and made.json()["names"] == ["built:v1", "built:v2"]
    template, build = made.json()["templateID"], made.json()["buildID"]
    path = f"/templates/{template}/builds/{build}"
    assert client.request("GET", f"{path}/status").json()["status"] == "waiting"
    for field, body in {"BREW": {"steps": [{"type": "BREW", "args": ["x"]}]}, "RUN": {"steps": [{"type": "RUN", "args": []}]},
                        "hash": {"steps": [{"type": "COPY", "args": ["a", "b"], "filesHash": "../x"}]},
                        "steps": {"steps": "RUN"}, "startCmd": {"startCmd": 1}}.items():
        check_error(client.request("POST", f"/v2{path}", body), 400, field)
    # files come by a URL that holds a token, without the key
    link = client.request("GET", f"/templates/{template}/files/{'ab' * 32}")
    assert link.status_code == 201 and link.json()["present"] is False
    stranger = {"X-API-Key": ""}
    check_error(client.http.put(link.json()["url"][:-1] + "x", content=b"x", headers=stranger), 401)
    check_error(client.http.put(link.json()["url"].replace("abab", "cdcd"), content=b"x", headers=stranger), 401)
    assert client.http.put(link.json()["url"], content=b"no archive", headers=stranger).status_code == 200
    assert client.request("GET", f"/templates/{template}/files/{'ab' * 32}").json()["present"] is True
    steps = [{"type": "RUN", "args": ["echo one; echo two >&2"]}, {"type": "COPY", "args": ["a", "b"], "filesHash": "ab" * 32}]
    assert client.request("POST", f"/v2{path}", {"steps": steps}).status_code == 202
    check_error(client.request("POST", f"/v2{path}", {}), 409)
    done = wait_until("the build to end", lambda: (s := client.request("GET", f"{path}/status").json())["status"]
                      in ("ready", "error") and s, 30)
    assert done["status"] == "error" and done["reason"]["step"] == "2" and "COPY" in done["reason"]["message"], done
    assert {"one", "two"} <= set(done["logs"])
    assert len(client.request("GET", f"{path}/status?logsOffset=1").json()["logs"]) == len(done["logs"]) - 1
    assert client.request("GET", f"{path}/logs").json()["logs"] == done["logEntries"]
    check_error(client.request("GET", f"/templates/{template}/builds/{template}/status"), 404)
    assert client.ids() == set() and not list((client.host.state / "i").iterdir())
