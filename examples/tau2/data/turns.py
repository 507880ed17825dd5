"""Reads and writes files of turns to learn from by imitation, one turn a line.

The format is that of AReaL-tau2-data's `tau2_sft_train.jsonl`:

    {"messages": [...], "answer": {...}, "metadata": {...}}

`messages` is an OpenAI history. `answer` is what the assistant said next; it has `role`, `content`,
`thinking` and `tool_calls`. `metadata` has `correct` and `reward` of the whole dialog, and the
dialog's id. It also says which tools the assistant had: those of `domain`, in `solo_mode` or not,
with `add_thinking_tool` or not. Both are false by default; without a `domain`, the dialog's id
begins with the domain's name.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from examples.tau2.data.files import OTHER_JSON, TURNS, refuse_other_kinds
from examples.tau2.data.hub import local_path
from examples.tau2.episode import environment
from examples.tau2.episode.atomic import atomic_file
from examples.tau2.episode.completions import join_thinking
from examples.tau2.episode.config import Tau2EnvConfig

T = TypeVar("T")

WANTED = "a file of turns, JSONL with a turn per line,"
ROLES = ("system", "user", "assistant", "tool")


@dataclass
class Turn:
    """A turn of an assistant.

    - `messages`: the OpenAI history before the turn.
    - `tools`: OpenAI's schemas of the tools that the assistant had.
    - `answer`: the OpenAI message that the assistant said.
    """

    messages: list[dict]
    tools: list[dict]
    answer: dict


def read_turns(path: str | Path, convert: Callable[[Turn], T]) -> list[T]:
    """Read the turns of a file and convert them, except those of dialogs that failed.

    The path may be the URL of a file on the Hugging Face hub. A dialog failed if it was not correct
    or did not earn the full reward.

    Raises:
        WrongFile: the file is of another kind.
        HubError: the hub does not give the file.
        ValueError: lines are no turns, or `convert` refuses them with a ValueError; the message has
            a line for each cause.
        OSError: the file cannot be read.
    """
    copy = local_path(str(path))
    refuse_other_kinds(copy, WANTED, TURNS, OTHER_JSON)
    converted = []
    problems: dict[str, list[int]] = defaultdict(list)
    with open(copy, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                turn = _parse_turn(line)
                if turn is not None:
                    converted.append(convert(turn))
            except ValueError as error:
                problems[str(error)].append(number)
    if problems and not converted:
        refuse_other_kinds(copy, WANTED, TURNS)
    if problems:
        raise ValueError(
            "\n".join(f"line {_ranges(numbers)}: {cause}" for cause, numbers in problems.items())
        )
    return converted


def write_turns(
    path: Path, dialogs: Iterable[tuple[str, Tau2EnvConfig, list[tuple[list[dict], dict]]]]
) -> int:
    """Write the turns of dialogs that earned the full reward, and return their number.

    A dialog is its id, the config of its episode, and its turns as (history, message said). A
    reader never sees half a file.
    """
    rows = []
    for dialog_id, econfig, turns in dialogs:
        for index, (messages, answer) in enumerate(turns):
            metadata = {
                "source_dialog_id": dialog_id,
                "turn_index": index,
                "correct": 1,
                "reward": 1.0,
                "domain": econfig.domain,
                "solo_mode": econfig.solo_mode,
                "add_thinking_tool": econfig.add_thinking_tool,
            }
            answer = _split_thinking(answer)
            rows.append({"messages": messages, "answer": answer, "metadata": metadata})
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(rows)


def _parse_turn(line: bytes) -> Turn | None:
    """Parse a line; return None if its dialog failed."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError("no JSON") from error
    messages = _part(row, "messages", list, "list")
    answer = _part(row, "answer", dict, "object")
    metadata = _part(row, "metadata", dict, "object")
    for field in ("correct", "reward"):
        if field not in metadata:
            raise ValueError(f"metadata has no {field}")
    if metadata["correct"] != 1 or metadata["reward"] != 1.0:
        return None
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in ROLES:
            raise ValueError(
                "a message has no role, or one that is not system, user, assistant or tool"
            )
    return Turn(
        [_to_openai(message) for message in messages],
        _offered_tools(metadata),
        _to_openai(_join_thinking(answer)),
    )


def _part(row: Any, field: str, part_type: type, type_name: str) -> Any:
    part = row.get(field) if isinstance(row, dict) else None
    if not isinstance(part, part_type) or not part:
        raise ValueError(f"{field} is no {type_name}, or empty")
    return part


def _offered_tools(metadata: dict) -> list[dict]:
    """Make the schemas of the tools that the assistant of a dialog had."""
    domain = metadata.get("domain") or _domain_of(str(metadata.get("source_dialog_id")))
    solo_mode = bool(metadata.get("solo_mode"))
    thinking_tool = bool(metadata.get("add_thinking_tool"))
    if domain not in environment.DOMAINS:
        raise ValueError(f"metadata's domain {domain!r} is unknown")
    if solo_mode and domain not in environment.SOLO_DOMAINS:
        raise ValueError(f"metadata's domain {domain!r} has no solo mode")
    return environment.agent_schemas(domain, solo_mode, thinking_tool)


def _domain_of(dialog_id: str) -> str | None:
    for domain in environment.DOMAINS:
        if dialog_id.startswith(f"{domain}_"):
            return domain
    return None


def _to_openai(message: dict) -> dict:
    """Convert a message to OpenAI's format.

    Some data sets have tool calls that are flat, that have no ids, or whose arguments are parsed.
    """
    entry = {"role": message["role"], "content": _text(message, "content")}
    if entry["role"] == "tool":
        entry["tool_call_id"] = message.get("tool_call_id") or ""
    if entry["role"] == "assistant" and message.get("tool_calls"):
        entry["tool_calls"] = [_tool_call(call) for call in message["tool_calls"]]
    return entry


def _text(message: dict, field: str) -> str:
    text = message.get(field) or ""
    if not isinstance(text, str):
        raise ValueError(f"{field} is no text")
    return text


def _tool_call(call: Any) -> dict:
    function = call.get("function", call) if isinstance(call, dict) else {}
    name, arguments = function.get("name"), function.get("arguments")
    try:
        parsed = json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:
        parsed = None
    if not (isinstance(name, str) and name and isinstance(parsed, dict)):
        raise ValueError("a tool call has no name, or arguments that are no JSON object")
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return {
        "id": call.get("id") or "",
        "type": "function",
        "function": {"name": name, "arguments": text},
    }


def _join_thinking(answer: dict) -> dict:
    """Make the message of an agent's history, in which the thinking is part of the content."""
    content, thinking = _text(answer, "content"), _text(answer, "thinking")
    if not (content.strip() or answer.get("tool_calls")):
        raise ValueError("answer has neither content nor tool_calls")
    return {
        "role": "assistant",
        "content": join_thinking(content, thinking),
        "tool_calls": answer.get("tool_calls"),
    }


def _split_thinking(message: dict) -> dict:
    """Do the reverse of `_join_thinking`."""
    thinking, end, content = (message["content"] or "").rpartition("</think>")
    return {
        "role": "assistant",
        "content": content.lstrip("\n") if end else content,
        "thinking": thinking.removeprefix("<think>").strip() or None,
        "tool_calls": message.get("tool_calls"),
    }


def _ranges(numbers: list[int]) -> str:
    """Join ascending numbers, with a dash for those in a row: `3, 7-9`."""
    ranges: list[tuple[int, int]] = []
    for number in numbers:
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1] = ranges[-1][0], number
        else:
            ranges.append((number, number))
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
