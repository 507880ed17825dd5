"""The text of a summary."""

from examples.tau2.evaluation.failure_table import FailureTable
from examples.tau2.evaluation.metrics import Estimate, Metrics, measure_task
from examples.tau2.evaluation.settings import Difference, TrialKey
from examples.tau2.evaluation.summary import MAX_LISTED_TASKS, Summary, summary_lines

NOTHING = Metrics(0, 0, {})
HALF = Metrics(
    2,
    4,
    {
        "reward": Estimate(0.5, 0.25, 0.75),
        "pass^1": Estimate(0.5, 0.0, 1.0),
        "pass@1": Estimate(0.5, 0.0, 1.0),
        "pass@2": Estimate(0.75, 0.5, 1.0),
    },
)


def summary(**fields) -> Summary:
    empty = {
        "identity": {"model": "m"},
        "num_trials": 2,
        "all_tasks": NOTHING,
        "expecting_actions": NOTHING,
        "by_domain": {"mock": NOTHING},
        "terminations": {},
        "means": {},
        "tool_calls": 0,
        "malformed_turns": {},
        "hints": [],
        "missing": {},
        "missing_as_failures": False,
        "failures": FailureTable({}, {}),
        "usage": {},
        "training_differences": {},
        "by_task": {},
    }
    return Summary(**{**empty, **fields})


def test_estimates_are_shown_with_their_intervals():
    found = summary(
        all_tasks=HALF,
        by_task={"create_task_1": HALF},
        terminations={"agent_stop": 3, "timeout": 1},
        means={"episode/steps": 3.0, "agent/turns": 2.0, "agent/prompt_tokens": 190.0},
        tool_calls=5,
        malformed_turns={"unknown_tool": 2, "empty": 1},
        hints=["no tool was called"],
        usage={
            "agent": {"prompt_tokens": 12345, "completion_tokens": 67, "usd": 0.0},
            "judge": {"prompt_tokens": 8, "completion_tokens": 9, "usd": 0.25},
        },
    )
    assert list(summary_lines(found)) == [
        "\nall tasks: 2, 4 episodes",
        "  reward   0.500  [0.250, 0.750]",
        "  pass^1   0.500  [0.000, 1.000]",
        "  pass@2   0.750  [0.500, 1.000]",
        "\ntasks that expect actions: 0, 0 episodes",
        "\nby task      trials  reward  pass^k",
        "    4  0.50  0.50  create_task_1",
        "\nended by: agent_stop 3, timeout 1",
        "means: episode/steps 3.0, agent/turns 2.0",
        "means: agent/prompt_tokens 190.0",
        "tool calls: 5; malformed turns: unknown_tool 2, empty 1",
        "look at the server: no tool was called",
        "used by the agent: 12,345 prompt tokens, 67 completion tokens, no known price",
        "used by the judge: 8 prompt tokens, 9 completion tokens, 0.2500 USD",
    ]


def test_many_tasks_are_counted_instead_of_listed():
    always, never = measure_task([1.0, 1.0]), measure_task([0.0, 0.0])
    by_task = {f"task {number}": HALF for number in range(MAX_LISTED_TASKS)}
    listed = list(summary_lines(summary(all_tasks=HALF, by_task=by_task)))
    assert sum("task 1" in line for line in listed) > 1
    by_task |= {"a": always, "b": never, "c": never}
    counted = list(summary_lines(summary(all_tasks=HALF, by_task=by_task)))
    assert not any("task 1" in line for line in counted)
    assert (
        f"\nby task: 1 always solved, {MAX_LISTED_TASKS} sometimes, 2 never; "
        "summary.json has each of them"
    ) in counted


def test_several_domains_are_shown_apart():
    lines = list(summary_lines(summary(by_domain={"airline": HALF, "mock": NOTHING})))
    assert "\nairline: 2, 4 episodes" in lines and "\nmock: 0, 0 episodes" in lines


def test_each_cause_of_missing_trials_is_one_line():
    missing = {TrialKey("a", 0): "overloaded", TrialKey("a", 1): "overloaded"}
    missing[TrialKey("b", 1)] = "not played"
    found = summary(missing=missing)
    lines = [line for line in summary_lines(found) if "missing" in line]
    assert lines == [
        "missing trials: 3, left out; see --missing-as-failures",
        "missing: task a, trial 0 and 1 more: overloaded",
        "missing: task b, trial 1: not played",
    ]
    counted = summary(missing=missing, missing_as_failures=True)
    assert "missing trials: 3, counted as failures" in summary_lines(counted)
    first = {"task_id": "a", "trial": 0, "cause": "overloaded"}
    assert found.to_json()["missing"][0] == first


def test_what_differs_from_training_is_said():
    found = summary(training_differences={"temperature": Difference(1.0, 0.6)})
    assert "differs from training: temperature is 0.6, in training 1.0" in summary_lines(found)
