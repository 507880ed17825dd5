"""What an episode did beside what its task expects: its actions, and the databases it left."""

from collections.abc import Iterator
from itertools import chain
from typing import Any

from deepdiff import DeepDiff
from deepdiff.helper import notpresent
from pydantic_core import to_jsonable_python
from tau2.data_model.message import Message, ToolCall
from tau2.data_model.tasks import Action, Task
from tau2.environment.db import DB
from tau2.environment.environment import Environment
from tau2.evaluator.evaluator_env import EnvironmentEvaluator

from examples.tau2.data.tasks import TaskRow
from examples.tau2.episode import environment
from examples.tau2.episode.database import FrozenDB, ListView, TableView
from examples.tau2.episode.trajectory import Tau2RunInfo


def actions(task: Task, messages: list[Message]) -> list[dict[str, Any]]:
    """The task's expected actions beside the tool calls of a conversation, in the order of the calls.

    Each row has a `status`: `matched` by tau2's own comparison, `differs` (a call of the expected tool with other
    arguments), `missing`, or `extra`; but for `missing`, the call in `done` and its `message`, an index; but for `extra`, the
    action in `expected`.
    """
    calls = [
        (index, call)
        for index, message in enumerate(messages)
        for call in getattr(message, "tool_calls", 0) or ()
    ]
    expected = (task.evaluation_criteria and task.evaluation_criteria.actions) or []
    found: dict[
        int, tuple[int, str]
    ] = {}  # position of the call, and status, by position of the expected action
    extra = dict(enumerate(call for _, call in calls))
    for status, same in (("matched", Action.compare_with_tool_call), ("differs", _same_tool)):
        for wanted, action in enumerate(expected):
            number = next((number for number, call in extra.items() if same(action, call)), None)
            if wanted not in found and number is not None:
                found[wanted] = number, status
                del extra[number]

    def done(number: int) -> dict[str, Any]:
        index, call = calls[number]
        return {"message": index, "done": _call(call)}

    rows, after = [], -1  # an action that is missing stands after the one expected before it
    for wanted, action in enumerate(expected):
        row: dict[str, Any] = {"status": "missing", "expected": _call(action)}
        if wanted in found:
            after, status = found[wanted]
            row |= {"status": status, **done(after)}
        rows.append((after, row))
    rows += [(number, {"status": "extra", **done(number)}) for number in extra]
    return [row for _, row in sorted(rows, key=lambda item: item[0])]


def _same_tool(action: Action, call: ToolCall) -> bool:
    return action.name == call.name


def _call(call: Action | ToolCall) -> dict[str, Any]:
    return {"name": call.name, "arguments": call.arguments, "requestor": call.requestor}


def database_differences(info: Tau2RunInfo, row: TaskRow) -> list[dict[str, Any]]:
    """Where the databases that an episode left differ from those that the expected actions leave, by tau2's own replay of both.

    Each difference has a `path` (list of keys, "agent" or "user" first) and the values `expected` and `left`, of which
    one is absent where only the other database has the path.

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
    if not built:  # the task expects nothing that could be compared
        return []
    left, expected = built  # in the order in which tau2 builds them
    return [
        {"path": [side, *path], **values}
        for side, kit in (("agent", "tools"), ("user", "user_tools"))
        if getattr(left, kit) is not None
        for path, values in _differences(
            getattr(left, kit).frozen, getattr(expected, kit).db, getattr(left, kit).db
        )
    ]


def _differences(frozen: FrozenDB, expected: DB, left: DB) -> Iterator[tuple[list, dict[str, Any]]]:
    """(path, values) for each difference; only what was written to is looked at."""
    wanted, found = frozen.changes(expected), frozen.changes(left)
    for field in wanted:
        if keys := wanted[field].keys() | found[field].keys():
            values = [_plain(getattr(db, field), keys) for db in (expected, left)]
            for level in chain.from_iterable(DeepDiff(*values, view="tree").values()):
                sides = {"expected": level.t1, "left": level.t2}
                present = {name: value for name, value in sides.items() if value is not notpresent}
                yield [field, *level.path(output_format="list")], present


def _plain(value: Any, keys: set[str]) -> Any:
    """As JSON data; of a table only the items of these keys."""
    if isinstance(value, TableView):
        value = {key: value[key] for key in value if key in keys}
    return to_jsonable_python(list(value) if isinstance(value, ListView) else value)
