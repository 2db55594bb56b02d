"""TCP proxies that break on demand: latency, connections that stand still, resets.

Run as a program: `tcp_proxy.py --control PORT --route NAME=LISTEN:TARGET ...`, ports of loopback.
Control it over HTTP:
    POST /_mode  {"route": NAME, "mode": "pass" | "latency" | "hold" | "stall" | "reset", "ms": 200}
    GET  /_state {NAME: {"mode", "connections", "accepted", "bytes"}}

Modes:
    pass     copies
    latency  copies, each piece `ms` later
    hold     copies nothing, and everything when it ends: a network that was away for a while
    stall    half-open: accepts, keeps every socket, copies nothing; what was open when it ends is
             reset, so that nothing of it arrives long after both sides have given up
    reset    ends what is open with RST, and every new connection at once
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from minihttp import Response, read_request, reset  # noqa: E402

PIECE = 1 << 16


class Route:
    def __init__(self, name: str, listen: int, target: int):
        self.name, self.listen, self.target = name, listen, target
        self.mode, self.delay = "pass", 0.0
        self.open: set[asyncio.StreamWriter] = set()
        self.moving = asyncio.Event()  # cleared while nothing is copied
        self.moving.set()
        self.accepted = self.bytes = 0

    def set(self, mode: str, ms: int) -> None:
        if mode not in ("pass", "latency", "hold", "stall", "reset"):
            raise ValueError(mode)
        if mode == "reset" or (self.mode == "stall" and mode != "stall"):
            for writer in list(self.open):
                reset(writer)
        self.mode, self.delay = mode, ms / 1000 if mode == "latency" else 0.0
        if mode in ("hold", "stall"):
            self.moving.clear()
        else:
            self.moving.set()

    async def copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(PIECE):
            if self.delay:
                await asyncio.sleep(self.delay)
            await self.moving.wait()
            writer.write(data)
            await writer.drain()
            self.bytes += len(data)
        await self.moving.wait()
        if writer.can_write_eof():
            writer.write_eof()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.open.add(writer)
        far = None
        try:
            if self.mode == "reset":
                reset(writer)
                return
            await self.moving.wait()
            far_reader, far = await asyncio.open_connection("127.0.0.1", self.target)
            self.open.add(far)
            await asyncio.gather(self.copy(reader, far), self.copy(far_reader, writer))
        except (OSError, RuntimeError):  # RuntimeError: written to after a reset
            pass
        finally:
            for end in filter(None, (writer, far)):
                self.open.discard(end)
                # an end that broke breaks the other one
                with contextlib.suppress(OSError):
                    end.close()


async def control(routes: dict[str, Route], reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (request := await read_request(reader)) is not None:
            if request.path == "/_mode":
                body = request.json()
                routes[body["route"]].set(body["mode"], int(body.get("ms", 0)))
                response = Response(200, {})
            elif request.path == "/_state":
                response = Response(200, {r.name: {"mode": r.mode, "connections": len(r.open) // 2,
                                                   "accepted": r.accepted, "bytes": r.bytes} for r in routes.values()})
            else:
                response = Response(404, {})
            writer.write(response.encode())
            await writer.drain()
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--route", action="append", default=[])
    options = parser.parse_args()
    routes = {}
    for text in options.route:
        name, _, ports = text.partition("=")
        listen, _, target = ports.partition(":")
        routes[name] = Route(name, int(listen), int(target))
    servers = [await asyncio.start_server(r.serve, "127.0.0.1", r.listen, backlog=1024) for r in routes.values()]
    servers.append(await asyncio.start_server(lambda r, w: control(routes, r, w), "127.0.0.1", options.control))
    await asyncio.gather(*(s.serve_forever() for s in servers))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
