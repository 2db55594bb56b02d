"""A web server of many kinds, run inside a sandbox: what the proxy of deploy/sandbox-host must carry.

    python3 box_server.py PORT

Plain asyncio, so that it decides about every byte: framing, early answers, upgrades.
"""

import asyncio
import base64
import hashlib
import sys

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
seen = {"left": 0, "reports": []}

PAGE = b"""<!doctype html><title>inside</title><script>
const say = (text) => fetch('/report', {method: 'POST', body: text})
fetch('/echo', {method: 'POST', body: 'x'.repeat(100000)}).then(r => r.text()).then(t => say('fetch:' + t.length))
const socket = new WebSocket('ws://' + location.host + '/ws')
socket.onopen = () => socket.send('hello')
socket.onmessage = (event) => { say('ws:' + event.data); socket.close() }
const events = new EventSource('/sse')
events.onmessage = (event) => { say('sse:' + event.data); if (event.data === '3') events.close() }
</script>"""


async def read_head(reader):
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    method, target, _ = lines[0].split(" ", 2)
    headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:] if line)}
    return method, target, headers


async def body_pieces(reader, headers):
    if headers.get("transfer-encoding") == "chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return
    left = int(headers.get("content-length", 0))
    while left:
        piece = await reader.read(min(left, 65536))
        if not piece:
            raise EOFError
        left -= len(piece)
        yield piece


def answer(body, status="200 OK", headers=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def frame(reader):
    head = await reader.readexactly(2)
    length = head[1] & 0x7F
    if length == 126:
        length = int.from_bytes(await reader.readexactly(2), "big")
    mask = await reader.readexactly(4)
    data = await reader.readexactly(length)
    return head[0] & 0x0F, bytes(b ^ mask[i % 4] for i, b in enumerate(data))


async def websocket(reader, writer, headers):
    accept = base64.b64encode(hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()).decode()
    writer.write(f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    while True:
        opcode, data = await frame(reader)
        size = bytes([len(data)]) if len(data) < 126 else b"\x7e" + len(data).to_bytes(2, "big")
        writer.write(bytes([0x80 | opcode]) + size + data)
        await writer.drain()
        if opcode == 8:
            return


async def serve(reader, writer, method, target, headers):
    path, _, query = target.partition("?")
    if path == "/":
        writer.write(answer(PAGE, headers="Content-Type: text/html\r\n"))
    elif path == "/echo":
        pieces = [piece async for piece in body_pieces(reader, headers)]
        writer.write(answer(b"".join(pieces)))
    elif path == "/count":
        total, digest = 0, hashlib.sha256()
        async for piece in body_pieces(reader, headers):
            total += len(piece)
            digest.update(piece)
        writer.write(answer(f"{total} {digest.hexdigest()}".encode()))
    elif path == "/headers":
        writer.write(answer("\n".join(f"{k}: {v}" for k, v in headers.items()).encode()))
    elif path == "/chunked":
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;x=y\r\nwiki\r\n5\r\npedia\r\n0\r\nTrailer: t\r\n\r\n")
    elif path == "/to-the-end":
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the end")
    elif path == "/no-body":
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
    elif path == "/hints":
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + answer(b"final"))
    elif path == "/bytes":  # /bytes?N: as many bytes, no faster than they are taken
        left = int(query)
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {left}\r\n\r\n".encode())
        while left:
            piece = min(left, 65536)
            writer.write(b"z" * piece)
            await writer.drain()
            left -= piece
    elif path == "/sse":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for i in range(1, 4):
            writer.write(b"data: %d\n\n" % i)
            await writer.drain()
            await asyncio.sleep(0.5)
    elif path == "/report":
        seen["reports"].append(b"".join([piece async for piece in body_pieces(reader, headers)]))
        writer.write(answer(b""))
    elif path == "/reports":
        writer.write(answer(b"\n".join(seen["reports"])))
    elif path == "/wait":  # until the client leaves
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n..\r\n")
        await writer.drain()
        await reader.read(1)
        seen["left"] += 1
    elif path == "/left":
        writer.write(answer(str(seen["left"]).encode()))
    elif path == "/slow-length":  # promises more than it gives
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
    elif path == "/early":  # answers before the body is there
        writer.write(answer(b"too much", "413 Payload Too Large"))
        await writer.drain()
        await asyncio.sleep(0.3)
    elif path == "/hang-up":
        pass
    elif path == "/not-http":
        writer.write(b"SSH-2.0-whatever\r\n")
    elif path == "/ws" and headers.get("upgrade", "").lower() == "websocket":
        await websocket(reader, writer, headers)
    else:
        writer.write(answer(b"not here", "404 Not Found"))
    await writer.drain()


async def connection(reader, writer):
    try:
        method, target, headers = await read_head(reader)
        await serve(reader, writer, method, target, headers)
    except (EOFError, ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(connection, "127.0.0.1", int(sys.argv[1]), limit=1 << 20)
    await server.serve_forever()


asyncio.run(main())
