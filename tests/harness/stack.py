"""The whole system for one test: real Redis and PostgreSQL, the built programs, and a provider
(the local sandbox host, or the fault provider)."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import httpx

from tests.harness import watchdog
from tests.harness.services import ROOT, Postgres, Process, Redis, build_dir, free_port, wait_until

BASE = "/agent/sandboxes/sandboxes"
SECRET = "0123456789abcdef0123456789abcdef"
PASSWORD = "TestPass123!"

# neither proxies of this machine nor a TLS context, which takes longer to make than most calls
LOCAL = {"trust_env": False, "verify": False}

# Production leases scaled down, so that a takeover takes seconds and a test can wait for it.
QUICK = {
    "WORKER_ATTEMPT_MS": "2500", "WORKER_LEASE_MS": "4000", "WORKER_MIN_IDLE_MS": "4500",
    # a create that is settled finds no other sandbox in most tests, and they do not wait for proof
    "SANDBOX_SETTLE_MS": "2000", "SANDBOX_SETTLE_UNPROVEN_MS": "2000", "WORKER_RETRY_BASE_MS": "100", "WORKER_RETRY_CAP_MS": "1000",
    "E2B_REQUEST_TIMEOUT_MS": "2000", "WORKER_HEARTBEAT_MS": "500",
}


class Client:
    """One user's view of the API, as a client of the contract writes it."""

    def __init__(self, url: str, token: str | None = None, timeout: float = 90.0):
        self.http = httpx.Client(base_url=url, timeout=timeout, **LOCAL,
                                 limits=httpx.Limits(max_connections=1000))
        self.token = token

    def headers(self, **more: str) -> dict[str, str]:
        out = {"User-Agent": "tests/1.0", "X-Request-ID": str(uuid.uuid4())}
        if self.token:
            out["Authorization"] = f"Bearer {self.token}"
        return out | more

    def get(self, path: str, **headers: str) -> httpx.Response:
        return self.http.get(path, headers=self.headers(**headers))

    def delete(self, path: str, **headers: str) -> httpx.Response:
        return self.http.delete(path, headers=self.headers(**headers))

    def post(self, path: str, body=None, **headers: str) -> httpx.Response:
        content = b"" if body is None else (body if isinstance(body, bytes) else json.dumps(body).encode())
        return self.http.post(path, content=content,
                              headers=self.headers(**({"Content-Type": "application/json"} | headers)))

    def login(self, username: str, password: str = PASSWORD) -> "Client":
        answer = self.http.post("/api/v1/auth/login/swagger", params={"username": username, "password": password})
        assert answer.status_code == 200, answer.text
        self.token = answer.json()["access_token"]
        return self

    # the contract's calls, checked and unwrapped
    def ok(self, answer: httpx.Response) -> dict:
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        body = answer.json()
        assert body["code"] == 200
        return body["data"]

    def create(self, **fields) -> dict:
        return self.ok(self.post(f"{BASE}/create", {"user_id": "tests"} | fields))

    def run(self, sandbox_id: str, command: str, **fields) -> dict:
        return self.ok(self.post(f"{BASE}/run-cmd", {"sandbox_id": sandbox_id, "command": command} | fields))

    def status(self, sandbox_id: str) -> str:
        return self.ok(self.get(f"{BASE}/{sandbox_id}/status"))["status"]

    def info(self, sandbox_id: str) -> dict:
        return self.ok(self.get(f"{BASE}/{sandbox_id}/info"))

    def pause(self, sandbox_id: str) -> dict:
        return self.ok(self.post(f"{BASE}/{sandbox_id}/pause"))

    def connect(self, sandbox_id: str) -> dict:
        return self.ok(self.post(f"{BASE}/connect", {"sandbox_id": sandbox_id}))

    def remove(self, sandbox_id: str) -> dict:
        return self.ok(self.delete(f"{BASE}/{sandbox_id}"))


class GroundTruth:
    """What a double wrote into its log: every effect, and every call."""

    truth: Path

    def effects(self) -> list[dict]:
        return [line for line in self.log() if "effect" in line]

    def log(self) -> list[dict]:
        """Effects and calls, as they were written."""
        if not self.truth.exists():
            return []
        text = self.truth.read_text()
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()]  # the last may be half written


