"""A provider that misbehaves on demand: E2B's control plane (and a small envd) with seeded,
per-route faults over a ground-truth log that is fsynced at every effect.

It exists to ask questions a well-behaved provider cannot: what if the answer is lost, late,
garbage, a 429. What runs commands for real is deploy/sandbox-host; this one only keeps state.

Run as a program: `fault_provider.py --port N --log FILE`. Control it over HTTP:
    POST /_faults   [{"route": "create", "mode": "status", "status": 500, "times": 3, ...}, ...]
    POST /_config   {"delay_ms": 500, "jitter_ms": 0, "max_timeout": 3600}   every call takes delay_ms, and up to jitter_ms more
    POST /_config   {"fleet": [sandbox id, ...]}                             the list shows these alone, each as "i" + its id
                    {"clock_shift_s": -600}   its own clock, which its times and its Date go by, is that wrong
    GET  /_state    {"sandboxes": {...}, "calls": {...}}
    POST /_remove   {"id": "..."}        the sandbox vanishes, as if the provider lost it
    POST /_seed     [{"metadata": {...}, "id": "..."}, ...]  sandboxes nobody asked for (id is optional);
                    answers their ids
    POST /_set      {"id": "...", "state": "paused"}

Fault modes, without the effect:
    status        answer `status` (with `headers`, `body`); 429 with and without Retry-After
    html          answer `status` (404) with a page of HTML, as a proxy does
    stranger      as to another team's key: lists are empty, every sandbox is 404, creates are refused
    hidden        the same for some sandboxes only: those of `ids`, or else the `share` (0.5) that their
                  ids choose; the others as normal
    hang          accept, never answer
    reset_before  close with RST
With the effect:
    reset_after   close with RST instead of answering
    hang_after    never answer
    late          close with RST at once, have the effect `delay_ms` later
    slow          answer one byte every 50 ms
    garbage       a 2xx with a body that is no JSON
    cut           a 2xx with the first half of the JSON, its length right
    content_type  the right body under text/html
    truncated     a Content-Length larger than the body
    huge          an endless body (bounded at 64 MiB)
Of lists only:
    stale         the list as it was `delay_ms` ago
    unfiltered    everything, whatever was asked for
    page_error    one item a page, and every page but the first is answered `status` (500)
Else:
    delay         wait `delay_ms`, then go on as normal
Each fault applies `times` times (default 1, -1 for ever), with `probability` (default 1); one with
`page` to that page of a list only.

The log has a line per effect, on disk before the client can learn of it, and a line per call once
it has ended. A caller that puts /as/NAME before the path is named in the call's line.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import collections
import contextlib
import email.utils
import json
import os
import random
import secrets
import string
import struct
import sys
import time
import urllib.parse
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from minihttp import Request, Response, read_request, reset  # noqa: E402

ROUTES = ("create", "get", "list", "delete", "pause", "connect", "timeout", "exec", "files")
PAST_SECONDS = 60  # how far back a stale list can look


def rfc3339(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03d}Z"


def refuse(status: int, message: str) -> Response:
    return Response(status, {"code": status, "message": message})


class Provider:
    def __init__(self, log_path: str | None, seed: int, max_timeout: int):
        self.sandboxes: dict[str, dict] = {}
        self.past: collections.deque = collections.deque()  # (time, id, what it was before or None)
        self.calls = dict.fromkeys(ROUTES, 0)
        self.faults: list[dict] = []
        self.delay_ms = self.jitter_ms = self.clock_shift_s = 0
        self.rng = random.Random(seed)
        self.max_timeout = max_timeout
        self.fleet: list[str] = []
        self.log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log_path else None

    def log(self, line: dict) -> None:
        if self.log_fd is not None:
            os.write(self.log_fd, (json.dumps(line) + "\n").encode())

    def effect(self, what: str, before: dict | None, after: dict, **more) -> None:
        moment = time.time()
        self.past.append((moment, after["id"], before))
        while self.past[0][0] < moment - PAST_SECONDS:
            self.past.popleft()
        self.log({"t": moment, "effect": what, "id": after["id"], **more})
        if self.log_fd is not None:
            os.fsync(self.log_fd)

    def next_fault(self, route: str, page: int = 1) -> dict:
        for fault in self.faults:
            if fault["route"] in (route, "*") and fault.get("times", 1) != 0 and fault.get("page", page) == page:
                if self.rng.random() >= fault.get("probability", 1.0):
                    continue
                fault["times"] = fault.get("times", 1) - 1 if fault.get("times", 1) > 0 else -1
                return fault
        return {"mode": None}

    # ---- sandboxes -------------------------------------------------------------------------

    def is_hidden(self, fault: dict, sid: str) -> bool:
        if fault["mode"] == "stranger":
            return True
        if fault["mode"] != "hidden":
            return False
        return sid in fault["ids"] if "ids" in fault else zlib.crc32(sid.encode()) % 1000 < 1000 * fault.get("share", 0.5)

    def expire(self, sid: str = "") -> None:
        """At its end a sandbox is paused: that is what the server asks for. Without an id: all of them."""
        for s in [self.sandboxes[sid]] if sid in self.sandboxes else self.sandboxes.values() if not sid else ():
            if s["state"] == "running" and s["end"] < time.time():
                self.change(s, "expire", state="paused")

    def change(self, s: dict, what: str, **values) -> None:
        before = dict(s)
        s |= values
        self.effect(what, before, s)

    def list_at(self, moment: float) -> list[dict]:
        boxes = dict(self.sandboxes)
        for at, sid, before in reversed(self.past):
            if at <= moment:
                break
            if before is None:
                boxes.pop(sid, None)
            else:
                boxes[sid] = before
        return list(boxes.values())

    def view(self, s: dict, detail: bool = False) -> dict:
        out = {"sandboxID": s["id"], "templateID": s["template"], "clientID": "6532622b",
               "envdVersion": "0.6.13", "metadata": s["metadata"]}
        if detail:
            shift = self.clock_shift_s
            out |= {"state": s["state"], "startedAt": rfc3339(s["born"] + shift), "endAt": rfc3339(s["end"] + shift),
                    "cpuCount": 2, "memoryMB": 512}
        return out

    def make(self, template: str, metadata: dict, timeout: int, envs: dict, sid: str | None = None) -> dict:
        sid = sid or "i" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(20))
        s = {"id": sid, "template": template, "metadata": metadata, "state": "running", "born": time.time(),
             "end": time.time() + timeout, "envs": envs, "token": secrets.token_hex(16)}
        self.sandboxes[sid] = s
        return s

    def create(self, body: dict) -> Response:
        timeout = int(body.get("timeout", 15))
        if body.get("templateID") == "missing":
            return refuse(404, "template 'missing' not found")
        if timeout > self.max_timeout:
            return refuse(400, f"Timeout cannot be greater than {self.max_timeout // 3600} hours")
        s = self.make(body["templateID"], body.get("metadata", {}), timeout, body.get("envVars", {}))
        self.effect("create", None, s, metadata=s["metadata"])
        return Response(201, self.view(s) | {"envdAccessToken": s["token"], "domain": None, "alias": None})

    def list(self, request: Request, fault: dict) -> Response:
        wanted = {} if fault["mode"] == "unfiltered" else filter_of(request)
        states = [state for text in request.query.get("state", []) for state in text.split(",")]
        lag = fault["delay_ms"] / 1000 if fault["mode"] == "stale" else 0
        found = [self.view(s, True) for s in self.list_at(time.time() - lag)
                 if all(s["metadata"].get(k) == v for k, v in wanted.items()) and (not states or s["state"] in states)
                 and not self.is_hidden(fault, s["id"])]
        found.sort(key=lambda v: v["startedAt"], reverse=True)
        start, limit = int(request.arg("nextToken") or 0), int(request.arg("limit") or 100)
        if self.fleet:
            return self.fleet_page(wanted, start, limit)
        if fault["mode"] == "page_error":
            if start > 0:
                return refuse(fault.get("status", 500), "injected")
            return Response(200, found[:1], {"X-Next-Token": "1"})
        more = {"X-Next-Token": str(start + limit)} if start + limit < len(found) else {}
        return Response(200, found[start:start + limit], more)

    def fleet_page(self, metadata: dict, start: int, limit: int) -> Response:
        """A page of a list that is too long to be made anew for each."""
        page = [{"sandboxID": "i" + box, "state": "running", "startedAt": rfc3339(0), "metadata": metadata | {"sandbox_id": box}}
                for box in self.fleet[start:start + limit]]
        return Response(200, page, {"X-Next-Token": str(start + limit)} if start + limit < len(self.fleet) else {})

    def act(self, route: str, sid: str, body: dict, fault: dict) -> Response:
        s = self.sandboxes.get(sid)
        if s is None or self.is_hidden(fault, sid):
            return refuse(404, f"sandbox \"{sid}\" doesn't exist or you don't have access to it")
        if route == "get":
            return Response(200, self.view(s, True) | {"envdAccessToken": s["token"]})
        if route == "delete":
            del self.sandboxes[sid]
            self.effect("delete", s, s)
        elif route == "pause":
            if s["state"] == "paused":
                return refuse(409, f"Sandbox '{sid}' is already paused")
            self.change(s, "pause", state="paused")
        elif route == "connect":
            status = 200 if s["state"] == "running" else 201
            end = time.time() + int(body["timeout"])
            if status == 201:
                self.change(s, "resume", state="running", born=time.time(), end=end)
            s["end"] = max(s["end"], end)
            return Response(status, self.view(s) | {"envdAccessToken": s["token"]})
        elif route == "timeout":
            if s["state"] != "running":
                return refuse(404, "not running")
            self.change(s, "timeout", end=min(time.time() + int(body["timeout"]), s["born"] + self.max_timeout))
        return Response(204)

    def answer(self, route: str, request: Request, sid: str, fault: dict) -> Response:
        self.expire("none" if route in ("exec", "files", "create") else sid)
        if route in ("exec", "files"):
            box = self.sandboxes.get(sid := request.headers.get("e2b-sandbox-id", ""))
            if sid and (box is None or box["state"] != "running" or self.is_hidden(fault, sid)):
                return Response(502, {"sandboxId": sid, "message": "The sandbox was not found", "code": 502})
        if route == "exec":
            return Response(200, envelope(0, {"event": {"start": {"pid": 7}}}) +
                            envelope(0, {"event": {"data": {"stdout": base64.b64encode(b"fake\n").decode()}}}) +
                            envelope(0, {"event": {"end": {"exited": True, "status": "exit status 0"}}}) + envelope(2, {}),
                            {"Content-Type": "application/connect+json"})
        if route == "files":
            return Response(200, b"[]", {"Content-Type": "text/plain"})
        if "x-api-key" not in request.headers:
            return refuse(401, "no API key")
        if route == "create":
            return refuse(403, "no access to this template") if fault["mode"] == "stranger" else self.create(request.json())
        if route == "list":
            return self.list(request, fault)
        return self.act(route, sid, request.json(), fault)

    def control(self, request: Request) -> Response:
        if request.path == "/_faults":
            self.faults = request.json()
            return Response(200, {})
        if request.path == "/_config":
            self.delay_ms = request.json().get("delay_ms", self.delay_ms)
            self.jitter_ms = request.json().get("jitter_ms", self.jitter_ms)
            self.max_timeout = request.json().get("max_timeout", self.max_timeout)
            self.fleet = request.json().get("fleet", self.fleet)
            self.clock_shift_s = request.json().get("clock_shift_s", self.clock_shift_s)
            return Response(200, {})
        if request.path == "/_remove":
            gone = self.sandboxes.pop(request.json()["id"], None)
            if gone is not None:
                self.effect("lose", gone, gone)
            return Response(200, {"removed": gone is not None})
        if request.path == "/_seed":
            made = [self.make("base", item["metadata"], self.max_timeout, {}, item.get("id")) for item in request.json()]
            self.past.extend((time.time(), s["id"], None) for s in made)
            return Response(200, [s["id"] for s in made])
        if request.path == "/_set":
            change = request.json()
            self.change(self.sandboxes[change["id"]], "set", **change)
            return Response(200, {})
        if request.path == "/_state":
            self.expire()
            return Response(200, {"calls": self.calls, "sandboxes": {
                k: {"state": v["state"], "metadata": v["metadata"], "end": v["end"], "envs": v["envs"]}
                for k, v in self.sandboxes.items()}})
        return refuse(404, "no such control")


def route_of(method: str, path: str) -> tuple[str | None, str]:
    """(route, sandbox id)"""
    parts = [p for p in path.split("/") if p]
    if parts == ["sandboxes"] and method == "POST":
        return "create", ""
    if parts in (["sandboxes"], ["v2", "sandboxes"]) and method == "GET":
        return "list", ""
    if len(parts) == 2 and parts[0] == "sandboxes":
        return {"GET": "get", "DELETE": "delete"}.get(method), parts[1]
    if len(parts) == 3 and parts[0] == "sandboxes" and method == "POST":
        return parts[2] if parts[2] in ("pause", "connect", "timeout") else None, parts[1]
    if path.startswith("/process.Process/"):
        return "exec", ""
    return ("files", "") if path == "/files" else (None, "")


def filter_of(request: Request) -> dict[str, str]:
    """A list's metadata is encoded three times: the query decode took one, two are left."""
    pairs = (pair.partition("=") for pair in urllib.parse.unquote(request.arg("metadata")).split("&") if pair)
    return {urllib.parse.unquote(key): urllib.parse.unquote(value) for key, _, value in pairs}


