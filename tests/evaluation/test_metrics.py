"""Means and intervals, computed here by hand; test_evaluate.py compares them with tau2's."""

import numpy as np

from examples.tau2.evaluation.metrics import Estimate, Metrics, bootstrap_interval


def test_an_interval_holds_the_mean_and_narrows_with_more_tasks():
    few, many = np.array([0.0, 1.0] * 5), np.array([0.0, 1.0] * 500)
    widths = []
    for values in (few, many):
        low, high = bootstrap_interval(values, lambda chosen: chosen.mean(1))
        assert 0 <= low < 0.5 < high <= 1
        widths.append(high - low)
    # by the central limit theorem, a tenth for a hundred times the tasks
    assert 0.08 < widths[1] / widths[0] < 0.12


def test_the_interval_of_equal_values_is_a_point_and_equal_input_gives_equal_intervals():
    ones, mixed = np.ones(4), np.array([0.0, 0.25, 1.0])
    assert bootstrap_interval(ones, lambda chosen: chosen.mean(1)) == (1.0, 1.0)
    first, second = (bootstrap_interval(mixed, lambda chosen: chosen.mean(1)) for _ in range(2))
    assert first == second


def test_metrics_are_a_flat_object_in_json():
    metrics = Metrics(2, 4, {"reward": Estimate(0.5, 0.25, 0.75), "pass^1": Estimate(0.5, 0, 1)})
    assert metrics.to_json() == {
        "tasks": 2,
        "episodes": 4,
        "reward": 0.5,
        "reward_interval": [0.25, 0.75],
        "pass^1": 0.5,
        "pass^1_interval": [0, 1],
    }
    assert Metrics(0, 0, {}).to_json() == {"tasks": 0, "episodes": 0}
