"""SANDBOX_START_COMMAND: every sandbox comes up with it, at every provider, and no create hangs on it."""

from __future__ import annotations

import time

import pytest

from tests.harness.providers import PROVIDERS
from tests.harness.services import wait_until
from tests.harness.stack import Stack

# a start that is repeated finds the first one, as the command's contract asks
COMMAND = """exec 9>~/once; flock -n 9 || exit 0
echo "started 'quoted' $GREETING" >>~/log; exec sleep 4242.5"""


@pytest.fixture(params=list(PROVIDERS))
def provider(request, tmp_path):
    service = PROVIDERS[request.param](tmp_path)
    yield service
    service.stop()


def test_it_runs_in_every_sandbox(tmp_path, redis, postgres, provider):
    with Stack(tmp_path / "stack", redis, postgres, provider, env={"SANDBOX_START_COMMAND": COMMAND}) as stack:
        user = stack.client()
        sid = user.create(envs={"GREETING": "hello"})["sandbox_id"]

        def log() -> str:
            return user.run(sid, "cat ~/log; pgrep -cfx 'sleep 4242.5'")["stdout"]

        wait_until("the command", lambda: log() == "started 'quoted' hello\n1\n", 10, 0.1)
        user.pause(sid)
        user.connect(sid)
        # where a pause keeps the disk only, it has to be started again
        expected = "started 'quoted' hello\n" * (1 if provider.keeps_memory else 2) + "1\n"
        wait_until("the command again", lambda: log() == expected, 10, 0.1)
        user.remove(sid)


def test_what_it_brings_up_is_waited_for(tmp_path, redis, postgres, provider):
    """Without a template of ours: something that answers as the tool server does."""
    command = "mkdir -p ~/www && touch ~/www/health && cd ~/www && exec python3 -m http.server 6060"
    with Stack(tmp_path / "stack", redis, postgres, provider, env={
            "SANDBOX_START_COMMAND": command, "SANDBOX_SERVICES": "mcp", "SANDBOX_SERVICES_TEMPLATES": "*",
            "SANDBOX_SERVICES_WAIT_MS": "20000"}) as stack:
        user = stack.client()
        box = user.create()
        assert box["services"] == {"mcp": "ready"}
        assert provider.fetch(box["mcp_url"]).status_code == 200
        user.remove(box["sandbox_id"])


@pytest.mark.parametrize("fault", [{"mode": "status", "status": 500}, {"mode": "reset_before"}, {"mode": "reset_after"}, {"mode": "garbage"}, {"mode": "hang"}],
                         ids=lambda f: f["mode"])
def test_a_start_that_fails_fails_no_create(fault_provider, fault_stack, fault):
    stack = fault_stack(env={"SANDBOX_START_COMMAND": "true", "WORKER_ATTEMPT_MS": "2500"})
    fault_provider.faults({"route": "exec", "times": 1} | fault)
    start = time.monotonic()
    box = stack.client().create()
    assert box["status"] == "running" and time.monotonic() - start < 10
    assert "sandbox.start_command_failed" in stack.workers[0].log()
    # and once more, with nothing in the way
    stack.client().create()
    assert stack.workers[0].log().count("sandbox.start_command_failed") == 1
    state = fault_provider.state()
    assert state["calls"]["exec"] == 2 and len(state["sandboxes"]) == 2, state
