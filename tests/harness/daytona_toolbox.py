"""The toolbox daemon of the Daytona double: runs inside a sandbox and acts there for real.

It answers as Daytona's daemon 0.190 does, its odd sides included: a command is fed to a shell's
stdin, both outputs come merged as text, a timeout loses them, and errors of files have no body.
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
from minihttp import Request, Response, multipart, read_request  # noqa: E402


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


def bulk_upload(request: Request) -> Response:
    try:
        parts = multipart(request)
    except ValueError as exc:
        return problem(400, str(exc), "BAD_REQUEST", request)
    files, errors, path = [], [], None
    for name, content in parts:
        if name.endswith("].path"):
            path = content.decode().strip()
        elif name.endswith("].file"):
            if not path:
                errors.append(f"{name}: path must come before the file")
                continue
            try:
                os.makedirs(os.path.dirname(path) or ".", 0o755, exist_ok=True)
                Path(path).write_bytes(content)
                files.append({"path": path, "bytes": len(content)})
            except OSError as exc:
                errors.append(f"{path}: {exc.strerror.lower()}")
            path = None
    return Response(400, {"errors": errors, "files": files}) if errors else Response(200, {"files": files})


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
        if route == ("GET", "/files/download"):
            if os.path.isdir(path):
                return Response(400)
            return Response(200, Path(path).read_bytes(), {"Content-Type": "application/octet-stream"})
        if route == ("GET", "/files/info"):
            return Response(200, info(path))
        if route == ("GET", "/files"):
            return Response(200, listing(path or "."))
        if route == ("POST", "/files/folder"):
            os.makedirs(path, int(request.arg("mode") or "0755", 8), exist_ok=True)
            return Response(201)
        if route == ("DELETE", "/files"):
            recursive = request.arg("recursive") == "true"
            if not os.path.exists(path):  # a link that leads nowhere, too
                return Response(404)
            if os.path.isdir(path) and not recursive:
                return Response(400)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
            return Response(204)
        if route == ("POST", "/files/bulk-upload"):
            return bulk_upload(request)
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
        while (request := await read_request(reader)) is not None:
            writer.write((await answer(request)).encode())
            await writer.drain()
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
