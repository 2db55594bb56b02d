"""The sandbox host after a crash: what lives is found again, what is dead leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.harness.host_client import Box, HostClient
from tests.harness.leaks import cgroups, descendants, held, lines, loops, warden_of
from tests.harness.services import build_dir, wait_until
from tests.harness.stack import SandboxHost


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def forget_what_a_reboot_forgets(host: SandboxHost, ids: set[str]) -> None:
    """Control groups, loop devices, mounts and sockets: all that is in memory once every process is gone."""
    for group in [path for path in Path("/sys/fs/cgroup").glob("**/sandbox-host/*") if path.name in ids]:
        for path in sorted((path for path in group.glob("**/") if path.is_dir()), reverse=True):
            wait_until("the last process of a group", lambda path=path: not (path / "cgroup.procs").read_text(), 10)
            path.rmdir()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        if str(host.state) in line.split()[1]:
            subprocess.run(["umount", "-l", line.split()[1]], check=True)
    for line in lines("losetup", "-l", "-n", "-O", "NAME,BACK-FILE"):
        if str(host.state) in line and "/s/" in line:  # one may go by itself, after its last mount
            subprocess.run(["losetup", "-d", line.split()[0]], check=False)
    wait_until("the loop devices to go", lambda: loops(host) == 0, 10)
    assert not cgroups(ids) and str(host.state) not in Path("/proc/self/mounts").read_text()
    for path in host.state.rglob("*"):
        if path.is_socket():
            path.unlink()


def restart(host: SandboxHost) -> None:
    """The same program with the same settings, over the folder of the one that is gone."""
    host.process.start()
    wait_until("the restarted host", lambda: HostClient(host).request("GET", "/v2/sandboxes").status_code == 200)


@pytest.fixture
def make(tmp_path):
    made = []

    def start(prefix: tuple[str, ...] = (), **env: str) -> SandboxHost:
        made.append(SandboxHost(tmp_path, prefix, **env))
        return made[-1]

    yield start
    for host in made:
        warden = warden_of(host)
        host.process.kill9()
        if warden is not None:
            os.kill(warden, signal.SIGTERM)
            wait_until("the warden to end", lambda pid=warden: not alive(pid), 15)
        subprocess.run(["rm", "-rf", str(host.state)], check=False)


def test_a_restarted_host_finds_its_living_sandboxes(make, slow):
    first = make()
    client = HostClient(first)
    running = client.create(secure=True, timeout=300, metadata={"a": "b"}, network={"allowPublicTraffic": False})
    paused = client.create(timeout=300, autoResume={"enabled": True})
    ending = client.create(timeout=300)
    running.run("(i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done) >steps 2>&1 & disown")
    paused.ok("echo kept >file")
    assert paused.call("pause").status_code == 204
    before = {box.id: box.get().json() for box in (running, paused)}
    ending.call("timeout", {"timeout": 1})
    seen = len(running.ok("cat steps").split())
    first.process.kill9()
    time.sleep(1.2)

    restart(first)
    again = {name: Box(client, box.made) for name, box in (("running", running), ("paused", paused))}
    # the one whose time was up meanwhile ends at once, within the second
    wait_until("the one that is due to end", lambda: client.ids() == {running.id, paused.id}, 3 * slow)
    for box in again.values():
        assert box.get().json() == before[box.id]
    steps = [int(n) for n in again["running"].ok("cat steps").split()]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > seen + 5, "its process went on all the while"
    assert client.http.get("/files", params={"path": "steps"}, headers=again["running"].headers() | {
        "X-Access-Token": "wrong"}).status_code == 401
    assert again["paused"].get().json()["state"] == "paused"
    assert again["paused"].ok("cat file").strip() == "kept" and again["paused"].get().json()["state"] == "running"
    # new ones take other user ids, and all of it can be ended
    other = client.create()
    other.ok("echo new")
    for box_id in client.ids():
        assert client.request("DELETE", f"/sandboxes/{box_id}").status_code == 204
    # the dead are the warden's to collect, and a loop device goes after its last mount
    wait_until("nothing is left", lambda: all(held(first)[what] == 0 for what in ("processes", "folders", "loops")), 10)
    assert first.process.stop(15) == 0
    assert not cgroups({running.id, paused.id, ending.id})


# a paused sandbox outlives host and machine as its disk, where disks are images
KEEPS_DISKS = os.geteuid() == 0


def kept(*boxes: Box) -> set[str]:
    return {box.id for box in boxes} if KEEPS_DISKS else set()


def folders(host: SandboxHost) -> set[str]:
    return {path.name for path in (host.state / "s").iterdir()}


def test_without_a_successor_everything_ends(make):
    host = make(SANDBOX_HOST_ADOPT_SECONDS="1")
    client = HostClient(host)
    ids = {client.create().id, client.create().id}
    paused = HostClient(host).create()
    paused.call("pause")
    warden = warden_of(host)
    processes = descendants(warden) + [warden]
    assert len(processes) > 6
    host.process.kill9()
    assert any(alive(pid) for pid in processes), "they outlive the host"
    wait_until("all processes to end", lambda: not any(alive(pid) for pid in processes), 10)
    assert not cgroups(ids | {paused.id}) and folders(host) == kept(paused)
    wait_until("the loop devices to go", lambda: loops(host) == 0, 5)


def test_when_all_is_killed_at_once_the_next_start_cleans_up(make):
    host = make()
    client = HostClient(host)
    box, paused = client.create(), client.create()
    paused.call("pause")
    warden = warden_of(host)
    inside = descendants(warden)
    host.process.kill9()
    os.kill(warden, signal.SIGKILL)
    # --die-with-parent: none outlives the warden, but what is frozen dies when it is thawed
    wait_until("what ran to end", lambda: sum(alive(pid) for pid in inside) <= len(inside) // 2, 10)
    restart(host)
    assert client.ids() == kept(paused)
    wait_until("the rest to end", lambda: not any(alive(pid) for pid in inside), 10)
    # what did not end while the host started is buried a second later
    wait_until("what they left to be gone", lambda: not cgroups({box.id, paused.id}) and folders(host) == kept(paused), 10)
    client.create().ok("echo well")
    assert host.process.stop(15) == 0


@pytest.mark.skipif(not KEEPS_DISKS, reason="only a host that runs as root has disks that are images")
def test_pauses_outlive_the_host_and_the_machine(make):
    """Stopped, or killed with its warden as by a power cut: a paused sandbox is there again, without its memory."""
    host = make()
    client = HostClient(host)
    frozen = client.create(secure=True, timeout=300, metadata={"a": "b"}, envVars={"FROM": "create"},
                           autoResume={"enabled": True}, network={"denyOut": ["198.51.100.0/24"]})
    cold = client.create(timeout=300, autoPause=True, autoPauseMemory=False)
    frozen.ok("echo frozen >f; echo system | sudo tee /usr/local/share/x; sleep 1000 >/dev/null 2>&1 & disown")
    cold.ok("echo cold >f")
    # what a sandbox puts where its system is to be is no way out of it at the next start
    cold.ok("rm -rf /home/user/.cache; ln -sfn /etc /tmp/l; mv /var /var.old; ln -s /tmp /var; ls -d /var.old")
    boot = frozen.ok("cat /proc/sys/kernel/random/boot_id")
    assert frozen.call("pause").status_code == 204 and cold.call("pause", {"memory": False}).status_code == 204
    before = {box.id: box.get().json() for box in (frozen, cold)}
    for ending in ("stopped", "killed", "rebooted"):
        if ending == "stopped":
            assert host.process.stop(15) == 0
        else:
            warden = warden_of(host)
            host.process.kill9()
            os.kill(warden, signal.SIGKILL)
            wait_until("the warden to end", lambda pid=warden: not alive(pid), 10)
        if ending == "rebooted":
            forget_what_a_reboot_forgets(host, {frozen.id, cold.id})
        restart(host)
        assert client.ids() == {frozen.id, cold.id}, ending
        for box in (frozen, cold):
            assert box.get().json() == before[box.id], ending
    # a port's traffic resumes the one that says so, and an explicit call the other
    assert cold.port(80).status_code == 502 and cold.get().json()["state"] == "paused"
    assert frozen.ok("cat f /usr/local/share/x; echo $FROM; pgrep -c sleep || true") == "frozen\nsystem\ncreate\n0\n"
    assert frozen.ok("cat /proc/sys/kernel/random/boot_id") != boot
    assert cold.call("resume", {"timeout": 60}).status_code == 201
    assert cold.ok("cat f; id -un; touch /usr/x; ls -d /var.old") == "cold\nuser\n/var.old\n"
    for box in (frozen, cold):
        assert box.kill().status_code == 204
    wait_until("nothing is left", lambda: not folders(host) and loops(host) == 0, 10)


def test_another_host_lets_the_frozen_dead_die(make):
    """A frozen sandbox that was killed dies only when thawed; its own host may never come again."""
    first = make()
    client = HostClient(first)
    box = client.create()
    box.call("pause")
    warden = warden_of(first)
    inside = descendants(warden)
    first.process.kill9()
    os.kill(warden, signal.SIGKILL)
    wait_until("the warden to end", lambda: not alive(warden), 10)  # only then are they killed
    living = HostClient(make())
    stays = living.create()
    stays.call("pause")
    wait_until("the frozen dead to be gone", lambda: not any(alive(pid) for pid in inside), 10)
    make()
    assert not cgroups({box.id}) and stays.get().json()["state"] == "paused"
    assert stays.call("connect", {"timeout": 60}).status_code == 201 and stays.ok("echo well").strip() == "well"


def test_a_host_whose_warden_dies_says_so_and_ends(make):
    host = make()
    box = HostClient(host).create()
    os.kill(warden_of(host), signal.SIGKILL)
    wait_until("the host to end", lambda: host.process.proc.poll() is not None, 15)
    assert host.process.proc.returncode == 1
    assert "the warden died" in host.process.log()
    assert not cgroups({box.id}) and not (host.state / "s" / box.id).exists()


def test_a_second_host_on_the_same_folder_is_refused(make):
    host = make()
    env = dict(os.environ) | host.own_env | {"SANDBOX_HOST_LISTEN": "127.0.0.1:0"}
    done = subprocess.run([str(build_dir() / "sandbox-host")], env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 78 and "SANDBOX_HOST_STATE_DIR" in done.stderr, done.stderr
    HostClient(host).create().ok("echo undisturbed")


def test_stop_leaves_nothing_but_disks_of_paused_sandboxes(make):
    host = make()
    client = HostClient(host)
    boxes = [client.create(), client.create(), client.create()]
    boxes[0].call("pause")
    inside = descendants(warden_of(host))
    assert host.process.stop(15) == 0
    assert not any(alive(pid) for pid in inside) and warden_of(host) is None
    assert not cgroups({box.id for box in boxes}) and folders(host) == kept(boxes[0])
    wait_until("the loop devices to go", lambda: loops(host) == 0, 5)


@pytest.mark.release_only
def test_churn_leaks_nothing(make):
    """The short form of `make host-churn`: created and killed, paused and killed, ended by time, failed at start."""
    host = make()
    client = HostClient(host)

    def life(n: int) -> None:
        box = client.create(timeout=1 if n % 4 == 3 else 60, allow_internet_access=n % 2 == 0)
        if n % 4 == 1:
            box.run("sleep 100 >/dev/null 2>&1 & disown")
        if n % 4 == 2:
            box.call("pause")
        if n % 4 != 3:
            assert box.kill().status_code == 204

    def empty() -> bool:
        return not client.ids() and held(host)["processes"] == 0 and held(host)["loops"] == 0

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(life, range(6)))
        wait_until("the first round to end", empty, 15)
        before = held(host)
        list(pool.map(life, range(24)))
    wait_until("the last to end", empty, 15)
    wait_until("the same as before", lambda: all(held(host)[what] <= before[what] + (1 if what == "host_fds" else 0)
                                                 for what in before), 10)


# a machine that has no cgroup to kill a sandbox by
NO_CGROUP = ("unshare", "-m", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$0"') if os.geteuid() == 0 else ()
NO_LIMITS = {"SANDBOX_HOST_WITHOUT": "users,memory,cpu,processes,disk"}


def strays(host: SandboxHost) -> list[str]:
    """Command lines, other than the warden's, that name this host's folder."""
    return lines("pgrep", "-af", f"bwrap .*{host.state}/")


def create_and_hit(client: HostClient, warden: int, hit) -> None:
    """Creates a sandbox while `hit` gets the pid of its wrapper as soon as there is one."""
    children = Path(f"/proc/{warden}/task/{warden}/children")
    before = set(children.read_text().split())
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(client.try_create, allow_internet_access=False)
        while not (fresh := set(children.read_text().split()) - before) and not answer.done():
            pass
        hit([int(pid) for pid in fresh])
        with contextlib.suppress(httpx.TransportError):  # of a host that was killed
            answer.result(30)


def kill(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_wrapper_killed_at_its_start_leaves_nothing(make):
    """The inside asks to die with the wrapper late, and waits for its word before: no moment is safe."""
    host = make(NO_CGROUP, **NO_LIMITS)
    client, warden = HostClient(host), warden_of(host)
    for n in range(16):
        def hit(pids: list[int], after_s: float = n * 0.002) -> None:
            time.sleep(after_s)
            kill(pids)
        create_and_hit(client, warden, hit)
    for box_id in client.ids():  # whose wrapper was not seen in time
        assert client.request("DELETE", f"/sandboxes/{box_id}").status_code in (204, 404)
    wait_until("all of them to be gone", lambda: client.ids() == set() and not list((host.state / "s").iterdir()), 30)
    wait_until("their processes to be gone", lambda: descendants(warden) == [] and strays(host) == [], 30)


@pytest.mark.release_only
def test_a_warden_killed_while_one_starts_leaves_nothing(make):
    host = make(NO_CGROUP, **NO_LIMITS)
    client = HostClient(host)
    for n in range(4):
        warden = warden_of(host)

        def hit(pids: list[int], after_s: float = n * 0.003, host_pid: int = host.process.proc.pid, warden: int = warden) -> None:
            time.sleep(after_s)
            kill([host_pid, warden])
        create_and_hit(client, warden, hit)
        host.process.kill9()
        restart(host)
        wait_until("what it left to be gone", lambda: strays(host) == [], 30)
        wait_until("the folders to be gone", lambda: not list((host.state / "s").iterdir()), 30)
    client.create(allow_internet_access=False).ok("echo well")


@pytest.mark.skipif(os.geteuid() != 0, reason="nothing resists an ordinary user's removal of its own files")
def test_what_cannot_be_removed_is_tried_again(make):
    host = make(SANDBOX_HOST_MAX_SANDBOXES="1")
    client = HostClient(host)
    box = client.create()
    pinned = host.state / "s" / box.id / "pinned"
    pinned.write_text("x")
    subprocess.run(["mount", "--bind", str(pinned), str(pinned)], check=True)
    try:
        start = time.monotonic()
        assert box.kill().status_code == 204
        assert time.monotonic() - start < 10, "the caller waits for what does not go"
        assert box.get().status_code == 404
        wait_until("the reason in the log", lambda: "sandbox.not_removed" in host.process.log(), 10)
        assert "busy" in host.process.log()
        # it has its user id and its place still
        assert client.try_create().status_code == 429
    finally:
        subprocess.run(["umount", str(pinned)], check=True)
    wait_until("it to be removed", lambda: "sandbox.removed" in host.process.log(), 10)
    assert not (host.state / "s" / box.id).exists()
    # its place is given up right after that is said
    wait_until("its place", lambda: client.try_create().status_code == 201, 10)
