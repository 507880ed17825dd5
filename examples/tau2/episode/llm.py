"""The two LLMs of an episode as async functions, and what their failures mean.

Both are functions `(messages, tools, tool_choice) -> ChatCompletion`. The agent's LLM is called
once per turn and never again: AReaL's proxy records each of its completions. The user simulator's
LLM may be called again, because its failures are not the agent's: `is_transient` tells whether
another call may succeed.
"""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import cache
from typing import Any

import httpx
import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

# an async function of (messages, tools, tool_choice, **sampling)
CallLLM = Callable[..., Awaitable[ChatCompletion]]

# seconds that an LLM has for the answer to `probe`
PROBE_TIMEOUT = 30.0
# seconds after which a user LLM that hangs is called again
USER_CALL_TIMEOUT = 120.0

# phrases of the errors by which servers say that a conversation is too long
_CONTEXT_EXCEEDED = (
    # OpenAI's error code
    "context_length_exceeded",
    # OpenAI, vLLM
    "maximum context length",
    # SGLang
    "model's context length",
    # AReaL's proxy: rollout.agent.engine_max_tokens
    "exceeds max_total_tokens",
    # AReaL's proxy: its default of 32,768 tokens for prompt and answer
    "is non-positive! max_tokens=",
)
# AReaL 1.0.4's proxy cannot express an empty completion, and answers with this error
_ONLY_STOP_TOKENS = "cannot strip stop tokens"


class ContextWindowExceeded(Exception):
    """The conversation no longer fits the agent's context window."""


class EmptyCompletion(Exception):
    """The agent generated stop tokens only, and the server kept no completion."""


class UserSimulatorError(Exception):
    """The user simulator gave no usable answer, so the episode says nothing about the agent."""


class UnusableAnswer(Exception):
    """The user LLM's answer is empty, has thinking only, or has a tool call that does not parse."""


def agent_llm(client: AsyncOpenAI, model: str, sampling: dict[str, Any]) -> CallLLM:
    """Make the agent's LLM of an OpenAI-compatible server.

    `client` must not retry (`max_retries=0`). The LLM raises `ContextWindowExceeded`,
    `EmptyCompletion`, or openai's error for anything else.
    """

    async def call(
        messages: list[dict], tools: list[dict] | None, tool_choice: str | None
    ) -> ChatCompletion:
        return await complete(client, model, messages, tools, tool_choice, sampling)

    return with_agent_failures(call)


def with_agent_failures(call: CallLLM) -> CallLLM:
    """Make `call` raise the agent's own failures as exceptions of this module."""

    async def call_agent(*arguments: Any) -> ChatCompletion:
        try:
            return await call(*arguments)
        except openai.APIStatusError as error:
            failure = agent_failure(error)
            if failure is None:
                raise
            raise failure from error

    return call_agent


def agent_failure(error: openai.APIStatusError) -> ContextWindowExceeded | EmptyCompletion | None:
    """Convert a server's error to the agent's failure behind it; None if it is the server's."""
    if any(phrase in error.message for phrase in _CONTEXT_EXCEEDED):
        return ContextWindowExceeded(error.message)
    if _ONLY_STOP_TOKENS in error.message:
        return EmptyCompletion(error.message)
    return None


def user_llm(model: str | None, base_url: str | None, args: dict[str, Any] | None) -> CallLLM:
    """Make the user simulator's LLM.

    It is an OpenAI-compatible server at `base_url` or, without one, litellm's provider for `model`.
    The key is read from `TAU2_USER_LLM_API_KEY`; without it, litellm reads the variables of its
    providers.

    Raises:
        ValueError: there is neither a model nor a server.
    """
    key = os.environ.get("TAU2_USER_LLM_API_KEY") or None
    args = {"timeout": USER_CALL_TIMEOUT, **(args or {})}
    if base_url is None and model:
        return provider_llm(model, {"api_key": key, **args})
    if not (base_url or model):
        raise ValueError(
            "the user simulator needs a model: "
            "set user_llm, or user_llm_base_url, or play in solo_mode"
        )

    async def call_server(messages, tools, tool_choice, **sampling) -> ChatCompletion:
        client = await shared_client(base_url, key or "EMPTY")
        model_name = (model or "default").removeprefix("openai/")
        arguments = {**args, **sampling}
        return await complete(client, model_name, messages, tools, tool_choice, arguments)

    return call_server


def provider_llm(model: str, args: dict[str, Any]) -> CallLLM:
    """Make the LLM of litellm's provider for `model`, e.g. anthropic/claude-sonnet-4-5.

    Without an `api_key` in `args`, litellm reads the provider's own environment variable.
    """
    import litellm

    async def call_provider(messages, tools, tool_choice, **sampling) -> ChatCompletion:
        arguments = {"num_retries": 0, "drop_params": True, **args, **sampling}
        if tools:
            arguments |= {"tools": tools, "tool_choice": tool_choice}
        return await litellm.acompletion(model=model, messages=messages, **arguments)

    return call_provider


