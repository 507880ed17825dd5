"""Shows that the training works, without a GPU: `make learn`.

`python3 examples/tau2/cpu/learn.py <folder>` runs the commands that a user runs, for each seed:

1. family.py makes the tasks, and expert.py the turns to imitate.
2. A model of a million parameters starts from random weights.
3. sft.py trains it by imitation, then train.py by reinforcement learning.
4. serve.py and evaluate.py measure it on held-out tasks, before and after reinforcement learning.

The tables and curves at the end come from the files that these commands wrote.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
if __name__ == "__main__":
    # the repository's root instead of this folder
    sys.path[0] = str(ROOT)
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import psutil
import torch
from matplotlib import pyplot
from scipy import stats
from transformers import Qwen3ForCausalLM

from examples.tau2.cpu.model import tiny_config
from examples.tau2.cpu.plot import draw_rewards, rewards_by_step
from examples.tau2.cpu.tokenizer import train_tokenizer, untrained_tokenizer
from examples.tau2.data.rendering import render_text
from examples.tau2.data.turns import read_turns
from examples.tau2.evaluation.metrics import interval, resampled_sums
from examples.tau2.training.supervisor import supervise


@dataclass
class Mode:
    """How an evaluation samples, and how often it plays each task."""

    temperature: float
    trials: int


MODES = {"greedy": Mode(0, 1), "temperature 1": Mode(1, 2)}
VOCABULARY = 2048
MIN_FREQUENCY = 60

SFT = (
    # turns in a batch
    "train_dataset.batch_size=16",
    "total_train_epochs=6",
    "actor.optimizer.lr=3.0e-3",
    # With a constant rate, the last batches decide what the model does, and how surely.
    "actor.optimizer.lr_scheduler_type=cosine",
)
RL = (
    # tasks in a batch
    "train_dataset.batch_size=8",
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
)


@dataclass
class SeedRun:
    """What the files of one seed say; `before` and `after` are evaluate.py's summaries by mode."""

    seed: int
    # train.py's folder of logs
    logs: Path
    before: dict[str, dict]
    after: dict[str, dict]

    @property
    def statistics_file(self) -> Path:
        return self.logs / "statistics.jsonl"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="a new one")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="one run each (default: 1 2 3)"
    )
    options = parser.parse_args()
    start = time.monotonic()
    folder = options.folder.resolve()
    try:
        runs = [learn(folder / f"seed{seed}", seed) for seed in options.seeds]
    except FileExistsError as error:
        parser.error(f"{error.filename} is there already; name another folder")
    except subprocess.CalledProcessError as error:
        print(
            f"{error.cmd[1]} failed with status {error.returncode}; its output is above",
            file=sys.stderr,
        )
        return 1
    picture = folder / "learn.png"
    draw(runs, picture)
    minutes = (time.monotonic() - start) / 60
    print()
    for line in pass_rate_table(runs):
        print(line)
    print()
    for run in runs:
        print(validation_line(run))
    print(f"\n{minutes:.0f} minutes\ncurves  {picture}")
    for run in runs:
        print(f"report  {run.logs / 'report.html'}")
    return 0


def learn(folder: Path, seed: int) -> SeedRun:
    """Run all steps with one seed.

    Raises:
        FileExistsError: `folder` is there already.
        subprocess.CalledProcessError: a step failed.
    """
    supervised = imitate(folder, seed)
    test = folder / "family" / "test.jsonl"
    before = evaluate(supervised, test, folder / "before")
    reinforce(folder, supervised, folder, "rl", seed)
    after = evaluate(last_checkpoint(folder, "rl"), test, folder / "after")
    (logs,) = folder.glob("logs/*/learn/rl")
    return SeedRun(seed, logs, before, after)


