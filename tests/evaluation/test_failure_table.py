"""The table of the kinds of failure in an evaluation."""

from examples.tau2.episode.failure_kinds import FAILURE_KINDS
from examples.tau2.evaluation.failure_table import failure_lines, failure_table
from examples.tau2.evaluation.settings import TrialKey
from examples.tau2.evaluation.setup_hints import EpisodeSigns, add_signs
from examples.tau2.evaluation.store import Trial

NO_SIGNS: EpisodeSigns = add_signs([])
DOMAINS = {"1": "airline", "2": "airline", "42": "retail"}


def trial(task_id: str, number: int, *kinds: str) -> Trial:
    statistics = {f"failure/{kind}": float(kind in kinds) for kind in FAILURE_KINDS}
    statistics["episode/solved"] = float(not kinds)
    return Trial(TrialKey(task_id, number), float(not kinds), "user_stop", statistics, NO_SIGNS, 0)


TRIALS = [
    trial("1", 0),
    trial("1", 1, "missing_write"),
    trial("2", 0, "missing_write", "unknown_tool"),
    trial("2", 1, "other"),
    trial("42", 0),
]


def test_kinds_are_counted_by_domain_and_by_task():
    assert failure_table(TRIALS, DOMAINS).to_json() == {
        "failures_by_domain": {
            "airline": {"unsolved": 3, "unknown_tool": 1, "missing_write": 2, "other": 1}
        },
        "failures_by_task": {
            "1": {"unsolved": 1, "missing_write": 1},
            "2": {"unsolved": 2, "unknown_tool": 1, "missing_write": 1, "other": 1},
        },
    }


def test_the_table_has_the_kinds_and_tasks_that_occur():
    table = failure_table(TRIALS, DOMAINS)
    lines = list(failure_lines(table, max_tasks=2))
    assert lines == [
        "\nkinds of failure; an episode can show several",
        "      unsolved  unknown_tool  missing_write  other",
        "        3 of 4             1              2      1  airline",
        "        1 of 2             0              1      0  1",
        "        2 of 2             1              1      1  2",
    ]
    assert list(failure_lines(table, max_tasks=1)) == lines[:3]
    assert list(failure_lines(failure_table(TRIALS[:1], DOMAINS), max_tasks=1)) == []
