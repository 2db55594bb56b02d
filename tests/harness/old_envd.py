"""E2B with an envd of another version: passes everything on to a sandbox host, and differs where that
version did.

    python3 old_envd.py --port PORT --target PORT --version 0.5.6

What an old envd cannot do (seen on 0.5.6 and 0.2.11):
    below 0.5.7   POST /files takes multipart/form-data only, anything else is 500
    below 0.3.0   Start ignores "stdin": false: the command's stdin is open and never ends
What no version does, and the sandbox host's agent does: adopt what a command detaches.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))
from tests.harness.envd import envelope, take_envelopes  # noqa: E402
from tests.harness.minihttp import Request, Response, body_pieces, read_body, read_head  # noqa: E402


class OldEnvd:
    def __init__(self, options: argparse.Namespace):
        self.options = options
        self.version = tuple(int(n) for n in options.version.split("."))

    def head(self, request: Request, length: int | None = None) -> bytes:
        lines = request.raw_head.decode("latin-1").split("\r\n")[:-2]
        drop = ("connection:",) if length is None else ("connection:", "content-length:", "transfer-encoding:")
        kept = [line for line in lines[1:] if not line.lower().startswith(drop)]
        if length is not None:
            kept.append(f"Content-Length: {length}")
        return "\r\n".join([lines[0], *kept, "Connection: close", "", ""]).encode("latin-1")

    def start(self, request: Request) -> None:
        """No envd of E2B's makes a command the parent of its orphans; one below 0.3.0 does not know stdin: false."""
        messages = [message for _, message in take_envelopes(bytearray(request.body))]
        for message in messages:
            message["process"].setdefault("envs", {})["SANDBOX_SUBREAPER"] = ""  # the host's agent would
            if self.version < (0, 3, 0):
                message.pop("stdin", None)
        request.body = b"".join(envelope(message) for message in messages)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await read_head(reader)
            if request is not None:
                await self.answer(request, reader, writer)
                await writer.drain()
        writer.close()

    async def answer(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        kind = request.headers.get("content-type", "")
        if request.path == "/files" and request.method == "POST" and self.version < (0, 5, 7) and not kind.startswith("multipart/"):
            async for _ in body_pieces(reader, request.headers):
                pass
            message = "error parsing multipart form: request Content-Type isn't multipart/form-data"
            writer.write(Response(500, {"code": 500, "message": message}, {"Connection": "close"}).encode())
            return
        inner, outer = await asyncio.open_connection("127.0.0.1", self.options.target, limit=1 << 20)
        rewritten = None
        if request.path == "/process.Process/Start":
            await read_body(reader, request)
            self.start(request)
            rewritten = len(request.body)
        outer.write(self.head(request, rewritten) + request.body)
        upward = asyncio.create_task(self.copy(reader, outer))
        if request.path.startswith(("/sandboxes", "/v2/sandboxes")):
            whole = await inner.read()
            head, _, body = whole.partition(b"\r\n\r\n")
            body = re.sub(rb'("envdVersion":\s*)"[^"]*"', rb'\g<1>' + json.dumps(self.options.version).encode(), body)
            head = re.sub(rb"(?i)content-length: \d+", b"Content-Length: " + str(len(body)).encode(), head)
            writer.write(head + b"\r\n\r\n" + body)
        else:
            await self.copy(inner, writer, end=False)
        upward.cancel()
        outer.close()

    @staticmethod
    async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter, end: bool = True) -> None:
        with contextlib.suppress(OSError):
            while piece := await source.read(1 << 18):
                sink.write(piece)
                await sink.drain()
            if end:
                sink.close()  # who sends is gone


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--target", type=int, required=True)
    parser.add_argument("--version", required=True)
    old = OldEnvd(parser.parse_args())
    server = await asyncio.start_server(old.serve, "127.0.0.1", old.options.port, backlog=256, limit=1 << 20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
