"""Compares an episode with what its task expects: its actions, and the databases that it left."""

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from typing import Any, Literal, NotRequired, TypedDict

from pydantic_core import to_jsonable_python
from tau2.data_model.message import AssistantMessage, Message, ToolCall, UserMessage
from tau2.data_model.tasks import Action, Task
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.evaluator.evaluator_env import EnvironmentEvaluator

from examples.tau2.data.tasks_file import TaskRow
from examples.tau2.episode import environment
from examples.tau2.episode.database import FrozenDB, ListView, TableView
from examples.tau2.episode.trajectory import Tau2RunInfo

# the value of a key or a position that only one of two databases has
_ABSENT = object()


class ActionCall(TypedDict):
    """A tool call, made or expected."""

    name: str
    arguments: dict[str, Any]
    requestor: str


class ComparedAction(TypedDict):
    """An expected action, the tool call that was made for it, or both.

    `status` is `matched` (by tau2's own comparison), `differs` (the call is of the expected tool
    with other arguments), `missing` (there is no call), or `extra` (there is no expected action).
    `message` is the index of the message with the call.
    """

    status: Literal["matched", "differs", "missing", "extra"]
    expected: NotRequired[ActionCall]
    done: NotRequired[ActionCall]
    message: NotRequired[int]


class DatabaseDifference(TypedDict):
    """A place where two databases differ.

    `path` is a list of keys; the first one is the database, "agent" or "user". A value is absent if
    only the other database has the path.
    """

    path: list[Any]
    expected: NotRequired[Any]
    left: NotRequired[Any]


def compare_actions(task: Task, messages: Sequence[Message]) -> list[ComparedAction]:
    """Compare the task's expected actions with the tool calls of a conversation.

    The result is in the order of the calls; a missing action stands after the one that is expected
    before it. Each call is compared with one action: exact matches are found first.
    """
    # the calls, and the index of each call's message; a call is known by its number
    calls: list[ToolCall] = []
    indices: list[int] = []
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage | UserMessage):
            for call in message.tool_calls or []:
                calls.append(call)
                indices.append(index)
    expected = environment.expected_actions(task)
    free = dict(enumerate(calls))
    matched = _assign(expected, free, Action.compare_with_tool_call, taken={})
    differing = _assign(expected, free, _is_same_tool, taken=matched)

    compared: list[tuple[int, ComparedAction]] = []
    # the number of the last call before a missing action
    last_call = -1
    for action_number, action in enumerate(expected):
        entry: ComparedAction = {"status": "missing", "expected": _action_call(action)}
        call_number = matched.get(action_number, differing.get(action_number))
        if call_number is not None:
            last_call = call_number
            entry["status"] = "matched" if action_number in matched else "differs"
            entry["message"] = indices[call_number]
            entry["done"] = _action_call(calls[call_number])
        compared.append((last_call, entry))
    for call_number, call in free.items():
        extra: ComparedAction = {"status": "extra", "message": indices[call_number]}
        extra["done"] = _action_call(call)
        compared.append((call_number, extra))
    # the sort is stable: a missing action stays behind
    return [entry for _, entry in sorted(compared, key=lambda item: item[0])]


def _assign(
    expected: Sequence[Action],
    free: dict[int, ToolCall],
    is_same: Callable[[Action, ToolCall], bool],
    taken: dict[int, int],
) -> dict[int, int]:
    """Find the first free call for each expected action that is not `taken`.

    The result has the number of the call by the number of the action. The calls that are found are
    removed from `free`.
    """
    found = {}
    for action_number, action in enumerate(expected):
        if action_number in taken:
            continue
        same = [number for number, call in free.items() if is_same(action, call)]
        if same:
            found[action_number] = same[0]
            del free[same[0]]
    return found


def _is_same_tool(action: Action, call: ToolCall) -> bool:
    return action.name == call.name


def _action_call(call: Action | ToolCall) -> ActionCall:
    return {"name": call.name, "arguments": call.arguments, "requestor": call.requestor}


def database_differences(info: Tau2RunInfo, row: TaskRow) -> list[DatabaseDifference]:
    """Compare the databases that an episode left with those that the expected actions leave.

    tau2's evaluator replays the episode and the expected actions.

    Raises:
        ValueError: the conversation cannot be replayed.
    """
    built: list[Environment] = []

    def build(solo_mode: bool = False) -> Environment:
        built.append(
            environment.make_environment(row.domain, solo_mode, info.add_thinking_tool, row.db_path)
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
