"""tau2's messages as OpenAI's and back: pure functions."""

import json
import re

from openai.types.chat import ChatCompletion
from tau2.data_model.message import (
    AssistantMessage,
    Message,
    MultiToolMessage,
    ToolCall,
    ToolMessage,
)

MAX_DEPTH = 32  # of nested tool arguments; pydantic reads no json back beyond 200 levels, and no tool of tau2 needs 5
_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def to_openai(message: Message, speaker: str = "assistant") -> list[dict]:
    """A tau2 message as `speaker`, "assistant" or "user", sees it: its own words are the assistant's, the rest the user's."""
    if isinstance(message, MultiToolMessage):
        return [
            entry
            for tool_message in message.tool_messages
            for entry in to_openai(tool_message, speaker)
        ]
    if isinstance(message, ToolMessage):
        return [{"role": "tool", "content": to_utf8(message.content), "tool_call_id": message.id}]
    if message.role != speaker:
        return [{"role": "user", "content": to_utf8(message.content)}]
    calls = [(call.id, call.name, json.dumps(call.arguments)) for call in message.tool_calls or []]
    return [assistant_entry(to_utf8(message.content), calls)]


def assistant_entry(content: str | None, calls: list[tuple[str, str, str]]) -> dict:
    """An assistant's entry of an OpenAI history; `calls` are (id, name, JSON arguments). Servers refuse `tool_calls: []`."""
    entry = {"role": "assistant", "content": content}
    if calls:
        entry["tool_calls"] = [
            {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for id, name, arguments in calls
        ]
    return entry


def strip_thinking(content: str | None) -> str | None:
    """The text without its `<think>` blocks, also one left open, or one whose start is part of the prompt."""
    if content is None or "think>" not in content:
        return content
    return _THINKING.sub("", content).rpartition("</think>")[2].strip()


def parse_tool_calls(completion: ChatCompletion, requestor: str) -> list[ToolCall] | None:
    """tau2's tool calls of a completion, requested by "assistant" or "user"; None if there are none.

    Raises:
        ValueError: a call has no name, or arguments that are not a JSON object of valid Unicode and sane depth.
    """
    calls = []
    for call in completion.choices[0].message.tool_calls or []:
        try:
            arguments = json.loads(call.function.arguments or "{}", parse_constant=_refuse_constant)
            _check_depth(arguments)
            json.dumps(
                [call.function.name, arguments], ensure_ascii=False, allow_nan=False
            ).encode()
        except (ValueError, RecursionError) as error:
            raise ValueError(f"arguments of a tool call do not parse: {error}") from error
        if not isinstance(arguments, dict) or not call.function.name:
            raise ValueError("a tool call needs a name and an object of arguments")
        calls.append(
            ToolCall(id=call.id, name=call.function.name, arguments=arguments, requestor=requestor)
        )
    return calls or None


def token_usage(completion: ChatCompletion) -> dict[str, int]:
    """Prompt and completion tokens of a completion, 0 where the server does not say."""
    usage = completion.usage
    return {
        "prompt_tokens": (usage and usage.prompt_tokens) or 0,
        "completion_tokens": (usage and usage.completion_tokens) or 0,
    }


def to_utf8(text: str | None) -> str | None:
    """The text with lone surrogates, which JSON can escape but HTTP cannot carry, replaced by `?`."""
    return text if text is None else text.encode("utf-8", "replace").decode()


def is_empty(message: AssistantMessage) -> bool:
    return not message.tool_calls and not message.has_text_content()


def _check_depth(value: object) -> None:
    level = [value]
    for _ in range(MAX_DEPTH):
        level = [item for node in level for item in _children(node)]
        if not level:
            return
    raise ValueError(f"nested more than {MAX_DEPTH} levels deep")


def _children(node: object) -> list:
    return list(node.values()) if isinstance(node, dict) else node if isinstance(node, list) else []


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
