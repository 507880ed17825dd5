"""Episodes under load, and bare clients that make the same calls."""

from multiprocessing import get_context

import pytest

from benchmarks import episode_load
from benchmarks.llm_server import serve

pytestmark = [pytest.mark.processes, pytest.mark.usefixtures("uvloop_policy")]


@pytest.fixture(scope="module")
def server():
    processes = get_context("spawn")
    receiver, sender = processes.Pipe()
    process = processes.Process(target=serve, args=(("retail",), sender), daemon=True)
    process.start()
    yield receiver.recv()
    process.kill()


@pytest.mark.parametrize("way", ["tau2", "ours", "areal"])
def test_episodes_under_load_are_counted(server, way):
    measured = episode_load.load("retail", way, 4, server)
    calls_per_episode = measured["calls_per_s"] / measured["episodes_per_s"]
    assert 5 < calls_per_episode < 15
    assert 0 < measured["stall_ms"]["p99"] <= measured["stall_ms"]["max"]


@pytest.mark.parametrize("our_client", [False, True])
def test_a_bare_client_makes_the_calls_of_episodes(server, monkeypatch, our_client):
    monkeypatch.setattr(episode_load, "SECONDS", 0.3)
    assert episode_load.bare("retail", our_client, 4, server)["calls_per_s"] > 0
