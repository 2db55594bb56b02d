"""The compose deployment with a provider double, as a test drives it: up, scale, restart, down."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROJECT = "sandbox-scale"
BASE = "/agent/sandboxes/sandboxes"
USER, PASSWORD = "scale", "TestPass123!"
GATEWAY_PORT, PROVIDER_PORT = 8790, 9700


def compose_command() -> list[str]:
    v2 = subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0
    if not v2 and not shutil.which("docker-compose"):
        sys.exit("scale: needs docker compose (v2) or docker-compose (1.29)")
    return ["docker", "compose"] if v2 else ["docker-compose"]


class Deployment:
    def __init__(self, in_flight: int):
        self.command = compose_command() + ["-p", PROJECT, "-f", "docker-compose.yml", "-f", "tests/scale/compose.yml"]
        self.env = dict(os.environ, WORKER_MAX_IN_FLIGHT=str(in_flight), GATEWAY_PUBLISH=f"127.0.0.1:{GATEWAY_PORT}",
                        SCALE_PROVIDER_PORT=str(PROVIDER_PORT), E2B_API_KEY="", LOG_LEVEL="warn")

    def run(self, *args: str, input: str | None = None) -> str:
        done = subprocess.run(self.command + list(args), cwd=ROOT, env=self.env, input=input, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"scale: {' '.join(args)}: {done.stderr[-2000:]}")
        return done.stdout

    def up(self, workers: int, *more: str) -> None:
        self.run("up", "-d", "--scale", f"lifecycle-worker={workers}", *more)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if f"ok ({workers})" in call(GATEWAY_PORT, "GET", "/readyz")[1]:
                return
            time.sleep(0.2)
        sys.exit(f"scale: {workers} workers did not come up")

    def login(self) -> str:
        """Makes the user and returns a token."""
        self.run("exec", "-T", "gateway", "sandbox-gateway", "user", "add", USER, "--if-absent", "--password-stdin", input=PASSWORD)
        return json.loads(call(GATEWAY_PORT, "POST", f"/api/v1/auth/login/swagger?username={USER}&password={PASSWORD}")[1])["access_token"]

    def sql(self, text: str) -> str:
        return self.run("exec", "-T", "postgres", "psql", "-U", "sandbox", "-d", "sandbox", "-Atc", text).strip()

    def at_provider(self) -> dict[str, str]:
        """Our sandbox id -> state, as the provider has it; exits when one of ours is there twice."""
        found: dict[str, str] = {}
        for box in json.loads(call(PROVIDER_PORT, "GET", "/_state")[1])["sandboxes"].values():
            ours = box["metadata"]["sandbox_id"]
            if ours in found:
                sys.exit(f"scale: {ours} exists twice at the provider")
            found[ours] = box["state"]
        return found

    def in_database(self) -> dict[str, str]:
        rows = self.sql("select id, status from sandboxes where status not in ('deleted', 'failed')")
        return dict(line.split("|") for line in rows.splitlines())

    def down(self) -> None:
        subprocess.run(self.command + ["down", "-v", "-t", "5"], cwd=ROOT, env=self.env, capture_output=True)


def call(port: int, method: str, path: str, body: object = None, token: str = "", connection=None) -> tuple[int, str]:
    own = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=90)
    headers = {"User-Agent": "scale/1.0", "X-Request-ID": str(uuid.uuid4()), "Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        own.request(method, path, None if body is None else json.dumps(body), headers)
        answer = own.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as exc:
        if connection:
            raise
        return 0, str(exc)
    finally:
        if connection is None:
            own.close()