def imitate(folder: Path, seed: int) -> Path:
    """Make the tasks and the turns, and train a model with random weights by imitation.

    Returns the model's folder.

    Raises:
        FileExistsError: `folder` is there already.
        subprocess.CalledProcessError: a step failed.
    """
    folder.mkdir(parents=True)
    family = folder / "family"
    run_script("cpu/family.py", family, "--seed", seed)

    turns = folder / "turns.jsonl"
    tasks = ("--tasks-file", family / "demonstrations.jsonl")
    run_script("expert.py", turns, "--domain", "mock", "--solo-mode", *tasks)

    beginner = folder / "beginner"
    make_beginner(turns, beginner, seed)

    data = (f"train_dataset.path={turns}", f"actor.path={beginner}")
    run_script("sft.py", *config_option("sft_cpu"), *common(folder, "sft", seed), *data, *SFT)
    return last_checkpoint(folder, "sft")


def reinforce(
    tasks: Path, model: Path, folder: Path, trial: str, seed: int, overrides: Sequence[str] = ()
) -> None:
    """Train a model by reinforcement learning, on the tasks that `imitate` made in a folder.

    Raises:
        subprocess.CalledProcessError: train.py failed.
    """
    family = tasks / "family"
    data = (
        f"train_dataset.path={family / 'train.jsonl'}",
        f"valid_dataset.path={family / 'test.jsonl'}",
        f"actor.path={model}",
    )
    options = (*common(folder, trial, seed), *data, *RL, *overrides)
    run_script("train.py", *config_option("cpu"), *options)


def common(folder: Path, trial: str, seed: int) -> tuple[str, ...]:
    """Return the overrides that say where a run writes, and its seed."""
    return (
        f"cluster.fileroot={folder}",
        "experiment_name=learn",
        f"trial_name={trial}",
        f"seed={seed}",
    )


def run_script(script: str, *arguments: object) -> None:
    """Run a script of examples/tau2 as a user would, and print the command.

    Raises:
        subprocess.CalledProcessError: the script failed.
    """
    words = [f"examples/tau2/{script}", *map(str, arguments)]
    print(f"\n$ python3 {' '.join(words)}", flush=True)
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


def config_option(name: str) -> tuple[str, str]:
    return "--config", f"examples/tau2/config_{name}.yaml"


def last_checkpoint(folder: Path, trial: str) -> Path:
    """Return the checkpoint that a run wrote last."""
    checkpoints = folder.glob(f"checkpoints/*/learn/{trial}/default/epoch*")
    return max(checkpoints, key=lambda path: path.stat().st_mtime)


