"""Turns to learn from by imitation, in the format of AReaL-tau2-data's `tau2_sft_train.jsonl`: a line each.

    {"messages": [...], "answer": {"role": "assistant", "content", "thinking", "tool_calls"}, "metadata": {...}}

`messages` is an OpenAI history, `answer` what the assistant said next. `metadata` has `correct` and `reward` of the whole
dialog, its id, and which tools the assistant had: those of `domain` (without it, the id begins with the domain's name), in
`solo_mode` or not, with `add_thinking_tool` or not (both false by default).
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from examples.tau2.episode import environment
from examples.tau2.episode.atomic import atomic_file
from examples.tau2.episode.config import Tau2EnvConfig

T = TypeVar("T")


@dataclass
class Turn:
    """What an assistant was told (an OpenAI history), the tools it had (OpenAI's schemas), and what it said (a message)."""

    messages: list[dict]
    tools: list[dict]
    answer: dict


def read_turns(path: Path, convert: Callable[[Turn], T]) -> list[T]:
    """`convert` of each turn of a file whose dialog was correct and earned the full reward.

    Raises:
        ValueError: lines are no turns, or `convert` refuses them with a ValueError; a line of the message for each cause.
        OSError: the file cannot be read.
    """
    converted, wrong = [], defaultdict(list)
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                if line.strip() and (turn := _turn(line)):
                    converted.append(convert(turn))
            except ValueError as error:
                wrong[str(error)].append(number)
    if wrong:
        raise ValueError(
            "\n".join(f"line {_numbers(lines)}: {what}" for what, lines in wrong.items())
        )
    return converted


def write_turns(
    path: Path, dialogs: Iterable[tuple[str, Tau2EnvConfig, list[tuple[list[dict], dict]]]]
) -> int:
    """Write dialogs that earned the full reward, each an id, what was played, and its turns as (history, message said).

    Returns the number of turns. A reader never sees half a file.
    """
    rows = [
        {
            "messages": messages,
            "answer": _split_thinking(answer),
            "metadata": {
                "source_dialog_id": dialog,
                "turn_index": index,
                "correct": 1,
                "reward": 1.0,
                "domain": played.domain,
                "solo_mode": played.solo_mode,
                "add_thinking_tool": played.add_thinking_tool,
            },
        }
        for dialog, played, turns in dialogs
        for index, (messages, answer) in enumerate(turns)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return len(rows)


def _turn(line: bytes) -> Turn | None:
    """The turn of a line; None if its dialog failed."""
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError("no JSON") from error
    parts = {"messages": list, "answer": dict, "metadata": dict}
    for name, kind in parts.items():
        if not isinstance(row, dict) or not isinstance(row.get(name), kind) or not row[name]:
            raise ValueError(f"{name} is no {'list' if kind is list else 'object'}, or empty")
    messages, answer, metadata = (row[name] for name in parts)
    for name in ("correct", "reward"):
        if name not in metadata:
            raise ValueError(f"metadata has no {name}")
    if metadata["correct"] != 1 or metadata["reward"] != 1.0:
        return None
    for message in messages:
        if not isinstance(message, dict) or message.get("role") not in (
            "system",
            "user",
            "assistant",
            "tool",
        ):
            raise ValueError(
                "a message has no role, or one that is not system, user, assistant or tool"
            )
    return Turn(
        [_message(message) for message in messages],
        _tools(metadata),
        _message(_join_thinking(answer)),
    )


def _tools(metadata: dict) -> list[dict]:
    """What the agent of such an episode is offered."""
    dialog = str(metadata.get("source_dialog_id"))
    domain = metadata.get("domain") or next(
        (d for d in environment.DOMAINS if dialog.startswith(f"{d}_")), None
    )
    solo_mode, thinking_tool = (
        bool(metadata.get(name)) for name in ("solo_mode", "add_thinking_tool")
    )
    if domain not in environment.SOLO_DOMAINS if solo_mode else domain not in environment.DOMAINS:
        raise ValueError(
            f"metadata's domain {domain!r}{' has no solo mode' if domain in environment.DOMAINS else ' is unknown'}"
        )
    return environment.agent_schemas(domain, solo_mode, thinking_tool)


def _message(message: dict) -> dict:
    """The message with its tool calls as OpenAI's: some data sets have them flat, without ids, or their arguments parsed."""
    entry = {"role": message["role"], "content": _text(message, "content")}
    if entry["role"] == "tool":
        entry["tool_call_id"] = message.get("tool_call_id") or ""
    if entry["role"] == "assistant" and message.get("tool_calls"):
        entry["tool_calls"] = [_tool_call(call) for call in message["tool_calls"]]
    return entry


def _text(message: dict, name: str) -> str:
    text = message.get(name) or ""
    if not isinstance(text, str):
        raise ValueError(f"{name} is no text")
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
    """An answer as the message that the agent's history would have: thoughts are part of its content."""
    content, thinking = _text(answer, "content"), _text(answer, "thinking")
    if not (content.strip() or answer.get("tool_calls")):
        raise ValueError("answer has neither content nor tool_calls")
    return {
        "role": "assistant",
        "content": f"<think>\n{thinking.strip()}\n</think>\n\n{content}" if thinking else content,
        "tool_calls": answer.get("tool_calls"),
    }


def _split_thinking(message: dict) -> dict:
    """The reverse of `_join_thinking`."""
    thinking, end, content = (message["content"] or "").rpartition("</think>")
    return {
        "role": "assistant",
        "content": content.lstrip("\n") if end else content,
        "thinking": thinking.removeprefix("<think>").strip() or None,
        "tool_calls": message.get("tool_calls"),
    }


def _numbers(lines: list[int]) -> str:
    """Ascending numbers, with a dash for those in a row: `3, 7-9`."""
    runs: list[list[int]] = []
    for number in lines:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs)
