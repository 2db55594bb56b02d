"""As much HTTP/1.1 as the doubles of providers need, over asyncio streams."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import urllib.parse
from dataclasses import dataclass, field


@dataclass
class Request:
    method: str
    target: str
    path: str  # percent-decoded
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes
    raw_head: bytes = b""

    def arg(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[0]

    def json(self):
        return json.loads(self.body or b"{}")


@dataclass
class Response:
    status: int
    body: object = None  # None = empty, bytes = as they are, else JSON
    headers: dict[str, str] = field(default_factory=dict)

    def encode(self, head_only: bool = False) -> bytes:
        headers = dict(self.headers)
        if self.body is None:
            data = b""
        elif isinstance(self.body, bytes):
            data = self.body
        else:
            data = json.dumps(self.body).encode()
            headers.setdefault("Content-Type", "application/json; charset=utf-8")
        if self.status != 204:
            headers.setdefault("Content-Length", str(len(data)))
        lines = [f"HTTP/1.1 {self.status} X"] + [f"{k}: {v}" for k, v in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode() + (b"" if head_only else data)


async def read_head(reader: asyncio.StreamReader) -> Request | None:
    """A request whose body is still to be read; None at the end of the connection."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    lines = raw.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:] if line)}
    url = urllib.parse.urlsplit(target)
    return Request(method, target, urllib.parse.unquote(url.path, errors="surrogateescape"),
                   urllib.parse.parse_qs(url.query, keep_blank_values=True, errors="surrogateescape"), headers, b"", raw)


async def body_pieces(reader: asyncio.StreamReader, headers: dict[str, str]):
    """The body as it comes. IncompleteReadError when it breaks off."""
    if headers.get("transfer-encoding", "").lower() == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            while size:
                piece = await reader.read(min(size, 1 << 18))
                if not piece:
                    raise asyncio.IncompleteReadError(b"", size)
                size -= len(piece)
                yield piece
            await reader.readexactly(2)
        await reader.readexactly(2)
        return
    left = int(headers.get("content-length", 0))
    while left:
        piece = await reader.read(min(left, 1 << 18))
        if not piece:
            raise asyncio.IncompleteReadError(b"", left)
        left -= len(piece)
        yield piece


async def read_body(reader: asyncio.StreamReader, request: Request) -> Request:
    request.body = b"".join([piece async for piece in body_pieces(reader, request.headers)])
    return request


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """None at the end of the connection."""
    request = await read_head(reader)
    return None if request is None else await read_body(reader, request)


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def multipart(request: Request) -> list[tuple[str, bytes]]:
    """(name, content) of every part, in order. ValueError when the body is no form."""
    kind, _, rest = request.headers.get("content-type", "").partition(";")
    boundary = next((p.strip()[9:].strip('"') for p in rest.split(";") if p.strip().startswith("boundary=")), "")
    if kind.strip() != "multipart/form-data" or not boundary:
        raise ValueError("not a form")
    mark = b"--" + boundary.encode()
    pieces = (b"\r\n" + request.body).split(b"\r\n" + mark)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise ValueError("the form has no end")
    parts = []
    for piece in pieces[1:-1]:
        head, _, content = piece.partition(b"\r\n\r\n")
        name = next((f.split("=", 1)[1].strip('"') for f in head.decode().replace("\r\n", ";").split(";")
                     if f.strip().startswith("name=")), "")
        parts.append((name, content))
    return parts
