"""The toolbox daemon of the Daytona double: runs inside a sandbox and acts there for real.

It answers as Daytona's daemon 0.190 does, its odd sides included: a command is fed to a shell's
stdin, both outputs come merged as text, a timeout loses them, and errors of files have no body, are
400 whatever the cause (but 404 for nothing there, 403 for a missing right), believe a size of 0, wait
for the writer of a pipe, and an upload that breaks off leaves a torso in the place of the old file.
"""

from __future__ import annotations

import argparse
import asyncio
import grp
import json
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from minihttp import Request, Response, body_pieces, read_body, read_head  # noqa: E402


def problem(status: int, message: str, code: str, request: Request) -> Response:
    return Response(status, {"statusCode": status, "message": message, "code": code,
                             "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                             "path": request.path, "method": request.method})


def run_shell(command: str, cwd: str | None, envs: dict[str, str], timeout: int) -> tuple[int, dict]:
    """Blocking: (status, answer)."""
    try:
        shell = subprocess.Popen(["/bin/bash"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, cwd=cwd or None, env=os.environ | envs, process_group=0)
    except OSError as exc:
        return 200, {"exitCode": -1, "result": str(exc)}
    try:
        out, _ = shell.communicate(command.encode() + b"\n", timeout or None)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGKILL)
        shell.communicate()
        return 408, {}
    code = shell.returncode if shell.returncode >= 0 else -1
    return 200, {"exitCode": code, "result": out.decode(errors="replace")}


async def execute(request: Request) -> Response:
    try:
        body = request.json()
        envs = body.get("envs") or {}
        if not body.get("command"):
            raise ValueError("command is required")
        for name in envs:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise ValueError(f"invalid environment variable name: {name}")
        timeout = int(body.get("timeout") or 0)
    except (ValueError, AttributeError) as exc:
        return problem(400, str(exc), "BAD_REQUEST", request)
    status, answer = await asyncio.to_thread(run_shell, body["command"], body.get("cwd"), envs, timeout)
    if status == 408:
        return problem(408, "command execution timeout", "REQUEST_TIMEOUT", request)
    return Response(200, answer)


def info(path: str) -> dict:
    st = os.stat(path)
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(st.st_mtime))

    def name(lookup, number):
        try:
            return lookup(number)[0]
        except KeyError:
            return str(number)

    return {"name": os.path.basename(path.rstrip("/")) or "/", "size": st.st_size, "mode": stat.filemode(st.st_mode),
            "modTime": moment, "modifiedAt": moment, "isDir": stat.S_ISDIR(st.st_mode),
            "owner": name(pwd.getpwuid, st.st_uid), "group": name(grp.getgrgid, st.st_gid),
            "permissions": f"{stat.S_IMODE(st.st_mode):04o}"}


def listing(path: str) -> list[dict]:
    """Links are followed; one that leads nowhere is left out."""
    found = []
    for name in sorted(os.listdir(path)):
        try:
            entry = info(os.path.join(path, name))
        except OSError:
            continue
        found.append(entry | {"name": os.fsencode(name).decode(errors="replace")})
    return found


class Upload:
    """The parts of a bulk-upload, written as they come."""

    def __init__(self, request: Request):
        kind = request.headers.get("content-type", "")
        self.mark = b"\r\n--" + kind.partition("boundary=")[2].strip('"').encode()
        self.rest, self.done = b"\r\n", not kind.startswith("multipart/form-data;")
        self.head_wanted, self.skipping = False, True
        self.files: list[dict] = []
        self.errors: list[str] = ["invalid multipart form"] if self.done else []
        self.name, self.text, self.path, self.file = "", b"", None, None

    def begin(self, head: str) -> None:
        self.name = next((f.split("=", 1)[1].strip('"') for f in head.replace("\r\n", ";").split(";")
                          if f.strip().startswith("name=")), "")
        self.text, self.file, self.bytes = b"", None, 0
        if self.name.endswith("].file") and not self.path:
            self.errors.append(f"{self.name}: path must come before the file")
        elif self.name.endswith("].file"):
            try:
                os.makedirs(os.path.dirname(self.path) or b".", 0o755, exist_ok=True)
                self.file = open(self.path, "wb", buffering=0)
            except OSError as exc:
                self.fail(exc)

    def fail(self, exc: OSError) -> None:
        self.errors.append(f"{os.fsdecode(self.path)}: {exc.strerror.lower()}".encode(errors="replace").decode())
        if self.file:
            self.file.close()
        self.file = None

    def content(self, data: bytes) -> None:
        if self.name.endswith("].path"):
            self.text += data
        elif self.file:
            try:
                while data:
                    n = self.file.write(data)
                    self.bytes, data = self.bytes + n, data[n:]
            except OSError as exc:
                self.fail(exc)

    def end(self) -> None:
        if self.name.endswith("].path"):
            self.path = self.text.strip()
            if self.path != self.text:
                self.errors.append("path: blanks at its ends")
                self.path = None
        elif self.file:
            self.file.close()
            self.files.append({"path": os.fsencode(self.path).decode(errors="replace"), "bytes": self.bytes})
            self.path = self.file = None

    def feed(self, piece: bytes) -> None:
        self.rest += piece
        while not self.done:
            if self.head_wanted:
                head, found, rest = self.rest.partition(b"\r\n\r\n")
                if not found:
                    self.done = self.rest.startswith(b"--")
                    return
                self.begin(head.decode())
                self.rest, self.head_wanted, self.skipping = rest, False, False
            at = self.rest.find(self.mark)
            keep = at if at >= 0 else max(0, len(self.rest) - len(self.mark))
            if not self.skipping:
                self.content(self.rest[:keep])
            self.rest = self.rest[keep:]
            if at < 0:
                return
            if not self.skipping:
                self.end()
            self.rest, self.head_wanted = self.rest[len(self.mark):], True

    def answer(self) -> Response:
        if not self.done:
            self.errors.append("reading part: unexpected EOF")
        return Response(400 if self.errors else 200, {"errors": self.errors, "files": self.files} if self.errors else {"files": self.files})


async def bulk_upload(request: Request, reader: asyncio.StreamReader) -> Response:
    upload = Upload(request)
    async for piece in body_pieces(reader, request.headers):
        await asyncio.to_thread(upload.feed, piece)
    return upload.answer()


def send_range(request: Request, path: str, st: os.stat_result, headers: dict[str, str]):
    """(head, file, first, length), as Go's http.ServeContent has it: the size is believed."""
    first, last, status = 0, st.st_size - 1, 200
    wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", ""))
    if wanted:
        first = int(wanted[1])
        if first > last:
            return Response(416, None, {"Content-Range": f"bytes */{st.st_size}"}), None, 0, 0
        last, status = min(last, int(wanted[2] or last)), 206
        headers["Content-Range"] = f"bytes {first}-{last}/{st.st_size}"
    headers |= {"Content-Length": str(last - first + 1), "Accept-Ranges": "bytes",
                "Last-Modified": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(st.st_mtime))}
    return Response(status, b"", headers), open(path, "rb"), first, last - first + 1


