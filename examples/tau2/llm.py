"""The two LLMs of an episode as plain async functions `(messages, tools, tool_choice) -> ChatCompletion`, and their faults.

The agent's is called once per turn and never retried: AReaL's proxy records every completion it makes. The user
simulator's may be retried, since its failures are not the agent's doing: `is_transient` says which of them pass.
"""

import asyncio
import inspect
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import httpx
import openai
from openai import AsyncOpenAI
from openai.resources.chat.completions import AsyncCompletions
from openai.types.chat import ChatCompletion

logger = logging.getLogger(__name__)

CallLLM = Callable[..., Awaitable[ChatCompletion]]  # (messages, tools, tool_choice, **sampling)

USER_CALL_TIMEOUT = 120.0  # seconds; a user LLM that hangs is called again
_OPENAI_PARAMETERS = frozenset(inspect.signature(AsyncCompletions.create).parameters)
_CONTEXT_EXCEEDED = (
    "context_length_exceeded",  # OpenAI's error code
    "maximum context length",  # OpenAI, vLLM
    "model's context length",  # SGLang
    "exceeds max_total_tokens",  # AReaL's proxy: rollout.agent.engine_max_tokens
    "is non-positive! max_tokens=",  # AReaL's proxy: its default of 32,768 tokens for prompt and answer
)
_ONLY_STOP_TOKENS = "cannot strip stop tokens"  # AReaL 1.0.4's proxy cannot express an empty completion


class ContextWindowExceeded(Exception):
    """The conversation no longer fits the agent's context window."""


class EmptyCompletion(Exception):
    """The agent generated stop tokens only, and the server kept no completion."""


class UserSimulatorError(Exception):
    """The user simulator gave no usable answer, so the episode says nothing about the agent."""


class UnusableAnswer(Exception):
    """An answer of the user LLM that tau2 cannot take: empty, thinking only, a tool call that does not parse, or garbage."""


def agent_llm(client: AsyncOpenAI, model: str, sampling: dict[str, Any]) -> CallLLM:
    """The policy behind an OpenAI-compatible endpoint; `client` must not retry (`max_retries=0`).

    The function raises `ContextWindowExceeded`, `EmptyCompletion`, or openai's error for anything else.
    """

    async def call(messages: list[dict], tools: list[dict] | None, tool_choice: str | None) -> ChatCompletion:
        try:
            return await client.chat.completions.create(
                model=model, messages=messages, **_tool_arguments(tools, tool_choice), **sampling
            )
        except openai.APIStatusError as error:
            if any(phrase in error.message for phrase in _CONTEXT_EXCEEDED):
                raise ContextWindowExceeded(error.message) from error
            if _ONLY_STOP_TOKENS in error.message:
                raise EmptyCompletion(error.message) from error
            raise

    return call


def user_llm(model: str | None, base_url: str | None, args: dict[str, Any] | None) -> CallLLM:
    """The user simulator's LLM: an OpenAI-compatible server at `base_url`, or litellm's provider for `model`.

    The key of a server is read from `TAU2_USER_LLM_API_KEY`; litellm reads its providers' own variables.

    Raises:
        ValueError: there is neither a model nor a server.
    """
    if not (model or base_url):
        raise ValueError("the user simulator needs a model: set user_llm, or user_llm_base_url, or play in solo_mode")
    args = {"timeout": USER_CALL_TIMEOUT, **(args or {})}
    if base_url is None:
        import litellm

        async def call_provider(messages, tools, tool_choice, **sampling) -> ChatCompletion:
            arguments = {"num_retries": 0, "drop_params": True, **args, **sampling}
            return await litellm.acompletion(
                model=model, messages=messages, **_tool_arguments(tools, tool_choice), **arguments
            )

        return call_provider

    known = {key: value for key, value in args.items() if key in _OPENAI_PARAMETERS}
    if extra := {key: value for key, value in args.items() if key not in _OPENAI_PARAMETERS}:
        known["extra_body"] = {**extra, **known.get("extra_body", {})}  # e.g. SGLang's top_k, chat_template_kwargs

    async def call_server(messages, tools, tool_choice, **sampling) -> ChatCompletion:
        client = _user_client(base_url, id(asyncio.get_running_loop()))
        return await client.chat.completions.create(
            model=(model or "default").removeprefix("openai/"),
            messages=messages,
            **_tool_arguments(tools, tool_choice),
            **{**known, **sampling},
        )

    return call_server


@cache
def _user_client(base_url: str, _loop: int) -> AsyncOpenAI:
    """One client per process (and event loop, to which its connections belong)."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
    return AsyncOpenAI(
        base_url=base_url,
        api_key=os.environ.get("TAU2_USER_LLM_API_KEY") or "EMPTY",
        max_retries=0,
        http_client=httpx.AsyncClient(limits=limits),
    )


def _tool_arguments(tools: list[dict] | None, tool_choice: str | None) -> dict[str, Any]:
    return {"tools": tools, "tool_choice": tool_choice} if tools else {}


def response_cost(response: Any) -> float:
    """USD of an LLM call by litellm's price list; 0.0, silently, for models that are not on it (self-hosted ones)."""
    if isinstance(response, ChatCompletion):  # from a server of one's own: litellm has types of its own
        return 0.0
    from litellm import completion_cost
    from tau2.utils.llm_utils import _parse_ft_model_name

    try:
        response.model = _parse_ft_model_name(
            response.model
        )  # as tau2 does: fine-tuned models cost what their base does
        return completion_cost(completion_response=response)
    except Exception:
        return 0.0


def is_transient(error: Exception) -> bool:
    """Whether a failed call of the user LLM may succeed when repeated: everything but a refusal (400, 401, 404, ...)."""
    if isinstance(error, openai.APIStatusError):  # litellm's errors derive from openai's
        return error.status_code in (408, 409, 425, 429) or error.status_code >= 500
    # a connection that breaks, or a body that is cut off or is not what the API promises
    return isinstance(error, (UnusableAnswer, openai.APIError, httpx.HTTPError, json.JSONDecodeError))


def describe(error: BaseException) -> str:
    """One line for logs and rejections: the error's type and message, cut to 300 characters."""
    return f"{type(error).__name__}: {error}".replace("\n", " ")[:300]


class Outage:
    """What this process knows of the user simulator's health: an outage is two lines in the log, not thousands."""

    def __init__(self):
        self.since: float | None = None
        self.failures = 0

    def failed(self, cause: Exception) -> None:
        self.failures += 1
        if self.since is None:
            self.since = time.monotonic()
            logger.warning("user simulator fails (%s); retrying until the episodes' deadlines", describe(cause))

    def recovered(self) -> None:
        if self.since is not None:
            seconds = time.monotonic() - self.since
            logger.warning("user simulator answers again after %.0f s and %d failed calls", seconds, self.failures)
            self.since, self.failures = None, 0


user_outage = Outage()
