"""Services shared by the whole session; a fresh database and fresh processes for each stack."""

import fnmatch
import os
import warnings
from pathlib import Path

import pytest

from tests.harness.services import Postgres, Redis
from tests.harness.stack import FaultProvider, SandboxHost, Stack

# a sanitizer build is some times slower: bounds on time are scaled, never dropped
HERE = Path(__file__).parent
SLOW = 4.0 if "san-" in os.environ.get("BUILD_DIR", "") else 1.0


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: measures time under load, so nothing else may run beside it")
    config.addinivalue_line("markers", "release_only: says nothing more under a sanitizer (load, long, statistical)")
    config.addinivalue_line("markers", "reached_elsewhere: other tests take the same product code under a sanitizer "
                                       "(reached_elsewhere.txt); `make test-all` runs it there too")


def pytest_collection_modifyitems(config, items):
    patterns = [line for line in (HERE / "reached_elsewhere.txt").read_text().splitlines() if line and line[0] != "#"]
    names = {item: item.nodeid.removeprefix("tests/e2e/") for item in items}
    whole_files = not any("::" in argument for argument in config.args)
    for pattern in patterns:
        matched = [item for item, name in names.items() if fnmatch.fnmatchcase(name, pattern)]
        for item in matched:
            item.add_marker("reached_elsewhere")
        file = pattern.partition("::")[0]
        if not matched and whole_files and any(name.startswith(f"{file}::") for name in names.values()):
            # it was renamed: a sanitizer then runs it too, which costs time only
            warnings.warn(pytest.PytestWarning(f"reached_elsewhere.txt: {pattern} names no test"), stacklevel=1)


def pytest_make_parametrize_id(val, argname):
    """A long value names its test badly, and one that is made anew by each process would differ between those
    that run the files side by side."""
    return argname if isinstance(val, (str, bytes)) and len(val) > 40 else None


@pytest.fixture(scope="session")
def slow() -> float:
    return SLOW


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    service = Postgres(tmp_path_factory.mktemp("pg"))
    yield service
    service.stop()


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    service = Redis(tmp_path_factory.mktemp("redis"))
    yield service
    service.stop()


@pytest.fixture(scope="session")
def host(tmp_path_factory):
    service = SandboxHost(tmp_path_factory.mktemp("host"))
    yield service
    service.stop()


@pytest.fixture(scope="module")
def stack(tmp_path_factory, redis, postgres, host):
    """The usual system: everything real, sandboxes on this machine."""
    with Stack(tmp_path_factory.mktemp("stack"), redis, postgres, host) as running:
        yield running


@pytest.fixture
def fault_provider(tmp_path):
    provider = FaultProvider(tmp_path)
    yield provider
    provider.stop()


@pytest.fixture
def fault_stack(tmp_path, redis, postgres, fault_provider):
    """Makes a stack over the fault provider: fault_stack(workers=2, env={...})."""
    made = []

    def make(**options) -> Stack:
        running = Stack(Path(tmp_path) / f"stack{len(made)}", redis, postgres, fault_provider, **options)
        made.append(running)
        return running

    yield make
    for running in made:
        running.__exit__(None, None, None)
