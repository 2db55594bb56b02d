"""Each claim the sandbox host makes about isolation, attacked from inside a sandbox.

What only root can enforce is asked of a host that runs as root; elsewhere the test says so and skips.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import httpx
import pytest

from tests.harness.host_client import Box, HostClient
from tests.harness.leaks import descendants, warden_of
from tests.harness.services import build_dir, free_port, wait_until
from tests.harness.stack import SandboxHost

# the attacks are on the kernel's walls, not on the host's own code
pytestmark = pytest.mark.release_only
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only a host that runs as root has this protection")
MEMORY, DISK, PROCESSES = 256 << 20, 64 << 20, 64


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    host = SandboxHost(tmp_path_factory.mktemp("host"), SANDBOX_HOST_MEMORY_BYTES=str(MEMORY),
                       SANDBOX_HOST_DISK_BYTES=str(DISK), SANDBOX_HOST_PROCESSES=str(PROCESSES),
                       SANDBOX_HOST_TMP_BYTES=str(16 << 20), SANDBOX_HOST_CPU_PERCENT="100",
                       SANDBOX_HOST_EGRESS_ALLOW="203.0.113.0/24")
    yield host
    host.stop()


@pytest.fixture(scope="module")
def client(host):
    return HostClient(host)


@pytest.fixture(scope="module")
def neighbour(client) -> Box:
    """What the attacks are not to reach: it keeps a secret and answers to the end."""
    box = client.create(timeout=600, secure=True)
    box.ok("echo neighbours-secret >secret; mkdir -p /tmp/mine; sleep 1000 >/dev/null 2>&1 & disown")
    yield box
    assert box.ok("cat secret").strip() == "neighbours-secret"


@pytest.fixture
def box(client, neighbour):
    made = client.create(timeout=300)
    yield made
    made.kill()


def still_well(client: HostClient, neighbour: Box, slow: float) -> None:
    start = time.monotonic()
    assert neighbour.ok("echo fine").strip() == "fine"
    assert client.request("GET", "/v2/sandboxes").status_code == 200
    assert time.monotonic() - start < 5 * slow, "a neighbour starves"


# ---- processes ----

def test_a_sandbox_sees_and_signals_only_its_own(client, box, neighbour):
    seen = box.ok("ls /proc | grep -E '^[0-9]+$' | sort -n")
    assert len(seen.split()) < 20 and seen.split()[0] == "1"
    # the process ids of the machine mean nothing inside
    assert box.run(f"kill -9 {client.host.process.pid}").code != 0
    assert box.run("kill -9 -1; echo survived").code is not None
    assert client.host.process.proc.poll() is None
    assert neighbour.ok("pgrep -c sleep").strip() == "1"


def test_the_agent_cannot_be_killed_traced_or_read(box):
    box.run("kill -9 1; kill -STOP 1; sudo kill -9 1")
    assert box.ok("echo alive").strip() == "alive"
    for attack in ("cat /proc/1/environ", "cat /proc/1/mem", "ls /proc/1/fd/", "readlink /proc/1/exe",
                   "python3 -c \"import ctypes;l=ctypes.CDLL(None,use_errno=True);"
                   "import sys;sys.exit(0 if l.ptrace(16,1,0,0)==0 else 1)\""):
        for user in ("user", "root"):
            assert box.run(attack, user=user).code != 0, (attack, user)


def test_killing_the_wrapper_ends_the_sandbox_and_frees_nothing(client, neighbour):
    """The wrapper is outside the sandbox; when something kills it, the inside dies with it."""
    box = client.create()
    nap = f"sleep {10**9 + os.getpid()}"  # nobody else's on this machine
    box.run(f"setsid {nap} >/dev/null 2>&1 & disown")
    pids = subprocess.run(["pgrep", "-f", f"bwrap .*{box.id}"], capture_output=True, text=True, check=True).stdout.split()
    for pid in pids:
        os.kill(int(pid), signal.SIGKILL)
    wait_until("the sandbox to be gone", lambda: box.get().status_code == 404, 10)
    wait_until("its processes to be gone", lambda: subprocess.run(["pgrep", "-f", nap]).returncode == 1, 10)
    # the keeper kills and forgets it first; its folder is removed after that
    wait_until("its folder to be gone", lambda: not (client.host.state / "s" / box.id).exists(), 10)


@as_root
@pytest.mark.alone
def test_fork_bomb(client, box, neighbour, slow):
    bomb = ("import os,time\nn=0\n"
            "while True:\n"
            "  try:\n    pid=os.fork()\n"
            "  except OSError:\n    break\n"
            "  if pid==0: [os.close(n) for n in (0, 1, 2)]; time.sleep(30); os._exit(0)\n"
            "  n+=1\nprint(n,flush=True)\n")
    box.ok(f"cat >bomb.py <<'E'\n{bomb}E")
    made = int(box.ok("python3 bomb.py").split()[0])
    # what the agent's own threads may need is on top of it
    assert 0 < made < PROCESSES + 40
    box.run("timeout -k 1 2 bash -c 'b() { b | b & }; b' >/dev/null 2>&1 </dev/null", timeout=20)
    still_well(client, neighbour, slow)


# ---- memory and CPU ----

@as_root
@pytest.mark.alone
def test_memory_bomb(client, box, neighbour, slow):
    hog = "python3 -c \"x=[]\nwhile True: x.append(bytearray(1<<20))\""
    result = box.run(hog)
    assert result.code not in (0, None), result
    # memory as files counts too: /dev/shm is bounded, and all folders in memory by the sandbox's limit
    assert "No space left" in box.run("head -c 100M /dev/zero >/dev/shm/fill").out
    still_well(client, neighbour, slow)
    # many small ones, none of them as large as the agent: commands are the victims, not the sandbox
    box.run("for i in $(seq 60); do (x=$(head -c 6M /dev/zero | tr '\\0' x); sleep 5) >/dev/null 2>&1 & done; wait", timeout=60)
    # what ran beside the bomb may have died; the sandbox itself did not
    assert box.ok("cat /proc/self/oom_score_adj").strip() == "800"
    assert box.ok("rm -f /dev/shm/fill; echo here").strip() == "here"


@pytest.mark.alone
def test_cpu_hog(client, box, neighbour, slow):
    box.run("for i in $(seq 24); do (while :; do :; done) >/dev/null 2>&1 & done; disown -a")
    for _ in range(3):
        still_well(client, neighbour, slow)
    if os.geteuid() != 0:
        pytest.skip("an ordinary user has no cpu cgroup: only the scheduler's fairness was shown")
    box.get("/metrics")
    time.sleep(1)
    assert box.get("/metrics").json()[-1]["cpuUsedPct"] < 130, "more than the one core it is given"


# ---- files ----

@pytest.mark.alone
def test_disk_fill(client, box, neighbour, slow):
    if os.geteuid() != 0:
        pytest.skip("an ordinary user cannot mount a disk for each sandbox (SANDBOX_HOST_WITHOUT=disk)")
    before = shutil.disk_usage(client.host.state).free
    for folder in ("/home/user", "/tmp", "/var/tmp", ""):
        result = box.run(f"head -c 1G /dev/zero >{folder}/fill; echo; rm -f {folder}/fill")
        assert "No space left" in result.out, (folder, result)
    assert "No space left" in box.run("head -c 1G /dev/zero >/root/fill", user="root").out
    assert before - shutil.disk_usage(client.host.state).free < 4 * DISK
    # a full disk is the sandbox's own trouble, and an upload says so
    full = client.http.post("/files", params={"path": "/home/user/up", "username": "user"}, headers=box.headers(),
                            files={"file": ("up", b"x" * (1 << 20))})
    assert full.status_code == 507, full.text
    assert "No space left" in box.run("i=0; while : >n$i; do i=$((i+1)); done; true", timeout=60).out
    still_well(client, neighbour, slow)


def test_the_machines_system_is_not_changed_and_other_files_are_not_there(client, box, host, neighbour):
    for path in ("/dev", "/.sandbox"):
        for user in ("user", "root"):
            assert box.run(f"touch {path}/x", user=user).code != 0, (path, user)
    # what a sandbox changes of the system is in a layer of its own
    name = f"isolation-{os.getpid()}"
    for path in ("/usr", "/etc", "/usr/bin"):
        box.run(f"sudo touch {path}/{name}; sudo rm -rf /usr/share/doc/bash /usr/bin/awk; echo lost >>/etc/hosts")
        assert not Path(path, name).exists() and neighbour.run(f"ls {path}/{name}").code != 0
    assert Path("/usr/bin/awk").exists() and "lost" not in neighbour.ok("test -e /usr/bin/awk && cat /etc/hosts")
    for path in (str(host.state), "/root/.bashrc", "/home/user/../../var/lib/sandbox-host", "/etc/shadow", "/boot",
                 "/sys", "/work", "/var/run/docker.sock", "/var/lib/docker", "/var/log", "/proc/1/root/etc"):
        assert box.run(f"ls {path}/", user="root").code != 0, path
    assert set(box.ok("ls /dev").split()) <= {"console", "core", "fd", "full", "mqueue", "null", "ptmx", "pts", "random", "shm",
                                              "stderr", "stdin", "stdout", "tty", "urandom", "zero"}
    assert box.run("mknod /tmp/disk b 7 0", user="root").code != 0
    # nothing setuid gains anything
    assert box.ok("grep NoNewPrivs /proc/self/status | cut -f2").strip() == "1"
    assert box.ok("grep CapEff /proc/self/status | cut -f2").strip("0\n") == ""


def test_symlinks_and_dots_in_file_calls_stay_inside(client, box, host, neighbour):
    """The file API acts inside: a link or .. that leads out finds the sandbox's own files, or nothing."""
    box.ok(f"ln -s {host.state} out; ln -s / top; ln -s /proc/1/root proc; ln -s /etc/passwd passwd")
    record = f"{host.state}/s/{neighbour.id}/record.json"
    for path in (record, f"/home/user/out/s/{neighbour.id}/record.json", "/home/user/../../../../../../etc/shadow",
                 f"/home/user/top{record}", f"/home/user/proc{record}", f"../../../..{record}"):
        assert box.file(path).status_code in (400, 403, 404, 500), path
    assert "user:x:1000" in box.file("/home/user/passwd").text and str(host.state) not in box.file("passwd").text
    for path in ("/etc/passwd", "/home/user/passwd", "/usr/bin/x", "/home/user/top/usr/x", "/../../usr/x"):
        client.http.post("/files", params={"path": path, "username": "root"}, headers=box.headers(),
                         files={"file": ("x", b"pwned")})
        assert not Path("/usr/bin/x").exists() and not Path("/usr/x").exists(), path
    assert "pwned" not in neighbour.ok("cat /etc/passwd")
    # the top is the sandbox's own, on its own disk
    for path in ("/../../x", "/new/x"):
        assert client.http.post("/files", params={"path": path}, headers=box.headers(),
                                files={"file": ("x", b"mine")}).json()[0]["path"] == path
    assert not Path("/x").exists() and not Path("/new").exists() and "pwned" not in Path("/etc/passwd").read_text()


