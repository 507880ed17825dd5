"""The event loop policy of the benchmarks' tests."""

import asyncio

import pytest
import uvloop


@pytest.fixture
def uvloop_policy():
    """asyncio's policy is uvloop's, as it is after an import of AReaL."""
    policy = asyncio.get_event_loop_policy()
    uvloop.install()
    yield
    asyncio.set_event_loop_policy(policy)
