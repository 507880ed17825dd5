"""Summarizes an evaluation: makes all its measurements, and writes them as JSON and as text."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from examples.tau2.episode import environment
from examples.tau2.evaluation.failure_table import FailureTable, failure_lines, failure_table
from examples.tau2.evaluation.metrics import Metrics, measure, measure_task
from examples.tau2.evaluation.settings import Difference, EvaluationSettings, TrialKey
from examples.tau2.evaluation.setup_hints import add_signs, setup_hints
from examples.tau2.evaluation.store import Trial

# the text shows pass^k and pass@k up to this k; summary.json has all of them
MAX_SHOWN_K = 8
# the text lists up to this number of tasks; tau2's base splits have 114 at most
MAX_LISTED_TASKS = 150
# the means that the text shows, a line each
SHOWN_MEANS = (
    ("episode/steps", "agent/turns", "episode/seconds"),
    ("agent/prompt_tokens", "agent/completion_tokens"),
)


@dataclass(frozen=True)
class Summary:
    """All measurements of an evaluation.

    `expecting_actions` measures the tasks that expect an action: an agent that does nothing cannot
    solve them. `terminations` has the number of episodes by the reason of their end, and `means`
    the averages of the episodes' statistics. `tool_calls` are the agent's, and `malformed_turns`
    the number of its malformed turns by what is wrong. `hints` say what the server's set-up may
    lack. `missing` has the reason why a trial is missing; `missing_as_failures` tells whether the
    missing trials are measured as failures, with reward 0, or left out. `usage` has the tokens and
    USD of the episodes in all, by role: agent, user, judge.
    """

    identity: dict[str, object]
    num_trials: int
    all_tasks: Metrics
    expecting_actions: Metrics
    by_domain: dict[str, Metrics]
    terminations: dict[str, int]
    means: dict[str, float]
    tool_calls: int
    malformed_turns: dict[str, int]
    hints: list[str]
    missing: dict[TrialKey, str]
    missing_as_failures: bool
    failures: FailureTable
    usage: dict[str, dict[str, float]]
    training_differences: dict[str, Difference]
    by_task: dict[str, Metrics]

    def to_json(self) -> dict[str, object]:
        """Make the content of summary.json."""
        missing = [
            {"task_id": key.task_id, "trial": key.number, "cause": cause}
            for key, cause in self.missing.items()
        ]
        return {
            **self.identity,
            "trials": self.num_trials,
            **self.all_tasks.to_json(),
            "expecting_actions": self.expecting_actions.to_json(),
            "by_domain": _each_to_json(self.by_domain),
            "terminations": self.terminations,
            "means": self.means,
            "tool_calls": self.tool_calls,
            "malformed_turns": self.malformed_turns,
            "hints": self.hints,
            "missing": missing,
            "missing_as_failures": self.missing_as_failures,
            **self.failures.to_json(),
            "usage": self.usage,
            "differs_from_training": self.training_differences,
            "by_task": _each_to_json(self.by_task),
        }


def summarize(
    settings: EvaluationSettings,
    trials: Sequence[Trial],
    missing: Mapping[TrialKey, str],
    missing_as_failures: bool,
) -> Summary:
    """Measure the trials; `missing` has the reason why each of the others is missing."""
    # the rewards of each task's episodes
    rewards: dict[str, list[float]] = defaultdict(list)
    for trial in trials:
        rewards[trial.key.task_id].append(trial.reward)
    for key in missing if missing_as_failures else ():
        rewards[key.task_id].append(0.0)
    rows = {task_id: settings.task_row(task_id) for task_id in rewards}
    acting = [rewards[name] for name, row in rows.items() if environment.expected_actions(row.task)]
    terminations = Counter(trial.termination for trial in trials)
    signs = add_signs(trial.signs for trial in trials)
    calls_are_expected = settings.econfig.solo_mode or bool(acting)
    return Summary(
        identity=settings.identity(),
        num_trials=settings.num_trials,
        all_tasks=measure(rewards.values()),
        expecting_actions=measure(acting),
        by_domain={
            domain: measure([rewards[name] for name, row in rows.items() if row.domain == domain])
            for domain in settings.domains
        },
        terminations=dict(terminations.most_common()),
        means=_means(trials),
        tool_calls=signs.tool_calls,
        malformed_turns=dict(signs.malformed.most_common()),
        hints=list(setup_hints(signs, calls_are_expected)),
        missing=dict(sorted(missing.items())),
        missing_as_failures=missing_as_failures,
        failures=failure_table(trials, {task_id: row.domain for task_id, row in rows.items()}),
        usage=_usage(trials),
        training_differences=settings.training_differences,
        by_task={task_id: measure_task(values) for task_id, values in rewards.items()},
    )


def summary_lines(summary: Summary) -> Iterator[str]:
    """Write the summary for human readers, line by line."""
    parts = {
        "all tasks": summary.all_tasks,
        "tasks that expect actions": summary.expecting_actions,
    }
    if len(summary.by_domain) > 1:
        parts |= summary.by_domain
    for name, metrics in parts.items():
        yield f"\n{name}: {metrics.tasks}, {metrics.episodes} episodes"
        yield from _estimate_lines(metrics)
    if summary.by_task:
        yield from _task_lines(summary.by_task)
    yield from failure_lines(summary.failures, MAX_LISTED_TASKS)
    if summary.terminations:
        yield from _detail_lines(summary)
    yield from _usage_lines(summary.usage)
    for name, difference in summary.training_differences.items():
        yield (
            f"differs from training: {name} is {difference.evaluation}, "
            f"in training {difference.training}"
        )
    yield from _missing_lines(summary.missing, summary.missing_as_failures)


def _estimate_lines(metrics: Metrics) -> Iterator[str]:
    # pass@1 is pass^1
    at_least_one = [f"pass@{k}" for k in range(2, MAX_SHOWN_K + 1)]
    for name in ("reward", *_shown_pass_names(), *at_least_one):
        if name in metrics.estimates:
            estimate = metrics.estimates[name]
            yield f"  {name:8} {estimate.mean:.3f}  [{estimate.low:.3f}, {estimate.high:.3f}]"


def _detail_lines(summary: Summary) -> Iterator[str]:
    ends = [f"{reason} {number}" for reason, number in summary.terminations.items()]
    yield f"\nended by: {', '.join(ends)}"
    for names in SHOWN_MEANS:
        means = [f"{name} {summary.means[name]:.1f}" for name in names if name in summary.means]
        yield f"means: {', '.join(means)}"
    malformed = [f"{fault} {number}" for fault, number in summary.malformed_turns.items()]
    yield f"tool calls: {summary.tool_calls}; malformed turns: {', '.join(malformed) or 'none'}"
    for hint in summary.hints:
        yield f"look at the server: {hint}"


def _task_lines(by_task: Mapping[str, Metrics]) -> Iterator[str]:
    """Write a line for each task; only one line in all if the tasks are many."""
    if len(by_task) > MAX_LISTED_TASKS:
        passed = [metrics.estimates["pass^1"].mean for metrics in by_task.values()]
        always, never = passed.count(1.0), passed.count(0.0)
        sometimes = len(passed) - always - never
        yield (
            f"\nby task: {always} always solved, {sometimes} sometimes, {never} never; "
            "summary.json has each of them"
        )
        return
    yield "\nby task      trials  reward  pass^k"
    for task_id, metrics in by_task.items():
        estimates = metrics.estimates
        shown = [name for name in _shown_pass_names() if name in estimates]
        passed = " ".join(f"{estimates[name].mean:.2f}" for name in shown)
        yield f"  {metrics.episodes:3}  {estimates['reward'].mean:.2f}  {passed}  {task_id}"


def _usage_lines(usage: Mapping[str, Mapping[str, float]]) -> Iterator[str]:
    for role, used in usage.items():
        usd = f"{used['usd']:.4f} USD" if used["usd"] else "no known price"
        yield (
            f"used by the {role}: {used['prompt_tokens']:,.0f} prompt tokens, "
            f"{used['completion_tokens']:,.0f} completion tokens, {usd}"
        )


def _missing_lines(missing: Mapping[TrialKey, str], as_failures: bool) -> Iterator[str]:
    """Say how missing trials count, then write a line for each cause, with its first trial."""
    if missing:
        treated = "counted as failures" if as_failures else "left out; see --missing-as-failures"
        yield f"missing trials: {len(missing)}, {treated}"
    by_cause: dict[str, list[TrialKey]] = defaultdict(list)
    for key, cause in missing.items():
        by_cause[cause].append(key)
    for cause, keys in by_cause.items():
        more = f" and {len(keys) - 1} more" if len(keys) > 1 else ""
        yield f"missing: task {keys[0].task_id}, trial {keys[0].number}{more}: {cause}"


def _shown_pass_names() -> list[str]:
    return [f"pass^{k}" for k in range(1, MAX_SHOWN_K + 1)]


def _each_to_json(metrics: Mapping[str, Metrics]) -> dict[str, dict[str, float | list[float]]]:
    return {name: values.to_json() for name, values in metrics.items()}


def _usage(trials: Sequence[Trial]) -> dict[str, dict[str, float]]:
    """Add up the tokens and USD of each LLM that was called."""
    units = ("prompt_tokens", "completion_tokens", "usd")
    usage = {
        role: {unit: sum(t.statistics.get(f"{role}/{unit}", 0.0) for t in trials) for unit in units}
        for role in ("agent", "user", "judge")
    }
    return {role: used for role, used in usage.items() if any(used.values())}


def _means(trials: Sequence[Trial]) -> dict[str, float]:
    """Average each statistic of the episodes, except those that are counted elsewhere."""
    episodes = [trial.statistics for trial in trials]
    if not episodes:
        return {}
    names = [name for name in episodes[0] if not name.startswith(("termination/", "failure/"))]
    return {name: float(np.mean([episode[name] for episode in episodes])) for name in names}
