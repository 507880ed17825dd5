"""The CPU time of single episodes."""

import json

import pytest

from benchmarks.episode_cost import copied_airline, cpu, cpu_of_copies, cpu_per_turn
from examples.tau2.episode.environment import make_environment
from tests.calls import random_calls

pytestmark = pytest.mark.usefixtures("uvloop_policy")


def test_both_ways_play_whole_episodes_and_tau2s_costs_more():
    (tau2,), (ours,) = (cpu("airline", way, ["0"]) for way in ("tau2", "ours"))
    # tau2 builds environments and tools, and hashes databases: tens of times the CPU time of ours
    assert tau2 > ours > 0


def test_episodes_of_any_length_are_measured():
    assert cpu_per_turn(2) > 0


def test_tools_return_the_same_for_any_number_of_copies(tmp_path):
    path = tmp_path / "db.json"
    path.write_text(json.dumps(copied_airline(3)))
    one, three = make_environment("airline"), make_environment("airline", db_path=str(path))
    one_sizes = [len(table) for _, table in one.tools.db]
    three_sizes = [len(table) for _, table in three.tools.db]
    assert three_sizes == [3 * size for size in one_sizes]
    for call in random_calls("airline", False, seed=1, count=100):
        assert three.get_response(call).content == one.get_response(call).content
    assert cpu_of_copies(2) > 0
