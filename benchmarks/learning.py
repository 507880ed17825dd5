"""Compares ways to train: `python -m benchmarks.learning <folder>`, hours on 2 cores.

All ways begin with the same supervised model of a seed, and train for equally many steps on equally
many episodes. A run that is in the folder already is not made again, so that a comparison can go on
after a break.

The table says for each way, over its runs: the reward of the held-out tasks after the last step,
its difference from the first way with the same seed, the number of episodes that were played to
find those to train on, the norm of the gradient before it is clipped, and how long the episodes
are, and how many of their turns are malformed, at the start and the end.
"""

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from examples.tau2.cpu import learn
from examples.tau2.training.supervisor import supervise

BFLOAT16 = ("actor.dtype=bfloat16",)
WAYS: dict[str, tuple[str, ...]] = {
    "group mean": (),
    "tasks by difficulty": ("revisit_share=0.5",),
    "leave one out": ("baseline=leave_one_out",),
    "group mean, group scale": ("advantage_scale=group",),
    "group mean, batch scale": ("advantage_scale=batch",),
    "batch mean, batch scale": (
        "baseline=null",
        "+actor.adv_norm.mean_level=batch",
        "+actor.adv_norm.std_level=batch",
    ),
    "bfloat16": BFLOAT16,
    # as AReaL's Archon has them: no weight changes by less than its precision
    "bfloat16, also the weights": (*BFLOAT16, "actor.optimizer_dtype=bfloat16"),
}

HELD_OUT = "eval-rollout/episode/reward"
EPISODES = "rollout/group/episodes"
# means over the episodes of a step
TURNS = "rollout/agent/turns"
MALFORMED = "rollout/agent/malformed_turns"
Statistics = dict[str, Any]


@dataclass
class Run:
    """One training run; `steps` has AReaL's statistics of each step."""

    way: str
    seed: int
    repeat: int
    steps: list[Statistics]

    @property
    def held_out(self) -> float:
        """Mean reward of the held-out tasks after the last step."""
        return [step[HELD_OUT] for step in self.steps if HELD_OUT in step][-1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument(
        "--repeats",
        type=int,
        default=3,
        help="runs of the first seed, from the same model (default: 3)",
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    options = parser.parse_args()
    folder = options.folder.resolve()
    runs = []
    for repeat in range(options.repeats):
        for seed in options.seeds if repeat == 0 else options.seeds[:1]:
            runs += [make_run(folder, way, seed, repeat) for way in options.ways]
    print()
    for line in table(runs):
        print(line)
    return 0


def make_run(folder: Path, way: str, seed: int, repeat: int) -> Run:
    """Make a run, unless it is in the folder already, and read its statistics.

    Raises:
        subprocess.CalledProcessError: a command failed.
    """
    tasks = folder / f"seed{seed}"
    has_model = is_finished(tasks, "sft")
    model = learn.last_checkpoint(tasks, "sft") if has_model else learn.imitate(tasks, seed)
    trial = f"{way.replace(', ', '_').replace(' ', '_')}_seed{seed}_{repeat}"
    if not is_finished(folder / "runs", trial):
        learn.reinforce(tasks, model, folder / "runs", trial, 100 * seed + repeat, WAYS[way])
    (statistics,) = folder.glob(f"runs/logs/*/learn/{trial}/statistics.jsonl")
    return Run(way, seed, repeat, [json.loads(line) for line in statistics.open()])


def is_finished(folder: Path, trial: str) -> bool:
    """Tell whether a run has written its checkpoint, which it does at its end."""
    return any(folder.glob(f"checkpoints/*/learn/{trial}/default/epoch*"))


def table(runs: list[Run]) -> Iterator[str]:
    """Yield the lines of a Markdown table with a row for each way.

    An interval is Student's t over seeds, for 95%, with the mean of a seed's runs. The spread of
    repeats is the largest less the smallest reward among the runs of one seed.
    """
    ways = list(dict.fromkeys(run.way for run in runs))
    first = by_seed(run for run in runs if run.way == ways[0])
    yield (
        "| way | runs | held-out reward | difference | spread of repeats | episodes played "
        "| gradient norm, median and largest | turns of an episode, first and last step "
        "| malformed turns |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for way in ways:
        made = [run for run in runs if run.way == way]
        held_out = by_seed(made)
        means = {seed: float(np.mean(rewards)) for seed, rewards in held_out.items()}
        differences = [mean - float(np.mean(first[seed])) for seed, mean in means.items()]
        spread = max(max(rewards) - min(rewards) for rewards in held_out.values())
        played = [sum(step[EPISODES] for step in run.steps) for run in made]
        norms = [step["ppo_actor/update/grad_norm"] for run in made for step in run.steps]
        cells = (
            way,
            len(made),
            learn.mean_over_runs(list(means.values())),
            "" if way == ways[0] else learn.mean_over_runs(differences),
            f"{spread:.3f}",
            f"{np.mean(played):,.0f}",
            f"{np.median(norms):.2f}, {max(norms):.2f}",
            first_and_last(made, lambda step: step[TURNS], "{:.1f}"),
            first_and_last(made, lambda step: step[MALFORMED] / step[TURNS], "{:.1%}"),
        )
        yield f"| {' | '.join(map(str, cells))} |"


def by_seed(runs: Iterable[Run]) -> dict[int, list[float]]:
    """Return the held-out rewards of runs by their seed."""
    rewards: dict[int, list[float]] = defaultdict(list)
    for run in runs:
        rewards[run.seed].append(run.held_out)
    return rewards


def first_and_last(runs: list[Run], measure: Callable[[Statistics], float], pattern: str) -> str:
    """Format the mean of a measure over runs at their first and last step."""
    means = [float(np.mean([measure(run.steps[step]) for run in runs])) for step in (0, -1)]
    return ", ".join(pattern.format(mean) for mean in means)


if __name__ == "__main__":
    sys.exit(supervise(lambda set_deadline: main()))
