"""E2B's Python SDK, synchronous. Only E2B's own environment tells it where the server is."""

import os
import time
import urllib.request
import uuid

from e2b import (CommandExitException, FileNotFoundException, FilesystemEventType, FileType, InvalidArgumentException,
                 NotFoundException, Sandbox, SandboxException, SandboxQuery, SandboxState, TimeoutException)
from e2b.sandbox.commands.command_handle import PtySize
from tap import eventually, main_sync, raises, test


@test
def commands(sandbox):
    done = sandbox.commands.run('echo "Hello, World!"; echo wrong >&2')
    assert (done.exit_code, done.stdout, done.stderr) == (0, "Hello, World!\n", "wrong\n")
    failed = raises(CommandExitException, sandbox.commands.run, "echo before; exit 7")
    assert (failed.exit_code, failed.stdout) == (7, "before\n")
    assert sandbox.commands.run('printf "' + "a" * 8191 + '\\xe2"').stdout == "a" * 8191 + "\ufffd"
    seen = []
    sandbox.commands.run("echo one; sleep 0.2; echo two >&2", on_stdout=seen.append, on_stderr=seen.append)
    assert seen == ["one\n", "two\n"]
    assert sandbox.commands.run("echo $MINE; pwd; whoami", envs={"MINE": "x"}, cwd="/tmp", user="root").stdout == "x\n/tmp\nroot\n"
    raises(InvalidArgumentException, sandbox.commands.run, "true", cwd="/no/such")


@test
def timeouts_of_commands(sandbox):
    start = time.monotonic()
    raises(TimeoutException, sandbox.commands.run, "sleep 10", timeout=1)
    handle = sandbox.commands.run("sleep 10", timeout=1, background=True)
    raises(TimeoutException, lambda: list(handle))
    assert time.monotonic() - start < 6


@test
def background_commands(sandbox):
    handle = sandbox.commands.run("sleep 60", background=True)
    listed = [p for p in sandbox.commands.list() if p.pid == handle.pid]
    assert listed and listed[0].cmd == "/bin/bash" and listed[0].args == ["-l", "-c", "sleep 60"]
    assert handle.kill() is True
    raises(CommandExitException, handle.wait)
    assert sandbox.commands.kill(handle.pid) is False
    echo = sandbox.commands.run("read a; echo got $a", background=True, stdin=True)
    echo.disconnect()
    again = sandbox.commands.connect(echo.pid)
    sandbox.commands.send_stdin(echo.pid, "it\n")
    assert again.wait().stdout == "got it\n"
    raises(NotFoundException, sandbox.commands.connect, 999999)


@test
def files(sandbox):
    info = sandbox.files.write("py/text", "content ž")
    assert (info.path, info.name, info.type) == ("/home/user/py/text", "text", FileType.FILE)
    assert sandbox.files.read("py/text") == "content ž"
    assert bytes(sandbox.files.read("py/text", format="bytes")) == "content ž".encode()
    assert b"".join(sandbox.files.read("py/text", format="stream")) == "content ž".encode()
    infos = sandbox.files.write_files([{"path": f"py/{i}", "data": f"file {i}"} for i in range(10)])
    assert [i.path for i in infos] == [f"/home/user/py/{i}" for i in range(10)]
    assert sandbox.files.read("py/7") == "file 7"
    assert sandbox.files.write_files([]) == []
    raises(FileNotFoundException, sandbox.files.read, "missing")
    raises(InvalidArgumentException, sandbox.files.read, "py")
    sandbox.files.write("py/packed", "again " * 10000, gzip=True)
    assert sandbox.files.read("py/packed", gzip=True) == "again " * 10000
    sandbox.files.write("py/about", b"\0\1\2", metadata={"author": "me"})
    assert sandbox.files.get_info("py/about").metadata == {"author": "me"}


@test
def folders(sandbox):
    root = f"tree-{uuid.uuid4()}"
    for path in ("a", "a/a1", "a/a2", "b"):
        assert sandbox.files.make_dir(f"{root}/{path}") is True
    assert sandbox.files.make_dir(f"{root}/b") is False
    sandbox.files.write(f"{root}/file.txt", "Hello, world!")
    assert [e.name for e in sandbox.files.list(root)] == ["a", "b", "file.txt"]
    deep = sandbox.files.list(root, depth=2)
    assert [e.path for e in deep] == [f"/home/user/{root}/{p}" for p in ("a", "a/a1", "a/a2", "b", "file.txt")]
    info = sandbox.files.get_info(f"{root}/file.txt")
    assert (info.size, info.mode, info.permissions, info.owner, info.group) == (13, 0o644, "-rw-r--r--", "user", "user")
    assert info.modified_time is not None and info.symlink_target is None
    folder = sandbox.files.get_info(f"{root}/a")
    assert (folder.type, folder.mode, folder.permissions) == (FileType.DIR, 0o755, "drwxr-xr-x")
    moved = sandbox.files.rename(f"{root}/file.txt", f"{root}/b/moved.txt")
    assert moved.path == f"/home/user/{root}/b/moved.txt"
    assert not sandbox.files.exists(f"{root}/file.txt") and sandbox.files.exists(moved.path)
    raises(NotFoundException, sandbox.files.rename, f"{root}/file.txt", "x")
    sandbox.files.remove(root)
    assert not sandbox.files.exists(root)


