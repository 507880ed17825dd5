"""`make learn` without its training: the beginner, its evaluation, and the results at the end."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from matplotlib import pyplot
from transformers import AutoTokenizer

from examples.tau2.cpu import learn
from examples.tau2.data.rendering import render
from examples.tau2.data.turns import read_turns


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The folder after the first steps, with fewer turns to imitate and fewer test tasks."""
    folder = tmp_path_factory.mktemp("learn")
    learn.run_script("cpu/family.py", folder, "--seed", 2)
    for name, kept in (("demonstrations", 200), ("test", 12)):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    tasks = ("--tasks-file", folder / "demonstrations.jsonl")
    learn.run_script("expert.py", folder / "turns.jsonl", "--domain", "mock", "--solo-mode", *tasks)
    learn.make_beginner(folder / "turns.jsonl", folder / "beginner", seed=2)
    return folder


@pytest.mark.processes
def test_prompts_are_short_for_the_beginner(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder / "beginner")
    lengths = read_turns(
        folder / "turns.jsonl", lambda turn: len(render(tokenizer, turn.messages, turn.tools))
    )
    # the prompts have some 3,000 bytes
    assert np.mean(lengths) < 100


@pytest.mark.processes
def test_a_beginner_is_evaluated_in_both_modes(folder):
    measured = learn.evaluate(folder / "beginner", folder / "test.jsonl", folder / "before")
    greedy, sampled = measured["greedy"], measured["temperature 1"]
    assert (greedy["tasks"], greedy["episodes"]) == (12, 12)
    assert (sampled["tasks"], sampled["episodes"]) == (12, 24)
    assert greedy["sampling"]["temperature"] == 0.0
    assert sampled["sampling"]["temperature"] == 1.0


def seed_run(before: list[float], after: list[float], logs: Path = Path()) -> learn.SeedRun:
    """A run with these pass^1 by task, in both modes."""
    return learn.SeedRun(1, logs, summaries(before), summaries(after))


def summaries(scores: list[float]) -> dict[str, dict]:
    by_task = {str(number): {"pass^1": score} for number, score in enumerate(scores)}
    summary = {"by_task": by_task, "pass^1": float(np.mean(scores))}
    return dict.fromkeys(learn.MODES, summary)


def test_the_rise_is_measured_by_task():
    before = [0.0, 1.0] * 50
    _, line, _ = learn.pass_rate_table([seed_run(before, [1.0] * 100)])
    assert line.startswith("seed 1, greedy")
    assert "0.500 [0.4" in line
    assert "1.000 [1.000, 1.000]" in line
    # as good as before, but at other tasks: the interval of the rise is wide
    _, line, _ = learn.pass_rate_table([seed_run(before, before[::-1])])
    assert "0.000 [-0." in line
    _, line, _ = learn.pass_rate_table([seed_run(before, before)])
    assert line.endswith("0.000 [0.000, 0.000]")


def test_the_mean_of_runs_has_the_spread_of_runs():
    """Two runs that rise by 0.25 and by 0.75: the interval of two is very wide."""
    before = [0.0] * 4
    runs = [seed_run(before, [1.0, 0.0, 0.0, 0.0]), seed_run(before, [1.0, 1.0, 1.0, 0.0])]
    lines = list(learn.pass_rate_table(runs))
    assert [line.split(",")[0] for line in lines[1:]] == ["seed 1", "seed 1", "mean"] * 2
    assert lines[3].endswith("0.500 [-2.677, 3.677]")


def test_rewards_during_training_are_printed_and_drawn(tmp_path):
    lines = []
    for step in range(1, 7):
        record = {"step": step, "rollout/episode/reward": 0.5}
        if step % 2 == 0:
            record["eval-rollout/episode/reward"] = step / 8
        lines.append(json.dumps(record) + "\n")
    (tmp_path / "statistics.jsonl").write_text("".join(lines))
    run = seed_run([0.0], [1.0], tmp_path)
    expected = "seed 1, held-out reward on the way: 0.25 0.50 0.75 (best 0.75, last 0.75)"
    assert learn.validation_line(run) == expected
    learn.draw([run, run], tmp_path / "learn.png")
    assert pyplot.imread(tmp_path / "learn.png").shape == (360, 1200, 4)


@pytest.mark.processes
def test_a_server_that_dies_ends_the_evaluation(tmp_path):
    server = learn.running_server(tmp_path / "no such model")
    with pytest.raises(RuntimeError, match="serve.py"), server:
        pass


def command(*arguments: object) -> list[str]:
    return [sys.executable, "examples/tau2/cpu/learn.py", *map(str, arguments)]


@pytest.mark.processes
def test_an_existing_folder_is_left_alone(tmp_path):
    (tmp_path / "seed1").mkdir()
    done = subprocess.run(command(tmp_path), cwd=learn.ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and f"{tmp_path}/seed1 is there already" in done.stderr
    assert list(tmp_path.rglob("*")) == [tmp_path / "seed1"]


@pytest.mark.processes
def test_when_it_is_terminated_it_leaves_no_process(tmp_path):
    process = subprocess.Popen(
        command(tmp_path / "new"), cwd=learn.ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if "expert.py" in line:
            break
    process.terminate()
    assert process.wait(600) == 128 + signal.SIGTERM
    running = [" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])]
    assert not [command_line for command_line in running if str(tmp_path) in command_line]
