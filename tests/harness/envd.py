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


def served(port: int, clients: list[socket.socket]) -> list[int]:
    """The clients' ports whose connection the other side still holds; takes nothing from them."""
    mine = {client.getsockname()[1] for client in clients}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    # 01: ESTABLISHED
    return [int(row[2][-4:], 16) for row in rows
            if row[3] == "01" and row[1].endswith(f":{port:04X}") and int(row[2][-4:], 16) in mine]
