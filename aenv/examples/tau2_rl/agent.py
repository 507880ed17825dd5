"""Play a tau2 task in AEnvironment with an agent of the OpenAI Agents SDK, and return tau2's reward.

    python aenv/examples/tau2_rl/agent.py --domain telecom --task_id <TASK_ID>

An instance of `tau2-env` plays one episode. The Agents SDK asks the policy for completions and calls its tools in the
instance over MCP; what is not a lone call of a tool goes there as a message, and what it leads to is added to the
conversation. The policy is the server that `OPENAI_BASE_URL` and `OPENAI_API_KEY` name, or the arguments.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # import from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[3])

import httpx
import openai
from agents import (
    Agent,
    AgentsException,
    FunctionTool,
    ModelBehaviorError,
    ModelResponse,
    ModelSettings,
    OpenAIChatCompletionsModel,
    RunConfig,
    RunHooks,
    Runner,
)
from agents.models import get_default_model
from agents.tool_context import ToolContext
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from aenv import AEnvError
from aenv.core.environment import Environment
from examples.tau2.episode.config import VARIABLES
from examples.tau2.episode.llm import describe_error, policy_failure, shared_client

logger = logging.getLogger("tau2_rl")  # not under `aenv`, where the SDK has a handler of its own
logging.getLogger("aenv").setLevel(logging.WARNING)  # at INFO the SDK prints the user LLM's API key

ENVIRONMENT = "tau2-env@1.0.0"
USER_LLM = ("TAU2_USER_LLM", "TAU2_USER_LLM_API_BASE", "TAU2_USER_LLM_API_KEY")
TIMEOUT = 600.0  # seconds: the default deadline of an episode
RETRIES = 3  # of a call to the scheduler that finds no connection, after 1, 2 and 4 s
GRACE = 30.0  # seconds that an instance gets beyond the episode's deadline: to evaluate, to answer
MAX_NESTING = (
    32  # of tool arguments sent as an object: JSON readers give up somewhere, each elsewhere
)


async def run_agent_return_reward(
    data: dict[str, Any],
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    http_client: httpx.AsyncClient | None = None,
    model: str | None = None,
    temperature: float = 1.0,
    top_p: float = 1.0,
    max_completion_tokens: int = 8192,
    **extra_args: Any,
) -> float:
    """Play the episode `data` and return tau2's reward, 0.0 to 1.0.

    Args:
        data: `task_id`, and any field of `examples.tau2.episode.config.Tau2EnvConfig`. Unless it says otherwise, the user LLM is
            that of the environment variables `USER_LLM`, and the episode is played solo if there is none.
        base_url, api_key, http_client: of the policy's server; openai's environment variables where None.
        model: of the policy; None: `OPENAI_DEFAULT_MODEL`.
        extra_args: further arguments of each chat completion.

    Raises:
        AEnvError, OpenAIError, AgentsException, RuntimeError: the episode says nothing about the policy.
    """
    client = await shared_client(base_url, api_key, http_client)
    known = {field.name for field in fields(ModelSettings)}
    settings = {name: value for name, value in extra_args.items() if name in known}
    options = {name: value for name, value in extra_args.items() if name == "timeout"}
    body = {name: value for name, value in extra_args.items() if name not in known | {"timeout"}}
    async with opened(data) as conversation:
        settings["extra_body"] = {
            # the Agents SDK's own would say `strict`, which chat templates render: the prompt would not be examples/tau2's
            "tools": conversation.schemas,
            "max_completion_tokens": max_completion_tokens,
            **body,
            **(settings.get("extra_body") or {}),
        }
        agent = Agent(
            name="tau2",
            instructions=conversation.system_prompt,
            tools=conversation.tools,
            model=Policy(
                model or get_default_model(),
                client,
                should_replay_reasoning_content=lambda _: False,
            ),
            model_settings=ModelSettings(
                temperature=temperature,
                top_p=top_p,
                tool_choice="required" if conversation.solo_mode else "auto",
                extra_args=options,
                **settings,
            ),
            reset_tool_choice=False,
        )
        return await conversation.play(agent)


class Policy(OpenAIChatCompletionsModel):
    """The Agents SDK's model, with completions mended that it would refuse, or take for empty: tau2 has its own answers."""

    async def _fetch_response(self, *arguments: Any, **keywords: Any) -> Any:
        completion = await super()._fetch_response(*arguments, **keywords)
        if not completion.choices or completion.choices[0].message is None:
            raise RuntimeError("the policy's server sent a completion without a message")
        message = completion.choices[0].message
        message.content = _utf8(message.content)
        for call in message.tool_calls or []:
            call.type, call.id = "function", call.id or f"call-{id(call)}"
            call.function.name, call.function.arguments = (
                _utf8(call.function.name or ""),
                _utf8(call.function.arguments or ""),
            )
        if completion.usage and None in (
            completion.usage.completion_tokens,
            completion.usage.total_tokens,
        ):
            completion.usage = None
        return completion


