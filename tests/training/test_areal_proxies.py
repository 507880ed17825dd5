"""AReaL's proxy and a chat template that takes the arguments of tool calls as objects."""

import inspect

import areal.experimental.openai.proxy.proxy_rollout_server as server
import httpx
import pytest
from areal.api.cli_args import AgentConfig, InferenceEngineConfig
from areal.engine import RemoteSGLangEngine
from areal.experimental.openai import client
from areal.infra.rpc.serialization import serialize_value
from areal.utils import hf_utils
from openai import InternalServerError, OpenAI
from transformers import PreTrainedTokenizerFast

from examples.tau2.cpu.tokenizer import train_tokenizer
from examples.tau2.data.rendering import render_text
from examples.tau2.episode import environment
from examples.tau2.training.engines import rollout
from tests.areal_proxy import ADMIN_KEY, Proxy
from tests.scripted import LLMServer
from tests.templates import TAKE_OBJECTS, TAKE_TEXTS

TOOLS = environment.agent_schemas("mock")
FUNCTION = {"name": "create_task", "arguments": '{"user_id": "größer", "due": [1, null]}'}
MESSAGES = [
    {"role": "system", "content": "Policy."},
    {"role": "user", "content": "Hi"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": FUNCTION}],
    },
    {"role": "tool", "content": "{}", "tool_call_id": "call_1"},
]


@pytest.fixture
def proxy_prompt(tmp_path, monkeypatch):
    """`proxy_prompt(engine, template)`: the prompt that the proxy of an engine makes of `MESSAGES`.

    The proxy gets its engine as AReaL does it. Only what generates the answer is scripted.
    """
    for name in ("_engine", "_openai_client", "_admin_api_key"):
        monkeypatch.setattr(server, name, getattr(server, name))
    monkeypatch.setattr(client, "apply_chat_template", hf_utils.apply_chat_template)

    def make_prompt(engine: type, template: str) -> str:
        tokenizer_with(template).save_pretrained(tmp_path)
        config = InferenceEngineConfig(
            backend="sglang:d1",
            tokenizer_path=str(tmp_path),
            agent=AgentConfig(agent_cls_path="unused", admin_api_key=ADMIN_KEY),
            setup_timeout=10,
        )
        prompts: list[str] = []
        with Proxy(lambda prompt: prompts.append(prompt) or "ok") as proxy:
            script = server._openai_client.engine
            with LLMServer(lambda _: None) as sglang:
                post = httpx.Client(base_url=proxy.address, timeout=30).post
                created = {
                    "engine": f"{engine.__module__}.{engine.__name__}",
                    "init_kwargs": serialize_value({"config": config}),
                }
                post("/create_engine", json=created).raise_for_status()
                address = sglang.base_url.removeprefix("http://").removesuffix("/v1")
                call = {"method": "initialize", "kwargs": serialize_value({"addr": address})}
                post("/call", json=call).raise_for_status()
            server._openai_client.chat.completions.engine = script
            _, key = proxy.session()
            openai = OpenAI(base_url=proxy.address, api_key=key, max_retries=0)
            try:
                openai.chat.completions.create(model="", messages=MESSAGES, tools=TOOLS)
            finally:
                server._engine.destroy()
        (prompt,) = prompts
        return prompt

    return make_prompt


def tokenizer_with(template: str) -> PreTrainedTokenizerFast:
    """Make a tokenizer whose tokens are bytes."""
    tokenizer = train_tokenizer([""], vocab_size=300, min_frequency=2)
    tokenizer.chat_template = template
    return tokenizer


def test_areals_proxy_fails_where_a_template_takes_objects(proxy_prompt):
    with pytest.raises(InternalServerError):
        proxy_prompt(RemoteSGLangEngine, TAKE_OBJECTS["Qwen3-Coder"])


def test_areals_proxy_escapes_the_arguments(proxy_prompt):
    prompt = proxy_prompt(RemoteSGLangEngine, TAKE_OBJECTS["Mistral"])
    assert r'"arguments": "{\"user_id\": ' in prompt


@pytest.mark.parametrize("name", ["Qwen3", "indents an object", "Qwen3-Coder", "Qwen2.5"])
def test_our_proxies_prompts_are_those_of_fine_tuning(proxy_prompt, name):
    template = (TAKE_TEXTS | TAKE_OBJECTS)[name]
    prompt = proxy_prompt(rollout.RemoteSGLangEngine, template)
    assert prompt == render_text(tokenizer_with(template), MESSAGES, TOOLS)
    assert "größer" in prompt and r"\"" not in prompt


@pytest.mark.parametrize("name", ["Qwen3", "indents an object"])
def test_prompts_of_templates_that_take_texts_are_areals(proxy_prompt, name):
    prompt = proxy_prompt(RemoteSGLangEngine, TAKE_TEXTS[name])
    assert prompt == render_text(tokenizer_with(TAKE_TEXTS[name]), MESSAGES, TOOLS)


def test_areals_client_makes_up_a_server_of_openai():
    assert 'os.environ.get("OPENAI_BASE_URL", "none")' in inspect.getsource(client)
