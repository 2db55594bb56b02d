"""What a sandbox host holds on a machine, counted: before and after must be the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.harness.stack import SandboxHost


def lines(*argv: str) -> list[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()


def descendants(root: int) -> list[int]:
    rows = [tuple(map(int, line.split())) for line in lines("ps", "-eo", "pid=,ppid=")]
    below = {root}
    for _ in range(8):
        below |= {pid for pid, parent in rows if parent in below}
    return sorted(below - {root})


def warden_of(host: SandboxHost) -> int | None:
    """The warden of this host's state folder, whoever its parent is by now."""
    for line in lines("pgrep", "-f", "^sandbox-host warden"):
        try:
            environ = (Path("/proc") / line / "environ").read_bytes()
        except OSError:
            continue
        if f"SANDBOX_HOST_STATE_DIR={host.state}\0".encode() in environ:
            return int(line)
    return None


def cgroups(ids: set[str] | None = None) -> set[str]:
    found = {path.name for path in Path("/sys/fs/cgroup").glob("**/sandbox-host/*") if path.is_dir()}
    return found if ids is None else found & ids


def loops(host: SandboxHost) -> int:
    """Loop devices over images of this host's sandboxes, removed ones too."""
    return sum(str(host.state) in line and "/s/" in line for line in lines("losetup", "-l", "-n", "-O", "BACK-FILE"))


def held(host: SandboxHost) -> dict[str, int]:
    warden = warden_of(host)
    return {
        "processes": len(descendants(warden)) if warden else 0,
        "host_fds": len(list(Path(f"/proc/{host.process.proc.pid}/fd").iterdir())),
        "warden_fds": len(list(Path(f"/proc/{warden}/fd").iterdir())) if warden else 0,
        "folders": len(list((host.state / "s").iterdir())),
        "loops": loops(host),
        "mounts": sum(str(host.state) in line for line in Path("/proc/self/mounts").read_text().splitlines()),
    }
