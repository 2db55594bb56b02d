"""A provider that misbehaves on demand: E2B's control plane (and a small envd) with seeded,
per-route faults over a ground-truth log that is fsynced at every effect.

It exists to ask questions a well-behaved provider cannot: what if the answer is lost, late,
garbage, a 429. What runs commands for real is deploy/sandbox-host; this one only keeps state.

Run as a program: `fault_provider.py --port N --log FILE`. Control it over HTTP:
    POST /_faults   [{"route": "create", "mode": "status", "status": 500, "times": 3, ...}, ...]
    POST /_config   {"delay_ms": 500}
    GET  /_state    {"sandboxes": {...}, "calls": {...}}
    POST /_remove   {"id": "..."}        the sandbox vanishes, as if the provider lost it

Fault modes:
    status        answer `status` (with `headers`, `body`) without the effect
    hang          accept, never answer
    reset_before  close with RST before the effect
    reset_after   have the effect, then close with RST instead of answering
    late          close with RST at once, have the effect `delay_ms` later
    slow          have the effect, answer one byte every 50 ms
    garbage       have the effect, answer 2xx with a body that is no JSON
    truncated     have the effect, answer with a Content-Length larger than the body
    huge          have the effect, answer with an endless body (bounded at 64 MiB)
    delay         wait `delay_ms`, then go on as normal
Each fault applies `times` times (default 1, -1 for ever), with `probability` (default 1).
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import random
import secrets
import socket
import string
import struct
import time
import urllib.parse

ROUTES = ("create", "get", "list", "delete", "pause", "connect", "timeout", "exec", "files")


def now_rfc3339(offset: float = 0.0) -> str:
    moment = time.time() + offset
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03d}Z"


class Provider:
    def __init__(self, log_path: str | None, seed: int, max_timeout: int):
        self.sandboxes: dict[str, dict] = {}
        self.calls = {route: 0 for route in ROUTES}
        self.faults: list[dict] = []
        self.delay_ms = 0
        self.rng = random.Random(seed)
        self.max_timeout = max_timeout
        self.log_fd = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if log_path else None

    def effect(self, what: str, sandbox: str, **more) -> None:
        """One line per effect, on disk before the client can learn of it."""
        if self.log_fd is not None:
            line = json.dumps({"t": time.time(), "effect": what, "id": sandbox, **more}) + "\n"
            os.write(self.log_fd, line.encode())
            os.fsync(self.log_fd)

    def next_fault(self, route: str) -> dict | None:
        for fault in self.faults:
            if fault["route"] in (route, "*") and fault.get("times", 1) != 0:
                if self.rng.random() >= fault.get("probability", 1.0):
                    continue
                fault["times"] = fault.get("times", 1) - 1 if fault.get("times", 1) > 0 else -1
                return fault
        return None

    # ---- effects ---------------------------------------------------------------------------

    def view(self, s: dict, detail: bool = False) -> dict:
        out = {"sandboxID": s["id"], "templateID": s["template"], "clientID": "6532622b",
               "envdVersion": "0.6.13", "metadata": s["metadata"]}
        if detail:
            out |= {"state": s["state"], "startedAt": s["started"], "endAt": now_rfc3339(s["end"] - time.time()),
                    "cpuCount": 2, "memoryMB": 512}
        return out

    def handle(self, route: str, method: str, path: str, query: dict, body: dict):
        """Returns (status, headers, json-able or None)."""
        parts = [p for p in path.split("/") if p]
        sid = parts[1] if len(parts) > 1 and parts[0] == "sandboxes" else None
        s = self.sandboxes.get(sid) if sid else None
        if route == "create":
            if body.get("templateID") == "missing":
                return 404, {}, {"code": 404, "message": "template 'missing' not found"}
            if int(body.get("timeout", 15)) > self.max_timeout:
                return 400, {}, {"code": 400, "message": f"Timeout cannot be greater than {self.max_timeout // 3600} hours"}
            sid = "i" + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(20))
            s = {"id": sid, "template": body["templateID"], "metadata": body.get("metadata", {}), "state": "running",
                 "started": now_rfc3339(), "end": time.time() + int(body.get("timeout", 15)),
                 "born": time.time(), "envs": body.get("envVars", {}), "token": secrets.token_hex(16)}
            self.sandboxes[sid] = s
            self.effect("create", sid, metadata=s["metadata"])
            return 201, {}, self.view(s) | {"envdAccessToken": s["token"], "domain": None, "alias": None}
        if route == "list":
            # metadata is encoded three times: the query decode took one, two are left
            wanted = []
            for pair in filter(None, urllib.parse.unquote(query.get("metadata", "")).split("&")):
                key, _, value = pair.partition("=")
                wanted.append((urllib.parse.unquote(key), urllib.parse.unquote(value)))
            found = [self.view(s, True) for s in self.sandboxes.values()
                     if all(s["metadata"].get(k) == v for k, v in wanted)]
            found.sort(key=lambda v: v["startedAt"], reverse=True)
            start, limit = int(query.get("nextToken") or 0), int(query.get("limit", 100))
            page = found[start:start + limit]
            headers = {"X-Next-Token": str(start + limit)} if start + limit < len(found) else {}
            return 200, headers, page
        if s is None:
            return 404, {}, {"code": 404, "message": f"sandbox \"{sid}\" doesn't exist or you don't have access to it"}
        if route == "get":
            return 200, {}, self.view(s, True) | {"envdAccessToken": s["token"]}
        if route == "delete":
            del self.sandboxes[sid]
            self.effect("delete", sid)
            return 204, {}, None
        if route == "pause":
            if s["state"] == "paused":
                return 409, {}, {"code": 409, "message": f"Sandbox '{sid}' is already paused"}
            s["state"] = "paused"
            self.effect("pause", sid)
            return 204, {}, None
        if route == "connect":
            status = 200 if s["state"] == "running" else 201
            if status == 201:
                s["state"], s["born"] = "running", time.time()
                self.effect("resume", sid)
            s["end"] = max(s["end"], time.time() + int(body["timeout"]))
            return status, {}, self.view(s) | {"envdAccessToken": s["token"]}
        if route == "timeout":
            if s["state"] != "running":
                return 404, {}, {"code": 404, "message": "not running"}
            s["end"] = min(time.time() + int(body["timeout"]), s["born"] + self.max_timeout)
            self.effect("timeout", sid, end=s["end"])
            return 204, {}, None
        raise AssertionError(route)


def route_of(method: str, path: str) -> str | None:
    parts = [p for p in path.split("/") if p]
    if parts == ["sandboxes"] and method == "POST":
        return "create"
    if parts in (["sandboxes"], ["v2", "sandboxes"]) and method == "GET":
        return "list"
    if len(parts) == 2 and parts[0] == "sandboxes":
        return {"GET": "get", "DELETE": "delete"}.get(method)
    if len(parts) == 3 and parts[0] == "sandboxes" and method == "POST":
        return parts[2] if parts[2] in ("pause", "connect", "timeout") else None
    if path.startswith("/process.Process/"):
        return "exec"
    if path == "/files":
        return "files"
    return None


def reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def head(status: int, headers: dict, length: int) -> bytes:
    lines = [f"HTTP/1.1 {status} X"] + [f"{k}: {v}" for k, v in headers.items()]
    if status != 204:
        lines.append(f"Content-Length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def envelope(flags: int, message: dict) -> bytes:
    payload = json.dumps(message).encode()
    return struct.pack(">BI", flags, len(payload)) + payload


async def serve(provider: Provider, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            try:
                raw = await reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            lines = raw.decode("latin-1").split("\r\n")
            method, target, _ = lines[0].split(" ", 2)
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            url = urllib.parse.urlsplit(target)
            query = dict(urllib.parse.parse_qsl(url.query, keep_blank_values=True))

            if url.path.startswith("/_"):
                status, answer = control(provider, url.path, body)
                data = json.dumps(answer).encode()
                writer.write(head(status, {"Content-Type": "application/json"}, len(data)) + data)
                await writer.drain()
                continue

            route = route_of(method, url.path)
            if route is None:
                writer.write(head(404, {}, 0))
                await writer.drain()
                continue
            provider.calls[route] += 1
            fault = provider.next_fault(route) or {"mode": None}
            mode = fault["mode"]
            if provider.delay_ms:
                await asyncio.sleep(provider.delay_ms / 1000)
            if mode == "delay":
                await asyncio.sleep(fault["delay_ms"] / 1000)
            if mode == "hang":
                await asyncio.sleep(3600)
            if mode == "reset_before":
                return reset(writer)
            if mode == "status":
                data = json.dumps(fault.get("body", {"code": fault["status"], "message": "injected"})).encode()
                writer.write(head(fault["status"], {"Content-Type": "application/json"} | fault.get("headers", {}), len(data)) + data)
                await writer.drain()
                continue
            if mode == "late":
                reset(writer)
                await asyncio.sleep(fault["delay_ms"] / 1000)

            if route == "exec":
                out = envelope(0, {"event": {"start": {"pid": 7}}}) + \
                    envelope(0, {"event": {"data": {"stdout": base64.b64encode(b"fake\n").decode()}}}) + \
                    envelope(0, {"event": {"end": {"exited": True, "status": "exit status 0"}}}) + envelope(2, {})
                status, more, data = 200, {"Content-Type": "application/connect+json"}, out
            elif route == "files":
                status, more, data = 200, {"Content-Type": "text/plain"}, b"[]"
            else:
                if "x-api-key" not in headers:
                    status, more, answer = 401, {}, {"code": 401, "message": "no API key"}
                else:
                    status, more, answer = provider.handle(route, method, url.path, query, json.loads(body or b"{}"))
                more = {"Content-Type": "application/json"} | more
                data = b"" if answer is None else json.dumps(answer).encode()

            if mode == "late":
                return
            if mode == "reset_after":
                return reset(writer)
            if mode == "garbage":
                data = b"<html>{[not json"
                status = 200 if status == 204 else status
            if mode == "truncated":
                writer.write(head(200 if status == 204 else status, more, len(data) + 100) + data)
                await writer.drain()
                return
            if mode == "huge":
                writer.write(head(status, more, 64 << 20))
                for _ in range(64):
                    writer.write(b"x" * (1 << 20))
                    await writer.drain()
                continue
            if mode == "slow":
                for byte in head(status, more, len(data)) + data:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(0.05)
                continue
            writer.write(head(status, more, len(data)) + data)
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


def control(provider: Provider, path: str, body: bytes):
    if path == "/_faults":
        provider.faults = json.loads(body)
        return 200, {}
    if path == "/_config":
        config = json.loads(body)
        provider.delay_ms = config.get("delay_ms", provider.delay_ms)
        provider.max_timeout = config.get("max_timeout", provider.max_timeout)
        return 200, {}
    if path == "/_remove":
        gone = provider.sandboxes.pop(json.loads(body)["id"], None)
        return 200, {"removed": gone is not None}
    if path == "/_state":
        return 200, {"sandboxes": {k: {"state": v["state"], "metadata": v["metadata"], "end": v["end"], "envs": v["envs"]}
                                   for k, v in provider.sandboxes.items()}, "calls": provider.calls}
    return 404, {}


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-timeout", type=int, default=3600)
    options = parser.parse_args()
    provider = Provider(options.log, options.seed, options.max_timeout)
    server = await asyncio.start_server(lambda r, w: serve(provider, r, w), "127.0.0.1", options.port, backlog=1024)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