@as_root  # else the system is not the sandbox's to write, and keeps its owners
def test_what_only_root_may_read_of_the_system_is_hidden(host, tmp_path_factory):
    """A sandbox is root over its layer: the layer must not make a secret of the machine's its own."""
    secret, folder = Path(f"/usr/local/etc/secret-{os.getpid()}"), Path(f"/usr/local/lib/secret-{os.getpid()}")
    secret.parent.mkdir(parents=True, exist_ok=True)
    try:
        secret.write_text("key")
        secret.chmod(0o640)
        folder.mkdir(0o750)
        (folder / "inner").write_text("key")
        other = SandboxHost(tmp_path_factory.mktemp("secrets"))
        try:
            box = HostClient(other).create()
            for path in (secret, folder / "inner"):
                for user in ("user", "root"):
                    assert box.run(f"cat {path}", user=user).code != 0, path
        finally:
            other.stop()
    finally:
        secret.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)


@as_root  # else there may be nothing to measure by
def test_a_link_does_not_lead_the_host_out(box, tmp_path):
    """The host itself looks at the disk of a sandbox, whose top may hold what it likes."""
    (tmp_path / "user").mkdir()
    before = box.get("/metrics").json()[-1]
    box.ok(f"mv /home /away && ln -s {tmp_path} /home")
    after = wait_until("another sample", lambda: next((s for s in box.get("/metrics").json()
                                                       if s["timestampUnix"] > before["timestampUnix"]), None))
    assert after["diskTotal"] == before["diskTotal"]


