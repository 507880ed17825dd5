"""The table that compares ways to train, from the statistics of runs."""

import json

import pytest

from benchmarks.learning import EPISODES, HELD_OUT, MALFORMED, TURNS, Run, make_run, table
from examples.tau2.cpu import learn


def run(way: str, seed: int, held_out: float, repeat: int = 0) -> Run:
    step = {
        "ppo_actor/update/grad_norm": 1.0,
        TURNS: 2.0,
        MALFORMED: 0.5,
        HELD_OUT: 0.1,
        EPISODES: 400,
    }
    last = {**step, "ppo_actor/update/grad_norm": 3.0, TURNS: 4.0, HELD_OUT: held_out}
    return Run(way, seed, repeat, [step, step, last])


def test_ways_are_compared_seed_by_seed():
    """Seeds differ much more than the ways do, and by as much for both ways."""
    first = [run("group mean", seed, seed / 10) for seed in (1, 5, 9)]
    second = [run("leave one out", seed, seed / 10 + 0.05) for seed in (1, 5, 9)]
    _, _, one, other = table([*first, *second])
    assert one.startswith(
        "| group mean | 3 | 0.500 [-0.494, 1.494] |  | 0.000 | 1,200 | 1.00, 3.00 |"
    )
    assert one.endswith("| 2.0, 4.0 | 25.0%, 12.5% |")
    assert "| 0.550 [-0.444, 1.544] | 0.050 [0.050, 0.050] |" in other


def test_repeats_of_a_seed_count_as_one_and_show_their_spread():
    repeats = [
        run("group mean", 1, reward, repeat) for repeat, reward in enumerate((0.2, 0.5, 0.8))
    ]
    *_, line = table([*repeats, run("group mean", 2, 0.5)])
    assert line.startswith("| group mean | 4 | 0.500 [0.500, 0.500] |  | 0.600 |")


@pytest.mark.parametrize("value", [0.25, 1.0])
def test_one_run_has_no_interval(value):
    *_, line = table([run("group mean", 1, value)])
    assert f"| 1 | {value:.3f} |" in line


def test_a_run_that_was_interrupted_is_made_again(tmp_path, monkeypatch):
    """A run makes its folder of checkpoints at the start, and its checkpoint at the end."""
    trial = "group_mean_seed1_0"
    checkpoints = tmp_path / "runs" / "checkpoints" / "user" / "learn" / trial / "default"
    checkpoints.mkdir(parents=True)
    logs = tmp_path / "runs" / "logs" / "user" / "learn" / trial
    logs.mkdir(parents=True)
    model = tmp_path / "seed1/checkpoints/user/learn/sft/default/epoch5"
    model.mkdir(parents=True)
    made = []

    def reinforce(tasks, supervised, folder, name, seed, overrides):
        made.append((supervised, name, seed))
        (logs / "statistics.jsonl").write_text(json.dumps({HELD_OUT: 0.5}) + "\n")
        (checkpoints / "epoch0").mkdir()

    monkeypatch.setattr(learn, "reinforce", reinforce)
    for _ in range(2):
        assert make_run(tmp_path, "group mean", 1, 0).held_out == 0.5
    assert made == [(model, trial, 100)]
