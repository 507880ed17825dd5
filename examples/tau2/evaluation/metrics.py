"""Measures tau2's own average reward and pass^k, and pass@k, each with a 95% interval."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from tau2.metrics.agent_metrics import is_successful, pass_hat_k

# how often the tasks are resampled for an interval, and how often at a time
RESAMPLES = 10_000
CHUNK = 100


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks, and the ends of its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Metrics:
    """The measured rewards of a number of episodes.

    `estimates` has `reward`, `pass^1`, `pass^2` ..., `pass@1`, `pass@2` ... by name; it is empty
    without episodes.
    """

    tasks: int
    episodes: int
    estimates: dict[str, Estimate]

    def to_json(self) -> dict[str, float | list[float]]:
        """Make a flat JSON object: each estimate stands beside its `..._interval`."""
        values: dict[str, float | list[float]] = {"tasks": self.tasks, "episodes": self.episodes}
        for name, estimate in self.estimates.items():
            values[name] = estimate.mean
            values[f"{name}_interval"] = [estimate.low, estimate.high]
        return values


def measure(rewards: Collection[Sequence[float]]) -> Metrics:
    """Measure the average reward and pass^k (arXiv 2406.12045) as tau2 does, and pass@k.

    pass^k is the chance that k trials of a task all solve it, and pass@k (arXiv 2107.03374) the
    chance that at least one of them does. `rewards` has the rewards of each task's episodes. k goes
    up to the smallest number of trials of a task. The intervals are percentile bootstraps over
    tasks.
    """
    if not rewards:
        return Metrics(0, 0, {})
    episodes = np.concatenate(list(rewards))
    max_k = min(len(values) for values in rewards)
    by_task = [_pass_rates(values, max_k) for values in rewards]
    passed = np.array([list(rates.values()) for rates in by_task])
    sums = np.array([[sum(values), len(values)] for values in rewards])
    resampled = resampled_sums(np.hstack([sums, passed]))
    estimates = {"reward": _estimate(episodes.mean(), resampled[:, 0] / resampled[:, 1])}
    for column, name in enumerate(by_task[0]):
        mean, sampled = passed[:, column].mean(), resampled[:, 2 + column] / len(rewards)
        estimates[name] = _estimate(mean, sampled)
    return Metrics(len(rewards), len(episodes), estimates)


def measure_task(rewards: Sequence[float]) -> Metrics:
    """Measure the episodes of a single task, as `measure` does; the intervals are points."""
    means = {"reward": sum(rewards) / len(rewards), **_pass_rates(rewards, len(rewards))}
    estimates = {name: Estimate(mean, mean, mean) for name, mean in means.items()}
    return Metrics(1, len(rewards), estimates)


def resampled_sums(values: np.ndarray) -> np.ndarray:
    """Resample the tasks, and sum up their values: (tasks, columns) to (`RESAMPLES`, columns).

    Only the number of equal tasks matters, so it is drawn how many tasks of each kind there are.
    """
    kinds, tasks = np.unique(values, axis=0, return_counts=True)
    shares = tasks / len(values)
    generator = np.random.default_rng(0)
    sums = [
        generator.multinomial(len(values), shares, size=CHUNK) @ kinds
        for _ in range(RESAMPLES // CHUNK)
    ]
    return np.concatenate(sums)


def interval(statistic: np.ndarray) -> tuple[float, float]:
    """Compute the ends of the 95% interval of a statistic from its values in all resamples."""
    low, high = np.percentile(statistic, [2.5, 97.5])
    return float(low), float(high)


def _estimate(mean: float, resampled: np.ndarray) -> Estimate:
    return Estimate(float(mean), *interval(resampled))


def _pass_rates(rewards: Sequence[float], max_k: int) -> dict[str, float]:
    """Compute pass^1 to pass^`max_k` of a task, then pass@1 to pass@`max_k`, by name."""
    trials, solved = len(rewards), sum(is_successful(reward) for reward in rewards)
    ks = range(1, max_k + 1)
    all_solved = {f"pass^{k}": pass_hat_k(trials, solved, k) for k in ks}
    # some trial solves the task, unless all of them fail
    some_solved = {f"pass@{k}": 1 - pass_hat_k(trials, trials - solved, k) for k in ks}
    return all_solved | some_solved