async def download(request: Request, writer: asyncio.StreamWriter) -> Response | None:
    """None when the answer has been written."""
    path = request.arg("path")
    try:
        st = os.stat(path)
        if stat.S_ISDIR(st.st_mode):
            return Response(400)
        if stat.S_ISSOCK(st.st_mode):
            return Response(404)
        # a pipe has no reader's end before somebody writes
        head, file, first, left = await asyncio.to_thread(send_range, request, path, st, {"Content-Type": "application/octet-stream"})
    except FileNotFoundError:
        return Response(404)
    except PermissionError:
        return Response(403)
    except OSError:
        return Response(400)
    if file is None:
        return head
    with file:
        file.seek(first)
        writer.write(head.encode(head_only=True))
        while left and (piece := file.read(min(left, 1 << 18))):
            writer.write(piece)
            await writer.drain()
            left -= len(piece)
    return None


def bulk_download(request: Request) -> Response:
    mark = "DAYTONA-FILE-BOUNDARY"
    out = b""
    for path in request.json().get("paths", []):
        try:
            data = Path(path).read_bytes()
            out += (f"--{mark}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{path}\"\r\n"
                    f"Content-Type: application/octet-stream\r\nContent-Length: {len(data)}\r\n\r\n").encode() + data + b"\r\n"
        except OSError as exc:
            missing = isinstance(exc, FileNotFoundError)
            text = json.dumps({"statusCode": 404 if missing else 400, "message": exc.strerror,
                               "code": "FILE_NOT_FOUND" if missing else "FILE_READ_FAILED"})
            out += (f"--{mark}\r\nContent-Disposition: form-data; name=\"error\"; filename=\"{path}\"\r\n"
                    f"Content-Type: application/json\r\n\r\n{text}\r\n").encode()
    out += f"--{mark}--\r\n".encode()
    return Response(200, out, {"Content-Type": f"multipart/form-data; boundary={mark}"})


def files(request: Request) -> Response:
    """Errors of these routes have no body."""
    route, path = (request.method, request.path), request.arg("path")
    try:
        if route == ("GET", "/files/info"):
            return Response(200, info(path))
        if route == ("GET", "/files"):
            return Response(200, listing(path or "."))
        if route == ("POST", "/files/folder"):
            os.makedirs(path, int(request.arg("mode") or "0755", 8), exist_ok=True)
            return Response(201)
        if route == ("DELETE", "/files"):
            recursive = request.arg("recursive") == "true"
            os.stat(path)  # a link is followed: one that leads nowhere is not there
            if os.path.isdir(path) and not recursive:
                return Response(400)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                try:
                    os.unlink(path)
                except OSError:
                    return Response(400)
            return Response(204)
        if route == ("POST", "/files/bulk-download"):
            return bulk_download(request)
    except FileNotFoundError:
        return Response(404)
    except PermissionError:
        return Response(403)
    except OSError:
        return Response(400)
    return Response(404)


async def answer(request: Request) -> Response:
    if (request.method, request.path) == ("POST", "/process/execute"):
        return await execute(request)
    if request.path in ("/work-dir", "/user-home-dir", "/project-dir"):
        return Response(200, {"dir": os.path.expanduser("~")})
    if request.path == "/version":
        return Response(200, {"version": "0.190.0"})
    return await asyncio.to_thread(files, request)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while (request := await read_head(reader)) is not None:
            if (request.method, request.path) == ("POST", "/files/bulk-upload"):
                response = await bulk_upload(request, reader)
            elif (request.method, request.path) == ("GET", "/files/download"):
                response = await download(request, writer)
            else:
                response = await answer(await read_body(reader, request))
            if response is not None:
                writer.write(response.encode())
            await writer.drain()
            if request.headers.get("connection", "").lower() == "close":
                break
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket", required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    server = await asyncio.start_unix_server(serve, options.socket, limit=1 << 20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
