"""Counts the kinds of failure in an evaluation's trials, by domain and by task."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from examples.tau2.episode.failure_kinds import FAILURE_KINDS
from examples.tau2.evaluation.store import Trial


@dataclass(frozen=True)
class Failures:
    """How many of some episodes are unsolved, and how many of these show each kind of failure.

    `kinds` has the kinds that occur, in the order of `FAILURE_KINDS`. An episode can show several.
    """

    episodes: int
    unsolved: int
    kinds: dict[str, int]


@dataclass(frozen=True)
class FailureTable:
    """The failures by domain and by task; what has no unsolved episode is left out."""

    by_domain: dict[str, Failures]
    by_task: dict[str, Failures]

    def to_json(self) -> dict[str, dict[str, dict[str, int]]]:
        """Make a part of summary.json."""
        parts = {"failures_by_domain": self.by_domain, "failures_by_task": self.by_task}
        return {
            part: {
                name: {"unsolved": failures.unsolved, **failures.kinds}
                for name, failures in rows.items()
            }
            for part, rows in parts.items()
        }


def failure_table(trials: Sequence[Trial], domains: Mapping[str, str]) -> FailureTable:
    """Count the failures of the trials; `domains` has the domain of each task."""
    task_ids = [trial.key.task_id for trial in trials]
    return FailureTable(
        by_domain=_count_by([domains[task_id] for task_id in task_ids], trials),
        by_task=_count_by(task_ids, trials),
    )


def _count_by(names: Sequence[str], trials: Sequence[Trial]) -> dict[str, Failures]:
    """Count the failures by name; each trial has a name."""
    groups: dict[str, list[dict[str, float]]] = defaultdict(list)
    for name, trial in zip(names, trials, strict=True):
        groups[name].append(trial.statistics)
    counted = {name: _count(episodes) for name, episodes in groups.items()}
    return {name: failures for name, failures in counted.items() if failures.unsolved}


def _count(episodes: Sequence[Mapping[str, float]]) -> Failures:
    """Count the failures in the statistics of episodes."""
    shown = Counter(
        kind for episode in episodes for kind in FAILURE_KINDS if episode[f"failure/{kind}"]
    )
    return Failures(
        episodes=len(episodes),
        unsolved=sum(not episode["episode/solved"] for episode in episodes),
        kinds={kind: shown[kind] for kind in FAILURE_KINDS if shown[kind]},
    )


def failure_lines(table: FailureTable, max_tasks: int) -> Iterator[str]:
    """Write a row for each domain, and for each task unless these are more than `max_tasks`."""
    by_task = table.by_task if len(table.by_task) <= max_tasks else {}
    rows = list(chain(table.by_domain.items(), by_task.items()))
    kinds = [kind for kind in FAILURE_KINDS if any(kind in row.kinds for _, row in rows)]
    if rows:
        yield "\nkinds of failure; an episode can show several"
        yield f"  {'unsolved':>12}  {'  '.join(kinds)}"
    for name, row in rows:
        unsolved = f"{row.unsolved} of {row.episodes}"
        cells = "  ".join(f"{row.kinds.get(kind, 0):{len(kind)}}" for kind in kinds)
        yield f"  {unsolved:>12}  {cells}  {name}"
