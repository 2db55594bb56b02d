"""What has ended leaves the database after RETENTION_DAYS; what it used is still known."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.harness.services import build_dir, wait_until
from tests.harness.stack import BASE


def test_ended_sandboxes_leave_and_their_usage_stays(fault_stack):
    stack = fault_stack(env={"RETENTION_DAYS": "0.00001", "REAPER_PRUNE_MS": "1000"})  # 0.9 s
    client = stack.client()
    kept = client.create()["sandbox_id"]
    for _ in range(5):
        client.remove(client.create()["sandbox_id"])
    wait_until("the ended ones gone", lambda: stack.sql("select id from sandboxes") == [(kept,)])
    for table in ("jobs", "events"):
        assert stack.sql(f"select distinct sandbox_id from {table}") == [(kept,)], table
    assert stack.sql("select sandboxes, running_ms > 0 from usage_of_pruned") == [("5", "t")]
    assert stack.sql("select sandboxes from usage") == [("6",)]
    assert client.status(kept) == "running"
    assert client.get(f"{BASE}/{kept}/events").status_code == 200


@pytest.mark.parametrize("days", ["-1", "x", "1d", "nan", "36501", "0x10"])
def test_a_wrong_retention_is_named(days):
    done = subprocess.run([str(build_dir() / "sandbox-reaper")], env=dict(os.environ) | {"RETENTION_DAYS": days, "DATABASE_URL": "x"},
                          capture_output=True, text=True, timeout=20)
    assert done.returncode == 78 and "RETENTION_DAYS must be a number" in done.stderr + done.stdout
