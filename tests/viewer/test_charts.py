"""Charts of a run's statistics, and of an evaluation."""

from examples.tau2.viewer.charts import evaluation_charts, training_charts
from examples.tau2.viewer.conversations import episode_entry
from examples.tau2.viewer.sources import EvaluationSummary, PassRate
from tests.viewer.runs import STATISTICS, TASKS, solved, unsolved


def test_curves_show_what_was_recorded_and_no_more():
    charts = training_charts([{"step": step, **STATISTICS} for step in (1, 2)])
    named = {chart["title"]: [trace["name"] for trace in chart["data"]] for chart in charts}
    assert named == {
        "Reward": ["train", "eval"],
        "Solved": ["train", "train, rejected"],
        "Why training episodes ended": ["agent_stop", "timeout"],
        "Kinds of failure in training": ["missing_write"],
        "Length": ["steps", "turns"],
        "Tokens": ["agent, completion"],
        "Seconds by phase": ["rollout", "train_step"],
        "Gradient norm": ["of the policy"],
        "KL divergence": ["of training from rollout"],
    }
    evaluated = charts[0]["data"][1]
    assert list(evaluated["x"]) == [1, 2] and list(evaluated["y"]) == [0.4, 0.4]


def test_a_supervised_run_has_curves_of_its_own():
    record = {"step": 1, "sft/loss/avg": 0.5, "sft/grad_norm": 1.0, "timeperf/train_step": 1.0}
    charts = training_charts([record])
    assert [chart["title"] for chart in charts] == ["Loss", "Seconds by phase", "Gradient norm"]


def test_an_evaluation_has_charts_of_its_episodes_and_of_its_pass_rates():
    episodes = [episode_entry(solved(TASKS[0]), 0), episode_entry(unsolved(TASKS[1]), 0)]
    summary = EvaluationSummary((PassRate("pass^1", 0.5, 0.25, 1.0),))
    charts = evaluation_charts(episodes, summary)
    titles = ["pass^k and pass@k, 95% intervals", "Reward by task", "Why episodes ended", "Length"]
    assert [chart["title"] for chart in charts] == titles
    (bars,) = charts[0]["data"]
    assert (list(bars["x"]), list(bars["y"])) == (["pass^1"], [0.5])
    assert (bars["error_y"]["array"], bars["error_y"]["arrayminus"]) == ([0.5], [0.25])
    (by_task,) = charts[1]["data"]
    assert (list(by_task["y"]), list(by_task["text"])) == ([0.0, 1.0], [TASKS[1], TASKS[0]])
    without_summary = evaluation_charts(episodes, EvaluationSummary())
    assert [chart["title"] for chart in without_summary] == titles[1:]
    assert evaluation_charts([], summary) == []
