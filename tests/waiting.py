"""Waits for conditions and lets deadlines pass, so that no test depends on the machine's speed."""

import asyncio
import time
from collections.abc import Callable
from types import ModuleType

import pytest


def until(condition: Callable[[], object]) -> None:
    """Return when the condition holds. There is no limit but pytest's timeout of each test."""
    while not condition():
        time.sleep(0.1)


class Deadline:
    """The `asyncio.timeout(seconds)` of a module, which expires when the test says so.

    Other timeouts of the process, of other numbers of seconds, are as they were.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, module: ModuleType, seconds: float):
        self._timeout: asyncio.Timeout | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        original = module.asyncio.timeout

        def timeout(delay: float | None) -> asyncio.Timeout:
            if delay != seconds:
                return original(delay)
            self._loop = asyncio.get_running_loop()
            self._timeout = original(None)
            return self._timeout

        monkeypatch.setattr(module.asyncio, "timeout", timeout)

    def passes(self) -> None:
        """Let the deadline expire, and return when it has. Call this from another thread."""
        assert self._timeout is not None and self._loop is not None
        self._loop.call_soon_threadsafe(self._timeout.reschedule, self._loop.time())
        until(self._timeout.expired)
