"""The two LLMs of an episode as plain async functions `(messages, tools, tool_choice) -> ChatCompletion`, and their faults.

The agent's is called once per turn and never retried: AReaL's proxy records every completion it makes. The user
simulator's may be retried, since its failures are not the agent's doing: `is_transient` says which of them pass.
"""

import asyncio
import json
import logging
import math
import os
import ssl
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import cache
from typing import Any

import httpx
import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

logger = logging.getLogger(__name__)

CallLLM = Callable[..., Awaitable[ChatCompletion]]  # (messages, tools, tool_choice, **sampling)

PROBE_TIMEOUT = 30.0  # seconds an LLM has for its first answer
USER_CALL_TIMEOUT = 120.0  # seconds; a user LLM that hangs is called again
REPEAT = 60.0  # seconds between two lines on failing calls of the user simulator
HICCUP = 3.0  # seconds without any answer that are not worth a line
# arguments of a call that are not part of the request's body, by openai's names for them
_REQUEST_OPTIONS = {
    "timeout": "timeout",
    "extra_headers": "headers",
    "extra_query": "params",
    "extra_body": "extra_json",
}
_CONTEXT_EXCEEDED = (
    "context_length_exceeded",  # OpenAI's error code
    "maximum context length",  # OpenAI, vLLM
    "model's context length",  # SGLang
    "exceeds max_total_tokens",  # AReaL's proxy: rollout.agent.engine_max_tokens
    "is non-positive! max_tokens=",  # AReaL's proxy: its default of 32,768 tokens for prompt and answer
)
_ONLY_STOP_TOKENS = (
    "cannot strip stop tokens"  # AReaL 1.0.4's proxy cannot express an empty completion
)


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

    async def call(
        messages: list[dict], tools: list[dict] | None, tool_choice: str | None
    ) -> ChatCompletion:
        return await complete(client, model, messages, tools, tool_choice, sampling)

    return policy(call)


def policy(call: CallLLM) -> CallLLM:
    """`call` with the policy's own failures told apart from its server's."""

    async def call_policy(*arguments: Any) -> ChatCompletion:
        try:
            return await call(*arguments)
        except openai.APIStatusError as error:
            if failure := policy_failure(error):
                raise failure from error
            raise

    return call_policy


def policy_failure(error: openai.APIStatusError) -> ContextWindowExceeded | EmptyCompletion | None:
    """What the agent did to make its server answer with an error; None if the error is not the agent's doing."""
    if any(phrase in error.message for phrase in _CONTEXT_EXCEEDED):
        return ContextWindowExceeded(error.message)
    return EmptyCompletion(error.message) if _ONLY_STOP_TOKENS in error.message else None


def user_llm(model: str | None, base_url: str | None, args: dict[str, Any] | None) -> CallLLM:
    """The user simulator's LLM: an OpenAI-compatible server at `base_url`, or litellm's provider for `model`.

    The key is read from `TAU2_USER_LLM_API_KEY`; without it, litellm reads its providers' own variables.

    Raises:
        ValueError: there is neither a model nor a server.
    """
    if not (model or base_url):
        raise ValueError(
            "the user simulator needs a model: set user_llm, or user_llm_base_url, or play in solo_mode"
        )
    args, key = (
        {"timeout": USER_CALL_TIMEOUT, **(args or {})},
        os.environ.get("TAU2_USER_LLM_API_KEY") or None,
    )
    if base_url is None:
        return provider_llm(model, {"api_key": key, **args})

    async def call_server(messages, tools, tool_choice, **sampling) -> ChatCompletion:
        client = await shared_client(base_url, key or "EMPTY")
        name = (model or "default").removeprefix("openai/")
        return await complete(client, name, messages, tools, tool_choice, {**args, **sampling})

    return call_server


def provider_llm(model: str, args: dict[str, Any]) -> CallLLM:
    """litellm's provider for `model`, e.g. anthropic/claude-sonnet-4-5; its key is in the provider's own variable."""
    import litellm

    async def call_provider(messages, tools, tool_choice, **sampling) -> ChatCompletion:
        arguments = {"num_retries": 0, "drop_params": True, **args, **sampling}
        if tools:
            arguments |= {"tools": tools, "tool_choice": tool_choice}
        return await litellm.acompletion(model=model, messages=messages, **arguments)

    return call_provider


async def probe(call: CallLLM) -> str:
    """What an LLM says to "Say OK.", before anything depends on it; raises whatever keeps it from answering."""
    completion = await asyncio.wait_for(
        call([{"role": "user", "content": "Say OK."}], None, None), PROBE_TIMEOUT
    )
    return completion.choices[0].message.content or ""


