"""Daytona's own SDK, pinned in tests/sdk/daytona/package.json, against the double of Daytona.

What the double does is what our backend is tested against; this keeps it honest.
"""

from __future__ import annotations

import os
import re
import subprocess

import pytest

from tests.harness.node import node_for
from tests.harness.services import ROOT
from tests.harness.stack import DaytonaDouble

SDK = ROOT / "tests" / "sdk" / "daytona"
TITLES = re.findall(r"^test\('([^']+)'", (SDK / "lifecycle.mjs").read_text(), re.M)


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> str:
    node = node_for(SDK)
    double = DaytonaDouble(tmp_path_factory.mktemp("daytona-sdk"), real=True)
    try:
        # every change takes its time, so that waiting for it is what is tested
        double.config(create_ms=300, stop_ms=200, start_ms=200, delete_ms=300, list_lag_ms=100)
        env = {k: v for k, v in os.environ.items() if not k.startswith("DAYTONA_")}
        done = subprocess.run([node, "lifecycle.mjs"], cwd=SDK, capture_output=True, text=True, timeout=200,
                              env=env | {"DAYTONA_API_KEY": double.key, "DAYTONA_API_URL": double.url + "/api"})
        assert double.ids() == []
        return done.stdout + done.stderr
    finally:
        double.stop()


@pytest.mark.parametrize("title", TITLES)
def test_sdk(output, title):
    if not re.search(rf"^ok \d+ - {re.escape(title)}$", output, re.M):
        found = re.search(rf"^not ok \d+ - {re.escape(title)}\n((?:  #.*\n?)*)", output, re.M)
        raise AssertionError(found[1] if found else output[-3000:])
