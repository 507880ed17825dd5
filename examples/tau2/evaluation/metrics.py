"""Measures tau2's own average reward and pass^k, each with a 95% interval."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from tau2.data_model.simulation import Results
from tau2.metrics.agent_metrics import compute_metrics, get_tasks_pass_hat_k

# how often the tasks are resampled for an interval
RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks, and the ends of its 95% interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Metrics:
    """The measured rewards of a number of episodes.

    `estimates` has `reward`, `pass^1`, `pass^2` ... by name; it is empty without episodes.
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


def measure(results: Results) -> Metrics:
    """Measure the average reward and pass^k (arXiv 2406.12045) by tau2's own functions.

    k goes up to the smallest number of trials of a task. The intervals are percentile bootstraps
    over tasks.
    """
    if not results.simulations:
        return Metrics(0, 0, {})
    measured = compute_metrics(results)
    # a row per task: the sum of its rewards, and their number
    rewards = np.array([[sum(values), len(values)] for values in _rewards(results).values()])
    estimates = {"reward": _estimate(measured.avg_reward, rewards, _mean_of_sums)}
    by_task = get_tasks_pass_hat_k(results)
    for k, mean in measured.pass_hat_ks.items():
        name = f"pass^{k}"
        estimates[name] = _estimate(mean, by_task[name].to_numpy(), _mean_of_tasks)
    return Metrics(len(rewards), len(results.simulations), estimates)


def bootstrap_interval(
    values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> tuple[float, float]:
    """Compute the 95% interval of a statistic by percentile bootstrap.

    `values` has a row per task. `statistic` maps an array of shape (resamples, tasks, ...) to one
    of shape (resamples,).
    """
    chosen = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.percentile(statistic(values[chosen]), [2.5, 97.5])
    return float(low), float(high)


def _rewards(results: Results) -> dict[str, list[float]]:
    """Collect the rewards of the episodes by task id."""
    rewards: dict[str, list[float]] = defaultdict(list)
    for simulation in results.simulations:
        if simulation.reward_info is not None:
            rewards[simulation.task_id].append(simulation.reward_info.reward)
    return rewards


def _estimate(
    mean: float, values: np.ndarray, statistic: Callable[[np.ndarray], np.ndarray]
) -> Estimate:
    return Estimate(float(mean), *bootstrap_interval(values, statistic))


def _mean_of_sums(resampled: np.ndarray) -> np.ndarray:
    """Compute the mean over episodes of (resamples, tasks, [sum, number])."""
    return resampled[..., 0].sum(1) / resampled[..., 1].sum(1)


def _mean_of_tasks(resampled: np.ndarray) -> np.ndarray:
    """Compute the mean over tasks of (resamples, tasks)."""
    return resampled.mean(1)