class FaultProvider(GroundTruth):
    def __init__(self, folder: Path, max_timeout: int = 3600, seed: int = 1):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.truth = folder / "provider-truth.log"
        self.process = Process("fault-provider", [
            sys.executable, str(ROOT / "tests/harness/fault_provider.py"), "--port", str(self.port),
            "--log", str(self.truth), "--max-timeout", str(max_timeout), "--seed", str(seed)], dict(os.environ), folder / "provider.log")
        self.http = httpx.Client(base_url=self.url, timeout=10, **LOCAL)
        wait_until("fault provider", lambda: self.http.get("/_state").status_code == 200)

    def faults(self, *faults: dict) -> None:
        self.http.post("/_faults", json=list(faults)).raise_for_status()

    def config(self, **values) -> None:
        self.http.post("/_config", json=values).raise_for_status()

    def state(self) -> dict:
        return self.http.get("/_state").json()

    def forget(self, provider_id: str) -> None:
        self.http.post("/_remove", json={"id": provider_id}).raise_for_status()

    def seed(self, *metadata: dict, ids: list[str] | None = None) -> list[str]:
        """Sandboxes nobody asked for; their ids."""
        made = [{"metadata": m} for m in metadata] if ids is None else \
               [{"metadata": m, "id": i} for m, i in zip(metadata, ids, strict=True)]
        return self.http.post("/_seed", json=made).json()

    def set(self, provider_id: str, **fields) -> None:
        self.http.post("/_set", json={"id": provider_id} | fields).raise_for_status()

    def stop(self) -> None:
        self.http.close()
        self.process.kill9()

    @property
    def env(self) -> dict[str, str]:
        return {"E2B_API_KEY": "e2b_00", "E2B_API_URL": self.url, "E2B_SANDBOX_URL": self.url,
                "E2B_DOMAIN": f"localhost:{self.port}", "E2B_TEMPLATE_ID": "base"}


def fetch_here(base: str, url: str) -> httpx.Response:
    """GET of a URL whose host name only the service at `base` knows."""
    parts = httpx.URL(url)
    return httpx.get(base + parts.raw_path.decode(), headers={"Host": parts.netloc.decode()}, **LOCAL)


class DaytonaDouble(GroundTruth):
    """Daytona's API; with real=True its sandboxes run commands and keep files."""

    home = "/home/daytona"
    keeps_memory = False

    def __init__(self, folder: Path, real: bool = False):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = "dtn_" + secrets.token_hex(20)
        self.truth = folder / "daytona-truth.log"
        self.disks = Path("/tmp") / f"dtn-{secrets.token_hex(4)}"  # short: a socket's path is in it
        watchdog.add_folder(self.disks)
        argv = [sys.executable, str(ROOT / "tests/harness/daytona_double.py"), "--port", str(self.port), "--log", str(self.truth)]
        if real:
            self.disks.mkdir()
            self.disks.chmod(0o711)
            argv += ["--real", "--folder", str(self.disks)]
        self.process = Process("daytona-double", argv, dict(os.environ), folder / "daytona.log")
        self.http = httpx.Client(base_url=self.url, timeout=10, **LOCAL)
        wait_until("daytona double", lambda: self.http.get("/_state").status_code == 200)

    def faults(self, *faults: dict) -> None:
        self.http.post("/_faults", json=list(faults)).raise_for_status()

    def config(self, **values) -> None:
        self.http.post("/_config", json=values).raise_for_status()

    def set(self, provider_id: str, **fields) -> None:
        self.http.post("/_set", json={"id": provider_id} | fields).raise_for_status()

    def forget(self, provider_id: str) -> None:
        self.http.post("/_remove", json={"id": provider_id}).raise_for_status()

    def state(self) -> dict:
        return self.http.get("/_state").json()

    def ids(self) -> list[str]:
        return list(self.state()["sandboxes"])

    def fetch(self, url: str) -> httpx.Response:
        return fetch_here(self.url, url)

    def stop(self) -> None:
        self.http.close()
        self.process.kill9_all()  # a box that is just starting does not notice its parent's end
        shutil.rmtree(self.disks, ignore_errors=True)
        watchdog.remove_folder(self.disks)

    @property
    def env(self) -> dict[str, str]:
        return {"SANDBOX_PROVIDERS": "daytona", "DAYTONA_API_KEY": self.key, "DAYTONA_SERVER_URL": self.url + "/api",
                "DAYTONA_REQUEST_TIMEOUT_MS": "2000"}


