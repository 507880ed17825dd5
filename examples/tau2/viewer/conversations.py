"""Makes JSON data of an episode for the page: an entry in the list, and the conversation."""

import json
from contextlib import suppress
from typing import Any, Literal, NotRequired, TypedDict

from tau2.data_model.message import AssistantMessage, Message, ToolCall, ToolMessage, UserMessage
from tau2.data_model.tasks import Action, Task

from examples.tau2.data.tasks import dataset_row, find_task_row
from examples.tau2.data.tasks_file import TaskRow
from examples.tau2.episode.actions import ComparedAction, compare_actions
from examples.tau2.episode.participants import AgentTurn
from examples.tau2.episode.solo_tickets import completed_ticket
from examples.tau2.episode.tau2_data import tau2_source
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.viewer.differences import DatabaseDifference, database_differences


class EpisodeEntry(TypedDict):
    """An episode in the list.

    `step` is the number of the training step in the statistics. In an on-policy run, it is the step
    that the episode was played for, or the last step before the evaluation. It is 0 outside
    training.
    """

    purpose: Literal["train", "eval"]
    step: int
    domain: str
    task: str
    trial: int | None
    reward: float
    termination: str
    failure: str | None
    failure_kinds: list[str]
    steps: int
    turns: int
    malformed: int
    tokens: int
    seconds: float


class ShownCall(TypedDict):
    """A tool call as texts; `brief` has the arguments in one line."""

    name: str
    brief: str
    arguments: str
    requestor: str
    id: NotRequired[str]


class ShownMessage(TypedDict):
    """A message of the conversation.

    The result of a tool has `id`, `requestor` and `error`; every other message has `calls`. Only a
    turn of the agent has the fields after `calls`; `tokens` is [prompt, completion].
    """

    role: str
    text: str
    id: NotRequired[str]
    requestor: NotRequired[str]
    error: NotRequired[bool]
    calls: NotRequired[list[ShownCall]]
    reward: NotRequired[float | None]
    malformed: NotRequired[str | None]
    finish: NotRequired[str | None]
    tokens: NotRequired[list[int]]
    seconds: NotRequired[float]


class ShownAction(TypedDict):
    """An expected action beside what the episode did; see `actions.compare_actions`."""

    status: str
    expected: NotRequired[ShownCall]
    done: NotRequired[ShownCall]
    message: NotRequired[int]


class ShownDifference(TypedDict):
    """A difference of the databases; see `differences.database_differences`."""

    path: str
    expected: NotRequired[str]
    left: NotRequired[str]


class ShownConversation(TypedDict):
    """All that the page shows of an opened episode.

    `reward` is tau2's `RewardInfo`. `problem` says why some of the fields are absent.
    """

    messages: list[ShownMessage]
    reward: NotRequired[dict[str, Any]]
    task: NotRequired[str]
    actions: NotRequired[list[ShownAction]]
    database: NotRequired[list[ShownDifference]]
    problem: NotRequired[str]


def episode_entry(info: Tau2RunInfo, trial: int | None) -> EpisodeEntry:
    """Make the entry of an episode in the list."""
    is_eval = info.is_eval or info.weight_version is None
    version = info.weight_version or 0
    return {
        "purpose": "eval" if is_eval else "train",
        "step": version if is_eval else version + 1,
        "domain": info.domain,
        "task": info.task_id,
        "trial": trial,
        "reward": info.reward,
        "termination": info.termination,
        "failure": info.failure,
        "failure_kinds": info.failure_kinds,
        "steps": info.steps,
        "turns": len(info.turns),
        "malformed": sum(turn.malformed is not None for turn in info.turns),
        "tokens": sum(turn.completion_tokens for turn in info.turns),
        "seconds": round(info.simulation.duration, 2),
    }