def make_beginner(turns: Path, folder: Path, seed: int) -> None:
    """Save a model with random weights, and a tokenizer trained on the turns' prompts."""
    plain = untrained_tokenizer()
    prompts = set(read_turns(turns, lambda turn: render_text(plain, turn.messages, turn.tools)))
    tokenizer = train_tokenizer(sorted(prompts), VOCABULARY, MIN_FREQUENCY)
    torch.manual_seed(seed)
    Qwen3ForCausalLM(tiny_config(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def evaluate(model: Path, tasks_file: Path, folder: Path) -> dict[str, dict]:
    """Evaluate a model in each mode; return the summaries, as in `summary.json`, by mode."""
    options = ("--tasks-file", tasks_file, "--domain", "mock", "--solo-mode", "--max-steps", 8)
    sampling = ("--tool-choice", "auto", "--max-completion-tokens", 48, "--concurrency", 64)
    summaries = {}
    with running_server(model) as base_url:
        server = ("--base-url", base_url, "--model", model.name)
        for name, mode in MODES.items():
            output = folder / name.replace(" ", "_")
            mode_options = ("--temperature", mode.temperature, "--trials", mode.trials)
            run_script(
                "evaluate.py", *options, *server, *sampling, *mode_options, "--output", output
            )
            summaries[name] = json.loads((output / "summary.json").read_text())
    return summaries


@contextmanager
def running_server(model: Path) -> Generator[str]:
    """Serve a model, and yield its base URL.

    Raises:
        RuntimeError: the server ended; it has printed why.
    """
    script = "examples/tau2/cpu/serve.py"
    server = subprocess.Popen([sys.executable, script, model, "--port", "0"], cwd=ROOT)
    try:
        while not (ports := _listening_ports(server)):
            time.sleep(0.5)
        yield f"http://127.0.0.1:{ports[0]}/v1"
    finally:
        server.terminate()
        server.wait()


def _listening_ports(server: subprocess.Popen) -> list[int]:
    """Return the ports on which the process of serve.py listens.

    Raises:
        RuntimeError: the process has ended.
    """
    if server.poll() is not None:
        raise RuntimeError(f"serve.py ended with status {server.returncode}")
    connections = psutil.Process(server.pid).net_connections("inet")
    return [found.laddr.port for found in connections if found.status == psutil.CONN_LISTEN]


def pass_rate_table(runs: list[SeedRun]) -> Iterator[str]:
    """Yield the lines of a table: held-out pass^1 before and after RL, and its rise.

    Each number has a 95% interval: for a run from resampled tasks, for the mean of the runs by
    Student's t. The rise is computed for each task.
    """
    yield table_line("held-out pass^1", ("before", "after", "rise"))
    for mode in MODES:
        means = []
        for run in runs:
            before = task_scores(run.before[mode])
            after = task_scores(run.after[mode])
            scores = (before, after, after - before)
            means.append([scored.mean() for scored in scores])
            yield table_line(f"seed {run.seed}, {mode}", map(mean_and_interval, scores))
        if len(runs) > 1:
            over_runs = map(mean_over_runs, np.transpose(means))
            yield table_line(f"mean, {mode}", over_runs)


def table_line(name: str, cells: Iterable[str]) -> str:
    return f"{name:24}" + "".join(f"{cell:>24}" for cell in cells)


def mean_over_runs(values: Sequence[float]) -> str:
    """Format the mean of runs, with its 95% interval by Student's t if there are several."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return f"{mean:.3f}"
    half = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return f"{mean:.3f} [{mean - half:.3f}, {mean + half:.3f}]"


def task_scores(summary: dict) -> np.ndarray:
    """Return the pass^1 of each task, in the order of the task ids."""
    by_task = summary["by_task"]
    return np.array([by_task[task_id]["pass^1"] for task_id in sorted(by_task)])


def mean_and_interval(values: np.ndarray) -> str:
    low, high = interval(resampled_sums(values[:, np.newaxis])[:, 0] / len(values))
    return f"{values.mean():.3f} [{low:.3f}, {high:.3f}]"


def validation_line(run: SeedRun) -> str:
    """Format the rewards of the validations during reinforcement learning as one line."""
    scores = [reward for _, reward in rewards_by_step(run.statistics_file, "eval-rollout")]
    shown = " ".join(f"{score:.2f}" for score in scores)
    return (
        f"seed {run.seed}, held-out reward on the way: {shown} "
        f"(best {max(scores):.2f}, last {scores[-1]:.2f})"
    )


def draw(runs: list[SeedRun], picture: Path) -> None:
    """Draw a panel for each seed: rewards by step, and at both ends what evaluate.py measured."""
    figure, panels = pyplot.subplots(
        1, len(runs), figsize=(5 * len(runs), 3), dpi=120, layout="constrained", squeeze=False
    )
    for axes, run in zip(panels[0], runs, strict=True):
        draw_rewards(axes, run.statistics_file)
        last_step, _ = rewards_by_step(run.statistics_file, "rollout")[-1]
        for mode, marker in zip(run.before, "sD", strict=True):
            scores = [run.before[mode]["pass^1"], run.after[mode]["pass^1"]]
            label = f"held-out pass^1, {mode}"
            axes.plot([0, last_step], scores, marker, color="black", label=label)
        axes.set(title=f"seed {run.seed}")
    panels[0][-1].legend(loc="lower right")
    figure.savefig(picture)


if __name__ == "__main__":
    sys.exit(supervise(lambda set_deadline: main()))
