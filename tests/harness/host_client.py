"""A sandbox host as E2B's SDKs use it, without an SDK: for what no SDK shows (statuses, headers, other users)."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import httpx

from tests.harness.envd import STREAM, envelope, take_envelopes
from tests.harness.stack import SandboxHost

ENVD = "49983"


@dataclass
class Result:
    code: int | None
    out: str


class HostClient:
    def __init__(self, host: SandboxHost):
        self.host = host
        self.http = httpx.Client(base_url=host.url, headers={"X-API-Key": host.key}, trust_env=False, timeout=60)

    def request(self, method: str, path: str, body=None, **options) -> httpx.Response:
        return self.http.request(method, path, json=body, **options)

    def try_create(self, **fields) -> httpx.Response:
        return self.request("POST", "/sandboxes", {"templateID": "base", "timeout": 120} | fields)

    def create(self, **fields) -> "Box":
        answer = self.try_create(**fields)
        assert answer.status_code == 201, answer.text
        return Box(self, answer.json())

    def ids(self) -> set[str]:
        return {box["sandboxID"] for box in self.request("GET", "/v2/sandboxes").json()}


class Box:
    def __init__(self, client: HostClient, made: dict):
        self.client, self.made = client, made
        self.id, self.token = made["sandboxID"], made.get("envdAccessToken")

    def headers(self, port: str = ENVD, **more: str) -> dict[str, str]:
        token = {"X-Access-Token": self.token} if self.token else {}
        return {"E2b-Sandbox-Id": self.id, "E2b-Sandbox-Port": port} | token | more

    def get(self, path: str = "") -> httpx.Response:
        return self.client.request("GET", f"/sandboxes/{self.id}{path}")

    def call(self, action: str, body=None) -> httpx.Response:
        return self.client.request("POST", f"/sandboxes/{self.id}/{action}", body)

    def kill(self) -> httpx.Response:
        return self.client.request("DELETE", f"/sandboxes/{self.id}")

    def port(self, port: int, path: str = "/", **options) -> httpx.Response:
        return self.client.http.get(path, headers=self.headers(str(port)), **options)

    def file(self, path: str, user: str = "user") -> httpx.Response:
        return self.client.http.get("/files", params={"path": path, "username": user}, headers=self.headers())

    def run(self, command: str, user: str = "user", timeout: float = 60, **fields) -> Result:
        """`bash -l -c command`, to its end; out is stdout and stderr as they came."""
        message = {"process": {"cmd": "/bin/bash", "args": ["-l", "-c", command]} | fields, "stdin": False}
        basic = base64.b64encode(f"{user}:".encode()).decode()
        answer = self.client.http.post("/process.Process/Start", content=envelope(message), timeout=timeout,
                                       headers=self.headers(**STREAM, Authorization=f"Basic {basic}"))
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        result, out = Result(None, ""), b""
        for flags, message in take_envelopes(bytearray(answer.content)):
            event = message.get("event", {})
            for stream in ("stdout", "stderr"):
                out += base64.b64decode(event.get("data", {}).get(stream, ""))
            if "end" in event:
                result.code = event["end"].get("exitCode", 0)
            if flags & 2:
                assert "error" not in message, message
        result.out = out.decode(errors="replace")
        return result

    def ok(self, command: str, **options) -> str:
        result = self.run(command, **options)
        assert result.code == 0, f"{command!r} ended with {result.code}: {result.out[-2000:]}"
        return result.out
