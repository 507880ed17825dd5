"""Settings, markers and fixtures of all tests: no network, a quiet tau2, a model, a service."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
_tau2 = find_spec("tau2")
# a tau2 that does not bring its data needs the variable
if _tau2 and _tau2.origin and Path(_tau2.origin).with_name("data").is_dir():
    os.environ.pop("TAU2_DATA_DIR", None)

import httpx
import hypothesis
import pytest
from loguru import logger

from tests.waiting import until

ROOT = Path(__file__).parents[1]
# the tests that need no AReaL; a module among them that does skips itself
ROOMS_WITHOUT_AREAL = ("data", "episode", "evaluation", "viewer")
FILES_WITHOUT_AREAL = (
    "test_evaluate.py",
    "test_expert.py",
    "test_gold.py",
    "test_report.py",
    "test_rooms.py",
)
# fixtures that start processes, wherever they are defined
PROCESS_FIXTURES = {"aenv_service", "browser", "model", "slurm"}

logger.disable("tau2")
# an example may take any time, because the machine may be slow
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out the tests that need AReaL where it is not installed."""
    place = collection_path.relative_to(ROOT).parts
    if find_spec("areal") or len(place) < 2 or place[0] != "tests":
        return None
    is_without = place[1] in ROOMS_WITHOUT_AREAL + FILES_WITHOUT_AREAL
    return None if is_without else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start processes, if a fixture or their folder shows it."""
    for item in items:
        is_end_to_end = (ROOT / "tests/end_to_end") in item.path.parents
        if is_end_to_end or not PROCESS_FIXTURES.isdisjoint(getattr(item, "fixturenames", ())):
            item.add_marker("processes")


@pytest.fixture
def logged():
    """`logged(module)` gives the lines that a module logs, while its block lasts.

    pytest's caplog listens at the root logger, which AReaL replaces.
    """

    @contextmanager
    def listen(module) -> Iterator[list[str]]:
        lines: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: lines.append(record.getMessage())
        module.logger.addHandler(handler)
        yield lines
        module.logger.removeHandler(handler)

    return listen


@pytest.fixture(scope="session")
def model() -> Path:
    """The folder of the tiny model, as `make model` leaves it."""
    folder = ROOT / ".cache/tiny-qwen3"
    subprocess.run(
        [sys.executable, "examples/tau2/cpu/model.py", str(folder)], cwd=ROOT, check=True
    )
    return folder


@pytest.fixture(scope="session")
def _aenv_service():
    from aenv.examples.tau2_rl.service.server import random_host, running_service
    from tests.aenv.control_api import create_instance, end_instance, status_of

    with running_service(random_host(), max_instances=32) as url:
        # the first instance waits until the service has read tau2's files; here no test waits
        first = create_instance(url)
        until(lambda: status_of(url, first) == "Running")
        end_instance(url, first)
        yield url


@pytest.fixture
def aenv_service(_aenv_service, monkeypatch):
    """The URL of a local AEnvironment service, which the SDK is told of.

    A test must leave no instance in it.
    """
    monkeypatch.setenv("AENV_SYSTEM_URL", _aenv_service)
    yield _aenv_service
    assert aenv_instances(_aenv_service) == []


def aenv_instances(url: str) -> list[dict]:
    """The instances of an AEnvironment service."""
    answer = httpx.get(f"{url}:8080/env-instance/list", timeout=None)
    return answer.json()["data"]["items"]
