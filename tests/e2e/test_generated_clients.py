"""Programs that read /openapi.json: clients generated from it compile and run, and schemathesis, which sends
everything that the document allows and much that it forbids, finds the gateway to be as the document says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest

from tests.harness.node import npm_ci
from tests.harness.python import python_for
from tests.harness.services import ROOT
from tests.harness.stack import LOCAL

pytestmark = pytest.mark.release_only

CLIENTS = ROOT / "tests" / "clients"
EXAMPLES = 2  # generated for each operation, beside the fixed cases of each field; `make schema-test` has more


def run(argv: list, cwd: Path, **env: str) -> str:
    done = subprocess.run([str(word) for word in argv], cwd=cwd, env=dict(os.environ) | env, capture_output=True, text=True,
                          timeout=540)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]
    return done.stdout


@pytest.fixture(scope="module")
def tools() -> Path:
    """The folder of openapi-python-client and schemathesis."""
    return Path(python_for(CLIENTS / "python")).parent


@pytest.fixture
def document(stack, tmp_path) -> Path:
    path = tmp_path / "openapi.json"
    path.write_text(httpx.get(stack.url + "/openapi.json", **LOCAL).text)
    return path


def test_a_generated_python_client(stack, tools, document, tmp_path):
    said = run([tools / "openapi-python-client", "generate", "--path", document, "--output-path", tmp_path / "client"], tmp_path,
               PATH=f"{tools}:{os.environ['PATH']}")
    assert "WARNING" not in said.upper(), said
    assert run([tools / "python", CLIENTS / "python" / "program.py", tmp_path / "client", stack.url, stack.client("pythonic").token],
               tmp_path) == "ok\n"


def test_a_generated_typescript_client(stack, document, tmp_path):
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    npm_ci(CLIENTS / "typescript")
    packages = CLIENTS / "typescript" / "node_modules"
    (tmp_path / "node_modules").symlink_to(packages)
    shutil.copy(CLIENTS / "typescript" / "program.ts", tmp_path)
    (tmp_path / "package.json").write_text('{"type": "module"}')
    bin = packages / ".bin"
    run([bin / "openapi-typescript", document, "-o", "schema.d.ts"], tmp_path)
    run([bin / "tsc", "--strict", "--target", "es2022", "--module", "nodenext", "--types", "node", "--skipLibCheck", "program.ts"], tmp_path)
    assert run(["node", "program.js", stack.url, stack.client("typed").token], tmp_path) == "ok\n"


def test_the_gateway_is_as_its_document_says(stack, tools, tmp_path):
    shutil.copy(CLIENTS / "python" / "hooks.py", tmp_path)
    shutil.copy(CLIENTS / "python" / "schemathesis.toml", tmp_path)
    client = stack.client("thesis", role="admin")
    said = run([tools / "schemathesis", "run", stack.url + "/openapi.json", "--phases", "coverage,fuzzing",
                "--workers", "1",  # with two, CPython 3.11 now and then fails in its ast module
                "-H", "X-Request-ID: 6f1c1a52-5d1e-4c1e-8e68-9b38e1a0a0aa", "-H", "User-Agent: schemathesis",
                "--max-examples", os.environ.get("SCHEMA_EXAMPLES", EXAMPLES), "--seed", os.environ.get("SCHEMA_SEED", "1"),
                # a logout ends the token; of a form the order of its parts counts; a login needs one of three ways
                "--exclude-path-regex", "logout|upload-file|login/swagger"],
               tmp_path, TOKEN=client.token, SCHEMATHESIS_HOOKS="hooks", PYTHONPATH=str(tmp_path))
    generated = int(re.search(r"(\d+) generated", said)[1])
    print(f"\nschemathesis: {generated} cases")
    assert generated > 400, said[-3000:]