async def probe(call: CallLLM) -> str:
    """Have an LLM answer "Say OK.", and return its answer.

    Raises:
        TimeoutError, openai.OpenAIError, ...: what keeps the LLM from answering.
    """
    completion = await asyncio.wait_for(
        call([{"role": "user", "content": "Say OK."}], None, None), PROBE_TIMEOUT
    )
    return completion.choices[0].message.content or ""


async def shared_client(
    base_url: str | None, api_key: str | None, http_client: httpx.AsyncClient | None = None
) -> AsyncOpenAI:
    """Make a client that never retries.

    Without an `http_client`, all clients of an event loop for the same server share connections.
    Where `base_url` or `api_key` is None, openai's environment variables decide.
    """
    if http_client is not None:
        return AsyncOpenAI(
            base_url=base_url, api_key=api_key, http_client=http_client, max_retries=0
        )
    key = asyncio.get_running_loop(), base_url
    if key not in _clients:
        opened = _open_client(base_url, api_key)
        _clients[key] = await anext(opened), opened
    client, _ = _clients[key]
    return client.with_options(api_key=api_key)


async def _open_client(
    base_url: str | None, api_key: str | None
) -> AsyncGenerator[AsyncOpenAI, None]:
    """Yield a client, and close it when the event loop ends.

    An event loop that ends, as in `asyncio.run`, resumes such generators, so that they clean up.
    """
    # aiohttp holds the connections: httpx's own pool looks at every connection for each request,
    # which takes 15 ms where 256 are idle
    http_client = openai.DefaultAioHttpClient(
        limits=httpx.Limits(max_connections=None), verify=ssl_context()
    )
    client = AsyncOpenAI(base_url=base_url, api_key=api_key, http_client=http_client, max_retries=0)
    try:
        yield client
    finally:
        del _clients[asyncio.get_running_loop(), base_url]
        await client.close()


# the client of each event loop and base URL, and the generator that closes it
_clients: dict[
    tuple[asyncio.AbstractEventLoop, str | None],
    tuple[AsyncOpenAI, AsyncGenerator[AsyncOpenAI, None]],
] = {}


@cache
def ssl_context() -> ssl.SSLContext:
    """Read the certificates that servers are checked against, once: it takes 40 ms."""
    return httpx.create_ssl_context()


async def complete(
    client: AsyncOpenAI,
    model: str,
    messages: list[dict],
    tools: list[dict] | None,
    tool_choice: str | None,
    arguments: dict[str, Any],
) -> ChatCompletion:
    """Ask for a chat completion.

    `arguments` are those of `client.chat.completions.create`, and any others of the server.
    `create` itself would walk through every message and schema: 10 ms a call in airline.
    """
    body: dict[str, Any] = {"model": model, "messages": messages}
    if tools:
        body |= {"tools": tools, "tool_choice": tool_choice}
    options = openai.RequestOptions()
    for name, value in arguments.items():
        # the arguments that `create` does not put into the request's body either
        if name == "timeout":
            options["timeout"] = value
        elif name == "extra_headers":
            options["headers"] = value
        elif name == "extra_query":
            options["params"] = value
        elif name == "extra_body":
            options["extra_json"] = value
        else:
            body[name] = value
    return await client.post(
        "/chat/completions", body=body, options=options, cast_to=ChatCompletion
    )


def response_cost(response: Any) -> float:
    """Calculate the USD of an LLM call by litellm's price list; 0.0 for models not on the list."""
    # the answer of a server at a base URL; litellm's providers answer with a type of litellm's
    if isinstance(response, ChatCompletion):
        return 0.0
    from litellm import completion_cost
    from tau2.utils.llm_utils import _parse_ft_model_name

    try:
        # as in tau2: fine-tuned models cost what their base does
        response.model = _parse_ft_model_name(response.model)
        return completion_cost(completion_response=response)
    except Exception:
        return 0.0


def silence_costs() -> None:
    """Make tau2 calculate costs by `response_cost`; tau2 itself logs errors for self-hosted ones.

    A run and a workflow call this when they start.
    """
    import tau2.utils.llm_utils

    tau2.utils.llm_utils.get_response_cost = response_cost


def is_transient(error: Exception) -> bool:
    """Whether a failed call of the user LLM may succeed later.

    Any call may, unless the server has refused it: with the statuses 400, 401, 404, ...
    """
    # litellm's errors derive from openai's
    if isinstance(error, openai.APIStatusError):
        return error.status_code in (408, 409, 425, 429) or error.status_code >= 500
    # a connection that breaks, or a body that is cut off or is not what the API promises
    return isinstance(
        error, (UnusableAnswer, openai.APIError, httpx.HTTPError, json.JSONDecodeError)
    )


def describe_error(error: BaseException) -> str:
    """Describe an error in one line of at most 300 characters, for logs and rejections.

    The line has the error's type and message, and its first cause if the message does not name it.
    """
    text = f"{type(error).__name__}: {error}"
    cause = error
    while cause.__cause__:
        cause = cause.__cause__
    if str(cause) not in text:
        text += f" ({cause})"
    return text.replace("\n", " ")[:300]
