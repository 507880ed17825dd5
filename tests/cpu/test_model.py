"""The tiny model of a machine without a GPU: its prompts are the proxy's, its format Qwen3's, and it solves some tasks."""

import asyncio
import importlib
import json
from pathlib import Path

import areal.experimental.openai.proxy.proxy_rollout_server as proxy
import pytest
import torch
from areal.api import ModelResponse
from fastapi.testclient import TestClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.tau2.cpu import model as tiny
from examples.tau2.data.rendering import render
from examples.tau2.episode import environment

ROOT = Path(__file__).parents[2]
ADMIN = {"Authorization": "Bearer a key of this test run"}
SOLO = {
    domain: environment.agent_schemas(domain, solo_mode=True) for domain in environment.SOLO_DOMAINS
}


@pytest.fixture(scope="module")
def folder() -> Path:
    """Where `make model` leaves it; made here if it is not there."""
    return tiny.make_model(ROOT / ".cache/tiny-qwen3")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return AutoTokenizer.from_pretrained(folder)


def call(name: str, id: str = "call_1", **arguments) -> dict:
    return {
        "id": id,
        "type": "function",
        "function": {"name": name, "arguments": json.dumps(arguments)},
    }


def system(text: str) -> dict:
    return {"role": "system", "content": text}


def user(text: str) -> dict:
    return {"role": "user", "content": text}


def assistant(text: str | None, *calls: dict) -> dict:
    return {"role": "assistant", "content": text} | ({"tool_calls": list(calls)} if calls else {})


def answer(text: str, id: str = "call_1") -> dict:
    return {"role": "tool", "content": text, "tool_call_id": id}


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


@pytest.mark.parametrize("domain", SOLO)
@pytest.mark.parametrize("conversation", CONVERSATIONS)
def test_prompts_are_those_of_areals_proxy(tokenizer, monkeypatch, domain, conversation):
    class Engine:
        async def agenerate(self, request) -> ModelResponse:
            self.prompt = list(request.input_ids)
            tokens = [*tokenizer.encode("ok"), tokenizer.eos_token_id]
            return ModelResponse(
                input_tokens=request.input_ids,
                output_tokens=tokens,
                output_logprobs=[0.0] * len(tokens),
                output_versions=[0] * len(tokens),
                stop_reason="stop",
                tokenizer=tokenizer,
            )

    engine = Engine()
    client = proxy.ArealOpenAI(
        engine=engine, tokenizer=tokenizer, tool_call_parser="qwen", reasoning_parser="qwen3"
    )
    monkeypatch.setattr(proxy, "_openai_client", client)
    monkeypatch.setattr(proxy, "_admin_api_key", ADMIN["Authorization"].removeprefix("Bearer "))
    messages, tools = CONVERSATIONS[conversation], list(SOLO[domain])
    server = TestClient(proxy.app)
    server.post("/grant_capacity", headers=ADMIN).raise_for_status()
    session = (
        server.post("/rl/start_session", headers=ADMIN, json={"task_id": "t"})
        .raise_for_status()
        .json()
    )
    server.post(
        "/chat/completions",
        headers={"Authorization": f"Bearer {session['api_key']}"},
        json={"model": "default", "messages": messages, "tools": tools, "max_completion_tokens": 8},
    ).raise_for_status()

    assert render(tokenizer, messages, tools) == engine.prompt
    # the proxy's order of keys, which a direct rendering does not have
    assert '<tools>\n{"function": {"name": ' in tokenizer.decode(engine.prompt)


def test_chat_format(tokenizer):
    def text(
        messages: list[dict], tools: list[dict] | None = None, prompt: bool = True, **options
    ) -> str:
        return tokenizer.apply_chat_template(
            messages, tools=tools, add_generation_prompt=prompt, tokenize=False, **options
        )

    assert text([user("hi")]) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert text([user("hi")], enable_thinking=True) == text([user("hi")])
    assert (
        text([user("hi")], enable_thinking=False) == text([user("hi")]) + "<think>\n\n</think>\n\n"
    )
    assert text([system("Be kind."), user("hi")]).startswith(
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\n"
    )

    tool = {
        "type": "function",
        "function": {"name": "f", "description": "größer", "parameters": {}},
    }
    with_tools = text([system("Be kind.")], [tool, tool], prompt=False)
    assert with_tools.startswith("<|im_start|>system\nBe kind.\n\n# Tools\n\n")
    assert (
        f"<tools>\n{json.dumps(tool, ensure_ascii=False)}\n{json.dumps(tool, ensure_ascii=False)}\n</tools>"
        in with_tools
    )
    assert with_tools.endswith("<|im_end|>\n")
    assert text([user("hi")], [tool], prompt=False).startswith("<|im_start|>system\n# Tools\n\n")

    calls = [call("f", a=1), call("g", "call_2")]
    assert text([assistant("", *calls)], prompt=False) == (
        '<|im_start|>assistant\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>\n'
        '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call><|im_end|>\n'
    )
    assert text([assistant("Well.", calls[0])], prompt=False).startswith(
        "<|im_start|>assistant\nWell.\n<tool_call>\n{"
    )
    parsed = {
        "function": {"name": "f", "arguments": {"a": 1}}
    }  # arguments as an object render the same
    assert text([assistant("", parsed)], prompt=False) == text(
        [assistant("", calls[0])], prompt=False
    )
    assert text([assistant(None, *calls), answer("1"), answer("2", "call_2")]).endswith(
        "<|im_end|>\n<|im_start|>user\n<tool_response>\n1\n</tool_response>\n<tool_response>\n2\n</tool_response><|im_end|>\n"
        "<|im_start|>assistant\n"
    )

    thought = assistant("<think>\nhm\n</think>\n\nHello.")
    assert "hm" not in text([user("hi"), thought, user("bye")])
    assert "<|im_start|>assistant\nHello.<|im_end|>\n" in text([user("hi"), thought, user("bye")])
    assert "<think>\nhm\n</think>\n\nHello.<|im_end|>\n" in text(
        [user("hi"), thought]
    )  # since the last user message


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