def test_one_sandbox_cannot_reach_anothers_files_or_api(client, box, neighbour):
    assert box.run("grep -rs neighbours-secret /home /tmp /var /root /run /proc/*/cwd 2>/dev/null").out == ""
    # its token is not the neighbour's, and the neighbour's port is not in its network
    assert client.http.get("/files", params={"path": "secret"}, headers=neighbour.headers() | {
        "X-Access-Token": "wrong"}).status_code == 401
    assert box.run("ls -a /tmp | grep mine").code == 1


# ---- the kernel's doors ----

def test_system_calls_beyond_the_list(box):
    calls = """
import ctypes, errno, socket
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    ctypes.set_errno(0)
    result = libc.syscall(*arguments)
    print(name, "ALLOWED" if result >= 0 else errno.errorcode[ctypes.get_errno()])
call("mount", 165, 0, 0, 0, 0, 0)
call("umount2", 166, 0, 0)
call("pivot_root", 155, 0, 0)
call("keyctl", 250, 0, -3, 0)
call("add_key", 248, 0, 0, 0, 0, 0)
call("bpf", 321, 0, 0, 0)
call("perf_event_open", 298, 0, 0, -1, -1, 0)
call("io_uring_setup", 425, 8, 0)
call("userfaultfd", 323, 0)
call("init_module", 175, 0, 0, 0)
call("kexec_load", 246, 0, 0, 0, 0)
call("reboot", 169, 0, 0, 0, 0)
call("swapon", 167, 0, 0)
call("setns", 308, 0, 0)
call("open_by_handle_at", 304, -1, 0, 0)
call("fsopen", 430, 0, 0)
call("open_tree", 428, -1, 0, 0)
call("move_mount", 429, -1, 0, -1, 0, 0)
call("syslog", 103, 3, 0, 0)
call("settimeofday", 164, 0, 0)
call("clone3", 435, 0, 0)
for name, flag in {"NEWNS": 0x20000, "NEWNET": 0x40000000, "NEWPID": 0x20000000, "NEWIPC": 0x08000000,
                   "NEWUTS": 0x04000000, "NEWCGROUP": 0x02000000, "NEWUSER|NEWNET": 0x50000000}.items():
    call("unshare " + name, 272, flag)
for family in (17, 38, 40, 31, 15, 29):
    try:
        socket.socket(family, socket.SOCK_RAW if family == 17 else socket.SOCK_DGRAM).close()
        print("family", family, "ALLOWED")
    except OSError as failure:
        print("family", family, errno.errorcode[failure.errno])
try:
    socket.socket(socket.AF_INET, socket.SOCK_RAW, 1)
    print("raw ALLOWED")
except OSError as failure:
    print("raw", errno.errorcode[failure.errno])
"""
    if os.uname().machine != "x86_64":
        pytest.skip("the numbers of the system calls are those of x86-64")
    box.ok(f"cat >calls.py <<'E'\n{calls}E")
    for user in ("user", "root"):
        out = box.ok("python3 calls.py", user=user)
        assert "ALLOWED" not in out, out
        assert out.count("ENOSYS") >= 30, out
    assert box.ok("grep -E '^Seccomp:' /proc/self/status | cut -f2").strip() == "2"