async def shared_client(
    base_url: str | None, api_key: str | None, http_client: httpx.AsyncClient | None = None
) -> AsyncOpenAI:
    """A client that never retries; without an `http_client`, all of an event loop for the same server share connections.

    None stands for openai's environment variables. aiohttp holds the connections: httpx's own pool looks at every one of
    them for each request, which takes 15 ms where 256 are idle.
    """
    if http_client is not None:
        return AsyncOpenAI(
            base_url=base_url, api_key=api_key, http_client=http_client, max_retries=0
        )
    key = asyncio.get_running_loop(), base_url
    if key not in _clients:
        limits = httpx.Limits(max_connections=None)
        http_client = openai.DefaultAioHttpClient(limits=limits, verify=ssl_context())
        client = AsyncOpenAI(
            base_url=base_url, api_key=api_key, http_client=http_client, max_retries=0
        )
        _clients[key] = client, _close_with_loop(key)
        await anext(_clients[key][1])
    return _clients[key][0].with_options(api_key=api_key)


@cache
def ssl_context() -> ssl.SSLContext:
    """The certificates that servers are checked against, which take 40 ms to read."""
    return httpx.create_ssl_context()


async def _close_with_loop(key: tuple) -> AsyncGenerator[None, None]:
    """Once started, it is suspended until its event loop shuts down."""
    try:
        yield
    finally:
        client, _ = _clients.pop(key)
        await client.close()


_clients: dict[
    tuple[asyncio.AbstractEventLoop, str | None], tuple[AsyncOpenAI, AsyncGenerator]
] = {}


async def complete(
    client: AsyncOpenAI,
    model: str,
    messages: list[dict],
    tools: list[dict] | None,
    tool_choice: str | None,
    arguments: dict[str, Any],
) -> ChatCompletion:
    """A chat completion; `arguments` are those of `client.chat.completions.create`, or the server's own.

    `create` itself walks through every message and schema before it sends them, 10 ms a call in airline.
    """
    options = {name: arguments[key] for key, name in _REQUEST_OPTIONS.items() if key in arguments}
    tool_arguments = {"tools": tools, "tool_choice": tool_choice} if tools else {}
    sampling = {key: value for key, value in arguments.items() if key not in _REQUEST_OPTIONS}
    body = {"model": model, "messages": messages, **tool_arguments, **sampling}
    return await client.post(
        "/chat/completions", body=body, options=options, cast_to=ChatCompletion
    )


def response_cost(response: Any) -> float:
    """USD of an LLM call by litellm's price list; 0.0, silently, for models that are not on it (self-hosted ones)."""
    if isinstance(
        response, ChatCompletion
    ):  # from a server of one's own: litellm has types of its own
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


def silence_costs() -> None:
    """Have tau2 calculate costs by `response_cost`; tau2 logs an error for self-hosted models.

    A run and a workflow call this when they start.
    """
    import tau2.utils.llm_utils

    tau2.utils.llm_utils.get_response_cost = response_cost


def is_transient(error: Exception) -> bool:
    """Whether a failed call of the user LLM may succeed when repeated: everything but a refusal (400, 401, 404, ...)."""
    if isinstance(error, openai.APIStatusError):  # litellm's errors derive from openai's
        return error.status_code in (408, 409, 425, 429) or error.status_code >= 500
    # a connection that breaks, or a body that is cut off or is not what the API promises
    return isinstance(
        error, (UnusableAnswer, openai.APIError, httpx.HTTPError, json.JSONDecodeError)
    )


def describe_error(error: BaseException) -> str:
    """One line for logs and rejections: the error's type and message and, if they hide it, the cause; cut to 300 characters."""
    text, cause = f"{type(error).__name__}: {error}", error
    while cause.__cause__:
        cause = cause.__cause__
    if str(cause) not in text:
        text += f" ({cause})"
    return text.replace("\n", " ")[:300]


class Outage:
    """What this process knows of the user simulator's health: failures are one line a minute in the log, whether all calls
    fail or a few, and the end of an outage is another."""

    def __init__(self):
        self.since: float | None = None
        self.failures = 0
        self.told = -math.inf

    def failed(self, cause: Exception) -> None:
        now = time.monotonic()
        self.failures += 1
        self.since = now if self.since is None else self.since
        if now - self.told > REPEAT:
            logger.warning(
                "user simulator fails (%s); failed calls so far: %d; retrying until the episodes' deadlines",
                describe_error(cause),
                self.failures,
            )
            self.told = now

    def recovered(self) -> None:
        if self.since is not None and (seconds := time.monotonic() - self.since) > HICCUP:
            logger.warning(
                "user simulator answers again after %.0f s and %d failed calls",
                seconds,
                self.failures,
            )
            self.failures = 0
        self.since = None


user_outage = Outage()
