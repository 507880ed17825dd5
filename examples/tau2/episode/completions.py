"""Makes OpenAI's chat completions, and reads calls, text and tokens from them; needs no tau2."""

import re
from collections.abc import Sequence
from typing import Any, overload

from openai.types.chat import ChatCompletion, ChatCompletionMessageCustomToolCall

# The deepest nesting of a tool call's arguments. No tool of tau2 needs more than 5 levels, and JSON
# readers have limits of their own: pydantic's is 200.
MAX_NESTING = 32

_THINKING = re.compile(r"<think>.*?(?:</think>|\Z)", re.DOTALL)


def chat_completion(
    message: dict[str, Any],
    *,
    finish_reason: str | None = None,
    completion_id: str = "",
    usage: dict[str, int] | None = None,
    created: int = 0,
    model: str = "",
) -> ChatCompletion:
    """Make the completion in which an assistant says `message`, an entry of an OpenAI history.

    Without a `finish_reason`, the completion has the one that servers give: `tool_calls` if the
    message has calls, otherwise `stop`. `usage` has `prompt_tokens`, `completion_tokens` and
    `total_tokens`. `created` is a Unix time in seconds.
    """
    if finish_reason is None:
        finish_reason = "tool_calls" if message.get("tool_calls") else "stop"
    return ChatCompletion.model_validate(
        {
            "id": completion_id,
            "object": "chat.completion",
            "created": created,
            "model": model,
            "choices": [{"index": 0, "message": message, "finish_reason": finish_reason}],
            "usage": usage,
        }
    )


def assistant_entry(content: str | None, calls: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    """Make an assistant's entry of an OpenAI history.

    `calls` are (id, name, JSON arguments). Without calls the entry has no `tool_calls`, because
    servers refuse an empty list.
    """
    entry: dict[str, Any] = {"role": "assistant", "content": content}
    if calls:
        entry["tool_calls"] = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
            for call_id, name, arguments in calls
        ]
    return entry


def function_calls(completion: ChatCompletion) -> list[tuple[str, str, str]]:
    """List the tool calls of a completion as (id, name, JSON arguments), unchecked.

    Raises:
        TypeError: a call is of a custom tool; this package offers none.
    """
    calls = []
    for call in completion.choices[0].message.tool_calls or []:
        if isinstance(call, ChatCompletionMessageCustomToolCall):
            raise TypeError("the server sent a call of a custom tool")
        calls.append((call.id, call.function.name, call.function.arguments))
    return calls


def join_thinking(content: str, thinking: str | None) -> str:
    """Put thoughts before a content, as a model with Qwen3's template generates both."""
    if not thinking or not thinking.strip():
        return content
    return f"<think>\n{thinking.strip()}\n</think>\n\n{content}"


def strip_thinking(content: str | None) -> str | None:
    """Remove the `<think>` blocks from a text.

    A block may lack its end, where generation was cut off, or its start, which may be part of the
    prompt.
    """
    if content is None or "think>" not in content:
        return content
    return _THINKING.sub("", content).rpartition("</think>")[2].strip()


@overload
def to_utf8(text: str) -> str: ...
@overload
def to_utf8(text: None) -> None: ...
def to_utf8(text: str | None) -> str | None:
    """Replace lone surrogates, which JSON can escape but HTTP cannot carry, by `?`."""
    if text is None:
        return None
    return text.encode("utf-8", "replace").decode()


def token_usage(completion: ChatCompletion) -> dict[str, int]:
    """Count the prompt and completion tokens of a completion; 0 where the server does not say."""
    usage = completion.usage
    if not usage:
        return {"prompt_tokens": 0, "completion_tokens": 0}
    return {
        "prompt_tokens": usage.prompt_tokens or 0,
        "completion_tokens": usage.completion_tokens or 0,
    }


def completion_cost(completion: ChatCompletion) -> float:
    """Return the USD that a completion cost; 0.0 where no price is known."""
    return (completion.model_extra or {}).get("cost") or 0.0
