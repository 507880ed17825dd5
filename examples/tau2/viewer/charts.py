"""Makes the charts of the page, as Plotly's JSON.

A new chart is an entry in the list of `training_charts` or `evaluation_charts`.
"""

import html
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, TypedDict

from plotly import graph_objects

from examples.tau2.episode.failure_kinds import FAILURE_KINDS
from examples.tau2.episode.trajectory import TERMINATIONS
from examples.tau2.viewer.conversations import EpisodeEntry
from examples.tau2.viewer.sources import EvaluationSummary, StepRecord

# up to this number of steps, a curve has a marker at each of them
MAX_MARKERS = 60


class Chart(TypedDict):
    """A chart as the page draws it: `data` and `layout` are Plotly's."""

    title: str
    data: list[dict[str, Any]]
    layout: dict[str, Any]


def training_charts(records: Sequence[StepRecord]) -> list[Chart]:
    """Make the charts of a training run from its statistics.

    A curve without recorded values is left out, and so is a chart without curves.
    """
    rejected = {"train, rejected": "rollout/episode/rejected"}
    charts = [
        _curves(records, "Reward", _train_and_eval("episode/reward"), "mean of episodes"),
        _curves(
            records,
            "Solved",
            _train_and_eval("episode/solved") | rejected,
            "share of episodes",
            tickformat=".0%",
        ),
        _curves(
            records,
            "Loss",
            {"train": "sft/loss/avg", "eval": "sft-eval/loss/avg"},
            "nats per token",
        ),
        _stacked_bars(
            records, "Why training episodes ended", "rollout/termination/", "share of episodes"
        ),
        _curves(
            records,
            "Kinds of failure in training",
            {kind: f"rollout/failure/{kind}" for kind in FAILURE_KINDS},
            "share of episodes",
            tickformat=".0%",
        ),
        _curves(
            records,
            "Length",
            {
                "steps": "rollout/episode/steps",
                "turns": "rollout/agent/turns",
                "malformed": "rollout/agent/malformed_turns",
            },
            "per episode",
        ),
        _curves(
            records,
            "Tokens",
            {
                "agent, completion": "rollout/agent/completion_tokens",
                "agent, prompt": "rollout/agent/prompt_tokens",
                "user, completion": "rollout/user/completion_tokens",
            },
            "per episode",
            type="log",
        ),
        _stacked_bars(records, "Seconds by phase", "timeperf/", "seconds", negligible=0.05),
        _curves(
            records,
            "Gradient norm",
            {"of the policy": "ppo_actor/update/grad_norm", "of imitation": "sft/grad_norm"},
        ),
        _curves(
            records,
            "KL divergence",
            {
                "of training from rollout": "ppo_actor/update/behave_approx_kl/avg",
                "of the update": "ppo_actor/update/approx_kl/avg",
                "from the reference model": "ppo_actor/kl_rewards/avg",
            },
            "estimate per token",
        ),
    ]
    return [chart for chart in charts if chart["data"]]


def evaluation_charts(episodes: Sequence[EpisodeEntry], summary: EvaluationSummary) -> list[Chart]:
    """Make the charts of an evaluation, or of any episodes without statistics."""
    if not episodes:
        return []
    charts = [
        _pass_rates(summary),
        _rewards_by_task(episodes),
        _terminations(episodes),
        _lengths(episodes),
    ]
    return [chart for chart in charts if chart["data"]]


def _train_and_eval(statistic: str) -> dict[str, str]:
    return {"train": f"rollout/{statistic}", "eval": f"eval-rollout/{statistic}"}


def _curves(
    records: Sequence[StepRecord],
    title: str,
    statistics: dict[str, str],
    axis: str = "",
    **yaxis: Any,
) -> Chart:
    """Draw a curve over the steps for each statistic; `statistics` has their names by label."""
    mode = "lines+markers" if len(records) < MAX_MARKERS else "lines"
    traces = []
    for label, statistic in statistics.items():
        recorded = [record for record in records if statistic in record]
        if recorded:
            steps = [record["step"] for record in recorded]
            values = [record[statistic] for record in recorded]
            traces.append(graph_objects.Scatter(x=steps, y=values, name=label, mode=mode))
    return _chart(title, traces, "step", axis, **yaxis)


def _stacked_bars(
    records: Sequence[StepRecord], title: str, prefix: str, axis: str, negligible: float = 0.0
) -> Chart:
    """Draw a bar for each step, of all statistics with this prefix that exceed `negligible`."""
    names = {name for record in records for name in record if name.startswith(prefix)}
    steps = [record["step"] for record in records]
    traces = []
    for name in sorted(names):
        # AReaL records such a counter beside each statistic
        if name.endswith("__count"):
            continue
        values = [record.get(name, 0.0) for record in records]
        if max(values) > negligible:
            label = name.removeprefix(prefix)
            traces.append(graph_objects.Bar(x=steps, y=values, name=label))
    return _chart(title, traces, "step", axis, barmode="stack")


def _pass_rates(summary: EvaluationSummary) -> Chart:
    rates = summary.pass_rates
    bars = graph_objects.Bar(
        x=[rate.name for rate in rates],
        y=[rate.mean for rate in rates],
        error_y={
            "array": [rate.high - rate.mean for rate in rates],
            "arrayminus": [rate.mean - rate.low for rate in rates],
        },
    )
    traces = [bars] if rates else []
    return _chart("pass^k and pass@k, 95% intervals", traces, "", "share of tasks", range=[0, 1])


def _rewards_by_task(episodes: Sequence[EpisodeEntry]) -> Chart:
    rewards: dict[str, list[float]] = defaultdict(list)
    for episode in episodes:
        rewards[episode["task"]].append(episode["reward"])
    means = sorted((sum(values) / len(values), task) for task, values in rewards.items())
    bars = graph_objects.Bar(
        x=list(range(1, len(means) + 1)),
        y=[mean for mean, _ in means],
        # Plotly reads texts as HTML
        text=[html.escape(task) for _, task in means],
        textposition="none",
    )
    return _chart("Reward by task", [bars], "task, by reward", "mean reward", range=[0, 1])


def _terminations(episodes: Sequence[EpisodeEntry]) -> Chart:
    numbers = Counter(episode["termination"] for episode in episodes)
    reasons = [reason for reason in TERMINATIONS if numbers[reason]]
    bars = graph_objects.Bar(x=reasons, y=[numbers[reason] for reason in reasons])
    return _chart("Why episodes ended", [bars], "", "episodes")


def _lengths(episodes: Sequence[EpisodeEntry]) -> Chart:
    steps = graph_objects.Histogram(x=[episode["steps"] for episode in episodes])
    return _chart("Length", [steps], "steps", "episodes")


def _chart(
    title: str, traces: list[Any], x: str, y: str, barmode: str = "group", **yaxis: Any
) -> Chart:
    """Make a chart with these traces; `x` and `y` are the titles of its axes."""
    layout = {
        "barmode": barmode,
        "xaxis": {"title": {"text": x}, "automargin": True},
        "yaxis": {"title": {"text": y}, "automargin": True, "rangemode": "tozero", **yaxis},
        "showlegend": len(traces) > 1,
    }
    figure = graph_objects.Figure(traces, layout).to_plotly_json()
    return Chart(title=title, data=figure["data"], layout=figure["layout"])
