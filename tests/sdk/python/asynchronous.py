"""E2B's Python SDK, asynchronous. Only E2B's own environment tells it where the server is."""

import asyncio

from e2b import AsyncSandbox, CommandExitException, FilesystemEventType, NotFoundException, SandboxException, TimeoutException
from e2b.sandbox.commands.command_handle import PtySize
from tap import eventually_async, main_async, raises_async, test


@test
async def commands_at_once(sandbox):
    results = await asyncio.gather(*(sandbox.commands.run(f"echo {i}; sleep 0.2") for i in range(40)))
    assert [r.stdout for r in results] == [f"{i}\n" for i in range(40)]
    failed = await raises_async(CommandExitException, sandbox.commands.run("exit 3"))
    assert failed.exit_code == 3
    await raises_async(TimeoutException, sandbox.commands.run("sleep 10", timeout=1))


@test
async def streams(sandbox):
    out = []
    handle = await sandbox.commands.run("cat", background=True, stdin=True, on_stdout=out.append)
    await sandbox.commands.send_stdin(handle.pid, "Hello,\nWorld!")
    await eventually_async("the echo", lambda: "".join(out) == "Hello,\nWorld!")
    await handle.kill()
    await raises_async(CommandExitException, handle.wait())


@test
async def files(sandbox):
    await asyncio.gather(*(sandbox.files.write(f"many/{i}", f"file {i}") for i in range(20)))
    assert await asyncio.gather(*(sandbox.files.read(f"many/{i}") for i in range(20))) == [f"file {i}" for i in range(20)]
    assert len(await sandbox.files.list("many")) == 20
    stream = await sandbox.files.read("many/3", format="stream")
    assert b"".join([chunk async for chunk in stream]) == b"file 3"
    assert await sandbox.files.exists("many/3") and not await sandbox.files.exists("many/30")
    await raises_async(NotFoundException, sandbox.files.read("many/30"))


@test
async def watched_folders(sandbox):
    await sandbox.files.make_dir("seen/inner")
    events = []
    handle = await sandbox.files.watch_dir("seen", on_event=lambda e: events.append((e.type, e.name)), recursive=True)
    await sandbox.files.write("seen/inner/x", "x")
    await eventually_async("the write", lambda: (FilesystemEventType.WRITE, "inner/x") in events)
    await sandbox.files.make_dir("seen/later")
    await sandbox.files.write("seen/later/y", "y")
    await eventually_async("the later one", lambda: (FilesystemEventType.WRITE, "later/y") in events)
    await handle.stop()
    await raises_async(NotFoundException, sandbox.files.watch_dir("not-there", on_event=print))
    await raises_async(SandboxException, sandbox.files.watch_dir("seen/inner/x", on_event=print))


@test
async def terminals(sandbox):
    out = []
    terminal = await sandbox.pty.create(PtySize(24, 80), on_data=lambda data: out.append(data.decode()))
    await sandbox.pty.send_stdin(terminal.pid, b"echo $((6 * 7)); exit\n")
    assert (await terminal.wait()).exit_code == 0
    assert "42" in "".join(out)


@test
async def lifecycle(sandbox):
    other = await AsyncSandbox.create(timeout=60)
    await other.pause()
    assert not await other.is_running()
    await other.connect()
    assert await other.is_running()
    assert await other.kill() is True
    assert await AsyncSandbox.kill(other.sandbox_id) is False


main_async(lambda: AsyncSandbox.create(timeout=120))