def _utf8(text: str | None) -> str | None:
    """JSON can escape lone surrogates, which HTTP cannot carry."""
    return text if text is None else text.encode("utf-8", "replace").decode()


@asynccontextmanager
async def opened(data: dict[str, Any]) -> AsyncIterator["Conversation"]:
    """The conversation of a new instance, which is released in the end, whatever happens."""
    within = float(data.get("timeout") or TIMEOUT) + GRACE
    environment = Instance(
        ENVIRONMENT,
        environment_variables=environment_variables(data),
        ttl=f"{within + GRACE:.0f}s",
        timeout=within,
        startup_timeout=within,  # where the service has no room, until another's episode is over
        max_retries=RETRIES,
    )
    try:
        conversation = Conversation(environment)
        try:
            async with asyncio.timeout(within):
                # not to be cancelled: an instance whose id the service has sent, and nobody read, would go on
                await asyncio.shield(environment.aside(environment.initialize))
                await environment.aside(environment.wait_until_ready)
                await conversation.open(data)
        except TimeoutError:
            raise RuntimeError(
                f"the AEnvironment service had no instance ready within {within:g} s"
            ) from None
        yield conversation
    finally:
        try:
            async with asyncio.timeout(GRACE):
                await environment.aside(environment.release)
        except TimeoutError:
            logger.warning(
                "the AEnvironment service does not answer; an instance is left to its time to live"
            )


class Instance(Environment):
    """The SDK's environment, which makes its calls in an event loop of its own, one at a time."""

    def __init__(self, *arguments: Any, **keywords: Any):
        super().__init__(*arguments, **keywords)
        self._turn = asyncio.Lock()

    async def wait_for_ready(self, **_: Any) -> None:
        """Not within `initialize`, as the SDK does: that ends when it is known what will have to be released."""

    async def wait_until_ready(self) -> None:
        if not self.dummy_instance_ip:
            await super().wait_for_ready(self._startup_timeout)

    async def aside(self, call: Callable[..., Coroutine[Any, Any, Any]], *arguments: Any) -> Any:
        """Await a call of the SDK without a stop of the rollouts' event loop: the SDK has a new HTTP client for each call of a
        function, and each client reads all certificates, which takes 30 to 50 ms.

        A call that is cancelled has ended before the next one, the release, begins.

        Raises:
            AEnvError: the SDK's; if the instance said why, with just that.
        """

        async def called() -> Any:
            try:
                async with self._turn:
                    return await call(*arguments)
            except AEnvError as error:
                if asyncio.current_task().cancelling():  # of which the SDK makes an error
                    raise asyncio.CancelledError from error
                _, said, reason = str(error).partition("Server error: ")
                if not said:
                    raise
                raise AEnvError(reason) from None

        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(called(), _sdk_loop()))


@cache
def _sdk_loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="aenv", daemon=True).start()
    return loop


