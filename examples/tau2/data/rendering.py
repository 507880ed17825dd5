"""Makes tokens of conversations, exactly as AReaL's proxy does when the model plays.

A chat template takes the arguments of a tool call as the text that OpenAI has, or as an object.
`apply_chat_template` gives each template what it takes, here and in the proxy: the rollout engines
of `examples.tau2.training.engines` have the proxy call it.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from areal.utils import hf_utils
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerFast

from examples.tau2.episode.failures import describe_error

_request_adapter: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)

# a call with which a template is tried
_PROBE_ARGUMENTS = {"probe_name": "probe_value"}
_PROBE_ID = "probe0000"
_PROBE_TOOL = {
    "name": "probe",
    "description": "A tool.",
    "parameters": {"type": "object", "properties": {}, "required": []},
}


class TemplateRefusal(ValueError):
    """A chat template does not render a conversation; the message has the template's words."""


def apply_chat_template(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict], **kwargs: Any
) -> Any:
    """Do what AReaL's function of this name does, for any template.

    The arguments of tool calls are the text of a JSON object. Templates that take objects, e.g.
    those of Qwen3-Coder and Llama 3.1, get the object.
    """
    has_calls = any(message.get("tool_calls") for message in messages)
    if has_calls and _takes_objects(tokenizer, str(tokenizer.chat_template)):
        messages = [_with_objects(message) for message in messages]
    return hf_utils.apply_chat_template(tokenizer, messages, **kwargs)


def render(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict],
    tools: list[dict],
    add_generation_prompt: bool = True,
    **kwargs: Any,
) -> list[int]:
    """Make the prompt of a chat completion request, token for token as AReaL's proxy does.

    `kwargs` go to the chat template, e.g. `enable_thinking`.

    Raises:
        TemplateRefusal: the chat template does not render the prompt.
    """
    rendered = _apply_template(tokenizer, messages, tools, add_generation_prompt, **kwargs)
    if isinstance(rendered, str):
        raise TypeError("the tokenizer made no tokens of the prompt")
    return rendered


def render_text(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict],
    tools: list[dict],
    add_generation_prompt: bool = True,
) -> str:
    """Make the text of the same prompt as `render`.

    Raises:
        TemplateRefusal: the chat template does not render the prompt.
    """
    rendered = _apply_template(tokenizer, messages, tools, add_generation_prompt, tokenize=False)
    if not isinstance(rendered, str):
        raise TypeError("the tokenizer made no text of the prompt")
    return rendered


def render_turn(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict], tools: list[dict], answer: dict
) -> tuple[list[int], list[int]]:
    """Make the tokens of a turn: the prompt, and those that the model generates to say `answer`.

    `answer` is an assistant's message. Its tokens end with the end of turn.

    Raises:
        TemplateRefusal: the chat template does not render the turn, or not as a continuation of
            the prompt.
    """
    prompt = render_text(tokenizer, messages, tools)
    conversation = render_text(tokenizer, [*messages, answer], tools, add_generation_prompt=False)
    said, end, rest = conversation.removeprefix(prompt).rpartition(tokenizer.eos_token)
    if not conversation.startswith(prompt) or not end or rest.strip():
        raise TemplateRefusal(
            "the chat template does not render the answer as a continuation of the prompt"
        )
    # the model generates the answer after the prompt: no token has characters of both
    prompt_tokens = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer_tokens = tokenizer(said, add_special_tokens=False)["input_ids"]
    return prompt_tokens, [*answer_tokens, tokenizer.eos_token_id]


def _apply_template(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict],
    tools: list[dict],
    add_generation_prompt: bool,
    **kwargs: Any,
) -> list[int] | str:
    # the proxy validates the request first, which reorders the keys of tool schemas
    request = _request_adapter.validate_python({"model": "", "messages": messages, "tools": tools})
    try:
        return apply_chat_template(
            tokenizer,
            _plain(request["messages"]),
            tools=list(request["tools"]),
            add_generation_prompt=add_generation_prompt,
            **kwargs,
        )
    except Exception as error:
        # a template is a program, which can raise any error
        words = describe_error(error)
        raise TemplateRefusal(f"the chat template refuses the conversation ({words})") from error


# the template is part of the cache's key, because a tokenizer can get another one
@lru_cache
def _takes_objects(tokenizer: PreTrainedTokenizerFast, template: str) -> bool:
    """Tell whether the tokenizer's template takes the arguments of tool calls as objects only.

    A call is rendered with arguments of both kinds. A template that takes texts shows the text as
    it is; others fail, leave the text out, or escape it. Some templates show the text as it is,
    but write an object in tags, without JSON: such a model never says JSON, and gets the object.
    """
    text = json.dumps(_PROBE_ARGUMENTS)
    from_text = _render_probe(tokenizer, text)
    from_object = _render_probe(tokenizer, _PROBE_ARGUMENTS)
    ((name, value),) = _PROBE_ARGUMENTS.items()
    if name not in from_object or value not in from_object:
        return False
    is_quoted = f'"{name}"' in from_object or f"'{name}'" in from_object
    return text not in from_text or not is_quoted


def _render_probe(tokenizer: PreTrainedTokenizerFast, arguments: str | dict[str, str]) -> str:
    """Render a call with these arguments; return an empty text if the template fails."""
    function = {"name": "probe", "arguments": arguments}
    call = {"id": _PROBE_ID, "type": "function", "function": function}
    messages: list[dict] = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "!", "tool_call_id": _PROBE_ID},
    ]
    tools = [{"type": "function", "function": _PROBE_TOOL}]
    try:
        return hf_utils.apply_chat_template(tokenizer, messages, tools=tools, tokenize=False)
    except Exception:
        return ""


def _with_objects(message: dict) -> dict:
    """Return a message whose tool calls have objects as arguments."""
    calls = message.get("tool_calls")
    if not calls:
        return message
    return {**message, "tool_calls": [_with_object(call) for call in calls]}


def _with_object(call: dict) -> dict:
    """Return a call with an object as arguments; a text that is no JSON stays as it is."""
    function = call["function"]
    try:
        arguments = json.loads(function["arguments"] or "{}")
    except ValueError:
        return call
    return {**call, "function": {**function, "arguments": arguments}}


def _plain(value: Any) -> Any:
    """Leave out the None values of dicts, and make lists of iterables, as AReaL's proxy does."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