class SandboxHost:
    home = "/home/user"
    keeps_memory = True

    def __init__(self, folder: Path, prefix: tuple[str, ...] = (), **env: str):
        """`prefix` is a command that ends by becoming the program it is given."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.key = "e2b_" + secrets.token_hex(20)
        self.state = Path("/tmp") / f"sbxhost-{secrets.token_hex(4)}"
        watchdog.add_folder(self.state)
        self.own_env = {"SANDBOX_HOST_LISTEN": f"127.0.0.1:{self.port}", "SANDBOX_HOST_API_KEY": self.key,
                        "SANDBOX_HOST_STATE_DIR": str(self.state), "SANDBOX_HOST_DOMAIN": f"localhost:{self.port}",
                        "SANDBOX_HOST_ANY_TEMPLATE": "1"} | self.allowances() | env
        self.process = Process("sandbox-host", [*prefix, str(build_dir() / "sandbox-host")],
                               dict(os.environ) | self.own_env, folder / "sandbox-host.log")
        wait_until("sandbox host", lambda: httpx.get(
            f"{self.url}/v2/sandboxes", headers={"X-API-Key": self.key}, **LOCAL).status_code == 200)

    @staticmethod
    def allowances() -> dict[str, str]:
        """An ordinary user cannot enforce all of it; what root can, a test asks for."""
        return {} if os.geteuid() == 0 else {"SANDBOX_HOST_WITHOUT": "users,memory,cpu,processes,disk"}

    def ids(self) -> list[str]:
        return [box["sandboxID"] for box in self.list()]

    def fetch(self, url: str) -> httpx.Response:
        return fetch_here(self.url, url)

    def list(self) -> list[dict]:
        return httpx.get(f"{self.url}/v2/sandboxes", headers={"X-API-Key": self.key}, **LOCAL).json()

    def stop(self) -> None:
        status = self.process.stop(15)
        subprocess.run(["rm", "-rf", str(self.state)], check=False)
        watchdog.remove_folder(self.state)
        # the agents in the sandboxes write here too; ThreadSanitizer's suppressions do not reach them
        text = self.process.log()
        assert "AddressSanitizer" not in text and "runtime error" not in text, text[-6000:]
        assert status == 0, f"sandbox-host ended with status {status}"

    @property
    def env(self) -> dict[str, str]:
        return {"E2B_API_KEY": self.key, "E2B_API_URL": self.url, "E2B_SANDBOX_URL": self.url,
                "E2B_DOMAIN": f"localhost:{self.port}", "E2B_TEMPLATE_ID": "base"}


class OldEnvd(SandboxHost):
    """A sandbox host whose sandboxes have an envd of another version."""

    def __init__(self, folder: Path, version: str, **env: str):
        super().__init__(folder, **env)
        self.front_port = free_port()
        self.front = Process(f"envd-{version}", [
            sys.executable, str(ROOT / "tests/harness/old_envd.py"), "--port", str(self.front_port),
            "--target", str(self.port), "--version", version], dict(os.environ), folder / "old-envd.log")
        wait_until("old envd", lambda: httpx.get(
            f"http://127.0.0.1:{self.front_port}/v2/sandboxes", headers={"X-API-Key": self.key}, **LOCAL).status_code == 200)

    def stop(self) -> None:
        self.front.kill9()
        super().stop()

    @property
    def env(self) -> dict[str, str]:
        url = f"http://127.0.0.1:{self.front_port}"
        return super().env | {"E2B_API_URL": url, "E2B_SANDBOX_URL": url}


class Stack:
    """gateway + worker(s) + reaper(s) over given services. Use as a context manager."""

    def __init__(self, folder: Path, redis: Redis, postgres: Postgres, provider, *, workers: int = 1,
                 reapers: int = 1, gateways: int = 1, env: dict[str, str] | None = None,
                 prefix: tuple[str, ...] = ()):
        """`prefix` is a command that ends by becoming the program it is given."""
        self.prefix = prefix
        self.folder, self.redis, self.postgres, self.provider = folder, redis, postgres, provider
        folder.mkdir(parents=True, exist_ok=True)
        self.database = "e2e_" + secrets.token_hex(6)
        self.keys = f"{self.database}:" if redis.prefixes else "sandbox:"  # what its keys in Redis begin with
        self.env = dict(os.environ) | QUICK | redis.env | provider.env | {
            "DATABASE_URL": postgres.create_database(self.database), "JWT_SECRET_KEY": SECRET,
            "GATEWAY_SANDBOX_LISTEN": "127.0.0.1:0", "GATEWAY_DRAIN_MS": "5000", "WORKER_DRAIN_MS": "5000", "REDIS_PREFIX": self.keys} | (env or {})
        self.processes: list[Process] = []
        self._users: dict[str, Client] = {}
        self.gateways: list[Process] = []
        try:
            if not redis.prefixes:
                redis.cli("FLUSHALL")
            redis.prefixes.add(self.keys)
            self.run("migrate")
            self.workers = [self.start_worker() for _ in range(workers)]
            self.reapers = [self.spawn("reaper", "sandbox-reaper") for _ in range(reapers)]
            for _ in range(gateways):
                self.gateways.append(self.start_gateway())
        except BaseException:
            self.stop()  # nobody else has it yet
            raise

    def spawn(self, name: str, program: str, *args: str, **env: str) -> Process:
        number = sum(1 for p in self.processes if p.name.startswith(name))
        process = Process(f"{name}-{number}", [*self.prefix, str(build_dir() / program), *args], self.env | env,
                          self.folder / f"{name}-{number}.log")
        self.processes.append(process)
        return process

    def start_worker(self, **env: str) -> Process:
        return self.spawn("worker", "sandbox-worker", **env)

    def start_gateway(self, **env: str) -> Process:
        """One more gateway, at .url, ready."""
        port = free_port()
        gateway = self.spawn("gateway", "sandbox-gateway", "serve", GATEWAY_LISTEN=f"127.0.0.1:{port}", **env)
        gateway.url = f"http://127.0.0.1:{port}"
        wait_until("gateway ready", lambda: httpx.get(gateway.url + "/readyz", **LOCAL).status_code == 200, 20)
        return gateway

    def run(self, *args: str, input: str | None = None) -> str:
        done = subprocess.run([str(build_dir() / "sandbox-gateway"), *args], env=self.env, input=input,
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{args}: {done.returncode} {done.stdout} {done.stderr}"
        return done.stdout

    @property
    def url(self) -> str:
        return self.gateways[0].url

    def client(self, username: str = "alice", role: str = "user", gateway: int = 0) -> Client:
        """A logged-in client of one gateway; the user is made on first use."""
        if username not in self._users:
            self.run("user", "add", username, "--role", role, "--password-stdin", input=PASSWORD)
            self._users[username] = Client(self.url).login(username)
        return Client(self.gateways[gateway].url, self._users[username].token)

    def sql(self, text: str):
        return self.postgres.sql(text, self.database)

    def agrees(self) -> None:
        """Database = fault provider, both ways, ids and states, and none there twice."""
        rows = {sid: (pid, status) for sid, pid, status in self.sql(
            "select id, provider_sandbox_id, status from sandboxes where status not in ('deleted', 'failed')")}
        seen: dict[str, tuple[str, str]] = {}
        for pid, box in self.provider.state()["sandboxes"].items():
            sid = box["metadata"]["sandbox_id"]
            assert sid not in seen, f"{sid} is at the provider twice: {seen[sid][0]} and {pid}"
            seen[sid] = (pid, box["state"])
        assert rows == seen

    def quiet(self, seconds: float = 30.0) -> None:
        """Waits until no job is unfinished."""
        self.at_rest("select 1", seconds)

    def at_rest(self, query: str, seconds: float = 30.0) -> list[tuple]:
        """The rows of a query at the first moment at which no job is unfinished. One statement, since a sweep or a
        worker that lost its lease may ask for another look at any time after it."""
        def rows() -> list[list[tuple]]:
            found = self.sql(f"select u.unfinished, q.* from (select count(*) as unfinished from jobs where state in "
                             f"('queued','running','retry_wait')) u left join (select true as found, * from ({query}) r) q on true")
            return [[row[2:] for row in found if row[1]]] if found[0][0] == "0" else []

        (quiet,) = wait_until("no unfinished job", rows, seconds, 0.05)
        return quiet

    def stop(self) -> list[tuple[str, int]]:
        """Stops everything; returns (name, exit status) of those that were alive."""
        running = [process for process in reversed(self.processes) if process.alive()]
        for process in running:
            with contextlib.suppress(ProcessLookupError):
                process.send(signal.SIGCONT)  # for one a test has frozen
                process.send(signal.SIGTERM)
        statuses = [(process.name, process.ended(30)) for process in running]
        for client in self._users.values():
            client.http.close()
        self.redis.prefixes.discard(self.keys)
        self.drop_database()
        return statuses

    def drop_database(self) -> None:
        self.postgres.sql(f'DROP DATABASE IF EXISTS "{self.database}" WITH (FORCE)')

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, exc_type, *_) -> None:
        if exc_type is not None:
            for process in self.processes:
                print(f"---- {process.name} (last lines)\n" + "\n".join(process.log().splitlines()[-25:]))
        statuses = self.stop()
        if exc_type is None:
            bad = [(name, status) for name, status in statuses if status != 0]
            assert not bad, f"bad exit status: {bad}"
            for process in self.processes:
                text = process.log()
                assert "Sanitizer" not in text and "runtime error" not in text, f"{process.name}:\n{text[-4000:]}"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
