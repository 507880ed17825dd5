"""Draw the reward per step of a run: `python3 examples/tau2/cpu/plot.py <run>/statistics.jsonl <picture>.png`."""

import json
import sys
from pathlib import Path
from typing import Any


def points(statistics: Path, scope: str) -> list[tuple[int, float]]:
    """(step, mean reward of its episodes) of `rollout` or `eval-rollout`."""
    key = f"{scope}/episode/reward"
    records = [json.loads(line) for line in statistics.read_text().splitlines()]
    return [(record["step"], record[key]) for record in records if key in record]


def draw_rewards(axes: Any, statistics: Path) -> None:
    """A line for the training episodes, one for validation where there was any."""
    for scope, label in (("rollout", "training"), ("eval-rollout", "validation")):
        if drawn := points(statistics, scope):
            axes.plot(*zip(*drawn, strict=True), marker="o", label=label)
    axes.set(xlabel="step", ylabel="mean reward of episodes", ylim=(0, 1))
    axes.grid(alpha=0.3)


def plot(statistics: Path, picture: Path) -> None:
    from matplotlib import pyplot

    _, axes = pyplot.subplots(figsize=(6, 3), dpi=120, layout="constrained")
    draw_rewards(axes, statistics)
    axes.legend()
    pyplot.savefig(picture)


if __name__ == "__main__":
    plot(*map(Path, sys.argv[1:]))
