"""Real services for tests: each starts on a free loopback port, with its own temporary folder,
and is gone when its `stop()` returns, or when the test process dies (watchdog.py). Nothing here is a double: Redis is Redis, PostgreSQL is
PostgreSQL, and our programs are the built binaries.

Every start waits for readiness by asking the service, never by sleeping a fixed time.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import json
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from tests.harness import watchdog

ROOT = Path(__file__).resolve().parents[2]


def build_dir() -> Path:
    return Path(os.environ.get("BUILD_DIR", ROOT / "build" / "release")).resolve()


BLOCK = 32  # ports that are claimed at a time
_claims: list[socket.socket] = []  # held to the end of the process
_ports: list[int] = []
_ports_lock = threading.Lock()


def _next_port() -> int:
    """Each once, and of a block that is this process' own: an abstract name, which the kernel gives to one
    and takes back with the process, keeps the runs of tests on one machine apart."""
    outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    if outgoing <= 12000:
        return 0
    with _ports_lock:
        while not _ports:
            first = random.SystemRandom().randrange(10000, outgoing - BLOCK, BLOCK)
            claim = socket.socket(socket.AF_UNIX)
            try:
                claim.bind(f"\0sandbox-tests-ports-{first}")
            except OSError:
                claim.close()
                continue
            _claims.append(claim)
            _ports.extend(range(first, first + BLOCK))
        return _ports.pop(0)


def free_port() -> int:
    """A port that nobody listens on, outside the range outgoing connections are given, so that it is
    still free when a service comes, and comes back, to it."""
    while True:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", _next_port()))
            return s.getsockname()[1]


@contextlib.contextmanager
def installing(folder: Path):
    """Test processes side by side install the packages of one folder one after the other. The lock lies outside of
    the folder, and is for the tree: two checkouts have two."""
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    with open(Path(tempfile.gettempdir()) / f"sandbox-install-{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def wait_until(what: str, check, seconds: float = 15.0, interval: float = 0.02):
    """Polls `check` until it returns something true; its last exception explains a timeout."""
    deadline = time.monotonic() + seconds
    last: Exception | None = None
    while True:
        try:
            value = check()
            if value:
                return value
        except Exception as exc:  # noqa: BLE001 - any failure means "not yet"
            last = exc
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what}: not within {seconds} s") from last
        time.sleep(interval)


class Process:
    """A child in its own session, its output in a file."""

    def __init__(self, name: str, argv: list[str], env: dict[str, str] | None, log: Path, **kwargs):
        self.name, self.argv, self.env, self.log_path, self.kwargs = name, argv, env, log, kwargs
        self.proc: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        with open(self.log_path, "ab") as out:
            self.proc = subprocess.Popen(
                self.argv, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True, **self.kwargs)
        watchdog.add_process(self.pid)

    @property
    def pid(self) -> int:
        return self.proc.pid

    def alive(self) -> bool:
        return self.proc.poll() is None

    def send(self, sig: int) -> None:
        os.kill(self.pid, sig)

    def kill9(self) -> None:
        if self.alive():
            os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def _reap(self, seconds: float | None = None) -> int:
        status = self.proc.wait(seconds)
        watchdog.remove_process(self.pid)
        return status

    def kill9_all(self) -> None:
        """It and what it has started, but for sessions of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._reap()

    def stop(self, seconds: float = 30.0, sig: int = signal.SIGTERM) -> int:
        if self.alive():
            os.kill(self.pid, sig)
        return self.ended(seconds)

    def ended(self, seconds: float) -> int:
        """The exit status of one that has been told to end."""
        try:
            return self._reap(seconds)
        except subprocess.TimeoutExpired:
            self.kill9()
            raise AssertionError(f"{self.name} did not end within {seconds} s")

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")

    def events(self, since: int = 0) -> list[dict]:
        """What it has logged, but for the first `since`, and for a last line that is half written."""
        text = self.log()
        return [json.loads(line) for line in text[:text.rfind("\n") + 1].splitlines()[since:]]

    def rss_bytes(self) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{self.name} has no VmRSS")

    def fd_count(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def fd_count_once(self) -> int:
        """The same, but copies of one socket count once: each worker of an HTTP server makes one with its first request."""
        links = []
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                links.append(os.readlink(fd))
        sockets = [link for link in links if link.startswith("socket:")]
        return len(links) - len(sockets) + len(set(sockets))

    def connections_to(self, ports: set[int]) -> int:
        """TCP connections of this process to one of these ports of this machine."""
        inodes = {fields[9] for line in Path(f"/proc/{self.pid}/net/tcp").read_text().splitlines()[1:]
                  if int((fields := line.split())[2].rpartition(":")[2], 16) in ports}
        links = []
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):  # closed meanwhile
                links.append(os.readlink(fd))
        return sum(link.startswith("socket:[") and link[8:-1] in inodes for link in links)


