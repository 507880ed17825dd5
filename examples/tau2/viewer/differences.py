"""Compares the databases that an episode left with those that its task expects."""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any, NotRequired, TypedDict

from pydantic_core import to_jsonable_python
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.evaluator.evaluator_env import EnvironmentEvaluator

from examples.tau2.data.tasks_file import TaskRow
from examples.tau2.episode import environment
from examples.tau2.episode.database import FrozenDB, ListView, TableView
from examples.tau2.episode.trajectory import Tau2RunInfo

# the value of a key or a position that only one of two databases has
_ABSENT = object()


class DatabaseDifference(TypedDict):
    """A place where two databases differ.

    `path` is a list of keys; the first one is the database, "agent" or "user". A value is absent if
    only the other database has the path.
    """

    path: list[Any]
    expected: NotRequired[Any]
    left: NotRequired[Any]


def database_differences(info: Tau2RunInfo, row: TaskRow) -> list[DatabaseDifference]:
    """Compare the databases that an episode left with those that the expected actions leave.

    tau2's evaluator replays the episode and the expected actions.

    Raises:
        ValueError: the conversation cannot be replayed.
    """
    built: list[Environment] = []

    def build(solo_mode: bool = False) -> Environment:
        built.append(
            environment.make_environment(
                row.domain,
                solo_mode,
                info.add_thinking_tool,
                row.db_path,
                environment.logged_reads(row.task),
            )
        )
        return built[-1]

    EnvironmentEvaluator.calculate_reward(build, row.task, info.simulation.messages, info.solo_mode)
    # tau2 builds no environment if the task expects nothing that could be compared
    if not built:
        return []
    # tau2 builds them in this order
    left, expected = built
    differences: list[DatabaseDifference] = []
    for side, toolkit in (("agent", "tools"), ("user", "user_tools")):
        if getattr(left, toolkit) is not None:
            frozen = getattr(left, toolkit).frozen
            databases = getattr(expected, toolkit).db, getattr(left, toolkit).db
            for difference in _compare_databases(frozen, *databases):
                difference["path"].insert(0, side)
                differences.append(difference)
    return differences


def _compare_databases(frozen: FrozenDB, expected: DB, left: DB) -> Iterator[DatabaseDifference]:
    """Compare two views of a frozen database; they differ only where one was written to."""
    expected_changes, left_changes = frozen.changes(expected), frozen.changes(left)
    for field in expected_changes:
        keys = expected_changes[field].keys() | left_changes[field].keys()
        if not keys:
            continue
        expected_data, left_data = (
            _plain_data(getattr(db, field), keys) for db in (expected, left)
        )
        yield from _differences([field], expected_data, left_data)


def _differences(path: list[Any], expected: Any, left: Any) -> Iterator[DatabaseDifference]:
    """Compare JSON data; 5 and 5.0 are different, and lists are compared by position."""
    if isinstance(expected, dict) and isinstance(left, dict):
        for key in expected | left:
            values = expected.get(key, _ABSENT), left.get(key, _ABSENT)
            yield from _differences([*path, key], *values)
    elif isinstance(expected, list) and isinstance(left, list):
        for position, values in enumerate(zip_longest(expected, left, fillvalue=_ABSENT)):
            yield from _differences([*path, position], *values)
    elif repr(expected) != repr(left):
        difference: DatabaseDifference = {"path": path}
        if expected is not _ABSENT:
            difference["expected"] = expected
        if left is not _ABSENT:
            difference["left"] = left
        yield difference


def _plain_data(value: Any, keys: set[str]) -> Any:
    """Make JSON data of a database's field; of a table, only of the items of these keys."""
    if isinstance(value, TableView):
        value = {key: value[key] for key in value if key in keys}
    elif isinstance(value, ListView):
        value = list(value)
    return to_jsonable_python(value)
