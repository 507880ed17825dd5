"""The tiny model: it gets the proxy's prompts, its format is Qwen3's, and it solves some tasks."""

import asyncio
import importlib
import json
from pathlib import Path

import areal.experimental.openai.proxy.proxy_rollout_server as proxy
import pytest
import torch
from areal.api import ModelResponse
from areal.experimental.openai import client as areals
from fastapi.testclient import TestClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.tau2.cpu import model as tiny
from examples.tau2.data.rendering import render
from examples.tau2.episode import environment
from examples.tau2.training.areal.proxies import render_as_sglang

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).parents[2]
ADMIN = {"Authorization": "Bearer a key of this test run"}


@pytest.fixture(scope="module")
def folder() -> Path:
    """The folder in which `make model` leaves the model; the model is made now if it is missing."""
    return tiny.make_model(ROOT / ".cache/tiny-qwen3")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def call(name: str, call_id: str = "call_1", **arguments) -> dict:
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


def system(text: str) -> dict:
    return {"role": "system", "content": text}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str | None, *calls: dict) -> dict:
    message = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = list(calls)
    return message


def answer(text: str, call_id: str = "call_1") -> dict:
    return {"role": "tool", "content": text, "tool_call_id": call_id}


CONVERSATIONS = {
    "opening": [system("Be kind.")],
    "solo": [
        system("<ticket>\nDelete it, 'user_1'.\n</ticket>"),
        assistant("", call("create_task", user_id="user_1", title="Übergröße \"x\" <b> & 'y'")),
        answer('{"task_id": "task_2", "description": null}'),
    ],
    "two calls, no text": [
        system("Policy.\n\nEnd."),
        user("  Hi!\n"),
        assistant(None, call("get_users"), call("done", "call_2")),
        answer("[]"),
        answer("###STOP###", "call_2"),
    ],
    "thoughts": [user("hi"), assistant("<think>\nhm\n</think>\n\nHello."), user("bye")],
}