class Redis:
    def __init__(self, folder: Path, aof: bool = True, host: str = "127.0.0.1", port: int = 0):
        self.host, self.port = host, port or free_port()
        self.prefixes: set[str] = set()  # of the keys of the stacks that run on it
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.argv = ["redis-server", str(ROOT / "deploy/redis.conf"), "--port", str(self.port),
                     "--bind", host, "--dir", str(folder),
                     "--appendonly", "yes" if aof else "no"]
        self.process = Process("redis", self.argv, None, folder / "redis.log")
        self.wait_ready()

    def wait_ready(self) -> None:
        wait_until("redis", lambda: self.cli("PING") == "PONG")

    def cli(self, *args: str) -> str:
        done = subprocess.run(["redis-cli", "-h", self.host, "-p", str(self.port), *args], capture_output=True,
                              text=True, timeout=10)
        return done.stdout.strip()

    def restart(self) -> None:
        self.process.start()
        self.wait_ready()

    def stop(self) -> None:
        self.process.kill9()

    @property
    def env(self) -> dict[str, str]:
        return {"REDIS_HOST": self.host, "REDIS_PORT": str(self.port), "REDIS_DATABASE": "0"}


class Postgres:
    """A cluster with trust on loopback; `create_database()` gives each test its own.

    `copy_of`: a stopped cluster to begin from, which is cheaper than a new one. `standby_of`: a running
    one to follow. `settings`: of the server.
    """

    def __init__(self, folder: Path, copy_of: "Postgres | None" = None, standby_of: "Postgres | None" = None,
                 **settings: str):
        self.port = free_port()
        self.bin = sorted(glob.glob("/usr/lib/postgresql/*/bin"))[-1]
        # PostgreSQL refuses root, and its user must reach the data: a folder of its own
        self.data = Path(tempfile.mkdtemp(prefix="sandbox-pg-", dir="/tmp"))
        watchdog.add_folder(self.data)
        self.log_path = folder / "postgres.log"
        folder.mkdir(parents=True, exist_ok=True)
        self.kwargs = {}
        if os.geteuid() == 0:
            account = pwd.getpwnam("postgres")
            os.chown(self.data, account.pw_uid, account.pw_gid)
            self.kwargs = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        if copy_of is not None:
            subprocess.run(["cp", "-a", str(copy_of.data / "data"), str(self.data)], check=True)
        elif standby_of is not None:
            self.tool("pg_basebackup", "-D", str(self.data / "data"), "-R", "-X", "stream", "-c", "fast", "--no-sync",
                      "-d", standby_of.url())
        else:
            self.tool("initdb", "-D", str(self.data / "data"), "-U", "postgres", "--auth=trust", "--encoding=UTF8",
                      "--locale=C.UTF-8", "--no-sync")
        self.argv = [f"{self.bin}/postgres", "-D", str(self.data / "data"), "-p", str(self.port),
                     "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=",
                     "-c", "max_connections=200"]
        for name, value in settings.items():
            self.argv += ["-c", f"{name}={value}"]
        self.process = Process("postgres", self.argv, None, self.log_path, cwd=self.data, **self.kwargs)
        self.wait_ready()

    def tool(self, program: str, *args: str) -> None:
        """One of PostgreSQL's own programs, as its user."""
        with open(self.log_path, "ab") as out:
            subprocess.run([f"{self.bin}/{program}", *args], check=True, stdout=out, stderr=out, cwd=self.data,
                           **self.kwargs)

    def wait_ready(self) -> None:
        wait_until("postgres", lambda: subprocess.run(
            [f"{self.bin}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port)]).returncode == 0)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        self.sql(f'CREATE DATABASE "{name}"')
        return self.url(name)

    def sql(self, text: str, database: str = "postgres") -> list[tuple[str, ...]]:
        done = subprocess.run([f"{self.bin}/psql", "-X", "-At", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", self.url(database),
                               "-c", text], capture_output=True, text=True, timeout=30)
        if done.returncode != 0:
            raise AssertionError(done.stderr)
        return [tuple(line.split("\x1f")) for line in done.stdout.splitlines()]

    def kill9(self) -> None:
        """Kills the postmaster and every backend, as a power cut would."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.proc.wait()
        # backends run in sessions of their own
        for pid in _processes_with(str(self.data)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(FileNotFoundError):
            (self.data / "data" / "postmaster.pid").unlink()

    def restart(self) -> None:
        self.process.start()
        self.wait_ready()

    def stop(self) -> None:
        if self.process.alive():
            self.process.stop(20, signal.SIGINT)
        shutil.rmtree(self.data, ignore_errors=True)
        watchdog.remove_folder(self.data)


def _processes_with(text: str) -> list[int]:
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/cwd").startswith(text):
                    found.append(int(entry))
    return found