def test_root_inside_is_root_over_nothing_outside(box):
    out = box.ok("id -u; cat /proc/self/uid_map; chown 12345 /home/user 2>&1; mount -t tmpfs x /mnt 2>&1;"
                 "sysctl -w kernel.hostname=x 2>&1; ip link set lo down 2>&1; ip route del default 2>&1; true", user="root")
    assert out.split()[0] == "0"
    assert box.ok("sudo id -u").strip() == "0"
    assert box.ok("ip -br addr show lo").split()[1] in ("UNKNOWN", "UP")
    assert len(box.ok("ip route", user="root")) == len(box.ok("ip route"))


# ---- network ----

def listen_here(address: str) -> tuple[socket.socket, int]:
    server = socket.create_server((address, 0))
    return server, server.getsockname()[1]


def reach(box: Box, address: str, port: int) -> bool:
    return box.run(f"timeout 3 bash -c 'exec 3<>/dev/tcp/{address}/{port}'").code == 0


def own_address() -> str | None:
    """An address of this machine that is not loopback."""
    out = subprocess.run(["ip", "-4", "-o", "addr", "show", "scope", "global"], capture_output=True, text=True).stdout
    return next((line.split()[3].split("/")[0] for line in out.splitlines()), None)


@pytest.mark.parametrize("internet", [True, False])
def test_this_machine_is_not_reached(client, host, neighbour, internet):
    box = client.create(allow_internet_access=internet)
    everywhere, port = listen_here("0.0.0.0")
    loopback, loop_port = listen_here("127.0.0.1")
    try:
        addresses = ["127.0.0.1", "10.0.2.2", "10.0.2.3", "10.0.2.100", "0.0.0.0", "localhost"]
        addresses += [own_address()] if own_address() else []
        for address in addresses:
            # a server on every interface, one on loopback, and the host's own API
            for target in (port, loop_port, host.port):
                assert not reach(box, address, target), f"{address}:{target} was reached"
    finally:
        everywhere.close()
        loopback.close()
        box.kill()


