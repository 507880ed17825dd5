"""A tiny model behind an OpenAI-compatible endpoint, for `evaluate.py` on a machine without a GPU.

`python3 examples/tau2/cpu/serve.py <model folder> --port 30000` renders prompts and parses answers as AReaL's proxy does,
which the model has learnt to the letter, and takes no notice of `tool_choice` either. (SGLang renders tool schemas in
another way, and cannot constrain what a model writes on a CPU.)
"""

import argparse
import asyncio
import os
import sys
import time
import uuid
from collections import defaultdict
from pathlib import Path

if __name__ == "__main__":  # the repository's root instead of this folder
    sys.path[0] = str(Path(__file__).resolve().parents[3])
# on busy cores, threads that spin cost several times what they gain
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from aiohttp import web
from areal.experimental.openai.tool_call_parser import process_tool_calls
from openai.types.chat import ChatCompletion
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from examples.tau2.data.rendering import render
from examples.tau2.episode.llm import EmptyCompletion

MAX_NEW_TOKENS = 64
GATHERING = 0.005  # seconds in which requests become one batch


def completion(
    text: str, tools: list[dict] | None, finish_reason: str, usage: dict | None = None
) -> ChatCompletion:
    """What AReaL's proxy answers when the model says `text`."""
    calls, content, finish_reason = process_tool_calls(
        text, tools or [], "qwen", "qwen3", finish_reason
    )
    message = {
        "role": "assistant",
        "content": content,
        "tool_calls": [call.model_dump() for call in calls or []] or None,
    }
    return ChatCompletion.model_validate(
        {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "choices": [{"index": 0, "finish_reason": finish_reason, "message": message}],
            "created": int(time.time()),
            "model": "",
            "object": "chat.completion",
            "usage": usage,
        }
    )


class Policy:
    """The model as an agent of many concurrent episodes: what they ask for at about the same time is one batch."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast):
        self.model = model
        self.tokenizer = tokenizer
        self.waiting: dict[tuple[float, int], list[tuple[list[int], asyncio.Future]]] = defaultdict(
            list
        )

    async def __call__(
        self,
        messages: list[dict],
        tools: list[dict] | None,
        tool_choice: str | None,
        temperature: float = 1.0,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> ChatCompletion:
        """
        Raises:
            EmptyCompletion: the model said nothing.
        """
        loop = asyncio.get_running_loop()
        answer, sampling = loop.create_future(), (temperature, max_new_tokens)
        if not self.waiting[sampling]:
            loop.call_later(GATHERING, self._generate, *sampling)
        prompt = render(self.tokenizer, messages, tools or [])
        self.waiting[sampling].append((prompt, answer))
        tokens = await answer
        finished = self.tokenizer.eos_token_id in tokens
        if finished:
            tokens = tokens[: tokens.index(self.tokenizer.eos_token_id)]
        text = self.tokenizer.decode(tokens)
        if not text:
            raise EmptyCompletion
        usage = {"prompt_tokens": len(prompt), "completion_tokens": len(tokens) + finished}
        usage["total_tokens"] = sum(usage.values())
        return completion(text, tools, "stop" if finished else "length", usage)

    def _generate(self, temperature: float, max_new_tokens: int) -> None:
        prompts, answers = zip(*self.waiting.pop((temperature, max_new_tokens)), strict=True)
        batch = self.tokenizer.pad(
            {"input_ids": list(prompts)}, padding_side="left", return_tensors="pt"
        )
        sampling = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
        generated = self.model.generate(
            **batch,
            **(sampling if temperature else {"do_sample": False}),
            max_new_tokens=max_new_tokens,
        )
        for answer, tokens in zip(
            answers, generated[:, batch["input_ids"].shape[1] :].tolist(), strict=True
        ):
            if not answer.done():  # its client may have gone
                answer.set_result(tokens)


def server(policy: Policy) -> web.Application:
    async def complete(request: web.Request) -> web.Response:
        body = await request.json()
        sampling = {
            "temperature": body.get("temperature", 1.0),
            "max_new_tokens": body.get("max_completion_tokens") or MAX_NEW_TOKENS,
        }
        try:
            said = await policy(
                body["messages"], body.get("tools"), body.get("tool_choice"), **sampling
            )
        except EmptyCompletion:
            said = completion("", body.get("tools"), "stop")
        return web.json_response(text=said.model_dump_json())

    async def models(request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": []})

    application = web.Application()
    application.add_routes(
        [web.post("/v1/chat/completions", complete), web.get("/v1/models", models)]
    )
    return application


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--port", type=int, default=30000, help="of 127.0.0.1 (default: 30000)")
    options = parser.parse_args()
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype="float32").eval()
    policy = Policy(model, AutoTokenizer.from_pretrained(options.model))
    web.run_app(server(policy), host="127.0.0.1", port=options.port)


if __name__ == "__main__":
    main()
