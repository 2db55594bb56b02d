"""A worker and a reaper whose clocks are wrong: every deadline goes by the database's."""

import os
import subprocess

import pytest

from tests.harness.services import Redis, build_dir, wait_until
from tests.harness.stack import BASE, FaultProvider, Stack


def left_ms(stack: Stack, column: str, sid: str) -> float:
    return float(stack.sql(f"select extract(epoch from {column} - now()) * 1000 from sandboxes where id = '{sid}'")[0][0])


@pytest.mark.parametrize("shift_ms", (-600_000, -1500, 1500, 600_000))
def test_a_wrong_clock_moves_no_deadline(tmp_path, postgres, shift_ms):
    """A deadline that has done its work does not stop again what was resumed after it; an idle time is as long as ever."""
    redis, provider = Redis(tmp_path / "redis"), FaultProvider(tmp_path)
    shift = {"CLOCK_SHIFT_MS": str(shift_ms)}
    try:
        with Stack(tmp_path / "s", redis, postgres, provider, workers=0, reapers=0, gateways=0,
                   env={"SANDBOX_TIMEOUT_SECONDS": "300"}) as stack:
            stack.start_worker(**shift)
            stack.spawn("reaper", "sandbox-reaper", **shift)
            stack.gateways.append(stack.start_gateway())
            client = stack.client()
            box = client.create()["sandbox_id"]
            assert 295_000 < left_ms(stack, "expires_at", box) <= 300_000
            assert 890_000 < left_ms(stack, "provider_expires_at", box) <= 902_000
            for _ in range(2):
                client.ok(client.post(f"{BASE}/schedule-timeout", {"sandbox_id": box, "timeout_seconds": 2}))
                wait_until("its deadline paused it", lambda: client.status(box) == "paused", 10)
                assert left_ms(stack, "expires_at", box) <= 0
                client.connect(box)
                assert 295_000 < left_ms(stack, "expires_at", box) <= 300_000
                assert client.status(box) == "running"
            assert stack.sql("select count(*) from jobs where op = 'pause'") == [("2",)]
            doctor = subprocess.run([build_dir() / "sandbox-gateway", "doctor"], env=dict(os.environ) | stack.env, capture_output=True,
                                    text=True, timeout=30)
            told = [line for line in doctor.stdout.splitlines() if "PostgreSQL's" in line]
            assert len(told) == 2 and all(line.startswith("warn  processes") for line in told), doctor.stdout
            assert all(("ahead of" if shift_ms > 0 else "behind") in line for line in told), told
            assert doctor.returncode == 0, doctor.stdout
    finally:
        provider.stop()
        redis.stop()