@pytest.mark.parametrize("internet", [True, False])
def test_private_networks_and_metadata_services_are_closed(client, internet):
    box = client.create(allow_internet_access=internet)
    start = time.monotonic()
    for address in ("169.254.169.254", "100.100.100.200", "192.168.0.1", "172.17.0.1", "10.0.0.1", "192.0.0.192",
                    "224.0.0.1", "255.255.255.255"):
        out = box.run(f"exec 3<>/dev/tcp/{address}/80").out
        assert "route" in out or "unreachable" in out or "denied" in out, (address, out)
    # refused at once by a route, not by a time limit
    assert time.monotonic() - start < 10
    box.kill()


def test_no_internet_is_no_interface(client):
    box = client.create(allow_internet_access=False)
    assert box.ok("ls /sys/class/net 2>/dev/null || ip -br link | cut -d' ' -f1").split() == ["lo"]
    box.kill()


@contextlib.contextmanager
def internet():
    """203.0.113.0/24 (documentation) stands for the internet: an address of it on this machine, opened by
    SANDBOX_HOST_EGRESS_ALLOW, since a test reaches no other machine. Gives the address and the port of a
    server there."""
    if shutil.which("slirp4netns") is None or not Path("/dev/net/tun").exists():
        pytest.skip("no slirp4netns or /dev/net/tun: sandboxes have no internet on this machine")
    address = f"203.0.113.{os.getpid() % 200 + 10}"
    subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    server, port = listen_here(address)

    def greet() -> None:
        with contextlib.suppress(OSError):  # until it is closed
            while True:
                with server.accept()[0] as caller, contextlib.suppress(OSError):  # one that left at once
                    caller.sendall(b"hello\n")

    greeter = threading.Thread(target=greet)
    greeter.start()
    try:
        yield address, port
    finally:
        server.shutdown(socket.SHUT_RDWR)  # wakes who waits in accept()
        server.close()
        greeter.join()
        subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=False)


@as_root
def test_internet_where_it_is_allowed(client, host):
    with internet() as (address, port):
        box = client.create()
        assert box.ok(f"timeout 5 cat </dev/tcp/{address}/{port} | head -1").strip() == "hello"
        # what the create closes is closed, and what it opens again is open
        for network, open_ in (({"denyOut": ["203.0.113.0/24"]}, False), ({"denyOut": [f"{address}"]}, False),
                               ({"denyOut": ["0.0.0.0/0"], "allowOut": [f"{address}/32"]}, True),
                               ({"allowOut": ["169.254.169.254"]}, True)):
            other = client.create(network=network)
            assert reach(other, address, port) == open_, network
            assert not reach(other, "169.254.169.254", 80), network
            other.kill()
        assert not reach(client.create(allow_internet_access=False), address, port)
        # what a sandbox sends leaves as an ordinary user's, in its own cgroup
        owners = set()
        for pid in descendants(warden_of(host)):
            with contextlib.suppress(OSError):  # one that just ended
                if Path(f"/proc/{pid}/comm").read_text() == "slirp4netns\n":
                    owners.add(os.stat(f"/proc/{pid}").st_uid)
        assert owners and 0 not in owners