def environment_variables(data: dict[str, Any]) -> dict[str, str]:
    """What an instance of `tau2-env` is told of the episode; what is None is left out.

    Raises:
        ValueError: the row names a tasks file or a database, which instances do not get.
    """
    if unknown := [key for key in ("tasks_file", "db_path") if data.get(key)]:
        raise ValueError(
            f"instances of tau2-env have tau2's tasks and databases only, not {unknown[0]}"
        )
    told = {name: os.environ.get(name) or None for name in USER_LLM}
    given = {VARIABLES[key]: data[key] for key in VARIABLES.keys() & data.keys()}
    told |= {name: value for name, value in given.items() if value is not None}
    told["TAU2_TASK_ID"] = data["task_id"]
    return {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in told.items()
        if value is not None
    }


class EpisodeOver(AgentsException):
    """The instance's episode has ended; ends the Agents SDK's run."""


class Conversation(RunHooks):
    """The episode of an instance, as a history of the Agents SDK's items."""

    def __init__(self, environment: Environment):
        self.environment = environment
        self.items: list[dict] = []
        self.turns = 0
        self._ids: set[str] = set()  # of tool calls
        self._results: dict[str, str] = {}  # of the last turn's tool calls, by their ids

    async def open(self, data: dict[str, Any]) -> None:
        """Fetch the system prompt, the tools and the first messages.

        Raises:
            RuntimeError: the instance plays something else, or has begun.
        """
        status = await self.environment.aside(self.environment.call_function, "tau2_get_status", {})
        asked = {
            key: data[key]
            for key in ("domain", "task_id", "solo_mode")
            if data.get(key) is not None
        }
        plays = {key: status[key] for key in asked}
        if plays != asked or status["turns"] or status["done"]:
            raise RuntimeError(
                f"the instance plays {plays}, {status['turns']} turns so far; asked for was a new episode of {asked}: "
                "an instance plays one episode, and DUMMY_INSTANCE_IP names one instance"
            )
        self.solo_mode, self.timeout = status["solo_mode"], status["timeout"]
        self.system_prompt = status["messages"].pop(0)["content"]
        functions = [
            {
                "name": tool["name"].removeprefix(
                    f"{ENVIRONMENT}/"
                ),  # the SDK's prefix is not valid in a function's name
                "description": tool["description"],
                "parameters": tool["inputSchema"],
            }
            for tool in await self.environment.aside(self.environment.list_tools)
        ]
        self.schemas = [{"type": "function", "function": function} for function in functions]
        self.tools = [
            FunctionTool(name, description, parameters, self.call_tool, strict_json_schema=False)
            for name, description, parameters in map(dict.values, functions)
        ]
        self._hear(status)

    async def play(self, agent: Agent) -> float:
        """Let the agent speak until the episode is over, and return its reward."""
        try:
            async with asyncio.timeout(self.timeout + GRACE / 2) as deadline:
                await self._converse(agent)
        except openai.APIStatusError as error:
            failure = policy_failure(error)
            if failure is None or self.turns == 0:
                raise
            logger.info("the policy's own failure: %s", describe_error(failure))
            return 0.0
        except Exception:
            if not deadline.expired():
                raise
        # also past the deadline: the instance has one of its own
        reward = await self.environment.aside(self.environment.call_reward, {})
        logger.info(
            "%s after %d steps", reward["failure"] or reward["termination"], reward["steps"]
        )
        return float(reward["total_reward"])

    async def _converse(self, agent: Agent) -> None:
        while True:
            try:
                await Runner.run(
                    agent,
                    list(self.items),
                    max_turns=None,
                    hooks=self,
                    run_config=RunConfig(tracing_disabled=True),
                )
            except EpisodeOver:
                return
            except ModelBehaviorError:
                # the Agents SDK refuses calls of unknown tools; the instance has answered, as tau2 does
                if not self._results:
                    raise
                self._results.clear()

    async def on_llm_end(self, context: Any, agent: Agent, response: ModelResponse) -> None:
        """Send the policy's turn to the instance, unless it is a call that `call_tool` will send."""
        self.turns += 1
        calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
        for call in calls:  # the Agents SDK drops from its history what has an id that it has seen, as some servers give
            if call.call_id in self._ids:
                call.call_id = f"{call.call_id}-{self.turns}-{len(self._ids)}"
            self._ids.add(call.call_id)
        self.items += response.to_input_items()
        messages = [item for item in response.output if isinstance(item, ResponseOutputMessage)]
        parts = [
            part
            for message in messages
            for part in message.content
            if isinstance(part, ResponseOutputText)
        ]
        text = "".join(part.text for part in parts)
        logger.info(
            "agent: %s",
            "\n".join(filter(None, [text, *(f"{c.name}({c.arguments})" for c in calls)])),
        )
        known = {tool.name for tool in self.tools}
        if (
            len(calls) == 1
            and not text
            and calls[0].name in known
            and _arguments(calls[0].arguments) is not None
        ):
            return
        turn = {
            "message": text or None,
            "tool_calls": [
                {"id": call.call_id, "name": call.name, "arguments": call.arguments}
                for call in calls
            ],
        }
        self._hear(
            await self.environment.aside(self.environment.call_function, "tau2_send_message", turn)
        )

    async def call_tool(self, context: ToolContext, arguments: str) -> str:
        """The result of a tool call, as tau2 shows it to the agent."""
        if context.tool_call_id in self._results:
            return self._results.pop(context.tool_call_id)
        result = await self.environment.aside(
            self.environment.call_tool, context.tool_name, _arguments(arguments)
        )
        texts = [part["text"] for part in result.content]
        if result.is_error:
            raise RuntimeError(f"the instance failed: {' '.join(texts)}")
        if len(texts) > 1:
            raise EpisodeOver
        self._add({"role": "tool", "tool_call_id": context.tool_call_id, "content": "".join(texts)})
        return "".join(texts)

    def _hear(self, status: dict[str, Any]) -> None:
        if status["done"]:
            raise EpisodeOver
        for message in status["messages"]:
            self._add(message)
            if message["role"] == "tool":
                self._results[message["tool_call_id"]] = message["content"]

    def _add(self, message: dict[str, Any]) -> None:
        """A message in OpenAI's chat format becomes one or more of the Agents SDK's items."""
        logger.info("%s: %s", message["role"], message["content"])
        if message["role"] == "tool":
            output = {"call_id": message["tool_call_id"], "output": message["content"]}
            self.items.append({"type": "function_call_output", **output})
            return
        if message["content"]:
            self.items.append({"role": message["role"], "content": message["content"]})
        for call in message.get("tool_calls") or []:
            self.items.append({"type": "function_call", "call_id": call["id"], **call["function"]})


