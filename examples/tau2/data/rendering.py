"""Makes tokens of conversations, as SGLang's server does for a chat completion request.

What is trained is what is served: `evaluate.py` asks such a server, `apply_chat_template` has
AReaL's proxy make the same tokens (`examples.tau2.training.areal.proxies`), and samples for
`sft.py` have them, too. tests/data/test_rendering.py compares them with a real SGLang.
"""

from contextlib import suppress
from typing import Any

import orjson
from areal.utils import hf_utils
from transformers import PreTrainedTokenizerFast

from examples.tau2.episode.failures import describe_error

try:
    # which fields it has depends on SGLang's version
    from sglang.srt.entrypoints.openai.protocol import Tool
except ImportError:
    from pydantic import BaseModel

    class Function(BaseModel):
        """A function as SGLang 0.5.10 has it."""

        description: str | None = None
        name: str
        parameters: Any = None
        strict: bool = False

    class Tool(BaseModel):
        """A tool as SGLang 0.5.10 has it."""

        type: str = "function"
        function: Function


# what else a chat template gets of a message that is not the user's
_MORE_FIELDS = ("tool_call_id", "name", "reasoning_content", "tool_calls")


class TemplateRefusal(ValueError):
    """A chat template does not render a conversation; the message has the template's words."""


def apply_chat_template(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict],
    *,
    tools: list[dict] | None = None,
    add_generation_prompt: bool = False,
    **kwargs: Any,
) -> Any:
    """Do what AReaL's function of this name does, with the input that SGLang gives a template.

    A tool has all fields of SGLang's schema in its order, e.g. `strict: false`. The arguments of
    tool calls are objects. A message has no other fields than those that SGLang knows.
    """
    messages = [_as_served(message) for message in messages]
    last = messages[-1]
    if add_generation_prompt and last["role"] == "assistant":
        messages[-1] = {"role": "user", "content": last["content"]}
    schemas = [Tool.model_validate(tool).model_dump() for tool in tools or []] or None
    kwargs["add_generation_prompt"] = add_generation_prompt
    try:
        return hf_utils.apply_chat_template(tokenizer, messages, tools=schemas, **kwargs)
    except Exception as refusal:
        if not schemas:
            raise
        # some templates want the functions alone
        functions = [schema["function"] for schema in schemas]
        try:
            return hf_utils.apply_chat_template(tokenizer, messages, tools=functions, **kwargs)
        except Exception:
            # a template that takes tools has refused something else
            raise refusal from None


def render(
    tokenizer: PreTrainedTokenizerFast,
    messages: list[dict],
    tools: list[dict],
    add_generation_prompt: bool = True,
    **kwargs: Any,
) -> list[int]:
    """Make the prompt of a chat completion request, token for token as SGLang does.

    `kwargs` go to the chat template, as the request's `chat_template_kwargs` do.

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
    try:
        return apply_chat_template(
            tokenizer, messages, tools=tools, add_generation_prompt=add_generation_prompt, **kwargs
        )
    except Exception as error:
        # a template is a program, which can raise any error
        words = describe_error(error)
        raise TemplateRefusal(f"the chat template refuses the conversation ({words})") from error


def _as_served(message: dict) -> dict:
    """Return the message that SGLang gives a chat template."""
    served = {"role": message["role"], "content": message.get("content") or ""}
    if message["role"] == "user":
        return served
    served |= {name: message[name] for name in _MORE_FIELDS if message.get(name) is not None}
    if message.get("tool_calls"):
        served["tool_calls"] = [_call_as_served(call) for call in message["tool_calls"]]
    return served


def _call_as_served(call: dict) -> dict:
    """Return a call with an object as arguments; a text that is no JSON stays as it is."""
    arguments = call["function"]["arguments"]
    if isinstance(arguments, str):
        with suppress(ValueError):
            arguments = orjson.loads(arguments or "{}")
    return {
        "id": call["id"],
        "index": call.get("index"),
        "type": "function",
        "function": {"name": call["function"]["name"], "arguments": arguments},
    }