def closed_in(box: Box) -> list[str]:
    return sorted(box.ok("ip route show type unreachable").split("\n"))


@as_root
def test_where_a_running_sandbox_may_go_is_changed(client):
    with internet() as (address, port):
        changed, offline = client.create(network={"denyOut": [address]}), client.create(allow_internet_access=False)
        plain = closed_in(client.create())
        for box in (changed, offline):
            assert not reach(box, address, port)
            for body, open_, online in (
                    ({}, True, True), ({"denyOut": [address]}, False, True), ({"allow_internet_access": False}, False, False),
                    ({"denyOut": ["0.0.0.0/0"], "allowOut": [address]}, True, True),
                    ({"denyOut": ["0.0.0.0/0"]}, False, False), ({"allowOut": ["169.254.169.254"]}, True, True)):
                answer = client.request("PUT", f"/sandboxes/{box.id}/network", body)
                assert answer.status_code == 204, answer.text
                assert reach(box, address, port) == open_, body
                assert (box.run("ip route get 10.0.2.2").code == 0) == online, body  # the way out
                # what the operator closes stays closed, whatever a sandbox is given
                assert not reach(box, "169.254.169.254", 80), body
                detail = box.get().json()
                assert detail["network"] == {k: v for k, v in body.items() if k != "allow_internet_access"}
                assert detail["allowInternetAccess"] == body.get("allow_internet_access")
            # nothing is left of what was closed meanwhile
            assert closed_in(box) == plain
        # what cannot be done changes nothing
        refused = client.request("PUT", f"/sandboxes/{changed.id}/network", {"denyOut": [address, "example.com"]})
        assert refused.status_code == 400 and "example.com" in refused.json()["message"]
        assert client.request("PUT", f"/sandboxes/{changed.id}/network", {"rules": {"a.com": []}}).status_code == 400
        assert client.request("PUT", f"/sandboxes/{changed.id}/network", []).status_code == 400
        assert reach(changed, address, port)
        # the routes are the sandbox's as long as it lives, paused or not
        assert client.request("PUT", f"/sandboxes/{changed.id}/network", {"denyOut": [address]}).status_code == 204
        assert changed.call("pause").status_code == 204
        assert client.request("PUT", f"/sandboxes/{changed.id}/network", {}).status_code == 404
        assert changed.call("connect", {"timeout": 60}).status_code == 201
        assert not reach(changed, address, port)
        for box in (changed, offline):
            assert box.kill().status_code == 204
        assert client.request("PUT", f"/sandboxes/{changed.id}/network", {}).status_code == 404


# ---- what is missing is said ----

