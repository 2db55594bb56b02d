"""A WebSocket client, as small as the tests need one."""

import base64
import json
import os
import socket
from urllib.parse import urlsplit


class WebSocket:
    """Opened when it is made. `status` is that of the answer; other than 101 it is closed."""

    def __init__(self, url: str, address: tuple[str, int] | None = None, timeout: float = 60, **headers: str):
        parts = urlsplit(url)
        self.socket = socket.create_connection(address or ("127.0.0.1", parts.port), timeout)
        lines = {"Host": parts.netloc, "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                 "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode()} | headers
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        self.socket.sendall((f"GET {path} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n").encode())
        self.file = self.socket.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        while self.file.readline() not in (b"\r\n", b""):
            pass
        self.output, self.said, self.code = b"", [], None

    def __enter__(self) -> "WebSocket":
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def close(self) -> None:
        self.file.close()
        self.socket.close()

    def send(self, data: bytes | dict) -> None:
        """Bytes as a binary message, a dict as a text message."""
        opcode, data = (1, json.dumps(data).encode()) if isinstance(data, dict) else (2, data)
        size, mask = len(data), os.urandom(4)
        length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2) if size < 1 << 16 else b"\xff" + size.to_bytes(8)
        self.socket.sendall(bytes([0x80 | opcode]) + length + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(data)))

    def receive(self) -> bool:
        """Takes one message: adds to `output` (binary), to `said` (text), or sets `code` (close). False at the end."""
        head = self.file.read(2)
        if len(head) < 2:
            return False
        size = head[1] & 0x7F
        size = size if size < 126 else int.from_bytes(self.file.read(2 if size == 126 else 8))
        data = self.file.read(size)
        match head[0] & 0x0F:
            case 1:
                self.said.append(json.loads(data))
            case 2:
                self.output += data
            case 8:
                self.code = int.from_bytes(data[:2])
        return True

    def until(self, wanted: bytes) -> bytes:
        """Reads until the output has `wanted`."""
        while wanted not in self.output:
            assert self.receive(), (self.output[-500:], self.said, self.code)
        return self.output

    def end(self) -> list[str]:
        """Reads to the end; the types of what was said."""
        while self.receive():
            pass
        return [message["type"] for message in self.said]
