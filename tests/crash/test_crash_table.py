"""Every row of the crash table for every kind of job: the repair, and how soon it comes."""

import pytest

from tests.crash.rows import CASES, ROWS, Case, Row
from tests.crash.scene import TIMING, SLACK_MS, Timing


@pytest.mark.parametrize("case", CASES, ids=str)
def test_repaired_in_time(case: Case, repaired):
    took = repaired(case)
    bound = ROWS[case.row].bound(TIMING)
    assert took <= bound + SLACK_MS, f"{took:.0f} ms, bound {bound} ms"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_the_bound_at_production_settings_is_the_promised_one(row: Row):
    assert row.bound(Timing.production()) <= row.promise_s * 1000