class Engine:
    """Keeps the last prompt, and generates `ok`."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.prompt: list[int] = []

    async def agenerate(self, request) -> ModelResponse:
        self.prompt = list(request.input_ids)
        tokens = [*self.tokenizer.encode("ok"), self.tokenizer.eos_token_id]
        return ModelResponse(
            input_tokens=request.input_ids,
            output_tokens=tokens,
            output_logprobs=[0.0] * len(tokens),
            output_versions=[0] * len(tokens),
            stop_reason="stop",
            tokenizer=self.tokenizer,
        )


@pytest.mark.parametrize("domain", environment.SOLO_DOMAINS)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_prompts_are_those_of_areals_proxy(tokenizer, monkeypatch, domain, conversation):
    engine = Engine(tokenizer)
    client = proxy.ArealOpenAI(
        engine=engine, tokenizer=tokenizer, tool_call_parser="qwen", reasoning_parser="qwen3"
    )
    monkeypatch.setattr(proxy, "_openai_client", client)
    monkeypatch.setattr(areals, "apply_chat_template", areals.apply_chat_template)
    render_as_sglang()
    monkeypatch.setattr(proxy, "_admin_api_key", ADMIN["Authorization"].removeprefix("Bearer "))
    messages = CONVERSATIONS[conversation]
    tools = list(environment.agent_schemas(domain, solo_mode=True))
    server = TestClient(proxy.app)
    server.post("/grant_capacity", headers=ADMIN).raise_for_status()
    started = server.post("/rl/start_session", headers=ADMIN, json={"task_id": "t"})
    api_key = started.raise_for_status().json()["api_key"]
    server.post(
        "/chat/completions",
        headers={"Authorization": f"Bearer {api_key}"},
        json={"model": "default", "messages": messages, "tools": tools, "max_completion_tokens": 8},
    ).raise_for_status()

    assert render(tokenizer, messages, tools) == engine.prompt
    assert '<tools>\n{"type": "function", "function": {"desc' in tokenizer.decode(engine.prompt)


def rendered(tokenizer, messages: list[dict], tools: list[dict] | None = None, **options) -> str:
    """The prompt as text, with a generation prompt if not told otherwise."""
    options = {"add_generation_prompt": True, **options}
    return tokenizer.apply_chat_template(messages, tools=tools, tokenize=False, **options)


def rendered_history(tokenizer, messages: list[dict], tools: list[dict] | None = None) -> str:
    return rendered(tokenizer, messages, tools, add_generation_prompt=False)


def test_text_messages_have_the_format_of_qwen3(tokenizer):
    hi = rendered(tokenizer, [user("hi")])
    assert hi == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    with_system = rendered(tokenizer, [system("Be kind."), user("hi")])
    assert with_system.startswith("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n")


def test_thinking_can_be_switched_off(tokenizer):
    hi = rendered(tokenizer, [user("hi")])
    assert rendered(tokenizer, [user("hi")], enable_thinking=True) == hi
    without = rendered(tokenizer, [user("hi")], enable_thinking=False)
    assert without == hi + "<think>\n\n</think>\n\n"


def test_only_thoughts_since_the_last_user_message_are_kept(tokenizer):
    thought = assistant("<think>\nhm\n</think>\n\nHello.")
    followed = rendered(tokenizer, [user("hi"), thought, user("bye")])
    assert "hm" not in followed
    assert "<|im_start|>assistant\nHello.<|im_end|>\n" in followed
    last = rendered(tokenizer, [user("hi"), thought])
    assert "<think>\nhm\n</think>\n\nHello.<|im_end|>\n" in last


def test_tools_stand_in_the_system_prompt(tokenizer):
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "größer", "parameters": {}},
    }
    text = rendered_history(tokenizer, [system("Be kind.")], [tool, tool])
    assert text.startswith("<|im_start|>system\nBe kind.\n\n# Tools\n\n")
    schema = json.dumps(tool, ensure_ascii=False)
    assert f"<tools>\n{schema}\n{schema}\n</tools>" in text
    assert text.endswith("<|im_end|>\n")
    text = rendered_history(tokenizer, [user("hi")], [tool])
    assert text.startswith("<|im_start|>system\n# Tools\n\n")


def test_tool_calls_and_results_have_the_format_of_qwen3(tokenizer):
    calls = [call("f", a=1), call("g", "call_2")]
    assert rendered_history(tokenizer, [assistant("", *calls)]) == (
        '<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call><|im_end|>\n'
    )
    with_text = rendered_history(tokenizer, [assistant("Well.", calls[0])])
    assert with_text.startswith("<|im_start|>assistant\nWell.\n<tool_call>\n{")
    # arguments as an object render the same
    parsed = {"function": {"name": "f", "arguments": {"a": 1}}}
    assert rendered_history(tokenizer, [assistant("", parsed)]) == rendered_history(
        tokenizer, [assistant("", calls[0])]
    )
    results = [answer("1"), answer("2", "call_2")]
    assert rendered(tokenizer, [assistant(None, *calls), *results]).endswith(
        "<|im_end|>\n<|im_start|>user\n"
        "<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_special_tokens(tokenizer):
    assert (tokenizer.eos_token, tokenizer.pad_token) == ("<|im_end|>", "<|endoftext|>")
    for token in (
        "<|im_start|>",
        "<think>",
        "</think>",
        "<tool_call>",
        "</tool_call>",
        "<tool_response>",
    ):
        assert len(tokenizer.encode(token)) == 1
    text = '<tool_call>\n{"name": "größe 12", "arguments": {}}\n</tool_call>'
    assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_mock_prompts_are_short(tokenizer):
    turns, solved = tiny.demonstrations([environment.find_task("mock", "create_task_1")])
    assert max(len(render(tokenizer, messages, tools)) for messages, tools, _ in turns) < 256
    assert 0.3 < solved[0] < 0.7


def test_the_policy_solves_some_episodes_of_a_task(folder, tokenizer):
    torch.manual_seed(1)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert model.num_parameters() < 1.5e6
    task = environment.find_task("mock", "create_task_1")
    (solved,) = asyncio.run(tiny.solved_fractions(model, tokenizer, [task]))
    assert 0.1 < solved < 0.95


def test_a_complete_model_is_not_made_again(folder, monkeypatch):
    monkeypatch.setattr(tiny, "train", lambda seed: pytest.fail("made again"))
    assert tiny.make_model(folder) == folder
    with pytest.raises(pytest.fail.Exception):
        tiny.make_model(folder, seed=2)
    assert (folder / "config.json").exists()


def test_kernels_import_but_do_not_run():
    kernels = importlib.import_module("sgl_kernel")
    submodule = importlib.import_module("sgl_kernel.scalar_type")
    assert submodule.scalar_types.uint4b8 is not None
    for kernel in (kernels.silu_and_mul, importlib.import_module("sgl_kernel.any.thing").kernel):
        with pytest.raises(RuntimeError, match="GPU"):
            kernel(1, out=2)
    with pytest.raises(AttributeError):
        _ = kernels.__wrapped__