def _arguments(text: str) -> dict[str, Any] | None:
    """The arguments of a tool call, if sending them as an object leaves them as they are."""
    try:
        arguments = json.loads(text or "{}")
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    nesting = text.count("{") + text.count("[")
    return arguments if isinstance(arguments, dict) and nesting <= MAX_NESTING else None


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Play one tau2 task in AEnvironment.")
    parser.add_argument("--domain", default="telecom")
    parser.add_argument("--task_id", required=True)
    parser.add_argument(
        "--solo_mode",
        action=argparse.BooleanOptionalAction,
        help="default: whether TAU2_USER_LLM is not set",
    )
    parser.add_argument("--model", help="default: OPENAI_DEFAULT_MODEL")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0.0 to 0.3 to evaluate (default: 1.0)"
    )
    parser.add_argument("--top_p", type=float, default=1.0, help="default: 1.0")
    parser.add_argument(
        "--max_completion_tokens", type=int, default=8192, help="of each completion (default: 8192)"
    )
    options = vars(parser.parse_args(argv))
    data = {key: options.pop(key) for key in ("domain", "task_id", "solo_mode")}
    logging.basicConfig(format="%(message)s")
    logging.getLogger("aenv").setLevel(
        logging.CRITICAL
    )  # what the SDK reports as errors, it raises
    logger.setLevel(logging.INFO)

    from aenv.examples.tau2_rl.service import at_hand

    try:
        with at_hand():
            reward = asyncio.run(run_agent_return_reward(data, **options))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(
            f"The episode says nothing about the policy: {describe_error(error)}", file=sys.stderr
        )
        return 1
    print(f"reward {reward}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