def conversation(info: Tau2RunInfo) -> ShownConversation:
    """Make all that the page shows of an opened episode."""
    turns = {turn.completion_id: turn for turn in info.turns}
    shown: ShownConversation = {
        "messages": [_message(message, turns, info) for message in info.simulation.messages]
    }
    reward_info = info.simulation.reward_info
    if reward_info:
        shown["reward"] = reward_info.model_dump(mode="json", exclude_none=True)
    try:
        row = _played_row(info)
    except (LookupError, ValueError, OSError) as error:
        shown["problem"] = f"what the task expects cannot be shown: {error}"
        return shown
    shown["task"] = _task_text(row.task, info.solo_mode)
    compared = compare_actions(row.task, info.simulation.messages)
    shown["actions"] = [_action(action) for action in compared]
    db_check = reward_info.db_check if reward_info else None
    databases_match = db_check is not None and db_check.db_match
    try:
        differences = [] if databases_match else database_differences(info, row)
    # tau2's replay may raise any error; the rest of the episode is shown without the databases
    except Exception as error:
        shown["problem"] = (
            f"the databases cannot be compared, because the replay of the episode failed: {error}"
        )
        return shown
    shown["database"] = [_difference(difference) for difference in differences]
    return shown


def _played_row(info: Tau2RunInfo) -> TaskRow:
    """Find the task that the episode played, if it still exists.

    Raises:
        LookupError, ValueError, OSError: the task is gone or has changed, tau2's tasks are other
            ones, or a file cannot be read.
    """
    data = dataset_row(info.task_id)
    if "task_id" in data and info.tau2 and info.tau2.tasks != tau2_source([info.domain]).tasks:
        raise LookupError(f"it is a task of {info.tau2}; set TAU2_DATA_DIR to their folder")
    row = find_task_row(data, info.domain)
    if row.task.id != info.task_id:
        raise LookupError(f"the tasks file has changed: this is now {row.task.id!r}")
    return row


def _message(message: Message, turns: dict[str, AgentTurn], info: Tau2RunInfo) -> ShownMessage:
    if isinstance(message, ToolMessage):
        return _tool_result(message)
    # tau2 records no other messages
    assert isinstance(message, AssistantMessage | UserMessage)
    raw = message.raw_data or {}
    shown: ShownMessage = {
        "role": message.role,
        "text": raw.get("content") or message.content or "",
    }
    turn = turns.get(raw.get("completion_id", ""))
    if turn:
        shown["reward"] = info.rewards.get(turn.completion_id)
        shown["malformed"] = turn.malformed
        shown["finish"] = turn.finish_reason
        shown["tokens"] = [turn.prompt_tokens, turn.completion_tokens]
        shown["seconds"] = round(turn.seconds, 2)
    shown["calls"] = []
    for call in message.tool_calls or []:
        shown_call = _call(call)
        shown_call["id"] = call.id
        shown["calls"].append(shown_call)
    return shown


def _tool_result(message: ToolMessage) -> ShownMessage:
    text = message.content or ""
    # what is no JSON is shown as it is
    with suppress(ValueError, RecursionError):
        text = _json_text(json.loads(text))
    return {
        "role": message.role,
        "text": text,
        "id": message.id,
        "requestor": message.requestor,
        "error": message.error,
    }


def _action(compared: ComparedAction) -> ShownAction:
    shown: ShownAction = {"status": compared.status}
    if compared.expected is not None:
        shown["expected"] = _call(compared.expected)
    if compared.done is not None:
        shown["done"] = _call(compared.done)
    if compared.message is not None:
        shown["message"] = compared.message
    return shown


def _call(call: Action | ToolCall) -> ShownCall:
    parts = [f"{key}={_json_text(value, indent=None)}" for key, value in call.arguments.items()]
    return {
        "name": call.name,
        "brief": ", ".join(parts),
        "arguments": _json_text(call.arguments),
        "requestor": call.requestor,
    }


def _difference(difference: DatabaseDifference) -> ShownDifference:
    shown: ShownDifference = {"path": ".".join(str(key) for key in difference["path"])}
    if "expected" in difference:
        shown["expected"] = _json_text(difference["expected"])
    if "left" in difference:
        shown["left"] = _json_text(difference["left"])
    return shown


def _task_text(task: Task, solo_mode: bool) -> str:
    return (solo_mode and completed_ticket(task)) or str(task.user_scenario)


def _json_text(value: object, indent: int | None = 2) -> str:
    """Write JSON here: JavaScript would round large integers and drop the `.0` of floats."""
    return json.dumps(value, ensure_ascii=False, indent=indent)
