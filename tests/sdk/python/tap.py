"""What ../lib.mjs is to the JavaScript programs: TAP lines, one sandbox for a program."""

import asyncio
import inspect
import sys
import time
import traceback

tests = []


def test(function):
    tests.append(function)
    return function


def eventually(what, check, seconds=10.0):
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        time.sleep(0.03)
    return value


async def eventually_async(what, check, seconds=10.0):
    end = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < end, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.03)
    return value


def raises(kinds, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kinds as exc:
        return exc
    raise AssertionError(f"{call} did not raise")


async def raises_async(kinds, awaitable):
    try:
        await awaitable
    except kinds as exc:
        return exc
    raise AssertionError(f"{awaitable} did not raise")


def report(number, function, failure, start):
    name = function.__name__.replace("_", " ")
    if failure is None:
        print(f"ok {number} - {name} # {(time.monotonic() - start) * 1000:.0f} ms", flush=True)
    else:
        print(f"not ok {number} - {name}\n" + "\n".join(f"  # {line}" for line in failure.splitlines()), flush=True)
    return failure is not None


async def run_all(sandbox):
    failed = 0
    print(f"TAP version 13\n1..{len(tests)}", flush=True)
    for number, function in enumerate(tests, 1):
        start, failure = time.monotonic(), None
        try:
            result = function(sandbox)
            if inspect.isawaitable(result):
                await asyncio.wait_for(result, 60)
        except Exception:
            failure = traceback.format_exc()
        failed += report(number, function, failure, start)
    return failed


def main_sync(make):
    sandbox = make()
    try:
        failed = asyncio.run(run_all(sandbox))
    finally:
        sandbox.kill()
    sys.exit(failed > 0)


def main_async(make):
    async def run():
        sandbox = await make()
        try:
            return await run_all(sandbox)
        finally:
            await sandbox.kill()

    sys.exit(asyncio.run(run()) > 0)
