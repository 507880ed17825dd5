"""Proof that it learns, without a GPU: `python3 examples/tau2/cpu/learn.py <folder>` (`make learn`).

Each step is a command that a user runs: tasks (family.py), turns to imitate (expert.py), a model of a million parameters that
knows nothing, its supervised start (sft.py), reinforcement learning (train.py), and before and after it an evaluation on tasks
that it has never met (serve.py, evaluate.py). What is printed and drawn at the end is read from the files that they left.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
if __name__ == "__main__":  # the repository's root instead of this folder
    sys.path[0] = str(ROOT)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import httpx
import numpy as np
import torch
from transformers import Qwen3ForCausalLM

from examples.tau2.cpu.model import tiny_config
from examples.tau2.cpu.plot import draw_rewards, points
from examples.tau2.cpu.tokenizer import train_tokenizer, untrained_tokenizer
from examples.tau2.data.rendering import render
from examples.tau2.data.turns import read_turns
from examples.tau2.evaluate import interval
from examples.tau2.training.supervisor import supervise

MODES = {"greedy": ("0", "1"), "temperature 1": ("1", "2")}  # temperature, trials of each task
VOCABULARY, MIN_FREQUENCY = 2048, 60

SFT = (
    "train_dataset.batch_size=32",  # turns
    "total_train_epochs=6",
    "actor.optimizer.lr=3.0e-3",
)
RL = (
    "train_dataset.batch_size=8",  # groups
    "valid_dataset.type=rl",
    "valid_dataset.batch_size=32",
    "total_train_steps=12",
    "run_timeout=2400",
    "evaluator.freq_steps=3",
    "eval_gconfig.n_samples=1",
    "eval_gconfig.temperature=1.0",
    "econfig.max_steps=8",
    "gconfig.max_new_tokens=48",
    "actor.optimizer.lr=3.0e-4",
    # Some batches have ten times the usual gradient, of which Adam, with its long memory of smaller ones, makes a leap: what was
    # certain is unlearnt.
    "actor.optimizer.gradient_clipping=0.2",
    "actor.optimizer.beta2=0.95",
)


@dataclass
class Learnt:
    """What the files of one seed say: `before` and `after` are the summaries of evaluate.py by mode."""

    seed: int
    logs: Path  # of train.py
    before: dict[str, dict]
    after: dict[str, dict]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a new one")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2], help="one run each (default: 1 2)"
    )
    options = parser.parse_args()
    start, folder = time.monotonic(), options.folder.resolve()
    try:
        runs = [learn(folder / f"seed{seed}", seed) for seed in options.seeds]
    except FileExistsError as error:
        parser.error(f"{error.filename} is there already; name another folder")
    except subprocess.CalledProcessError as error:
        print(
            f"{error.cmd[1]} failed with status {error.returncode}; what it said is above",
            file=sys.stderr,
        )
        return 1
    draw(runs, folder / "learn.png")
    print("\n".join(["", *table(runs), "", *map(on_the_way, runs), ""]))
    print(f"{(time.monotonic() - start) / 60:.0f} minutes\ncurves  {folder / 'learn.png'}")
    for learnt in runs:
        print(f"report  {learnt.logs / 'report.html'}")
    return 0


def learn(folder: Path, seed: int) -> Learnt:
    """All steps with one seed.

    Raises:
        FileExistsError: `folder` is there already.
        subprocess.CalledProcessError: a step failed.
    """
    folder.mkdir(parents=True)
    family, turns, knows_nothing = folder / "family", folder / "turns.jsonl", folder / "beginner"
    common = (f"cluster.fileroot={folder}", "experiment_name=learn", f"seed={seed}")
    run("cpu/family.py", family, "--seed", seed)
    run(
        "expert.py",
        turns,
        "--domain",
        "mock",
        "--solo-mode",
        "--tasks-file",
        family / "demonstrations.jsonl",
    )
    beginner(turns, knows_nothing, seed)
    data = (f"train_dataset.path={turns}", f"actor.path={knows_nothing}")
    run("sft.py", *config("sft_cpu"), *common, "trial_name=sft", *data, *SFT)
    supervised = checkpoint(folder, "sft")
    before = evaluate(supervised, family / "test.jsonl", folder / "before")
    data = (
        f"train_dataset.path={family / 'train.jsonl'}",
        f"valid_dataset.path={family / 'test.jsonl'}",
    )
    run(
        "train.py", *config("cpu"), *common, "trial_name=rl", *data, f"actor.path={supervised}", *RL
    )
    after = evaluate(checkpoint(folder, "rl"), family / "test.jsonl", folder / "after")
    (logs,) = folder.glob("logs/*/learn/rl")
    return Learnt(seed, logs, before, after)


def run(script: str, *arguments: object) -> None:
    print(f"\n$ python3 examples/tau2/{script} {' '.join(map(str, arguments))}", flush=True)
    subprocess.run(
        [sys.executable, f"examples/tau2/{script}", *map(str, arguments)], cwd=ROOT, check=True
    )


def config(name: str) -> tuple[str, str]:
    return "--config", f"examples/tau2/config_{name}.yaml"


def checkpoint(folder: Path, trial: str) -> Path:
    """The last one of a run."""
    return max(
        folder.glob(f"checkpoints/*/learn/{trial}/default/epoch*"),
        key=lambda path: path.stat().st_mtime,
    )


def beginner(turns: Path, folder: Path, seed: int) -> None:
    """A model that knows nothing, with a tokenizer made for the turns' prompts."""
    plain = untrained_tokenizer()
    prompts = set(
        read_turns(turns, lambda turn: render(plain, turn.messages, turn.tools, tokenize=False))
    )
    tokenizer = train_tokenizer(sorted(prompts), VOCABULARY, MIN_FREQUENCY)
    torch.manual_seed(seed)
    Qwen3ForCausalLM(tiny_config(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def evaluate(model: Path, tasks_file: Path, folder: Path) -> dict[str, dict]:
    """The `summary.json` of an evaluation in each mode."""
    with served(model) as base_url:
        for mode, (temperature, trials) in MODES.items():
            tasks = (
                "--tasks-file",
                tasks_file,
                "--domain",
                "mock",
                "--solo-mode",
                "--max-steps",
                8,
            )
            sampling = (
                "--temperature",
                temperature,
                "--tool-choice",
                "auto",
                "--max-completion-tokens",
                48,
            )
            output = (
                "--trials",
                trials,
                "--concurrency",
                64,
                "--output",
                folder / mode.replace(" ", "_"),
            )
            run(
                "evaluate.py",
                *tasks,
                "--base-url",
                base_url,
                "--model",
                model.name,
                *sampling,
                *output,
            )
    return {
        mode: json.loads((folder / mode.replace(" ", "_") / "summary.json").read_text())
        for mode in MODES
    }


@contextmanager
def served(model: Path) -> Iterator[str]:
    """The base URL of the model.

    Raises:
        RuntimeError: the server ended; it has said why.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "examples/tau2/cpu/serve.py", model, "--port", str(port)], cwd=ROOT
    )
    try:
        while True:
            if server.poll() is not None:
                raise RuntimeError(f"serve.py {model} ended with status {server.returncode}")
            try:
                httpx.get(f"http://127.0.0.1:{port}/v1/models")
                break
            except httpx.TransportError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait()


def table(runs: list[Learnt]) -> Iterator[str]:
    """Held-out pass^1 before and after reinforcement learning, and its rise, each with a 95% interval by task."""
    yield f"{'held-out pass^1':24}{'before':>24}{'after':>24}{'rise':>24}"
    for learnt in runs:
        for mode in learnt.before:
            by_task = [part[mode]["by_task"] for part in (learnt.before, learnt.after)]
            scores = [np.array([tasks[id]["pass^1"] for id in sorted(tasks)]) for tasks in by_task]
            cells = []
            for values in (*scores, scores[1] - scores[0]):
                low, high = interval(values, lambda chosen: chosen.mean(1))
                cells.append(f"{values.mean():.3f} [{low:.3f}, {high:.3f}]")
            yield f"{f'seed {learnt.seed}, {mode}':24}" + "".join(f"{cell:>24}" for cell in cells)


def on_the_way(learnt: Learnt) -> str:
    scores = [score for _, score in points(learnt.logs / "statistics.jsonl", "eval-rollout")]
    shown = " ".join(f"{score:.2f}" for score in scores)
    return f"seed {learnt.seed}, held-out reward on the way: {shown} (best {max(scores):.2f}, last {scores[-1]:.2f})"


def draw(runs: list[Learnt], picture: Path) -> None:
    """Rewards by step, a panel for each seed; at both ends what evaluate.py measured."""
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(
        1, len(runs), figsize=(5 * len(runs), 3), dpi=120, layout="constrained", squeeze=False
    )
    for axes, learnt in zip(panels[0], runs, strict=True):
        draw_rewards(axes, learnt.logs / "statistics.jsonl")
        last = points(learnt.logs / "statistics.jsonl", "rollout")[-1][0]
        for mode, marker in zip(learnt.before, "sD", strict=True):
            ends = [learnt.before[mode]["pass^1"], learnt.after[mode]["pass^1"]]
            axes.plot([0, last], ends, marker, color="black", label=f"held-out pass^1, {mode}")
        axes.set(title=f"seed {learnt.seed}")
    panels[0][-1].legend(loc="lower right")
    figure.savefig(picture)


if __name__ == "__main__":
    sys.exit(supervise(lambda set_deadline: main()))
