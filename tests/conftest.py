"""What all tests share: a quiet tau2, no network for Hugging Face, modules importable."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.pop("TAU2_DATA_DIR", None)
sys.path.insert(0, str(Path(__file__).parent))

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
