"""Data sets of tau2 tasks: rows of plain data that name tasks, for the workers to look up."""

import os
from functools import cache
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, NonNegativeInt

from examples.tau2.data.files import kind_of
from examples.tau2.data.hub import is_hub_file, pinned
from examples.tau2.data.tasks import find_task_row, own_id, unplayable_tasks
from examples.tau2.data.tasks_file import TaskRow, read_tasks_file
from examples.tau2.episode import environment

if TYPE_CHECKING:
    from datasets import Dataset

# a message names at most this number of bad rows, and counts the others
MAX_NAMED_ROWS = 20


class BadTasks(ValueError):
    """Some tasks cannot be played; `problems` says what is wrong with each of them.

    If they are many, `problems` has the first ones, and ends with the number of the others.
    """

    def __init__(self, problems: list[str]):
        more = len(problems) - MAX_NAMED_ROWS
        if more > 0:
            problems = [*problems[:MAX_NAMED_ROWS], f"and {more} more bad rows"]
        super().__init__("; ".join(problems))
        self.problems = problems


class TaskFilter(BaseModel, frozen=True, extra="forbid", coerce_numbers_to_str=True):
    """A choice among the tasks of a data set: the `dataset_kwargs` of AReaL's config of a data set.

    - `domains`: only tasks of these domains; of all domains if empty.
    - `min_actions`, `max_actions`: limits of the number of actions that a task expects, of agent
      and user together.
    - `exclude`: the ids of tasks that are left out. In a tasks file, all tasks of an id are.
    """

    domains: tuple[environment.Domain, ...] = ()
    min_actions: NonNegativeInt = 0
    max_actions: NonNegativeInt | None = None
    exclude: tuple[str, ...] = ()

    def accepts(self, row: TaskRow) -> bool:
        """Whether the task passes the filter."""
        expected = len(environment.expected_actions(row.task))
        if self.domains and row.domain not in self.domains:
            return False
        if self.max_actions is not None and expected > self.max_actions:
            return False
        return expected >= self.min_actions and not self.excludes(row)

    def excludes(self, row: TaskRow) -> bool:
        """Whether the task is left out by its id: its own, or that of its episodes."""
        return own_id(row.task) in self.exclude or row.task.id in self.exclude


NO_FILTER = TaskFilter()


def absolute_path(path: str) -> str:
    """Make the path of a tasks file absolute; any other path of a data set stays as it is.

    In the URL of a file on the hub, the revision becomes its commit.
    """
    if is_hub_file(path):
        return pinned(path)
    return os.path.abspath(os.path.expanduser(path)) if is_tasks_file(path) else path


def is_tasks_file(path: str) -> bool:
    """Whether the path of a data set is that of a tasks file; otherwise it is `tau2/<split>`."""
    return is_hub_file(path) or path.endswith((".jsonl", ".json"))


@cache
def task_rows(
    domain: str, path: str, solo_mode: bool = False, task_filter: TaskFilter = NO_FILTER
) -> tuple[dict[str, Any], ...]:
    """List the tasks of a split or a tasks file, in its order, as rows for `find_task_row`.

    In solo mode, these are the tasks that tau2's solo agent takes: the others have no ticket. The
    call also reads the databases of the tasks.

    Args:
        domain: the domain of the split, or of those tasks of a file that name none.
        path: `tau2/<split>`, or a file `*.jsonl` or `*.json`, also as a URL of the hub.

    Raises:
        BadTasks: some tasks cannot be played.
        ValueError: the path has another form, the domain has no such split, no task has an id
            that is to be excluded, or no task is left.
        OSError: the tasks file cannot be read.
    """
    if is_tasks_file(path):
        path = absolute_path(path)
        found, unreadable = read_tasks_file(path, domain)
        rows = {number: {"tasks_file": path, "row": number} for number in found}
    else:
        rows = {
            number: {"task_id": task_id}
            for number, task_id in enumerate(_split_task_ids(domain, path))
        }
        found = {number: find_task_row(row, domain) for number, row in rows.items()}
        unreadable = {}
    kept = {number: row for number, row in found.items() if task_filter.accepts(row)}
    problems = unreadable | unplayable_tasks(kept, solo_mode)
    if problems:
        raise BadTasks([problems[number] for number in sorted(problems)])
    known = excludable_ids(domain, path)
    unknown = [task_id for task_id in task_filter.exclude if task_id not in known]
    if unknown:
        raise ValueError(f"exclude: there is no task {', '.join(map(repr, unknown))}")
    if solo_mode:
        kept = {number: row for number, row in kept.items() if environment.playable_solo(row.task)}
    if not kept:
        raise ValueError(f"no task is left{_conditions(solo_mode, task_filter)}")
    return tuple(rows[number] for number in kept)


def excludable_ids(domain: str, path: str) -> set[str]:
    """Return the ids that `exclude` can name: those of the tasks, and those of their episodes.

    Raises:
        ValueError, OSError: the tasks cannot be read.
    """
    if not is_tasks_file(path):
        # one list of ids serves for all splits of a domain
        return set(environment.load_tasks(domain))
    rows, _ = read_tasks_file(absolute_path(path), domain)
    return {task_id for row in rows.values() for task_id in (row.task.id, own_id(row.task))}


def tau2_dataset(
    domain: str, path: str, solo_mode: bool = False, full_batches_of: int = 1, **dataset_kwargs: Any
) -> "Dataset":
    """Make a data set of the rows of `task_rows` that pass the filter of `dataset_kwargs`.

    AReaL's loader drops an incomplete batch, and needs at least one batch. So for training, tasks
    are repeated in turn up to a multiple of `full_batches_of`. With 1, as for validation, no task
    is repeated.
    """
    # this package is not installed where episodes are played without AReaL
    from datasets import Dataset

    rows = task_rows(domain, path, solo_mode, TaskFilter(**dataset_kwargs))
    missing = -len(rows) % full_batches_of
    return Dataset.from_list([rows[i % len(rows)] for i in range(len(rows) + missing)])


def _conditions(solo_mode: bool, task_filter: TaskFilter) -> str:
    """Name the conditions of a choice of tasks: ` for solo mode, min_actions 2`."""
    conditions = " for solo mode" if solo_mode else ""
    for field, value in task_filter.model_dump(exclude_defaults=True).items():
        conditions += f", {field} {value}"
    return conditions


def _split_task_ids(domain: str, path: str) -> list[str]:
    """List the ids of the tasks of a split, in the file's order, as tau2's own loaders do."""
    prefix, _, split = path.partition("/")
    if prefix != "tau2" or not split or "/" in split:
        found = f"; it is {kind_of(path)}" if os.path.exists(path) else ""
        raise ValueError(
            f"{path!r} is not of the form tau2/<split>, e.g. tau2/train, "
            f"nor a tasks file, *.jsonl or *.json{found}"
        )
    splits = environment.task_splits(domain)
    if split not in splits:
        raise ValueError(f"domain {domain} has no split {split!r}; it has: {', '.join(splits)}")
    members = set(splits[split])
    return [task_id for task_id in environment.load_tasks(domain) if task_id in members]
