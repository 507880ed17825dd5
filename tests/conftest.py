"""What all tests share: a quiet tau2, no network for Hugging Face, modules importable."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("TAU2_DATA_DIR", None)

import httpx
import pytest
from loguru import logger

logger.disable("tau2")


@pytest.fixture
def logged():
    """`logged(module)`: what a module logs; pytest's caplog listens at the root logger, which AReaL replaces."""

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
    root = Path(__file__).parents[1]
    folder = root / ".cache/tiny-qwen3"
    subprocess.run(
        [sys.executable, "examples/tau2/cpu/model.py", str(folder)], cwd=root, check=True
    )
    return folder


@pytest.fixture(scope="session")
def _aenv_service():
    from aenv.examples.tau2_rl.service import any_host, running

    with running(any_host(), max_instances=32) as url:
        yield url


@pytest.fixture
def aenv_service(_aenv_service, monkeypatch):
    """The URL of a local AEnvironment service, which the SDK is told of; no instance may be left in it."""
    monkeypatch.setenv("AENV_SYSTEM_URL", _aenv_service)
    yield _aenv_service
    assert aenv_instances(_aenv_service) == []


def aenv_instances(url: str) -> list[dict]:
    return httpx.get(f"{url}:8080/env-instance/list").json()["data"]["items"]
