"""The prompts of AReaL's proxy are those of SGLang's own server."""

import inspect
from collections.abc import Sequence

import areal.experimental.openai.proxy.proxy_rollout_server as server
import httpx
import pytest
from areal.api import ModelResponse
from areal.api.cli_args import AgentConfig
from areal.engine import RemoteSGLangEngine
from areal.experimental.openai import client
from areal.infra import remote_inf_engine
from areal.infra.rpc.serialization import serialize_value
from areal.utils import hf_utils
from openai import InternalServerError, OpenAI

from examples.tau2.training.areal.groups import RolloutConfig
from examples.tau2.training.engines import rollout
from tests.areal_proxy import ADMIN_KEY, Proxy, ScriptedEngine
from tests.prompts import HISTORIES, TOOLS, sglang_prompt, tokenizer_with
from tests.scripted import LLMServer
from tests.templates import TEMPLATES

# a later AReaL gives a template what SGLang does
IS_MENDED = hasattr(client, "_align_tools_with_sglang")
# messages, tools
Prompt = tuple[list[dict], Sequence[dict]]
CALL: Prompt = (HISTORIES["a call"], TOOLS["mock"])


class Recorder(ScriptedEngine):
    """Keeps the prompts."""

    prompts: list[list[int]]

    async def agenerate(self, request) -> ModelResponse:
        self.prompts.append(list(request.input_ids))
        return await super().agenerate(request)


@pytest.fixture
def proxy_prompts(tmp_path, monkeypatch):
    """`proxy_prompts(engine, template, prompts)`: the tokens that an engine's proxy makes of them.

    The proxy gets its engine as AReaL does it. Only what generates the answers is scripted.
    """
    for name in ("_engine", "_openai_client", "_admin_api_key"):
        monkeypatch.setattr(server, name, getattr(server, name))
    monkeypatch.setattr(client, "apply_chat_template", hf_utils.apply_chat_template)
    replaced = "GroupedRolloutWorkflow"
    monkeypatch.setattr(remote_inf_engine, replaced, getattr(remote_inf_engine, replaced))

    def make_prompts(engine: type, template: str, prompts: list[Prompt]) -> list[list[int]]:
        tokenizer = tokenizer_with(template)
        tokenizer.save_pretrained(tmp_path)
        config = RolloutConfig(
            backend="sglang:d1",
            tokenizer_path=str(tmp_path),
            agent=AgentConfig(agent_cls_path="unused", admin_api_key=ADMIN_KEY),
            setup_timeout=10,
        )
        recorder = Recorder(tokenizer, lambda _: "ok")
        recorder.prompts = []
        with Proxy(lambda _: "ok") as proxy:
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
            server._openai_client.chat.completions.engine = recorder
            _, key = proxy.session()
            openai = OpenAI(base_url=proxy.address, api_key=key, max_retries=0)
            try:
                for messages, tools in prompts:
                    openai.chat.completions.create(model="", messages=messages, tools=tools)
            finally:
                server._engine.destroy()
        return recorder.prompts

    return make_prompts


@pytest.mark.skipif(IS_MENDED, reason="AReaL's proxy gives objects")
def test_areals_proxy_fails_where_a_template_takes_objects(proxy_prompts):
    with pytest.raises(InternalServerError):
        proxy_prompts(RemoteSGLangEngine, TEMPLATES["Qwen3-Coder"], [CALL])


@pytest.mark.skipif(IS_MENDED, reason="AReaL's proxy gives SGLang's tools")
def test_areals_proxy_makes_other_prompts(proxy_prompts):
    (prompt,) = proxy_prompts(RemoteSGLangEngine, TEMPLATES["Mistral"], [CALL])
    tokenizer = tokenizer_with(TEMPLATES["Mistral"])
    text, served = tokenizer.decode(prompt), tokenizer.decode(sglang_prompt(tokenizer, *CALL))
    assert r'"arguments": "{\"user_id\": ' in text and '{"function": {"name": ' in text
    assert '"arguments": {"user_id": ' in served and '"strict": false' in served


@pytest.mark.skipif(not IS_MENDED, reason="AReaL's proxy makes other prompts")
def test_a_later_areals_proxy_makes_the_prompts_of_sglang_for_a_call(proxy_prompts):
    tokenizer = tokenizer_with(TEMPLATES["Mistral"])
    (prompt,) = proxy_prompts(RemoteSGLangEngine, TEMPLATES["Mistral"], [CALL])
    assert prompt == sglang_prompt(tokenizer, *CALL)


@pytest.mark.parametrize("name", ["Qwen3", "Qwen2.5", "Qwen3-Coder", "Llama 3.1", "GLM"])
def test_our_proxys_prompts_are_those_of_sglang(proxy_prompts, name):
    prompts: list[Prompt] = [
        (messages, TOOLS["mock"])
        for kind, messages in HISTORIES.items()
        # the template refuses more than one call
        if (name, kind) != ("Llama 3.1", "several calls")
    ]
    prompts += [(HISTORIES["a user"], tools) for tools in (*TOOLS.values(), [])]
    made = proxy_prompts(rollout.RemoteSGLangEngine, TEMPLATES[name], prompts)
    tokenizer = tokenizer_with(TEMPLATES[name])
    assert made == [sglang_prompt(tokenizer, *prompt) for prompt in prompts]


def test_areals_client_makes_up_a_server_of_openai():
    assert 'os.environ.get("OPENAI_BASE_URL", "none")' in inspect.getsource(client)