@test
def watched_folders(sandbox):
    sandbox.files.make_dir("watched/inner")
    handle = sandbox.files.watch_dir("watched")
    sandbox.files.write("watched/new", "x")
    assert [(e.type, e.name) for e in handle.get_new_events()] == [
        (FilesystemEventType.CREATE, "new"), (FilesystemEventType.CHMOD, "new"), (FilesystemEventType.WRITE, "new")]
    assert handle.get_new_events() == []
    handle.stop()
    handle = sandbox.files.watch_dir("watched", recursive=True)
    sandbox.files.write("watched/inner/x", "x")
    events = handle.get_new_events()
    assert len(events) == 3 and (events[0].type, events[0].name) == (FilesystemEventType.CREATE, "inner/x")
    sandbox.files.make_dir("watched/later")
    sandbox.files.write("watched/later/x", "x")
    assert any(e.type == FilesystemEventType.WRITE and e.name == "later/x" for e in handle.get_new_events())
    handle.stop()
    raises(NotFoundException, sandbox.files.watch_dir, "no-such-folder")
    raises(SandboxException, sandbox.files.watch_dir, "watched/new")


@test
def terminals(sandbox):
    terminal = sandbox.pty.create(PtySize(24, 80), envs={"FOO": "bar"})
    out = []
    sandbox.pty.resize(terminal.pid, PtySize(33, 101))
    sandbox.pty.send_stdin(terminal.pid, b"stty size; echo \"<$FOO>\"; exit\n")
    result = terminal.wait(on_pty=lambda data: out.append(data.decode()))
    assert result.exit_code == 0 and "33 101" in "".join(out) and "<bar>" in "".join(out)
    other = sandbox.pty.create(PtySize(24, 80))
    assert sandbox.pty.kill(other.pid) is True and sandbox.pty.kill(other.pid) is False


@test
def signed_urls(sandbox):
    sandbox.files.write("signed", "for you")
    url = sandbox.download_url("signed", use_signature_expiration=60)
    assert urllib.request.urlopen(url).read() == b"for you"


@test
def ports(sandbox):
    sandbox.files.write("www/index.html", "from inside")
    sandbox.commands.run("cd www && exec python3 -m http.server 8411", background=True, timeout=0)
    assert sandbox.get_host(8411).startswith(f"8411-{sandbox.sandbox_id}.")
    request = urllib.request.Request(os.environ["E2B_SANDBOX_URL"], headers={"Host": sandbox.get_host(8411)})

    def fetched():
        try:
            return urllib.request.urlopen(request).read()
        except OSError:
            return None
    assert eventually("the server", fetched) == b"from inside"


@test
def lifecycle(sandbox):
    tag = {"tag": uuid.uuid4().hex}
    other = Sandbox.create(timeout=60, metadata=tag, envs={"FROM_CREATE": "yes"})
    try:
        assert other.is_running()
        info = other.get_info()
        assert (info.sandbox_id, info.metadata, info.state) == (other.sandbox_id, tag, SandboxState.RUNNING)
        found = Sandbox.list(query=SandboxQuery(metadata=tag)).next_items()
        assert [s.sandbox_id for s in found] == [other.sandbox_id]
        assert Sandbox.connect(other.sandbox_id).commands.run("echo $FROM_CREATE").stdout == "yes\n"
        other.set_timeout(120)
        assert (other.get_info().end_at - info.end_at).total_seconds() > 50
        sleeper = other.commands.run("sleep 3600", background=True, timeout=0)
        other.pause()
        assert not other.is_running() and other.get_info().state == SandboxState.PAUSED
        other.connect()
        assert other.is_running() and any(p.pid == sleeper.pid for p in other.commands.list())
        assert isinstance(other.get_metrics(), list)
    finally:
        assert other.kill() is True
    assert not other.is_running() and Sandbox.kill(other.sandbox_id) is False
    raises(NotFoundException, Sandbox.connect, other.sandbox_id)


@test
def a_sandbox_killed_during_a_command(sandbox):
    other = Sandbox.create(timeout=60)
    handle = other.commands.run("sleep 60", background=True)
    other.kill()
    raises(TimeoutException, handle.wait)  # the SDK's name for a sandbox that has ended


main_sync(lambda: Sandbox.create(timeout=120))
