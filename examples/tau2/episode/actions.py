"""Compares the tool calls of a conversation with the actions that its task expects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tau2.data_model.message import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from tau2.data_model.tasks import Action, Task

from examples.tau2.episode import environment

# the arguments in which tools of banking_knowledge name the tool that they call
_NESTED = {
    "call_discoverable_agent_tool": "agent_tool_name",
    "call_discoverable_user_tool": "discoverable_tool_name",
}


Status = Literal["matched", "differs", "missing", "extra"]


@dataclass(frozen=True)
class ComparedAction:
    """An expected action, the tool call that was made for it, or both.

    `status` is `matched` (by tau2's own comparison), `differs` (the call is of the expected tool
    with other arguments), `missing` (there is no call), or `extra` (there is no expected action).
    `message` is the index of the message with the call; `failed` tells whether the result of the
    call is an error.
    """

    status: Status
    expected: Action | None = None
    done: ToolCall | None = None
    message: int | None = None
    failed: bool = False


def compare_actions(task: Task, messages: Sequence[Message]) -> list[ComparedAction]:
    """Compare the task's expected actions with the tool calls of a conversation.

    The result is in the order of the calls; a missing action stands after the one that is expected
    before it. Each call is compared with one action: exact matches are found first. Of several
    calls for an action, one whose result is no error is preferred: a call without any arguments
    matches too, by tau2's own comparison.
    """
    # a call is known by its number; each stands with its message and its place there
    made: list[tuple[int, int, ToolCall]] = []
    for index, message in enumerate(messages):
        if isinstance(message, AssistantMessage | UserMessage):
            made += [(index, place, call) for place, call in enumerate(message.tool_calls or [])]
    failed = [_is_error(messages, index + 1 + place) for index, place, _ in made]
    expected = environment.expected_actions(task)
    # the sort is stable: calls that failed come last
    order = sorted(range(len(made)), key=failed.__getitem__)
    free = {number: made[number][2] for number in order}
    matched = _assign(expected, free, Action.compare_with_tool_call, taken={})
    differing = _assign(expected, free, _is_same_tool, taken=matched)

    def entry(status: Status, number: int, action: Action | None) -> tuple[int, ComparedAction]:
        index, _, call = made[number]
        return number, ComparedAction(status, action, call, index, failed[number])

    compared: list[tuple[int, ComparedAction]] = []
    # the number of the last call before a missing action
    last_call = -1
    for action_number, action in enumerate(expected):
        call_number = matched.get(action_number, differing.get(action_number))
        if call_number is None:
            compared.append((last_call, ComparedAction("missing", action)))
        else:
            last_call = call_number
            status = "matched" if action_number in matched else "differs"
            compared.append(entry(status, call_number, action))
    compared += [entry("extra", call_number, None) for call_number in free]
    # the sort is stable: a missing action stays behind
    return [action for _, action in sorted(compared, key=lambda item: item[0])]


def called_tool(call: Action | ToolCall) -> str:
    """Name the tool that is called in the end, where a tool of banking_knowledge calls another."""
    return str(call.arguments.get(_NESTED.get(call.name, ""), call.name))


def _assign(
    expected: Sequence[Action],
    free: dict[int, ToolCall],
    is_same: Callable[[Action, ToolCall], bool],
    taken: dict[int, int],
) -> dict[int, int]:
    """Find the first free call, in the order of `free`, for each expected action not `taken`.

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
    return called_tool(action) == called_tool(call)


def _is_error(messages: Sequence[Message], index: int) -> bool:
    """Whether the message is an error; tau2 puts the results of calls behind them, in order."""
    result = messages[index] if index < len(messages) else None
    return isinstance(result, ToolMessage) and result.error
