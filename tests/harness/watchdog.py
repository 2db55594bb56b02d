"""Ends what a test process has started when that process dies, however it dies: also by SIGKILL.

The test process holds the writing end of a pipe; this program, in a session of its own, reads the other. Each
line says what exists: `+p PID START` a process (START: its start time, which tells it from a later process of
the same number), `-p PID` one that has ended, `+f FOLDER` and `-f FOLDER`. At the end of the pipe it sends
SIGTERM to what is left, SIGKILL to the process groups of what has not ended GRACE_SECONDS later, and removes
the folders.

    from tests.harness import watchdog
    watchdog.add_process(pid); watchdog.remove_process(pid); watchdog.add_folder(path); watchdog.remove_folder(path)
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

GRACE_SECONDS = 10.0  # a sandbox host needs some to end its sandboxes

_pipe: int | None = None
_owner = 0  # a forked child must not write as if it were its parent
_lock = threading.Lock()


def start_time(pid: int) -> str | None:
    """When it started, in clock ticks since boot; None when it is gone, also when only its status is left."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else fields[19]


def _tell(line: str) -> None:
    global _pipe, _owner
    with _lock:
        if _pipe is None or _owner != os.getpid():
            reading, _pipe = os.pipe()  # neither is inherited
            _owner = os.getpid()
            subprocess.Popen([sys.executable, "-B", __file__], stdin=reading, stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, start_new_session=True)
            os.close(reading)
        with contextlib.suppress(BrokenPipeError):
            os.write(_pipe, line.encode() + b"\n")


def add_process(pid: int) -> None:
    started = start_time(pid)
    if started is not None:
        _tell(f"+p {pid} {started}")


def remove_process(pid: int) -> None:
    _tell(f"-p {pid}")


def add_folder(folder: Path) -> None:
    _tell(f"+f {folder}")


def remove_folder(folder: Path) -> None:
    _tell(f"-f {folder}")


def _send(processes: dict[int, str], sig: int) -> None:
    for pid, started in processes.items():
        if start_time(pid) == started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                # a stopped process cannot act on SIGTERM
                os.kill(pid, signal.SIGCONT)
                (os.killpg if sig == signal.SIGKILL and os.getpgid(pid) == pid else os.kill)(pid, sig)


def main() -> None:
    for sig in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(sig, signal.SIG_IGN)
    processes: dict[int, str] = {}
    folders: dict[str, None] = {}
    for line in sys.stdin:
        what, _, rest = line.rstrip("\n").partition(" ")
        if what == "+p":
            pid, started = rest.split()
            processes[int(pid)] = started
        elif what == "-p":
            processes.pop(int(rest), None)
        elif what == "+f":
            folders[rest] = None
        elif what == "-f":
            folders.pop(rest, None)
    _send(processes, signal.SIGTERM)
    until = time.monotonic() + GRACE_SECONDS
    while time.monotonic() < until and any(start_time(pid) == started for pid, started in processes.items()):
        time.sleep(0.05)
    _send(processes, signal.SIGKILL)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