def envelope(flags: int, message: dict) -> bytes:
    payload = json.dumps(message).encode()
    return struct.pack(">BI", flags, len(payload)) + payload


class Gone(Exception):
    """The connection is at its end."""


async def hang(reader: asyncio.StreamReader) -> None:
    """Until the client gives up."""
    with contextlib.suppress(ConnectionError):
        await reader.read(1)
    raise Gone


async def send_badly(mode: str | None, response: Response, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers in the manner of the fault, after the effect."""
    if mode == "reset_after":
        reset(writer)
        raise Gone
    if mode == "hang_after":
        await hang(reader)
    data = response.encode()
    head, _, body = data.partition(b"\r\n\r\n")
    if mode in ("garbage", "cut", "content_type"):
        response.status = 200 if response.status == 204 else response.status
        response.body = {"garbage": b"<html>{[not json", "cut": body[:len(body) // 2], "content_type": body}[mode]
        response.headers["Content-Type"] = "text/html" if mode == "content_type" else "application/json"
        data = response.encode()
    if mode == "truncated":
        response.status = 200 if response.status == 204 else response.status
        response.headers["Content-Length"] = str(len(body) + 100)
        writer.write(response.encode())
        await writer.drain()
        raise Gone
    if mode == "huge":
        response.status = 200 if response.status == 204 else response.status
        response.headers["Content-Length"] = str(64 << 20)
        writer.write(response.encode(head_only=True))
        for _ in range(64):
            writer.write(b"x" * (1 << 20))
            await writer.drain()
        return
    if mode == "slow":
        for byte in data:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0.05)
        return
    writer.write(data)
    await writer.drain()


async def exchange(provider: Provider, request: Request, route: str, sid: str, fault: dict, call: dict,
                   reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    mode = fault["mode"]
    if provider.delay_ms or provider.jitter_ms:
        await asyncio.sleep((provider.delay_ms + provider.rng.uniform(0, provider.jitter_ms)) / 1000)
    if mode == "delay":
        await asyncio.sleep(fault["delay_ms"] / 1000)
    elif mode == "hang":
        await hang(reader)
    elif mode == "reset_before":
        reset(writer)
        raise Gone
    elif mode == "late":
        reset(writer)
        await asyncio.sleep(fault["delay_ms"] / 1000)
    if mode == "status":
        response = Response(fault["status"], fault.get("body", {"code": fault["status"], "message": "injected"}),
                            dict(fault.get("headers", {})))
    elif mode == "html":
        response = Response(fault.get("status", 404), b"<html><head><title>Not here</title></head></html>",
                            {"Content-Type": "text/html"})
    else:
        response = provider.answer(route, request, sid, fault)
    response.headers.setdefault("Date", email.utils.formatdate(time.time() + provider.clock_shift_s, usegmt=True))
    call["status"] = response.status
    if route == "create" and isinstance(response.body, dict):
        call["id"] = response.body.get("sandboxID", "")
    if "Retry-After" in response.headers:
        call["retry_after"] = float(response.headers["Retry-After"])
    if mode == "late":
        raise Gone
    await send_badly(mode, response, reader, writer)
    call["answered"] = True


def caller_of(request: Request) -> str:
    """Takes /as/NAME off the request."""
    if not request.path.startswith("/as/"):
        return ""
    _, _, name, path = request.path.split("/", 3)
    request.path = "/" + path
    return name


async def serve(provider: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (request := await read_request(reader)) is not None:
            if request.path.startswith("/_"):
                writer.write(provider.control(request).encode())
                await writer.drain()
                continue
            caller = caller_of(request)
            route, sid = route_of(request.method, request.path)
            if route is None:
                writer.write(Response(404).encode())
                await writer.drain()
                continue
            if route == "exec" and b"@@missing" in request.body:  # nothing runs here, our command runner neither
                writer.write(Response(200, envelope(0, {"event": {"data": {"stdout": base64.b64encode(b"@@unusable\n").decode()}}}) +
                                      envelope(0, {"event": {"end": {"exited": True}}}) + envelope(2, {}),
                                      {"Content-Type": "application/connect+json"}).encode())
                await writer.drain()
                continue
            provider.calls[route] += 1
            page = int(request.arg("nextToken") or 0) // int(request.arg("limit") or 100) + 1 if route == "list" else 1
            fault = provider.next_fault(route, page)
            call = {"t": time.time(), "call": route, "by": caller, "id": sid, "fault": fault["mode"], "answered": False}
            if route in ("create", "list"):
                metadata = request.json().get("metadata", {}) if route == "create" else filter_of(request)
                call |= {"sandbox": metadata.get("sandbox_id", ""), "job": metadata.get("sandbox_job", "")}
            try:
                await exchange(provider, request, route, sid, fault, call, reader, writer)
            finally:
                provider.log(call | {"end": time.time()})
    except (ConnectionError, asyncio.IncompleteReadError, Gone):
        pass
    finally:
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-timeout", type=int, default=3600)
    options = parser.parse_args()
    provider = Provider(options.log, options.seed, options.max_timeout)
    server = await asyncio.start_server(lambda r, w: serve(provider, r, w), options.host, options.port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
