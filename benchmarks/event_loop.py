"""Measures an asyncio event loop: how long callbacks stop it, and how late its timers are."""

import asyncio
import gc
import os
import statistics
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from unittest.mock import patch

T = TypeVar("T")

# in ms; a callback that takes longer is recorded with its name
LONG_CALLBACK = 20.0
# in ms; a garbage collection that takes longer is recorded
LONG_COLLECTION = 1.0
# in seconds
TIMER = 0.01


def run_timed(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on an event loop whose callbacks `measured_stalls` can time.

    After an import of AReaL, `asyncio.run` would use uvloop, whose callbacks cannot be timed.
    """
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        return runner.run(main)


@dataclass
class LongCallback:
    """A callback that stopped the event loop; if it took little CPU time, the machine stopped."""

    ms: float
    cpu_ms: float
    callback: str


@dataclass
class Stalls:
    """How long single callbacks stopped the event loop, in ms; nothing else happens meanwhile."""

    long: list[LongCallback] = field(default_factory=list)
    garbage_collections: list[float] = field(default_factory=list)
    max: float = 0.0
    p99: float = 0.0


@contextmanager
def measured_stalls() -> Generator[Stalls]:
    """Time every callback and every garbage collection; `max` and `p99` are set at the end."""
    stalls = Stalls()
    times: list[float] = []
    run_callback = asyncio.Handle._run

    def timed(handle: asyncio.Handle) -> None:
        # pyrefly: ignore[missing-attribute]  # asyncio has no public name for it
        callback = handle._callback
        start, cpu_start = time.perf_counter(), time.thread_time()
        run_callback(handle)
        ms = (time.perf_counter() - start) * 1e3
        times.append(ms)
        if ms > LONG_CALLBACK:
            cpu_ms = (time.thread_time() - cpu_start) * 1e3
            stalls.long.append(LongCallback(ms, cpu_ms, _callback_name(callback)))

    collection_start = 0.0

    def time_collection(phase: str, _: dict) -> None:
        nonlocal collection_start
        if phase == "start":
            collection_start = time.perf_counter()
            return
        ms = (time.perf_counter() - collection_start) * 1e3
        if ms > LONG_COLLECTION:
            stalls.garbage_collections.append(ms)

    gc.callbacks.append(time_collection)
    try:
        with patch.object(asyncio.Handle, "_run", timed):
            yield stalls
    finally:
        gc.callbacks.remove(time_collection)
        stalls.max = max(times)
        stalls.p99 = statistics.quantiles(times, n=100)[-1]


def _callback_name(callback: Callable) -> str:
    """Name a callback; the name of a task's callback is that of its coroutine.

    This never calls `repr`, because the `repr` of one of aiohttp's responses ruins the response.
    """
    owner = getattr(callback, "__self__", None)
    named = owner.get_coro() if isinstance(owner, asyncio.Task) else callback
    return getattr(named, "__qualname__", type(named).__name__)


@dataclass
class Pulse:
    """How late a timer was, and by how much resident memory grew at most."""

    late_ms: dict[str, float] = field(default_factory=dict)
    grown_mb: float = 0.0


@asynccontextmanager
async def measured_pulse() -> AsyncGenerator[Pulse]:
    """Measure at every tick of a timer of 10 ms; the result is set at the end."""
    late: list[float] = []
    grown: list[float] = [0.0]

    async def beat() -> None:
        before = _resident_mb()
        while True:
            start = time.perf_counter()
            await asyncio.sleep(TIMER)
            late.append((time.perf_counter() - start - TIMER) * 1e3)
            grown.append(_resident_mb() - before)

    pulse = Pulse()
    task = asyncio.create_task(beat())
    # the task reads the memory now, before anything else happens
    await asyncio.sleep(0)
    yield pulse
    task.cancel()
    pulse.late_ms = {"median": statistics.median(late), "max": max(late)}
    pulse.grown_mb = max(grown)


def _resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