def test_what_cannot_be_enforced_is_refused_unless_allowed(host, tmp_path):
    """As an ordinary user the host says what is missing and does not start; named in SANDBOX_HOST_WITHOUT, it does."""
    if os.geteuid() != 0:
        pytest.skip("to drop to an ordinary user takes root; as one, the other tests of this file run so anyway")
    state = Path("/tmp") / f"sbx-user-{os.getpid()}"
    state.mkdir(mode=0o755)
    shutil.copy(build_dir() / "sandbox-host", state / "sandbox-host")
    shutil.copy(build_dir() / "sandbox-agent", state / "sandbox-agent")
    os.chown(state, 65534, 65534)
    port = free_port()
    env = dict(os.environ) | host.own_env | {"SANDBOX_HOST_STATE_DIR": str(state / "state"), "HOME": str(state),
                                             "SANDBOX_HOST_LISTEN": f"127.0.0.1:{port}"}
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(state / "sandbox-host")]
    try:
        refused = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=20)
        assert refused.returncode == 78 and "SANDBOX_HOST_WITHOUT" in refused.stderr, refused.stderr
        assert all(f'"claim":"{claim}"' in refused.stderr for claim in ("users", "memory", "cpu", "disk"))
        wrong = subprocess.run(argv, env=env | {"SANDBOX_HOST_WITHOUT": "luck"}, capture_output=True, text=True, timeout=20)
        assert wrong.returncode == 78 and "luck" in wrong.stderr
        process = subprocess.Popen(argv, env=env | {"SANDBOX_HOST_WITHOUT": "users,memory,cpu,processes,disk"},
                                   stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until("the ordinary user's host", lambda: httpx.get(f"{url}/health", trust_env=False).status_code == 200)
            other = HostClient(type("Host", (), {"url": url, "key": host.key})())
            box = other.create()
            assert box.ok("id -un").strip() == "user" and box.call("pause").status_code == 204
            assert box.call("connect", {"timeout": 60}).status_code == 201
            assert box.kill().status_code == 204
        finally:
            process.terminate()
            assert process.wait(15) == 0
    finally:
        shutil.rmtree(state)


ASK = ("import socket,sys\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM);s.settimeout({wait})\n"
       "try:\n s.sendto({data!r},('{address}',{port}));print('answered',s.recv(600))\n"
       "except OSError as e: print('silent',e)\n")


def ask(box: Box, address: str, port: int, data: bytes, wait: float = 1) -> bool:
    code = ASK.format(wait=wait, data=data, address=address, port=port)
    return box.ok(f"cat >ask.py <<'E'\n{code}E\npython3 ask.py").startswith("answered")


@as_root
def test_the_machines_private_resolver_is_asked_only_where_that_is_allowed(tmp_path_factory, tmp_path):
    if shutil.which("slirp4netns") is None or not Path("/dev/net/tun").exists():
        pytest.skip("no slirp4netns or /dev/net/tun: sandboxes have no internet on this machine")
    address = f"10.254.253.{os.getpid() % 200 + 10}"
    subprocess.run(["ip", "addr", "add", f"{address}/32", "dev", "lo"], check=True)
    (tmp_path / "resolv.conf").write_text(f"search inner.example\nnameserver {address}\n")
    prefix = ("unshare", "-m", "sh", "-c", f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec "$0"')
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
            server.bind((address, 53))
            server.settimeout(20)
            for allowed in (False, True):
                host = SandboxHost(tmp_path_factory.mktemp("dns"), prefix,
                                   **({"SANDBOX_HOST_EGRESS_ALLOW": f"{address}/32"} if allowed else {}))
                try:
                    box = HostClient(host).create()
                    expected = "nameserver 10.0.2.3\n" if allowed else "nameserver 8.8.8.8\nnameserver 1.1.1.1\n"
                    assert box.ok("cat /etc/resolv.conf") == expected
                    answerer = threading.Thread(target=lambda: server.sendto(b"private", server.recvfrom(600)[1]))
                    if allowed:
                        answerer.start()
                    assert ask(box, "10.0.2.3", 53, b"\1" * 30, 10 if allowed else 1) == allowed
                    if allowed:
                        answerer.join()
                finally:
                    host.stop()
    finally:
        subprocess.run(["ip", "addr", "del", f"{address}/32", "dev", "lo"], check=False)


@as_root
def test_the_gateways_tftp_is_closed(client):
    with internet():
        box = client.create()
        assert not ask(box, "10.0.2.2", 69, b"\0\1/etc/passwd\0octet\0")


def test_a_sandbox_takes_none_of_the_machines_aio_slots_and_half_of_its_files(box):
    before = int(Path("/proc/sys/fs/aio-nr").read_text())
    code = ("import ctypes,os;l=ctypes.CDLL(None,use_errno=True);c=ctypes.c_ulong(0);"
            "print(l.syscall(206,60000,ctypes.byref(c)),os.strerror(ctypes.get_errno()))")
    if os.uname().machine == "x86_64":
        assert box.ok(f'python3 -c "{code}"').strip() == "-1 Function not implemented"
        assert int(Path("/proc/sys/fs/aio-nr").read_text()) - before < 60000
    files = int(box.ok("ulimit -Hn"))
    # with what its agent may start on top of the processes of its own
    most = max(int(Path("/proc/sys/fs/file-max").read_text()) // 2, 1024 * (PROCESSES + 160))
    assert 1024 <= files <= 16384 and files * (PROCESSES + 160) <= most
