"""`make learn` without its training: a beginner, what it is worth through server and evaluation, and what is told at the end."""

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
    """The first steps, with less to imitate and to be tested on."""
    folder = tmp_path_factory.mktemp("learn")
    learn.run("cpu/family.py", folder, "--seed", 2)
    for name, kept in (("demonstrations", 200), ("test", 12)):
        path = folder / f"{name}.jsonl"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[:kept]))
    tasks = ("--tasks-file", folder / "demonstrations.jsonl")
    learn.run("expert.py", folder / "turns.jsonl", "--domain", "mock", "--solo-mode", *tasks)
    learn.beginner(folder / "turns.jsonl", folder / "beginner", seed=2)
    return folder


def test_prompts_are_short_for_the_beginner(folder):
    tokenizer = AutoTokenizer.from_pretrained(folder / "beginner")
    lengths = read_turns(
        folder / "turns.jsonl", lambda turn: len(render(tokenizer, turn.messages, turn.tools))
    )
    assert np.mean(lengths) < 100  # bytes: some 3,000


def test_a_beginner_is_evaluated_in_both_modes(folder):
    measured = learn.evaluate(folder / "beginner", folder / "test.jsonl", folder / "before")
    assert {mode: (part["tasks"], part["episodes"]) for mode, part in measured.items()} == {
        "greedy": (12, 12),
        "temperature 1": (12, 24),
    }
    assert all(
        part["sampling"]["temperature"] == float(learn.MODES[mode][0])
        for mode, part in measured.items()
    )


def learnt(before: list[float], after: list[float], logs: Path = Path()) -> learn.Learnt:
    def summaries(scores: list[float]) -> dict[str, dict]:
        by_task = {str(number): {"pass^1": score} for number, score in enumerate(scores)}
        return {
            mode: {"by_task": by_task, "pass^1": float(np.mean(scores))} for mode in learn.MODES
        }

    return learn.Learnt(1, logs, summaries(before), summaries(after))


def test_the_rise_is_measured_task_by_task():
    before = [0.0, 1.0] * 50
    _, line, _ = learn.table([learnt(before, [1.0] * 100)])
    assert (
        line.startswith("seed 1, greedy")
        and "0.500 [0.4" in line
        and "1.000 [1.000, 1.000]" in line
    )
    _, line, _ = learn.table(
        [learnt(before, before[::-1])]
    )  # as good, but at other tasks: nothing is sure
    assert "0.000 [-0." in line
    _, line, _ = learn.table([learnt(before, before)])
    assert line.endswith("0.000 [0.000, 0.000]")


def test_the_way_is_told_and_drawn_from_the_statistics(tmp_path):
    rewards = [
        {"eval-rollout/episode/reward": step / 8} if step % 2 == 0 else {} for step in range(1, 7)
    ]
    records = [
        {"step": step, "rollout/episode/reward": 0.5} | reward
        for step, reward in enumerate(rewards, 1)
    ]
    (tmp_path / "statistics.jsonl").write_text(
        "".join(json.dumps(record) + "\n" for record in records)
    )
    run = learnt([0.0], [1.0], tmp_path)
    assert (
        learn.on_the_way(run)
        == "seed 1, held-out reward on the way: 0.25 0.50 0.75 (best 0.75, last 0.75)"
    )
    learn.draw([run, run], tmp_path / "learn.png")
    assert pyplot.imread(tmp_path / "learn.png").shape == (360, 1200, 4)


def test_a_server_that_dies_ends_the_evaluation(tmp_path):
    with pytest.raises(RuntimeError, match="serve.py"), learn.served(tmp_path / "no such model"):
        pass


def command(*arguments: object) -> list[str]:
    return [sys.executable, "examples/tau2/cpu/learn.py", *map(str, arguments)]


def test_a_folder_that_is_there_is_left_alone(tmp_path):
    (tmp_path / "seed1").mkdir()
    done = subprocess.run(command(tmp_path), cwd=learn.ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and f"{tmp_path}/seed1 is there already" in done.stderr
    assert list(tmp_path.rglob("*")) == [tmp_path / "seed1"]


def test_ended_on_the_way_it_leaves_no_process(tmp_path):
    process = subprocess.Popen(
        command(tmp_path / "new"), cwd=learn.ROOT, stdout=subprocess.PIPE, text=True
    )
    next(line for line in process.stdout if "expert.py" in line)
    process.terminate()
    assert process.wait(60) == 128 + signal.SIGTERM
    assert not [
        p
        for p in psutil.process_iter(["cmdline"])
        if any(str(tmp_path) in word for word in p.info["cmdline"] or [])
    ]
