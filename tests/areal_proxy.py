"""AReaL's real proxy server on loopback; the engine behind it, which needs a GPU, is scripted."""

import socket
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import areal.experimental.openai.proxy.proxy_rollout_server as proxy
import httpx
import uvicorn
from areal.api import ModelResponse
from areal.api.cli_args import AgentConfig
from areal.experimental.openai.proxy.workflow import OpenAIProxyWorkflow

from examples.tau2.cpu.tokenizer import train_tokenizer

ADMIN_KEY = "a key of this test run"


class ScriptedEngine:
    """Generates the text that `answer(prompt)` returns, as tokens, or raises the error."""

    def __init__(self, tokenizer, answer: Callable[[str], str | Exception]):
        self.tokenizer, self.answer = tokenizer, answer

    async def agenerate(self, request) -> ModelResponse:
        text = self.answer(self.tokenizer.decode(request.input_ids))
        if isinstance(text, Exception):
            raise text
        tokens = [
            *self.tokenizer.encode(text, add_special_tokens=False),
            self.tokenizer.eos_token_id,
        ]
        limit = request.gconfig.max_new_tokens
        return ModelResponse(
            input_tokens=request.input_ids,
            output_tokens=tokens[:limit],
            output_logprobs=[-0.5] * len(tokens[:limit]),
            output_versions=[0] * len(tokens[:limit]),
            stop_reason="stop" if len(tokens) <= limit else "length",
            tokenizer=self.tokenizer,
        )


class Proxy:
    """A proxy server, at the base URL `address`, while the block lasts. Its tokens are bytes."""

    def __init__(self, answer: Callable[[str], str | Exception], tokenizer=None, **agent_config):
        tokenizer = tokenizer or train_tokenizer([""], vocab_size=300, min_frequency=2)
        config = AgentConfig(agent_cls_path="unused", admin_api_key=ADMIN_KEY, **agent_config)
        proxy._openai_client = proxy.ArealOpenAI(
            engine=ScriptedEngine(tokenizer, answer),
            tokenizer=tokenizer,
            tool_call_parser=config.tool_call_parser,
            reasoning_parser=config.reasoning_parser,
            engine_max_tokens=config.engine_max_tokens,
            chat_template_type=config.chat_template_type,
        )
        proxy._admin_api_key = ADMIN_KEY
        self.config = SimpleNamespace(discount=config.turn_discount, style=config.export_style)
        listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        self.server = uvicorn.Server(uvicorn.Config(proxy.app, log_level="warning"))
        self.thread = threading.Thread(
            target=self.server.run, kwargs={"sockets": [listener]}, daemon=True
        )
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def workflow(self, agent) -> OpenAIProxyWorkflow:
        """Wrap an agent as AReaL does."""
        return OpenAIProxyWorkflow(
            "inline",
            agent,
            self.address,
            admin_api_key=ADMIN_KEY,
            discount=self.config.discount,
            export_style=self.config.style,
        )

    def session(self) -> tuple[str, str]:
        """Open a session as AReaL does, and return its id and API key."""
        key = {"Authorization": f"Bearer {ADMIN_KEY}"}
        with httpx.Client(base_url=self.address, headers=key, timeout=None) as client:
            client.post("/grant_capacity").raise_for_status()
            answer = client.post("/rl/start_session", json={"task_id": "t"})
        session = answer.raise_for_status().json()
        return session["session_id"], session["api_key"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join()


def tool_call(name: str, arguments: str) -> str:
    """Write a tool call in Qwen3's format; `arguments` is a text that need not be JSON."""
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'
