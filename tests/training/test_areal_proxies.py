"""The prompts of AReaL's proxy are those of SGLang's own server."""

import inspect
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

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
from areal.utils.network import find_free_ports
from openai import InternalServerError, OpenAI
from transformers import Qwen3ForCausalLM

from examples.tau2.cpu.model import tiny_config
from examples.tau2.training.areal.groups import RolloutConfig
from examples.tau2.training.engines import rollout
from tests.areal_proxy import ADMIN_KEY, Proxy, ScriptedEngine
from tests.prompts import HISTORIES, TOOLS, sglang_prompt, tokenizer_with
from tests.scripted import LLMServer
from tests.templates import TEMPLATES
from tests.waiting import until

# a later AReaL gives a template what SGLang does
IS_MENDED = hasattr(client, "_align_tools_with_sglang")
# messages, tools
Prompt = tuple[list[dict], Sequence[dict]]
CALL: Prompt = (HISTORIES["a call"], TOOLS["mock"])


class RecordingSGLang(ScriptedEngine):
    """Keeps the prompts. A later AReaL knows by its name that it is an engine of SGLang."""

    prompts: list[list[int]]

    async def agenerate(self, request) -> ModelResponse:
        self.prompts.append(list(request.input_ids))
        return await super().agenerate(request)


@pytest.fixture
def proxy_of(monkeypatch):
    """`proxy_of(engine, folder, address)`: a block with a client of the proxy of such an engine.

    The proxy gets its engine as AReaL does it. The tokenizer is in the folder, and a server of
    SGLang at the address.
    """
    for name in ("_engine", "_openai_client", "_admin_api_key"):
        monkeypatch.setattr(server, name, getattr(server, name))
    monkeypatch.setattr(client, "apply_chat_template", hf_utils.apply_chat_template)
    replaced = "GroupedRolloutWorkflow"
    monkeypatch.setattr(remote_inf_engine, replaced, getattr(remote_inf_engine, replaced))

    @contextmanager
    def start(engine: type, folder: Path, address: str) -> Iterator[OpenAI]:
        config = RolloutConfig(
            backend="sglang:d1",
            tokenizer_path=str(folder),
            agent=AgentConfig(agent_cls_path="unused", admin_api_key=ADMIN_KEY),
            setup_timeout=10,
        )
        with Proxy(lambda _: "ok") as proxy:
            post = httpx.Client(base_url=proxy.address, timeout=30).post
            created = {
                "engine": f"{engine.__module__}.{engine.__name__}",
                "init_kwargs": serialize_value({"config": config}),
            }
            post("/create_engine", json=created).raise_for_status()
            call = {"method": "initialize", "kwargs": serialize_value({"addr": address})}
            post("/call", json=call).raise_for_status()
            _, key = proxy.session()
            try:
                yield OpenAI(base_url=proxy.address, api_key=key, max_retries=0)
            finally:
                server._engine.destroy()

    return start


@pytest.fixture
def proxy_prompts(tmp_path, proxy_of):
    """`proxy_prompts(engine, template, prompts)`: the tokens that an engine's proxy makes of them.

    Only what generates the answers is scripted.
    """

    def make_prompts(engine: type, template: str, prompts: list[Prompt]) -> list[list[int]]:
        tokenizer = tokenizer_with(template)
        tokenizer.save_pretrained(tmp_path)
        recorder = RecordingSGLang(tokenizer, lambda _: "ok")
        recorder.prompts = []
        with LLMServer(lambda _: None) as sglang:
            address = sglang.base_url.removeprefix("http://").removesuffix("/v1")
            with proxy_of(engine, tmp_path, address) as openai:
                server._openai_client.chat.completions.engine = recorder
                for messages, tools in prompts:
                    openai.chat.completions.create(model="", messages=messages, tools=tools)
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
    tokenizer = tokenizer_with(TEMPLATES["Qwen2.5"])
    (prompt,) = proxy_prompts(RemoteSGLangEngine, TEMPLATES["Qwen2.5"], [CALL])
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


@pytest.fixture(scope="module")
def sglang(tmp_path_factory) -> Iterator[tuple[Path, str]]:
    """A real SGLang with an untrained model: the model's folder, and the server's address."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = tokenizer_with(TEMPLATES["Qwen3"])
    tokenizer.save_pretrained(folder)
    shape = tiny_config(tokenizer)
    shape.max_position_embeddings = 16384
    Qwen3ForCausalLM(shape).save_pretrained(folder)
    (port,) = find_free_ports(1)
    options = (
        f"--model-path {folder} --port {port} --device cpu --attention-backend torch_native "
        "--mem-fraction-static 0.02 --disable-cuda-graph --disable-overlap-schedule "
        "--tool-call-parser qwen --reasoning-parser qwen3 --enable-cache-report"
    )
    variables = {"SGLANG_USE_CPU_ENGINE": "1", "OMP_NUM_THREADS": "1", "TORCH_COMPILE_DISABLE": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", "sglang.launch_server", *options.split()], env=os.environ | variables
    ) as process:
        try:
            address = f"127.0.0.1:{port}"
            until(lambda: process.poll() is not None or is_ready(address))
            assert process.poll() is None
            yield folder, address
        finally:
            process.terminate()


def is_ready(address: str) -> bool:
    try:
        return httpx.get(f"http://{address}/health").is_success
    except httpx.TransportError:
        return False


@pytest.mark.processes
def test_a_real_server_gets_the_prompt_that_a_real_proxy_has_sent_it(sglang, proxy_of):
    """The server knows each prompt but its last token: it never computes all tokens of one."""
    folder, address = sglang
    itself = OpenAI(base_url=f"http://{address}/v1", api_key="none", max_retries=0)
    with proxy_of(rollout.RemoteSGLangEngine, folder, address) as proxy:
        for messages in HISTORIES.values():
            usages = [
                openai.chat.completions.create(
                    model="m", messages=messages, tools=TOOLS["mock"], max_completion_tokens=1
                ).usage
                for openai in (proxy, itself)
            ]
            assert usages[0].prompt_tokens == usages[1].prompt_tokens
            assert usages[1].prompt_tokens_details.cached_tokens == usages[1].prompt_tokens - 1


def test_areals_client_makes_up_a_server_of_openai():
    assert 'os.environ.get("OPENAI_BASE_URL", "none")' in inspect.getsource(client)
