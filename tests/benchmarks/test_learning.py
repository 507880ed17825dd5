"""The table that compares ways to train, from the statistics of runs."""

import pytest

from benchmarks.learning import EPISODES, HELD_OUT, MALFORMED, TURNS, Run, table


def run(way: str, seed: int, held_out: float) -> Run:
    step = {
        "ppo_actor/update/grad_norm": 1.0,
        TURNS: 2.0,
        MALFORMED: 0.5,
        HELD_OUT: 0.1,
        EPISODES: 400,
    }
    last = {**step, "ppo_actor/update/grad_norm": 3.0, TURNS: 4.0, HELD_OUT: held_out}
    return Run(way, seed, 0, [step, step, last])


def test_ways_are_compared_run_by_run():
    """Seeds differ much more than the ways do, and by as much for both ways."""
    first = [run("group mean", seed, seed / 10) for seed in (1, 5, 9)]
    second = [run("leave one out", seed, seed / 10 + 0.05) for seed in (1, 5, 9)]
    _, _, one, other = table([*first, *second])
    assert one.startswith("| group mean | 3 | 0.500 [-0.494, 1.494] |  | 1,200 | 1.00, 3.00 |")
    assert one.endswith("| 2.0, 4.0 | 25.0%, 12.5% |")
    assert "| 0.550 [-0.444, 1.544] | 0.050 [0.050, 0.050] |" in other


@pytest.mark.parametrize("value", [0.25, 1.0])
def test_one_run_has_no_interval(value):
    *_, line = table([run("group mean", 1, value)])
    assert f"| 1 | {value:.3f} |" in line
