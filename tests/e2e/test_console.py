"""The console in a real browser: what a person does there, by tests/console/browser.py; its files, their headers."""

import os
import shutil
import subprocess

import httpx
import pytest

from tests.harness.python import python_for
from tests.harness.services import ROOT
from tests.harness.stack import LOCAL, PASSWORD, Stack

FILES = [line.split('"')[1::2] for line in (ROOT / "gateway/console/console_assets.def").read_text().splitlines() if line.startswith("X(")]


@pytest.fixture(scope="module")
def stack(tmp_path_factory, redis, postgres, host):
    """One whose URLs of ports are the gateway's own: they are listed and revoked."""
    with Stack(tmp_path_factory.mktemp("console"), redis, postgres, host, env={"SANDBOX_DOMAIN": "box.localhost:8001"}) as running:
        yield running


def test_every_file_is_served_as_it_is_with_a_strict_policy(stack):
    for name, media_type in FILES:
        answer = httpx.get(f"{stack.url}/console/{name}", **LOCAL)
        assert answer.status_code == 200 and answer.headers["Content-Type"] == media_type
        assert answer.content == (ROOT / "gateway/console" / name).read_bytes()
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
    assert {name for name, _ in FILES} == {path.name for path in (ROOT / "gateway/console").iterdir()
                                           if path.suffix in (".html", ".css", ".js", ".svg")}
    missing = httpx.get(f"{stack.url}/console/passwd", **LOCAL)
    assert missing.status_code == 404 and missing.json()["error"]["type"] == "route_not_found"


@pytest.mark.release_only
def test_a_person_uses_every_view(stack, tmp_path):
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("no chromium")
    stack.client("console-user"), stack.client("console-admin", "admin")
    python = python_for(ROOT / "tests/console")
    pictures = os.environ.get("CONSOLE_PICTURES", str(tmp_path))
    done = subprocess.run([python, str(ROOT / "tests/console/browser.py"), chromium, stack.url, "console-user", "console-admin",
                           PASSWORD, pictures], env=dict(os.environ, HOME=str(tmp_path)), capture_output=True, text=True, timeout=400)
    assert done.returncode == 0 and "an administrator sees the system" in done.stdout, done.stdout + done.stderr[-4000:]
