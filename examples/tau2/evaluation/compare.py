"""Compares two evaluations: which share of the trials A solved and B solved, task by task."""

import json
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from pydantic_core import from_json
from tau2.metrics.agent_metrics import is_successful

from examples.tau2.evaluation.metrics import Estimate, interval, resampled_sums

# the text lists up to this number of tasks; the JSON object has all of them
MAX_LISTED_TASKS = 10
# the settings that must be equal: digests, by domain or by path
DATA_SETTINGS = ("data", "tasks_files")


class TaskPairs(NamedTuple):
    """The trials of a task that both folders have: their number, and how many A and B solved."""

    pairs: int
    solved_a: int
    solved_b: int

    @property
    def change(self) -> int:
        return self.solved_b - self.solved_a


@dataclass(frozen=True)
class PairedDifference:
    """The difference between the shares of trials that B and A solved.

    `p_value` is that of `sign_flip_p_value`.
    """

    tasks: int
    pairs: int
    solved_a: float
    solved_b: float
    difference: Estimate
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two evaluations, paired by task and trial.

    `settings` has the settings that differ, as (A's value, B's value). `only_a` and `only_b` are
    numbers of trials that the other folder lacks. `by_task` begins with the largest changes.
    """

    settings: dict[str, tuple[object, object]]
    only_a: int
    only_b: int
    all_tasks: PairedDifference
    by_domain: dict[str, PairedDifference]
    by_task: dict[str, TaskPairs]

    def to_json(self) -> dict[str, object]:
        """Make a JSON object."""
        by_task = {task_id: pairs._asdict() for task_id, pairs in self.by_task.items()}
        return {**asdict(self), "by_task": by_task}


class PlayedTrial(NamedTuple):
    """A finished trial. Tasks of different domains may have equal ids."""

    domain: str
    task_id: str
    number: int


def compare(folder_a: Path, folder_b: Path) -> Comparison:
    """Compare the trials that the folders of two evaluations both have.

    Raises:
        ValueError: a folder is not an evaluation's, their tasks or data differ, or they have no
            trial in common.
        OSError: a file cannot be read.
    """
    settings_a, settings_b = _read_settings(folder_a), _read_settings(folder_b)
    _require_equal_data(settings_a, settings_b)
    solved_a, solved_b = _read_solved(folder_a), _read_solved(folder_b)
    both = solved_a.keys() & solved_b.keys()
    if not both:
        raise ValueError(f"--compare: {folder_a} and {folder_b} have no trial of a task in common")
    by_task: dict[str, TaskPairs] = defaultdict(lambda: TaskPairs(0, 0, 0))
    tasks_of_domain: dict[str, set[str]] = defaultdict(set)
    for trial in both:
        pairs, a, b = by_task[trial.task_id]
        by_task[trial.task_id] = TaskPairs(pairs + 1, a + solved_a[trial], b + solved_b[trial])
        tasks_of_domain[trial.domain].add(trial.task_id)
    return Comparison(
        settings=_differing_settings(settings_a, settings_b),
        only_a=len(solved_a) - len(both),
        only_b=len(solved_b) - len(both),
        all_tasks=paired_difference(by_task.values()),
        by_domain={
            domain: paired_difference([by_task[task_id] for task_id in task_ids])
            for domain, task_ids in sorted(tasks_of_domain.items())
        },
        by_task=dict(sorted(by_task.items(), key=lambda item: (-abs(item[1].change), item[0]))),
    )


def paired_difference(tasks: Collection[TaskPairs]) -> PairedDifference:
    """Measure the difference over these tasks; the 95% interval is a bootstrap over tasks."""
    pairs, solved_a, solved_b = np.sum(list(tasks), axis=0)
    sums = resampled_sums(np.array([[task.change, task.pairs] for task in tasks]))
    difference = (solved_b - solved_a) / pairs
    return PairedDifference(
        tasks=len(tasks),
        pairs=int(pairs),
        solved_a=float(solved_a / pairs),
        solved_b=float(solved_b / pairs),
        difference=Estimate(float(difference), *interval(sums[:, 0] / sums[:, 1])),
        p_value=sign_flip_p_value([task.change for task in tasks]),
    )


def sign_flip_p_value(changes: Collection[int]) -> float:
    """Compute the two-sided p-value of the exact sign-flip test over tasks.

    `changes` says how many more trials of each task B solved. If A and B were equally good, each
    task's change could as well have the other sign. The p-value is the share of all choices of
    signs whose sum is as far from 0 as the observed sum, or farther. The trials of a task need not
    be independent. With one trial of each task, this is McNemar's exact test.
    """
    # the chance of each possible sum, from the smallest to the largest
    chances = np.ones(1)
    for change in changes:
        if change:
            signs = np.zeros(2 * abs(change) + 1)
            signs[[0, -1]] = 0.5
            chances = np.convolve(chances, signs)
    largest = len(chances) // 2
    possible = np.arange(-largest, largest + 1)
    return min(1.0, float(chances[np.abs(possible) >= abs(sum(changes))].sum()))


def comparison_lines(comparison: Comparison) -> Iterator[str]:
    """Write the comparison for human readers, line by line."""
    for name, (value_a, value_b) in comparison.settings.items():
        yield f"differs: {name} is {value_a} in A, {value_b} in B"
    if comparison.only_a or comparison.only_b:
        yield (
            f"not compared: {comparison.only_a} trials of A and {comparison.only_b} of B, "
            "which the other does not have"
        )
    parts = {"all tasks": comparison.all_tasks}
    if len(comparison.by_domain) > 1:
        parts |= comparison.by_domain
    for name, part in parts.items():
        gain = part.difference
        yield f"\n{name}: {part.tasks}, {part.pairs} pairs of trials"
        yield f"  solved   A {part.solved_a:.3f}, B {part.solved_b:.3f}"
        yield f"  B - A    {gain.mean:+.3f}  [{gain.low:+.3f}, {gain.high:+.3f}]"
        yield f"  p-value  {part.p_value:.2g} (exact sign-flip test over tasks)"
    changed = {name: task for name, task in comparison.by_task.items() if task.change}
    if changed:
        yield "\nthe tasks that changed most: trials, solved by A, by B"
    for task_id, task in list(changed.items())[:MAX_LISTED_TASKS]:
        yield f"  {task.pairs:3}  {task.solved_a:3}  {task.solved_b:3}  {task_id}"
    yield f"\n{len(changed)} of {len(comparison.by_task)} tasks changed"


def _read_settings(folder: Path) -> dict[str, Any]:
    for name in ("settings.json", "episodes.jsonl"):
        if not (folder / name).is_file():
            raise ValueError(
                f"--compare: {folder} has no {name}; name the folder of an evaluation's results"
            )
    try:
        return dict(json.loads((folder / "settings.json").read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"--compare: {folder}/settings.json cannot be read: {error}") from error


def _read_solved(folder: Path) -> dict[PlayedTrial, bool]:
    """Read which trials of an evaluation are solved; another process may be adding some."""
    solved = {}
    with (folder / "episodes.jsonl").open("rb") as lines:
        for line_number, line in enumerate(lines, 1):
            # the last line may be half-written
            if not line.endswith(b"\n") or not line.strip():
                continue
            number, _, text = line.partition(b" ")
            try:
                episode = from_json(text)
                trial = PlayedTrial(episode["domain"], episode["task_id"], int(number))
                solved[trial] = is_successful(episode["reward"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"--compare: line {line_number} of {folder}/episodes.jsonl is no trial"
                ) from error
    return solved


def _require_equal_data(settings_a: Mapping[str, Any], settings_b: Mapping[str, Any]) -> None:
    """Refuse to compare evaluations of different tasks, databases or policies.

    Raises:
        ValueError: a domain or a tasks file of both evaluations differs.
    """
    for name in DATA_SETTINGS:
        digests_a, digests_b = settings_a.get(name, {}), settings_b.get(name, {})
        for part in sorted(digests_a.keys() & digests_b.keys()):
            if digests_a[part] != digests_b[part]:
                raise ValueError(
                    f"--compare: A and B played different tasks or data of {part} (digest "
                    f"{digests_a[part]} in A, {digests_b[part]} in B); evaluate both on the same "
                    "data, see TAU2_DATA_DIR and --tasks-file"
                )


def _differing_settings(
    settings_a: Mapping[str, Any], settings_b: Mapping[str, Any]
) -> dict[str, tuple[object, object]]:
    flat_a, flat_b = dict(_flat(settings_a)), dict(_flat(settings_b))
    return {
        name: (flat_a.get(name), flat_b.get(name))
        for name in flat_a | flat_b
        if flat_a.get(name) != flat_b.get(name)
    }


def _flat(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yield the settings by name, the fields of nested ones as `econfig.max_steps`."""
    for name, value in settings.items():
        if name in DATA_SETTINGS:
            continue
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
