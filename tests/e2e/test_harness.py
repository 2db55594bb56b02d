"""A test run that is killed leaves nothing behind: the harness's own promise."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.services import ROOT, wait_until
from tests.harness.watchdog import start_time

pytestmark = pytest.mark.release_only

RUN = """
import sys
from pathlib import Path
from tests.harness.services import Postgres, Redis
from tests.harness.stack import SandboxHost, Stack
folder = Path(sys.argv[1])
redis, postgres, host = Redis(folder / "redis"), Postgres(folder), SandboxHost(folder)
stack = Stack(folder / "stack", redis, postgres, host)
stack.client().create()
stack.workers[0].send(19)  # a frozen process must go as well
print(postgres.data, host.state, *(p.pid for p in [redis.process, postgres.process, host.process, *stack.processes]), flush=True)
sys.stdin.read()
"""


def test_a_run_that_is_killed_leaves_no_process_and_no_folder(tmp_path):
    run = subprocess.Popen([sys.executable, "-c", RUN, str(tmp_path)], cwd=ROOT, env=dict(os.environ, PYTHONPATH=str(ROOT)),
                           stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    data, state, *pids = run.stdout.readline().split()
    started = {int(pid): start_time(int(pid)) for pid in pids}
    assert len(started) == 6 and all(started.values()) and Path(data).exists() and Path(state).exists()
    run.send_signal(signal.SIGKILL)
    run.communicate()
    wait_until("every process to end", lambda: not [pid for pid, at in started.items() if start_time(pid) == at], 20)
    wait_until("the folders to go", lambda: not Path(data).exists() and not Path(state).exists(), 10)
