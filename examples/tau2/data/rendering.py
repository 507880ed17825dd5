"""Makes tokens of conversations, exactly as AReaL's proxy does when the model plays."""

from collections.abc import Iterable, Mapping
from typing import Any

from areal.utils.hf_utils import apply_chat_template
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerFast

_request_adapter: TypeAdapter[Any] = TypeAdapter(CompletionCreateParams)


def render(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict],
    tools: list[dict],
    add_generation_prompt: bool = True,
    **kwargs: Any,
) -> list[int]:
    """Make the prompt of a chat completion request, token for token as AReaL's proxy does.

    `kwargs` go to the chat template, e.g. `enable_thinking`.
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
    """Make the text of the same prompt as `render`."""
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
        ValueError: the chat template does not render the answer as a continuation of the prompt.
    """
    prompt = render_text(tokenizer, messages, tools)
    conversation = render_text(tokenizer, [*messages, answer], tools, add_generation_prompt=False)
    said, end, rest = conversation.removeprefix(prompt).rpartition(tokenizer.eos_token)
    if not conversation.startswith(prompt) or not end or rest.strip():
        raise ValueError(
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
    return apply_chat_template(
        tokenizer,
        _plain(request["messages"]),
        tools=list(request["tools"]),
        add_generation_prompt=add_generation_prompt,
        **kwargs,
    )


def _plain(value: Any) -> Any:
    """Leave out the None values of dicts, and make lists of iterables, as AReaL's proxy does."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, Iterable) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
