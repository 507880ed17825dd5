"""The measurement of an event loop: callbacks that block it are found and named."""

import asyncio
import time

import pytest

from benchmarks.event_loop import LongCallback, Stalls, measured_stalls, run_timed

pytestmark = pytest.mark.usefixtures("uvloop_policy")


def stall_of(stalls: Stalls, name: str) -> LongCallback:
    """The one long callback of that name; a busy machine may add others."""
    (stall,) = [stall for stall in stalls.long if name in stall.callback]
    return stall


def test_a_callback_that_blocks_is_found_and_named():
    async def sluggish():
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251

    with measured_stalls() as stalls:
        run_timed(sluggish())
    assert stalls.max >= 50
    stall = stall_of(stalls, "sluggish")
    assert stall.ms >= 50 > stall.cpu_ms


def test_a_callback_is_named_without_its_owners_repr():
    class Response:
        def __repr__(self):
            raise AssertionError

        def arrived(self):
            time.sleep(0.05)

    async def main():
        asyncio.get_running_loop().call_soon(Response().arrived)
        await asyncio.sleep(0)

    with measured_stalls() as stalls:
        run_timed(main())
    assert stall_of(stalls, "Response").callback.endswith("Response.arrived")
