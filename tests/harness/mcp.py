"""The tool server as a process of its own, a client that speaks to it in plain HTTP, and the local
sandbox host's template that brings it into sandboxes."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import httpx

from tests.harness.services import ROOT, Process, build_dir, free_port, wait_until

LATEST = "2025-11-25"
BOTH = "application/json, text/event-stream"


def open_to_all(folder: Path) -> None:
    """Every user can enter it: a sandbox runs under a user id of its own."""
    for part in (folder, *folder.parents):
        if part.stat().st_uid == os.geteuid() and part.is_relative_to("/tmp") and part != Path("/tmp"):
            part.chmod(part.stat().st_mode | 0o055)


def base_template(folder: Path, **programs: str) -> Path:
    """What `make run` makes: base with the tool server in it. `programs` are scripts put beside it."""
    tools = folder / "opt"
    (tools / "bin").mkdir(parents=True)
    for source in (build_dir() / "sandbox-tool-server", ROOT / "deploy/template/sandbox-services"):
        shutil.copy(source, tools / "bin")
    for name, text in programs.items():
        path = tools / "bin" / name.replace("_", "-")
        path.write_text(text)
        path.chmod(0o755)
    templates = folder / "templates"
    templates.mkdir()
    (templates / "base.json").write_text(json.dumps({
        "startCommand": "PATH=/opt/sandbox/bin:$PATH exec /opt/sandbox/bin/sandbox-services run",
        "mounts": {"/opt/sandbox": str(tools)}}))
    (templates / "bare.json").write_text("{}")
    open_to_all(tools / "bin")
    open_to_all(templates)
    return templates


class McpClient:
    """One session. Every answer is checked to be JSON-RPC with the id that was sent."""

    def __init__(self, url: str, token: str | None = None, **headers: str):
        self.http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self.headers = {"Content-Type": "application/json", "Accept": BOTH} | headers
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self.next_id = 0

    def post(self, body, **headers: str | None) -> httpx.Response:
        merged = {k: v for k, v in (self.headers | headers).items() if v is not None}
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.http.post("/mcp", content=content, headers=merged)

    def message(self, method: str, params: dict | None = None) -> dict:
        self.next_id += 1
        return {"jsonrpc": "2.0", "id": self.next_id, "method": method} | ({"params": params} if params is not None else {})

    def request(self, method: str, params: dict | None = None) -> dict:
        message = self.message(method, params)
        answer = self.post(message)
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        body = answer.json()
        assert body["jsonrpc"] == "2.0" and body["id"] == message["id"]
        return body

    def notify(self, method: str, params: dict) -> None:
        answer = self.post({"jsonrpc": "2.0", "method": method, "params": params})
        assert answer.status_code == 202 and answer.content == b"", answer.text

    def initialize(self, revision: str = LATEST) -> dict:
        message = self.message("initialize", {"protocolVersion": revision, "capabilities": {},
                                              "clientInfo": {"name": "tests", "version": "1"}})
        answer = self.post(message)
        assert answer.status_code == 200, answer.text
        self.headers["Mcp-Session-Id"] = answer.headers["mcp-session-id"]
        result = answer.json()["result"]
        self.headers["MCP-Protocol-Version"] = result["protocolVersion"]
        self.notify("notifications/initialized", {})
        return result

    def call(self, tool: str, **arguments) -> dict:
        return self.request("tools/call", {"name": tool, "arguments": arguments})["result"]

    def data(self, tool: str, **arguments) -> dict:
        result = self.call(tool, **arguments)
        assert not result.get("isError"), result
        return result["structuredContent"]

    def text(self, tool: str, **arguments) -> str:
        result = self.call(tool, **arguments)
        assert not result.get("isError"), result
        return result["content"][0]["text"]

    def problem(self, tool: str, **arguments) -> str:
        result = self.call(tool, **arguments)
        assert result.get("isError") is True, result
        return result["content"][0]["text"]


class ToolServer:
    def __init__(self, folder: Path, **env: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.work = folder / "work"
        self.work.mkdir(exist_ok=True)
        self.process = Process("tool-server", [str(build_dir() / "sandbox-tool-server")],
                               dict(os.environ) | {"HOME": str(self.work), "MCP_LISTEN": f"127.0.0.1:{self.port}", "MCP_WORKDIR": str(self.work)} | env,
                               folder / "tool-server.log")
        wait_until("tool server", self.ready, interval=0.0005)

    def ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port)) as raw:  # no client takes as little time
            raw.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            return raw.recv(4096).startswith(b"HTTP/1.1 200 ")

    def client(self, token: str | None = None, **headers: str) -> McpClient:
        client = McpClient(self.url, token, **headers)
        client.initialize()
        return client

    def stop(self) -> None:
        status = self.process.stop(15)
        self.check_log()
        assert status == 0, f"the tool server ended with status {status}"

    def kill(self) -> None:
        """For tests of something else: an end in order takes up to two seconds."""
        self.process.kill9()
        self.check_log()

    def check_log(self) -> None:
        text = self.process.log()
        assert "Sanitizer" not in text and "runtime error" not in text, text[-6000:]
