"""Data sets of tau2 tasks: rows of plain data that name a task, which the workers look up by themselves (tasks.py)."""

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, NonNegativeInt

from examples.tau2.data import tasks
from examples.tau2.episode import environment

if TYPE_CHECKING:
    from datasets import Dataset

SHOWN = 20  # bad rows that are named


class BadTasks(ValueError):
    """Tasks that cannot be played; `problems` names the first of them with what is wrong, and the number of the others."""

    def __init__(self, problems: list[str]):
        if len(problems) > SHOWN:
            problems = [*problems[:SHOWN], f"and {len(problems) - SHOWN} more bad rows"]
        super().__init__("; ".join(problems))
        self.problems = problems


class TaskFilter(BaseModel, frozen=True, extra="forbid"):
    """Which tasks of a data set are played: the `dataset_kwargs` of AReaL's config of a data set.

    `domains`: only of these, if there are any. `min_actions`, `max_actions`: expected actions, of agent and user together.
    """

    domains: tuple[Literal[environment.DOMAINS], ...] = ()
    min_actions: NonNegativeInt = 0
    max_actions: NonNegativeInt | None = None

    def accepts(self, row: tasks.TaskRow) -> bool:
        criteria = row.task.evaluation_criteria
        expected = len((criteria and criteria.actions) or [])
        return (
            (not self.domains or row.domain in self.domains)
            and expected >= self.min_actions
            and (self.max_actions is None or expected <= self.max_actions)
        )


ALL = TaskFilter()


def absolute_path(path: str) -> str:
    """The path of a data set, if it is a tasks file an absolute one."""
    return os.path.abspath(os.path.expanduser(path)) if is_tasks_file(path) else path


def is_tasks_file(path: str) -> bool:
    """Whether the path of a data set is that of a tasks file; otherwise it is `tau2/<split>`."""
    return path.endswith((".jsonl", ".json"))


@cache
def task_rows(
    domain: str, path: str, solo_mode: bool = False, chosen: TaskFilter = ALL
) -> tuple[dict[str, Any], ...]:
    """Rows for `tasks.find` of the tasks of a split or a tasks file, in its order; in solo mode those that tau2's solo agent
    takes (the others have no ticket). Reads all that is needed to play them.

    Args:
        domain: of the split; in a tasks file, of tasks that name none.
        path: `tau2/<split>`, or a file `*.jsonl` or `*.json`.

    Raises:
        BadTasks: some cannot be played.
        ValueError: the path has another form, the domain has no such split, or no task is left.
        OSError: the tasks file cannot be read.
    """
    if is_tasks_file(path):
        path = absolute_path(path)
        found, unreadable = tasks.read_tasks_file(path, domain)
        rows = {number: {"tasks_file": path, "row": number} for number in found}
    else:
        ids, unreadable = _split_ids(domain, path), {}
        rows = dict(enumerate({"task_id": id} for id in ids))
        found = {number: tasks.find_task_row(row, domain) for number, row in rows.items()}
    kept = {number: row for number, row in found.items() if chosen.accepts(row)}
    if wrong := unreadable | tasks.unplayable_tasks(kept, solo_mode):
        raise BadTasks([wrong[number] for number in sorted(wrong)])
    if solo_mode:
        kept = {number: row for number, row in kept.items() if environment.playable_solo(row.task)}
    if not kept:
        asked = chosen.model_dump(exclude_defaults=True)
        why = " for solo mode" * solo_mode + "".join(
            f", {name} {value}" for name, value in asked.items()
        )
        raise ValueError(f"no task is left{why}")
    return tuple(rows[number] for number in kept)


def tau2_dataset(
    domain: str, path: str, solo_mode: bool = False, full_batches_of: int = 1, **dataset_kwargs: Any
) -> "Dataset":
    """The rows of `task_rows` that the `TaskFilter` of `dataset_kwargs` accepts.

    AReaL's loader drops an incomplete batch, and needs a first one: for training, tasks are repeated in turn up to a
    multiple of `full_batches_of`. With 1, as for validation, no task is ever repeated.
    """
    from datasets import Dataset  # which episodes without AReaL do without

    rows = task_rows(domain, path, solo_mode, TaskFilter(**dataset_kwargs))
    missing = -len(rows) % full_batches_of
    return Dataset.from_list([rows[i % len(rows)] for i in range(len(rows) + missing)])


def _split_ids(domain: str, path: str) -> list[str]:
    """Ids of the tasks of a split, in the file's order, as in tau2's own loaders."""
    prefix, _, split = path.partition("/")
    if prefix != "tau2" or not split or "/" in split:
        raise ValueError(
            f"{path!r} is not of the form tau2/<split>, e.g. tau2/train, nor a tasks file, *.jsonl or *.json"
        )
    splits = environment.task_splits(domain)
    if split not in splits:
        raise ValueError(f"domain {domain} has no split {split!r}; it has: {', '.join(splits)}")
    members = set(splits[split])
    return [id for id in environment.load_tasks(domain) if id in members]
