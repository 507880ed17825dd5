"""Draw the reward per step of a run: `python3 examples/tau2/cpu/plot.py <run>/statistics.jsonl <picture>.png`."""

import json
import sys
from pathlib import Path


def plot(statistics: Path, picture: Path) -> None:
    """A line for the mean reward of the training episodes of each step, one for validation where there was any."""
    from matplotlib import pyplot

    records = [json.loads(line) for line in statistics.read_text().splitlines()]
    _, axes = pyplot.subplots(figsize=(6, 3), dpi=120, layout="constrained")
    for scope, label in (("rollout", "training"), ("eval-rollout", "validation")):
        key = f"{scope}/episode/reward"
        points = [(record["step"], record[key]) for record in records if key in record]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=label)
    axes.set(xlabel="step", ylabel="mean reward of episodes", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend()
    pyplot.savefig(picture)


if __name__ == "__main__":
    plot(*map(Path, sys.argv[1:]))
