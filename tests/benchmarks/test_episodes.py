"""The benchmark of episodes measures what it says."""

import asyncio
import json
import time
from multiprocessing import get_context

import pytest
import uvloop

from benchmarks import episodes
from benchmarks.llm_server import serve
from examples.tau2.episode.environment import make_environment
from tests.calls import random_calls


@pytest.fixture(scope="module")
def server():
    processes = get_context("spawn")
    here, there = processes.Pipe()
    process = processes.Process(target=serve, args=(("retail",), there), daemon=True)
    process.start()
    yield here.recv()
    process.kill()


@pytest.fixture(autouse=True)
def uvloop_as_after_an_import_of_areal():
    policy = asyncio.get_event_loop_policy()
    uvloop.install()
    yield
    asyncio.set_event_loop_policy(policy)


def test_episodes_under_load_are_counted_and_a_bare_client_makes_their_calls(server, monkeypatch):
    monkeypatch.setattr(episodes, "SECONDS", 0.3)
    measured = episodes.load("retail", "ours", 4, server)
    calls_per_episode = measured["calls_per_s"] / measured["episodes_per_s"]
    assert 5 < calls_per_episode < 15
    assert 0 < measured["stall_ms"]["p99"] <= measured["stall_ms"]["max"]
    for our_client in (False, True):
        assert episodes.bare("retail", our_client, 4, server)["calls_per_s"] > 0


def test_a_callback_that_blocks_is_found_and_named():
    async def sluggish():
        await asyncio.sleep(0)
        time.sleep(0.05)  # noqa: ASYNC251

    with episodes._stalls() as stalls:
        episodes._run(sluggish())
    assert stalls["max"] >= 50
    (stall,) = stalls["long"]
    assert stall["ms"] >= 50 > stall["cpu_ms"] and "sluggish" in stall["callback"]


def test_a_callback_is_named_without_its_owners_repr():
    class Response:
        def __repr__(self):
            raise AssertionError

        def arrived(self):
            time.sleep(0.05)

    async def main():
        asyncio.get_running_loop().call_soon(Response().arrived)
        await asyncio.sleep(0)

    with episodes._stalls() as stalls:
        episodes._run(main())
    assert stalls["long"][0]["callback"].endswith("Response.arrived")


def test_both_ways_play_whole_episodes_and_the_ways_can_be_told_apart():
    find_task = episodes.environment.find_task
    (ours,), (tau2,) = (episodes.cpu("airline", way, ["0"]) for way in ("ours", "tau2"))
    assert tau2 > 100 > ours  # ms: tau2 builds environments and tools, and hashes databases
    assert episodes.environment.find_task is find_task


def test_the_tools_return_the_same_whatever_the_number_of_copies(tmp_path):
    path = tmp_path / "db.json"
    path.write_text(json.dumps(episodes.copied_airline(3)))
    one, three = make_environment("airline"), make_environment("airline", db_path=str(path))
    assert [len(table) for _, table in three.tools.db] == [
        3 * len(table) for _, table in one.tools.db
    ]
    for call in random_calls("airline", False, seed=1, count=100):
        assert three.get_response(call).content == one.get_response(call).content
    assert episodes.cpu_of_copies(2) > 0
