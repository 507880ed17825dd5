"""Draws the reward per step of a run.

`python3 examples/tau2/cpu/plot.py <run>/statistics.jsonl <picture>.png`
"""

import json
import sys
from pathlib import Path

from matplotlib import pyplot
from matplotlib.axes import Axes


def rewards_by_step(statistics_file: Path, scope: str) -> list[tuple[int, float]]:
    """Return (step, mean reward of its episodes) of `scope`, "rollout" or "eval-rollout"."""
    key = f"{scope}/episode/reward"
    records = [json.loads(line) for line in statistics_file.read_text().splitlines()]
    return [(record["step"], record[key]) for record in records if key in record]


def draw_rewards(axes: Axes, statistics_file: Path) -> None:
    """Draw one line for the training episodes, and one for the validation episodes, if any."""
    for scope, label in (("rollout", "training"), ("eval-rollout", "validation")):
        points = rewards_by_step(statistics_file, scope)
        if points:
            steps, rewards = zip(*points, strict=True)
            axes.plot(steps, rewards, marker="o", label=label)
    axes.set(xlabel="step", ylabel="mean reward of episodes", ylim=(0, 1))
    axes.grid(alpha=0.3)


def plot(statistics_file: Path, picture: Path) -> None:
    """Draw the rewards of a run as a picture."""
    _, axes = pyplot.subplots(figsize=(6, 3), dpi=120, layout="constrained")
    draw_rewards(axes, statistics_file)
    axes.legend()
    pyplot.savefig(picture)


if __name__ == "__main__":
    plot(Path(sys.argv[1]), Path(sys.argv[2]))
