"""Conversations as tokens, exactly as a model meets them when it plays: as AReaL's proxy renders them."""

from typing import Any

from areal.experimental.openai.client import _ensure_message_dict_list
from areal.utils.hf_utils import apply_chat_template
from openai.types.chat.completion_create_params import CompletionCreateParams
from pydantic import TypeAdapter
from transformers import PreTrainedTokenizerFast

_request = TypeAdapter(CompletionCreateParams)


def render(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict],
    tools: list[dict],
    add_generation_prompt: bool = True,
    **kwargs: Any,
) -> list[int] | str:
    """The prompt of a chat completion request, token for token what AReaL's proxy makes of it.

    The proxy validates the request first, which reorders the keys of tool schemas, and drops what is None. `kwargs` go to
    the chat template: `enable_thinking`; `tokenize=False` returns text.
    """
    request = _request.validate_python({"model": "", "messages": messages, "tools": tools})
    messages, tools = (
        _ensure_message_dict_list("messages", list(request["messages"])),
        list(request["tools"]),
    )
    return apply_chat_template(
        tokenizer, messages, tools=tools, add_generation_prompt=add_generation_prompt, **kwargs
    )


def render_turn(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict], tools: list[dict], answer: dict
) -> tuple[list[int], list[int]]:
    """A turn as (prompt, answer): what the model is asked, and what it would have to generate to say `answer`, an
    assistant's message; the answer ends with the end of turn.

    Raises:
        ValueError: the chat template does not render the answer as a continuation of the prompt.
    """
    prompt = render(tokenizer, messages, tools, tokenize=False)
    whole = render(
        tokenizer, [*messages, answer], tools, add_generation_prompt=False, tokenize=False
    )
    said, end, rest = whole.removeprefix(prompt).rpartition(tokenizer.eos_token)
    if not whole.startswith(prompt) or not end or rest.strip():
        raise ValueError(
            "the chat template does not render the answer as a continuation of the prompt"
        )
    # each by itself, as when it is generated: tokens do not merge over the border
    tokens = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, said)]
    return tokens[0], [*tokens[1], tokenizer.eos_token_id]
