"""Converts tau2's messages to OpenAI's and back, by pure functions."""

import json
from typing import Any

from openai.types.chat import ChatCompletion
from tau2.data_model.message import (
    AssistantMessage,
    Message,
    MultiToolMessage,
    SystemMessage,
    ToolCall,
    ToolMessage,
    ToolRequestor,
    UserMessage,
)

from examples.tau2.episode.completions import (
    MAX_NESTING,
    assistant_entry,
    function_calls,
    to_utf8,
)


class UnparsableToolCall(ValueError):
    """A tool call that the model wrote does not parse."""


def to_openai(message: Message, speaker: str = "assistant") -> list[dict]:
    """Convert a tau2 message to the entries that it adds to the OpenAI history of one side.

    In the history of `speaker`, "assistant" or "user", its own messages have the role `assistant`,
    and those of the other side have the role `user`.
    """
    if isinstance(message, MultiToolMessage):
        return [_tool_entry(tool_message) for tool_message in message.tool_messages]
    if isinstance(message, ToolMessage):
        return [_tool_entry(message)]
    if isinstance(message, SystemMessage) or message.role != speaker:
        return [{"role": "user", "content": to_utf8(message.content)}]
    calls = [(call.id, call.name, json.dumps(call.arguments)) for call in message.tool_calls or []]
    return [assistant_entry(to_utf8(message.content), calls)]


def parse_tool_calls(completion: ChatCompletion, requestor: ToolRequestor) -> list[ToolCall] | None:
    """Convert the tool calls of a completion to tau2's; None if there are none.

    Raises:
        UnparsableToolCall: a call has an empty name, or its arguments are not a JSON object, have
            lone surrogates, or are nested more than `MAX_NESTING` levels deep.
    """
    calls = []
    for call_id, name, text in function_calls(completion):
        arguments = _parse_arguments(name, text)
        calls.append(ToolCall(id=call_id, name=name, arguments=arguments, requestor=requestor))
    return calls or None


def is_empty(message: AssistantMessage | UserMessage) -> bool:
    """Whether the message has neither text nor tool calls."""
    return not message.tool_calls and not message.has_text_content()


def _tool_entry(message: ToolMessage) -> dict:
    return {"role": "tool", "content": to_utf8(message.content), "tool_call_id": message.id}


def _parse_arguments(name: str, text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text or "{}", parse_constant=_refuse_constant)
        if _has_more_levels(arguments, MAX_NESTING):
            raise ValueError(f"nested more than {MAX_NESTING} levels deep")
        # this raises for lone surrogates, and for numbers like 1e999
        json.dumps([name, arguments], ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        raise UnparsableToolCall(f"arguments of a tool call do not parse: {error}") from error
    if not isinstance(arguments, dict) or not name:
        raise UnparsableToolCall("a tool call needs a name and an object of arguments")
    return arguments


def _has_more_levels(value: object, levels: int) -> bool:
    """Whether `value` has more levels of nesting than `levels`; a number or text is one level."""
    if levels == 0:
        return True
    if isinstance(value, dict):
        items = list(value.values())
    elif isinstance(value, list):
        items = value
    else:
        return False
    return any(_has_more_levels(item, levels - 1) for item in items)


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")
