"""Means by tau2's own functions, and intervals computed by hand."""

from itertools import combinations
from math import comb
from random import Random

import numpy as np
import pytest
from tau2.data_model.simulation import (
    AgentInfo,
    Info,
    Results,
    RewardInfo,
    SimulationRun,
    UserInfo,
)
from tau2.environment.environment import EnvironmentInfo
from tau2.metrics.agent_metrics import compute_metrics, get_tasks_pass_hat_k

from examples.tau2.episode import environment
from examples.tau2.evaluation.metrics import (
    Estimate,
    Metrics,
    interval,
    measure,
    measure_task,
    resampled_sums,
)

MOCK_TASK = environment.find_task("mock", "create_task_1")


def tau2_results(rewards: dict[str, list[float]]) -> Results:
    """Make tau2's results of tasks with these rewards, which are copies of a task of mock."""
    info = Info(
        git_commit="",
        num_trials=100,
        max_steps=100,
        max_errors=10,
        user_info=UserInfo(implementation="user_simulator"),
        agent_info=AgentInfo(implementation="llm_agent"),
        environment_info=EnvironmentInfo(domain_name="mock", policy=""),
    )
    tasks = [MOCK_TASK.model_copy(update={"id": task_id}) for task_id in rewards]
    simulations = [
        SimulationRun(
            id=f"{task_id}, {trial}",
            task_id=task_id,
            start_time="",
            end_time="",
            duration=1.0,
            termination_reason="agent_stop",
            reward_info=RewardInfo(reward=reward),
            messages=[],
            trial=trial,
        )
        for task_id, values in rewards.items()
        for trial, reward in enumerate(values)
    ]
    return Results(info=info, tasks=tasks, simulations=simulations)


def mean_interval(values: list[float]) -> tuple[float, float]:
    sums = resampled_sums(np.array(values)[:, np.newaxis])
    return interval(sums[:, 0] / len(values))


@pytest.mark.parametrize("tasks, trials", [(7, (3, 3)), (5, (1, 6)), (1, (4, 4))])
def test_means_are_those_of_tau2(tasks, trials):
    random = Random(tasks)
    rewards = {}
    for number in range(tasks):
        episodes = random.randint(*trials)
        rewards[f"task {number}"] = [random.choice([0.0, 0.5, 1.0]) for _ in range(episodes)]
    results = tau2_results(rewards)
    measured, expected = measure(rewards.values()), compute_metrics(results)
    means = {name: estimate.mean for name, estimate in measured.estimates.items()}
    assert means.pop("reward") == expected.avg_reward
    means = {name: mean for name, mean in means.items() if name.startswith("pass^")}
    assert means == pytest.approx({f"pass^{k}": v for k, v in expected.pass_hat_ks.items()})
    by_task = get_tasks_pass_hat_k(results)
    for task_id, values in rewards.items():
        of_task = measure_task(values).estimates
        assert len(of_task) == 2 * len(values) + 1
        for name in means:
            assert of_task[name].mean == by_task[name][task_id]


def test_a_task_has_the_means_of_its_episodes_and_points_as_intervals():
    rewards = [1.0, 0.0, 1.0, 1.0]
    assert measure_task(rewards) == measure([rewards])
    passed = [comb(3, k) / comb(4, k) for k in range(1, 5)]
    means = {"reward": 0.75}
    means |= {f"pass^{k}": value for k, value in enumerate(passed, 1)}
    means |= {"pass@1": 0.75, "pass@2": 1.0, "pass@3": 1.0, "pass@4": 1.0}
    points = {name: Estimate(value, value, value) for name, value in means.items()}
    assert measure_task(rewards) == Metrics(1, 4, points)


def test_pass_at_k_is_the_share_of_choices_of_k_trials_with_a_solved_one():
    tasks = [[1.0, 0.0, 0.0, 0.0], [1.0, 0.5, 1.0, 0.0, 0.0], [0.0] * 4]
    estimates = measure(tasks).estimates
    for k in range(1, 5):
        shares = [np.mean([1.0 in chosen for chosen in combinations(each, k)]) for each in tasks]
        found = estimates[f"pass@{k}"]
        assert found.mean == pytest.approx(np.mean(shares))
        assert found.low <= found.mean <= found.high
    assert estimates["pass@1"] == estimates["pass^1"]


def test_an_interval_holds_the_mean_and_narrows_with_more_tasks():
    widths = []
    for tasks in (10, 1000):
        low, high = mean_interval([0.0, 1.0] * (tasks // 2))
        assert 0 <= low < 0.5 < high <= 1
        widths.append(high - low)
    # by the central limit theorem, a tenth for a hundred times the tasks
    assert 0.08 < widths[1] / widths[0] < 0.12


def test_intervals_are_those_of_drawing_task_by_task():
    values = np.random.default_rng(1).random((30, 2))
    chosen = np.random.default_rng(2).integers(30, size=(10_000, 30))
    sums, by_task = resampled_sums(values), values[chosen].sum(1)
    for column in range(2):
        assert interval(sums[:, column]) == pytest.approx(interval(by_task[:, column]), rel=0.02)
    ratios = [interval(each[:, 0] / each[:, 1]) for each in (sums, by_task)]
    assert ratios[0] == pytest.approx(ratios[1], rel=0.02)


def test_the_interval_of_equal_values_is_a_point_and_equal_input_gives_equal_intervals():
    assert mean_interval([1.0] * 4) == (1.0, 1.0)
    assert mean_interval([0.0, 0.25, 1.0]) == mean_interval([0.0, 0.25, 1.0])


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
    assert measure([]).to_json() == {"tasks": 0, "episodes": 0}
