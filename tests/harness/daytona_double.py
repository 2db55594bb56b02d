"""A double of Daytona for tests: its API and its toolbox proxy, over a ground-truth log that is
fsynced at every effect, and has a line for every call of the API that was answered. With `--real` each sandbox is a bubblewrap of its own with a toolbox
daemon inside (daytona_toolbox.py), so that commands and files are real; without, it keeps state only.

The awkward sides of the real one are in it: a create that answers `creating`, changes that refuse
others with 409 while they last, deletes that free the name at once and end later, lists that lag,
refused keys and deleted sandboxes that look alike (401), a 400 for a stopped one, error bodies that
are empty, throttlers with headers of their own, tokens that change with every start.

Control it over HTTP:
    POST /_faults   [{"route": "create", "mode": "status", "status": 500, "times": 3, ...}, ...]
    POST /_config   {"create_ms": 500, "stop_ms": 0, "start_ms": 0, "delete_ms": 0, "list_lag_ms": 0,
                     "delay_ms": 0, "create_end": "started|error|build_failed|creating",
                     "throttle": {"create": {"limit": 5, "window_ms": 1000}}, "keys": ["..."]}
    GET  /_state    {"sandboxes": {...}, "calls": {...}, "early": n}   early: calls made before the
                    end of a Retry-After that had been given for their route
    POST /_remove   {"id": "..."}        the sandbox vanishes
    POST /_set      {"id": "...", "state": "error", ...}   any field
Fault modes are those of fault_provider.py: status, hang, reset_before, reset_after, late, garbage,
truncated, delay.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import secrets
import shutil
import subprocess
import sys
import time
import urllib.parse
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from minihttp import Request, Response, read_body, read_head, reset  # noqa: E402

ROUTES = ("create", "get", "list", "delete", "start", "stop", "pause", "recover", "archive", "labels", "autostop",
          "autoarchive", "autodelete", "activity", "preview", "toolbox-url", "execute", "files")
LIFECYCLE = ("start", "stop", "pause", "delete", "archive", "recover")
CHANGING = ("creating", "starting", "stopping", "destroying", "restoring", "archiving")
MODES = ("delay", "hang", "reset_before", "status", "late", "reset_after", "garbage", "truncated")


def rfc3339(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment * 1000) % 1000:03d}Z"


def refuse(status: int, message: str, headers: dict | None = None) -> Response:
    phrase = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 409: "Conflict",
              422: "Unprocessable Entity", 429: "Too Many Requests"}.get(status, "Internal Server Error")
    return Response(status, {"path": "", "timestamp": rfc3339(time.time()), "statusCode": status, "error": phrase,
                             "message": message}, headers or {})


class Refused(Exception):
    def __init__(self, status: int, message: str, headers: dict | None = None):
        super().__init__(message)
        self.response = refuse(status, message, headers)


class Sandbox:
    def __init__(self, body: dict, folder: Path | None):
        self.id = str(uuid.uuid4())
        self.name = body.get("name") or self.id
        self.labels, self.env = body.get("labels") or {}, body.get("env") or {}
        self.snapshot, self.target = body.get("snapshot") or "default-snapshot", body.get("target") or "us"
        self.autostop = body.get("autoStopInterval", 15)
        self.autoarchive = body.get("autoArchiveInterval", 10080)
        self.autodelete = body.get("autoDeleteInterval", -1)
        self.state, self.until, self.then = "creating", 0.0, "started"
        self.created = self.activity = time.time()
        self.reason = ""
        self.recoverable = False
        self.sandbox_class = "container"
        self.token = secrets.token_hex(12)
        self.folder = folder / self.id if folder else None
        self.process: subprocess.Popen | None = None

    # ---- a bubblewrap of its own ---------------------------------------------------------------

    @property
    def socket(self) -> str:
        return str(self.folder / "run" / "s")

    def boot(self) -> None:
        if self.folder is None or self.process is not None:
            return
        for name in ("home", "run"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        Path(self.socket).unlink(missing_ok=True)
        here = Path(__file__).resolve().parent
        argv = ["bwrap", "--unshare-user", "--uid", "1000", "--gid", "1000", "--unshare-pid", "--unshare-ipc",
                "--unshare-uts", "--die-with-parent", "--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin",
                "--setenv", "HOME", "/home/daytona", "--setenv", "USER", "daytona", "--setenv", "LANG", "C.UTF-8"]
        for name, value in self.env.items():
            argv += ["--setenv", name, value]
        argv += ["--ro-bind", "/usr", "/usr", "--ro-bind", "/etc", "/etc", "--proc", "/proc", "--dev", "/dev",
                 "--tmpfs", "/tmp", "--size", str(4 << 20), "--tmpfs", "/small", "--ro-bind", str(here), "/opt/toolbox", "--bind", str(self.folder / "home"), "/home/daytona",
                 "--bind", str(self.folder / "run"), "/run", "--chdir", "/home/daytona"]
        for link in ("bin", "lib", "lib64", "sbin"):
            argv += ["--symlink", f"usr/{link}", f"/{link}"]
        self.process = subprocess.Popen(argv + ["/usr/bin/python3", "-B", "/opt/toolbox/daytona_toolbox.py", "--socket", "/run/s"],
                                        stdin=subprocess.DEVNULL)

    def halt(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def view(self, base: str, item: bool = False) -> dict:
        out = {"id": self.id, "organizationId": "org", "name": self.name, "snapshot": self.snapshot, "user": "daytona",
               "labels": self.labels, "public": False, "target": self.target, "cpu": 1, "gpu": 0, "memory": 1,
               "disk": 3, "state": self.state, "desiredState": "started", "recoverable": self.recoverable,
               "backupState": "None", "autoStopInterval": self.autostop, "autoArchiveInterval": self.autoarchive,
               "autoDeleteInterval": self.autodelete, "createdAt": rfc3339(self.created), "updatedAt": rfc3339(time.time()),
               "lastActivityAt": rfc3339(self.activity), "sandboxClass": self.sandbox_class,
               "toolboxProxyUrl": f"{base}/toolbox/", "aFieldOfTomorrow": {"x": [1]}}
        if self.reason:
            out["errorReason"] = self.reason
        if not item:
            out |= {"env": self.env, "networkBlockAll": False, "volumes": []}
        return out


class Daytona:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.base = f"http://127.0.0.1:{options.port}"
        self.sandboxes: dict[str, Sandbox] = {}
        self.shown: list[tuple[float, list[dict]]] = []  # the list as it was
        self.calls = dict.fromkeys(ROUTES, 0)
        self.faults: list[dict] = []
        self.config = {"create_ms": 0, "start_ms": 0, "stop_ms": 0, "delete_ms": 0, "list_lag_ms": 0, "delay_ms": 0,
                       "create_end": "started", "throttle": {}, "keys": None}
        self.windows: dict[str, tuple[float, int]] = {}
        self.closed_until: dict[str, float] = {}
        self.early = 0
        self.rng = random.Random(options.seed)
        self.log_fd = os.open(options.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644) if options.log else None
        self.folder = Path(options.folder) if options.real else None

    def effect(self, what: str, box: Sandbox, **more) -> None:
        """One line per effect, on disk before the client can learn of it."""
        if self.log_fd is not None:
            os.write(self.log_fd, (json.dumps({"t": time.time(), "effect": what, "id": box.id, "name": box.name, **more}) + "\n").encode())
            os.fsync(self.log_fd)

    def log_call(self, began: float, route: str, response: Response) -> None:
        """One line per call of the API once it has ended; not fsynced: nothing is proved by it alone."""
        if self.log_fd is not None:
            waits = [v for k, v in response.headers.items() if k.lower().startswith("retry-after")]
            os.write(self.log_fd, (json.dumps({"t": began, "call": route, "status": response.status, "end": time.time()} |
                                              ({"retry_after": float(waits[0])} if waits else {})) + "\n").encode())

    def next_fault(self, route: str) -> dict | None:
        for fault in self.faults:
            if fault["route"] in (route, "*") and fault.get("times", 1) != 0:
                if self.rng.random() >= fault.get("probability", 1.0):
                    continue
                fault["times"] = fault.get("times", 1) - 1 if fault.get("times", 1) > 0 else -1
                return fault
        return None

    # ---- time --------------------------------------------------------------------------------

    def change(self, box: Sandbox, now_state: str, after_ms: int, then: str) -> None:
        box.state, box.until, box.then = now_state, time.time() + after_ms / 1000, then
        self.settle(box)

    def settle(self, box: Sandbox) -> None:
        if box.state not in CHANGING or time.time() < box.until:
            return
        if box.then == box.state:
            return  # one that stays so
        box.state = box.then
        if box.state == "started":
            box.activity = time.time()
        elif box.state in ("error", "build_failed"):
            box.reason = "injected failure"
        elif box.state == "destroyed":
            del self.sandboxes[box.id]
            if box.folder:
                shutil.rmtree(box.folder, ignore_errors=True)

    async def tick(self) -> None:
        while True:
            for box in list(self.sandboxes.values()):
                self.settle(box)
                if box.state == "started" and box.autostop > 0 and time.time() - box.activity > box.autostop * 60:
                    self.stop(box)
            moment = time.time()
            if not self.shown or moment - self.shown[-1][0] > 0.05:
                self.shown.append((moment, [b.view(self.base, True) for b in self.sandboxes.values()]))
                self.shown = [s for s in self.shown if moment - s[0] < 10]
            await asyncio.sleep(0.02)

    # ---- the API -----------------------------------------------------------------------------

    def find(self, key: str) -> Sandbox:
        box = self.sandboxes.get(key) or next((b for b in self.sandboxes.values() if b.name == key), None)
        if box is not None:
            self.settle(box)
        if box is None or box.id not in self.sandboxes:
            raise Refused(404, f"Sandbox with ID or name {key} not found")
        return box

    def throttle(self, route: str) -> None:
        name = "create" if route == "create" else "lifecycle" if route in LIFECYCLE else "authenticated"
        now = time.time()
        if now < self.closed_until.get(name, 0):
            self.early += 1
        limit = self.config["throttle"].get(name)
        if not limit:
            return
        began, used = self.windows.get(name, (now, 0))
        if now - began >= limit["window_ms"] / 1000:
            began, used = now, 0
        self.windows[name] = (began, used + 1)
        if used >= limit["limit"]:
            left = began + limit["window_ms"] / 1000 - now
            self.closed_until[name] = now + left
            header = f"sandbox-{name}" if name != "authenticated" else name
            raise Refused(429, "ThrottlerException: Too Many Requests",
                          {f"Retry-After-{header}": str(max(1, int(left + 0.999))), f"X-RateLimit-Limit-{header}": str(limit["limit"]),
                           f"X-RateLimit-Remaining-{header}": "0"})

    def create(self, request: Request) -> Response:
        body = request.json()
        name = body.get("name")
        if name and any(b.name == name for b in self.sandboxes.values()):
            raise Refused(409, f"Sandbox with name {name} already exists")
        if str(body.get("snapshot") or "").startswith("missing"):
            raise Refused(400, f"Snapshot {body['snapshot']} not found. Did you add it through the Daytona Dashboard?")
        if body.get("snapshot") and any(body.get(k) for k in ("cpu", "gpu", "memory", "disk")):
            raise Refused(400, "Cannot specify Sandbox resources when using a snapshot")
        if self.config["create_end"] == "quota":
            raise Refused(400, "Total CPU limit exceeded. Maximum allowed: 10.")
        box = Sandbox(body, self.folder)
        self.sandboxes[box.id] = box
        self.effect("create", box, labels=box.labels)
        self.change(box, "creating", self.config["create_ms"], self.config["create_end"])
        if box.then == "started":
            box.boot()
        return Response(200, box.view(self.base))

    def need_rest(self, box: Sandbox) -> None:
        if box.state in CHANGING:
            raise Refused(409, "Sandbox state change in progress")

    def stop(self, box: Sandbox) -> None:
        box.halt()
        self.effect("stop", box)
        if box.autodelete == 0:
            self.destroy(box)
        else:
            self.change(box, "stopping", self.config["stop_ms"], "stopped")

    def destroy(self, box: Sandbox) -> None:
        box.halt()
        self.effect("delete", box)
        box.name = f"DESTROYED_{box.name}_{int(time.time() * 1000)}"
        self.change(box, "destroying", self.config["delete_ms"], "destroyed")

    def act(self, route: str, box: Sandbox, request: Request, argument: str) -> Response:
        if route == "get":
            return Response(200, box.view(self.base))
        if route == "delete":
            if box.state == "destroying":
                raise Refused(404, "Sandbox not found")
            self.need_rest(box)
            self.destroy(box)
        elif route == "start":
            if box.state == "started":
                return Response(200, box.view(self.base))
            self.need_rest(box)
            if box.state not in ("stopped", "archived", "paused"):
                raise Refused(400, "Sandbox is not in a startable state")
            box.token = secrets.token_hex(12)
            self.effect("start", box)
            box.boot()
            self.change(box, "starting", self.config["start_ms"], "started")
        elif route == "stop":
            self.need_rest(box)
            if box.state != "started":
                raise Refused(400, "Sandbox is not in a stoppable state")
            self.stop(box)
        elif route == "pause":
            if box.sandbox_class == "container":
                raise Refused(422, "Pause is not supported for this sandbox class")
            self.stop(box)
        elif route == "recover":
            if box.state != "error" or not box.recoverable:
                raise Refused(400, "Sandbox is not recoverable")
            box.reason = ""
            box.boot()
            self.change(box, "starting", self.config["start_ms"], "started")
        elif route == "archive":
            if box.state != "stopped":
                raise Refused(400, "Sandbox is not stopped")
            box.state = "archived"
        elif route == "labels":
            box.labels = request.json()["labels"]
        elif route in ("autostop", "autoarchive", "autodelete"):
            if int(argument) < 0 and route != "autodelete":
                raise Refused(400, "interval must be non-negative")
            setattr(box, route, int(argument))
            return Response(201, box.view(self.base))
        elif route == "activity":
            box.activity = time.time()
            return Response(201)
        elif route == "preview":
            host = f"{argument}-{box.id}.localhost:{self.options.port}"
            return Response(200, {"sandboxId": box.id, "url": f"http://{host}", "token": box.token})
        elif route == "toolbox-url":
            return Response(200, {"url": f"{self.base}/toolbox"})
        return Response(200, box.view(self.base))

    def list(self, request: Request) -> Response:
        limit = int(request.arg("limit", "100"))
        if not 1 <= limit <= 200:
            raise Refused(400, "limit must be between 1 and 200")
        try:
            wanted = json.loads(request.arg("labels", "{}"))
        except ValueError:
            raise Refused(400, "labels must be a JSON object") from None
        states = request.query.get("states", [])
        if "destroyed" in states:
            raise Refused(400, "each value in states must be a valid state")
        lag = self.config["list_lag_ms"] / 1000
        moment = time.time() - lag
        if lag:
            views = next((views for at, views in reversed(self.shown) if at <= moment), [])
        else:
            views = [b.view(self.base, True) for b in self.sandboxes.values()]
        prefix = request.arg("name").lower()
        views = [v for v in views if all(v["labels"].get(k) == x for k, x in wanted.items())
                 and (not states or v["state"] in states) and v["name"].lower().startswith(prefix)]
        views.sort(key=lambda v: (v["lastActivityAt"], v["id"]), reverse=True)
        start = int(request.arg("cursor") or 0)
        more = start + limit < len(views)
        return Response(200, {"items": views[start:start + limit], "nextCursor": str(start + limit) if more else None})

    def authorized(self, request: Request) -> bool:
        key = request.headers.get("authorization", "")
        keys = self.config["keys"]
        return key.startswith("Bearer ") and (keys is None or key[7:] in keys)

    def answer(self, route: str, request: Request, key: str, argument: str) -> Response:
        try:
            if not self.authorized(request):
                raise Refused(401, "Invalid credentials")
            self.throttle(route)
            if route == "create":
                return self.create(request)
            if route == "list":
                return self.list(request)
            return self.act(route, self.find(key), request, argument)
        except Refused as refused:
            return refused.response

    # ---- the proxy: toolbox and previews -----------------------------------------------------

    async def forward(self, box: Sandbox, request: Request, target: str, port: int | None = None) -> Response:
        """One exchange with the daemon, or with a server on a port, inside."""
        box.activity = time.time()
        for attempt in range(200):
            try:
                if port is None:
                    reader, writer = await asyncio.open_unix_connection(box.socket, limit=1 << 20)
                else:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                break
            except OSError:
                # the daemon of a sandbox that has just started is not there yet
                if port is not None or attempt == 199 or box.process is None:
                    return Response(502)
                await asyncio.sleep(0.02)
        try:
            headers = [f"{k}: {v}" for k, v in request.headers.items()
                       if k not in ("authorization", "transfer-encoding", "content-length", "connection", "expect")]
            writer.write((f"{request.method} {target} HTTP/1.1\r\n" + "\r\n".join(headers) +
                          f"\r\nContent-Length: {len(request.body)}\r\nConnection: close\r\n\r\n").encode("latin-1") + request.body)
            await writer.drain()
            raw = await reader.readuntil(b"\r\n\r\n")
            lines = raw.decode("latin-1").split("\r\n")
            more = {k: v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
            length = {k.lower(): v for k, v in more.items()}.get("content-length")
            status = int(lines[0].split()[1])
            body = b"" if status == 204 else await (reader.readexactly(int(length)) if length is not None else reader.read())
            more = {k: v for k, v in more.items() if k.lower() in ("content-type",)}
            return Response(status, body, more)
        except (OSError, asyncio.IncompleteReadError):
            return Response(502)
        finally:
            writer.close()

    async def pass_file(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """A file's bytes, both ways, as they come; False when the sandbox's daemon is not to be had."""
        key, _, rest = request.target.removeprefix("/toolbox/").partition("/")
        box = self.sandboxes.get(key)
        if not self.authorized(request) or box is None or box.state != "started" or box.folder is None:
            return False
        box.activity = time.time()
        try:
            inner, outer = await asyncio.open_unix_connection(box.socket, limit=1 << 20)
        except OSError:
            return False
        lines = request.raw_head.decode("latin-1").split("\r\n")
        head = [f"{request.method} /{rest} HTTP/1.1", *(x for x in lines[1:-2] if not x.lower().startswith(("authorization:", "connection:"))),
                "Connection: close", "", ""]
        outer.write("\r\n".join(head).encode("latin-1"))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                while piece := await source.read(1 << 18):
                    sink.write(piece)
                    await sink.drain()

        async def up() -> None:
            await copy(reader, outer)
            outer.close()  # the client is gone: the daemon sees its body break off

        upward = asyncio.create_task(up())
        # this connection carries no other request, which the client must know before it sends one
        with contextlib.suppress(OSError):
            writer.write((await inner.read(1 << 18)).replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
        await copy(inner, writer)
        upward.cancel()
        outer.close()
        return True

    async def toolbox(self, request: Request) -> Response:
        key, _, rest = request.target.removeprefix("/toolbox/").partition("/")
        box = self.sandboxes.get(key)
        if box is not None:
            self.settle(box)
        if not self.authorized(request) or box is None or box.id not in self.sandboxes:
            return refuse(401, "unauthorized")
        if box.state == "archived":
            return refuse(404, "sandbox container not found")
        if box.state != "started":
            return refuse(400, "bad request: no IP address found. Is the Sandbox started?")
        if box.folder is None:
            return Response(200, {"exitCode": 0, "result": ""} if rest.startswith("process") else {"files": []})
        return await self.forward(box, request, "/" + rest)

    async def preview(self, request: Request, host: str) -> Response:
        port, _, key = host.split(".")[0].partition("-")
        box = self.sandboxes.get(key)
        given = request.headers.get("x-daytona-preview-token") or request.arg("DAYTONA_SANDBOX_AUTH_KEY")
        if box is None or box.state != "started" or given != box.token:
            return Response(307, None, {"Location": f"{self.base}/login"})
        return await self.forward(box, request, request.target, int(port))


def route_of(request: Request) -> tuple[str, str, str] | None:
    """(route, sandbox, argument) of an API call."""
    parts = [urllib.parse.unquote(p) for p in request.target.split("?")[0].split("/") if p]
    if parts[:2] != ["api", "sandbox"]:
        return None
    rest, method = parts[2:], request.method
    if not rest:
        return {"POST": ("create", "", ""), "GET": ("list", "", "")}.get(method)
    if len(rest) == 1:
        return {"GET": ("get", rest[0], ""), "DELETE": ("delete", rest[0], "")}.get(method)
    if len(rest) == 2:
        name = {"last-activity": "activity", "toolbox-proxy-url": "toolbox-url"}.get(rest[1], rest[1])
        return (name, rest[0], "") if name in ROUTES else None
    if len(rest) == 3 and rest[1] in ("autostop", "autoarchive", "autodelete"):
        return rest[1], rest[0], rest[2]
    if len(rest) == 4 and (rest[1], rest[3]) == ("ports", "preview-url"):
        return "preview", rest[0], rest[2]
    return None


def control(double: Daytona, request: Request) -> Response:
    if request.path == "/_faults":
        double.faults = request.json()
        assert all(f["mode"] in MODES and f["route"] in ROUTES + ("*",) for f in double.faults), double.faults
    elif request.path == "/_config":
        values = request.json()
        assert set(values) <= set(double.config), values
        double.config |= values
    elif request.path == "/_remove":
        box = double.sandboxes.pop(request.json()["id"], None)
        if box:
            box.halt()
    elif request.path == "/_set":
        values = request.json()
        box = double.sandboxes[values.pop("id")]
        for name, value in values.items():
            assert hasattr(box, name), name
            setattr(box, name, value)
    elif request.path == "/_state":
        return Response(200, {"sandboxes": {b.id: {"name": b.name, "state": b.state, "labels": b.labels, "autostop": b.autostop,
                                                   "autodelete": b.autodelete, "env": b.env, "snapshot": b.snapshot, "target": b.target}
                                            for b in double.sandboxes.values()}, "calls": double.calls, "early": double.early})
    else:
        return Response(404)
    return Response(200, {})


async def serve(double: Daytona, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (request := await read_head(reader)) is not None:
            if request.path.startswith("/toolbox/") and request.path.endswith(("/files/bulk-upload", "/files/download")) and not double.faults:
                double.calls["files"] += 1
                if await double.pass_file(request, reader, writer):
                    return
                double.calls["files"] -= 1
            await read_body(reader, request)
            host = request.headers.get("host", "")
            route = route_of(request)
            if request.path.startswith("/_"):
                response = control(double, request)
            elif ".localhost" in host:
                response = await double.preview(request, host)
            elif route is None and not request.path.startswith("/toolbox/"):
                response = refuse(404, f"Cannot {request.method} {request.path}")
            else:
                name, key, argument = route or ("execute" if "/process/" in request.path else "files", "", "")
                double.calls[name] += 1
                began = time.time()
                fault = double.next_fault(name) or {"mode": None}
                mode = fault["mode"]
                delay = double.config["delay_ms"] + (fault["delay_ms"] if mode == "delay" else 0)
                if delay:
                    await asyncio.sleep(delay / 1000)
                if mode == "hang":
                    await asyncio.sleep(3600)
                if mode == "reset_before":
                    return reset(writer)
                if mode == "late":
                    reset(writer)
                    await asyncio.sleep(fault["delay_ms"] / 1000)
                if mode == "status":
                    body = fault.get("body", {"statusCode": fault["status"], "message": "injected"})
                    response = Response(fault["status"], body, fault.get("headers", {}))
                elif route is None:
                    response = await double.toolbox(request)
                else:
                    response = double.answer(name, request, key, argument)
                if route is not None:
                    double.log_call(began, name, response)
                if mode == "late":
                    return
                if mode == "reset_after":
                    return reset(writer)
                if mode == "garbage":
                    response = Response(200, b"<html>{[not json")
                if mode == "truncated":
                    response.headers["Content-Length"] = "100000"
            writer.write(response.encode())
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--real", action="store_true")
    parser.add_argument("--folder", help="of the sandboxes' disks, with --real")
    double = Daytona(parser.parse_args())
    ticking = asyncio.create_task(double.tick())
    server = await asyncio.start_server(lambda r, w: serve(double, r, w), "127.0.0.1", double.options.port, backlog=1024, limit=1 << 20)
    async with server:
        await server.serve_forever()
    await ticking


if __name__ == "__main__":
    asyncio.run(main())
