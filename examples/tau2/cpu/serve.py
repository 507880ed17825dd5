"""Serves a tiny model to `evaluate.py` as an OpenAI-compatible endpoint, without a GPU.

`python3 examples/tau2/cpu/serve.py <model folder> --port 30000` renders prompts as SGLang and
AReaL's proxy do, and parses answers as the proxy does, because the model has learnt exactly this
format. Like the proxy it ignores `tool_choice`. (SGLang cannot constrain what a model writes on a
CPU.)
"""

import argparse
import asyncio
import os
import sys
import time
import uuid
from collections import defaultdict
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # the repository's root instead of this folder
    sys.path[0] = str(Path(__file__).resolve().parents[3])
# on busy cores, threads that spin cost several times what they gain
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from aiohttp import web
from areal.experimental.openai.tool_call_parser import process_tool_calls
from openai.types.chat import ChatCompletion
from transformers import PreTrainedTokenizerFast, Qwen3ForCausalLM

from examples.tau2.data.rendering import render
from examples.tau2.episode.completions import chat_completion
from examples.tau2.episode.failures import EmptyCompletion

MAX_NEW_TOKENS = 64
# seconds that the first request of a batch waits for others
BATCH_WINDOW = 0.005

# temperature, max_new_tokens
Sampling = tuple[float, int]
# the tokens of a prompt, and the future of the tokens generated for it
Request = tuple[list[int], asyncio.Future[list[int]]]


def completion(
    text: str, tools: list[dict] | None, finish_reason: str, usage: dict[str, int] | None = None
) -> ChatCompletion:
    """Make the completion that AReaL's proxy makes when the model generates `text`."""
    calls, content, finish_reason = process_tool_calls(
        text, tools or [], "qwen", "qwen3", finish_reason
    )
    message = {
        "role": "assistant",
        "content": content,
        "tool_calls": [call.model_dump() for call in calls or []] or None,
    }
    return chat_completion(
        message,
        finish_reason=finish_reason,
        completion_id=f"chatcmpl-{uuid.uuid4().hex}",
        created=int(time.time()),
        usage=usage,
    )


class Policy:
    """The model as the agent of many concurrent episodes.

    Requests with the same sampling that arrive within `BATCH_WINDOW` are generated as one batch.
    """

    def __init__(self, model: Qwen3ForCausalLM, tokenizer: PreTrainedTokenizerFast):
        self.model = model
        self.tokenizer = tokenizer
        self.waiting: dict[Sampling, list[Request]] = defaultdict(list)

    async def __call__(
        self,
        messages: list[dict],
        tools: list[dict] | None,
        tool_choice: str | None,
        temperature: float = 1.0,
        max_new_tokens: int = MAX_NEW_TOKENS,
        chat_template_kwargs: dict[str, Any] | None = None,
    ) -> ChatCompletion:
        """Sample one completion, greedily if the temperature is 0.

        Raises:
            EmptyCompletion: the model generated no text.
        """
        loop = asyncio.get_running_loop()
        sampling = (temperature, max_new_tokens)
        if not self.waiting[sampling]:
            loop.call_later(BATCH_WINDOW, self._generate, temperature, max_new_tokens)
        prompt = render(self.tokenizer, messages, tools or [], **(chat_template_kwargs or {}))
        answer: asyncio.Future[list[int]] = loop.create_future()
        self.waiting[sampling].append((prompt, answer))
        tokens = await answer
        end = self.tokenizer.eos_token_id
        generated = len(tokens)
        finish_reason = "length"
        if end in tokens:
            generated = tokens.index(end) + 1
            tokens = tokens[: tokens.index(end)]
            finish_reason = "stop"
        text = str(self.tokenizer.decode(tokens))
        if not text:
            raise EmptyCompletion
        usage = {
            "prompt_tokens": len(prompt),
            "completion_tokens": generated,
            "total_tokens": len(prompt) + generated,
        }
        return completion(text, tools, finish_reason, usage)

    def _generate(self, temperature: float, max_new_tokens: int) -> None:
        requests = self.waiting.pop((temperature, max_new_tokens))
        prompts = [prompt for prompt, _ in requests]
        batch = self.tokenizer.pad({"input_ids": prompts}, padding_side="left", return_tensors="pt")
        if temperature:
            generated = self.model.generate(
                **batch,
                do_sample=True,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                max_new_tokens=max_new_tokens,
            )
        else:
            generated = self.model.generate(**batch, do_sample=False, max_new_tokens=max_new_tokens)
        prompt_length = max(len(prompt) for prompt in prompts)
        answers = generated[:, prompt_length:].tolist()
        for (_, answer), tokens in zip(requests, answers, strict=True):
            # a client that has gone away has cancelled its future
            if not answer.done():
                answer.set_result(tokens)


def make_server(policy: Policy) -> web.Application:
    """Make the HTTP application that answers chat completion requests with `policy`."""

    async def answer_chat(request: web.Request) -> web.Response:
        body = await request.json()
        tools = body.get("tools")
        temperature = body.get("temperature", 1.0)
        max_new_tokens = body.get("max_completion_tokens") or MAX_NEW_TOKENS
        try:
            answer = await policy(
                body["messages"],
                tools,
                body.get("tool_choice"),
                temperature,
                max_new_tokens,
                body.get("chat_template_kwargs"),
            )
        except EmptyCompletion:
            answer = completion("", tools, "stop")
        return web.json_response(text=answer.model_dump_json())

    async def list_models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    application = web.Application()
    application.router.add_post("/v1/chat/completions", answer_chat)
    application.router.add_get("/v1/models", list_models)
    return application


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument(
        "--port", type=int, default=30000, help="of 127.0.0.1, 0: any (default: 30000)"
    )
    options = parser.parse_args()
    model = Qwen3ForCausalLM.from_pretrained(options.model, dtype="float32").eval()
    policy = Policy(model, PreTrainedTokenizerFast.from_pretrained(options.model))
    try:
        web.run_app(make_server(policy), host="127.0.0.1", port=options.port)
    except OSError as error:
        sys.exit(f"{error.strerror}: choose another --port")


if __name__ == "__main__":
    main()
