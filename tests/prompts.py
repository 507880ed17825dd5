"""Conversations, and the tokens that SGLang's own server makes of them."""

import json
from functools import cache
from types import SimpleNamespace
from typing import Any

from transformers import PreTrainedTokenizerFast

from examples.tau2.cpu.tokenizer import train_tokenizer
from examples.tau2.episode import environment
from examples.tau2.episode.completions import assistant_entry

# the tools of every domain, by its name
TOOLS = {
    f"{domain}, solo" if solo else domain: environment.agent_schemas(domain, solo_mode=solo)
    for domain in environment.DOMAINS
    for solo in (False, True)
    if not solo or domain in environment.SOLO_DOMAINS
}
_NESTED = {"user_id": "größer", "due": [1, None, {"flag": True}], "title": "A \"b\" <c> & 'd'"}
_CALL = ("call_1", "create_task", json.dumps(_NESTED))
_POLICY = {"role": "system", "content": "Policy.\n\nÜber."}
_HELLO = {"role": "user", "content": "  Hi!\n"}
_THOUGHTS = "<think>\nHm.\n</think>\n\n"


def _result(call_id: str = "call_1", content: str = '{"id": null}') -> dict:
    return {"role": "tool", "content": content, "tool_call_id": call_id}


HISTORIES = {
    "no user": [_POLICY],
    "a user": [_POLICY, _HELLO],
    "a call": [_POLICY, _HELLO, assistant_entry(None, [_CALL]), _result()],
    "not ascii": [
        _POLICY,
        _HELLO,
        assistant_entry("", [("1", "f", json.dumps(_NESTED, ensure_ascii=False))]),
        _result("1", "größer"),
    ],
    "no arguments": [_POLICY, _HELLO, assistant_entry("", [("1", "done", "{}")]), _result("1")],
    "numbers": [
        _POLICY,
        _HELLO,
        assistant_entry("", [("1", "f", '{"a":1.0, "b":1e5}')]),
        _result("1"),
    ],
    "several calls": [
        _POLICY,
        _HELLO,
        assistant_entry("Wait.", [_CALL, ("call_2", "get_users", "{}")]),
        _result(),
        _result("call_2", "[]"),
    ],
    "thoughts": [
        _POLICY,
        _HELLO,
        assistant_entry(f"{_THOUGHTS}Hello.", []),
        _HELLO,
        assistant_entry(_THOUGHTS, [_CALL]),
        _result(),
    ],
    "the agent speaks last": [_POLICY, _HELLO, assistant_entry(f"{_THOUGHTS}Hello.", [])],
}


@cache
def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer whose tokens are bytes."""
    tokenizer = train_tokenizer([""], vocab_size=300, min_frequency=2)
    tokenizer.chat_template = template
    return tokenizer


def sglang_prompt(
    tokenizer: PreTrainedTokenizerFast, messages: list[dict], tools: list[dict], **more: Any
) -> list[int]:
    """Make the prompt's tokens by SGLang's handler of chat completion requests.

    `more` is what else the request has.

    Raises:
        Exception: SGLang does not serve the request.
    """
    from sglang.srt.entrypoints.openai.protocol import ChatCompletionRequest
    from sglang.srt.entrypoints.openai.serving_chat import OpenAIServingChat
    from sglang.srt.managers.template_manager import TemplateManager

    model_config = SimpleNamespace(
        get_default_sampling_params=dict,
        hf_config=SimpleNamespace(architectures=["Qwen3ForCausalLM"], model_type="qwen3"),
        is_multimodal=False,
    )
    # no part of a model
    manager: Any = SimpleNamespace(
        tokenizer=tokenizer,
        processor=None,
        model_config=model_config,
        server_args=SimpleNamespace(
            tool_call_parser="qwen", reasoning_parser="qwen3", enable_lora=False
        ),
    )
    templates = TemplateManager()
    templates.load_chat_template(manager, None, "")
    server = OpenAIServingChat(manager, templates)
    body = json.dumps({"model": "m", "messages": messages, "tools": tools, **more})
    request = ChatCompletionRequest.model_validate_json(body)
    generate_request, _ = server._convert_to_internal_request(request)
    return generate_request.input_ids
