"""envd's protocol as a client writes it: Connect streams over HTTP/1.1, JSON messages in envelopes."""

from __future__ import annotations

import base64
import json
import socket
import struct
from pathlib import Path

import httpx

STREAM = {"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1"}


def envelope(message: dict | bytes, flags: int = 0) -> bytes:
    data = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">BI", flags, len(data)) + data


def take_envelopes(buffer: bytearray):
    while len(buffer) >= 5:
        flags, length = struct.unpack(">BI", buffer[:5])
        if len(buffer) < 5 + length:
            return
        payload = bytes(buffer[5:5 + length])
        del buffer[:5 + length]
        yield flags, json.loads(payload)


class Stream:
    """One server stream, read message by message."""

    def __init__(self, client: httpx.Client, path: str, message: dict, headers: dict | None = None):
        self.manager = client.stream("POST", path, content=envelope(message), headers=STREAM | (headers or {}))
        self.response = self.manager.__enter__()
        assert self.response.status_code == 200, self.response.read()
        assert self.response.headers["content-type"] == "application/connect+json"
        self.buffer = bytearray()
        self.chunks = self.response.iter_raw()
        self.end: dict | None = None

    def __iter__(self):
        while True:
            for flags, message in take_envelopes(self.buffer):
                if flags & 2:
                    self.end = message
                    return
                yield message
            try:
                self.buffer += next(self.chunks)
            except StopIteration:
                raise AssertionError("the stream ended without an end-of-stream message") from None

    def close(self):
        self.manager.__exit__(None, None, None)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()


class Result:
    def __init__(self):
        self.pid, self.stdout, self.stderr, self.pty = None, bytearray(), bytearray(), bytearray()
        self.end: dict | None = None
        self.error: dict | None = None
        self.keepalives = 0

    def take(self, message: dict) -> None:
        event = message["event"]
        if "start" in event:
            self.pid = event["start"]["pid"]
        elif "data" in event:
            for name, value in event["data"].items():
                getattr(self, name).extend(base64.b64decode(value))
        elif "keepalive" in event:
            self.keepalives += 1
        elif "end" in event:
            self.end = event["end"]


class Box:
    """A sandbox of deploy/sandbox-host, by its API and envd's protocol alone."""

    def __init__(self, host, **fields):
        self.host = host
        made = httpx.post(f"{host.url}/sandboxes", headers={"X-API-Key": host.key}, trust_env=False, timeout=30,
                          json={"templateID": "base", "timeout": 300, "secure": True} | fields)
        assert made.status_code == 201, made.text
        self.info = made.json()
        self.id = self.info["sandboxID"]
        self.envd = httpx.Client(base_url=host.url, trust_env=False, timeout=60, headers={
            "E2b-Sandbox-Id": self.id, "E2b-Sandbox-Port": "49983",
            "X-Access-Token": self.info.get("envdAccessToken") or ""})

    def name(self, port: int) -> str:
        return f"{port}-{self.id}.localhost:{self.host.port}"

    def get(self, port: int, path: str, **headers: str) -> httpx.Response:
        return httpx.get(f"{self.host.url}{path}", headers={"Host": self.name(port)} | headers, trust_env=False, timeout=30)

    def write(self, path: str, data: bytes) -> None:
        sent = self.envd.post("/files", params={"path": path}, content=data,
                              headers={"Content-Type": "application/octet-stream"})
        assert sent.status_code == 200, sent.text

    def start(self, command: str, **headers: str) -> Stream:
        return Stream(self.envd, "/process.Process/Start", {
            "process": {"cmd": "/bin/bash", "args": ["-l", "-c", command]}, "stdin": False},
            {k.replace("_", "-"): v for k, v in headers.items()})

    def run(self, command: str) -> Result:
        result = Result()
        with self.start(command) as stream:
            for message in stream:
                result.take(message)
        result.error = stream.end.get("error")
        return result

    def call(self, method: str, path: str, **body) -> httpx.Response:
        """A call of the control plane about this sandbox."""
        return httpx.request(method, f"{self.host.url}/sandboxes/{self.id}{path}", json=body or None, trust_env=False,
                             headers={"X-API-Key": self.host.key}, timeout=30)

    def kill(self) -> None:
        self.call("DELETE", "")
        self.envd.close()


def served(port: int, clients: list[socket.socket]) -> list[int]:
    """The clients' ports whose connection the other side still holds; takes nothing from them."""
    mine = {client.getsockname()[1] for client in clients}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # 01: ESTABLISHED
    return [int(row[2][-4:], 16) for row in rows
            if row[3] == "01" and row[1].endswith(f":{port:04X}") and int(row[2][-4:], 16) in mine]
