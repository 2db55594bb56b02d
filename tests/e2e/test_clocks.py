"""Deadlines go by the database's clock: a provider may think that it is any other time."""

import re
import time

import pytest

from tests.e2e.test_operator import ask
from tests.harness.services import wait_until
from tests.harness.stack import BASE


def left_ms(stack, column: str, sid: str) -> float:
    return float(stack.sql(f"select extract(epoch from {column} - now()) * 1000 from sandboxes where id = '{sid}'")[0][0])


@pytest.mark.parametrize("shift_s", (-7200, -600, 600, 7200))
def test_a_provider_whose_clock_is_wrong_ends_and_clamps_no_deadline(fault_stack, fault_provider, shift_s):
    fault_provider.config(clock_shift_s=shift_s)
    stack = fault_stack(env={"REAPER_RECONCILE_MS": "200", "WORKER_RECONCILE_MIN_AGE_MS": "1500", "REAPER_LIFETIMES_MS": "100",
                             "E2B_MAX_TIMEOUT_SECONDS": "3600"})
    client = stack.client()
    box = client.create()["sandbox_id"]
    # read back from the provider, which tells it by its own clock
    told = client.ok(client.post(f"{BASE}/schedule-timeout", {"sandbox_id": box, "timeout_seconds": 1800}))
    assert "clamped" not in told or not told["clamped"], told
    assert 1_790_000 < left_ms(stack, "expires_at", box) <= 1_800_000
    assert 2_390_000 < left_ms(stack, "provider_expires_at", box) <= 2_402_000
    # a deadline beyond what the provider grants is clamped to that, and to nothing else
    client.ok(client.post(f"{BASE}/schedule-timeout", {"sandbox_id": box, "timeout_seconds": 3600}))
    assert 3_580_000 < left_ms(stack, "provider_expires_at", box) <= 3_602_000
    assert 3_500_000 < left_ms(stack, "expires_at", box) <= 3_600_000
    # nobody's sandbox is killed at its age, however old or young it is by the provider's clock
    ours = stack.sql("select id::text from deployment")[0][0]
    seeded = time.time()
    (orphan,) = fault_provider.seed({"sandbox_deployment": ours, "sandbox_id": "11111111-1111-4111-8111-111111111111"})
    wait_until("the orphan is killed", lambda: orphan not in fault_provider.state()["sandboxes"], 15)
    (gone,) = [e for e in fault_provider.effects() if e["effect"] == "delete" and e["id"] == orphan]
    assert gone["t"] - seeded > 0.9  # 1.5 s, as exactly as a Date can tell
    assert client.status(box) == "running" and stack.sql("select count(*) from jobs where op = 'pause'") == [("0",)]
    status, text = ask(stack, "sandbox-gateway", "doctor")
    off_ms, side = re.search(r"e2b's clock is (\d+) ms (ahead of|behind) ours", text).groups()
    assert status == 0 and abs(int(off_ms) - abs(shift_s) * 1000) < 1500 and side == ("ahead of" if shift_s > 0 else "behind"), text
