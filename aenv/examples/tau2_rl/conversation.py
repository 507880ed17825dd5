"""The conversation of one episode, between an Agents SDK agent and an instance of `tau2-env`.

A turn that is a single call of a known tool goes to the instance over MCP, because the Agents SDK
calls it as a tool. Every other turn goes there as a message. What the instance answers is added to
the history, which the policy gets in full at each turn.
"""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import openai
from agents import (
    Agent,
    AgentsException,
    FunctionTool,
    ModelBehaviorError,
    ModelResponse,
    RunConfig,
    RunHooks,
    Runner,
    Tool,
    TResponseInputItem,
)
from agents.tool_context import ToolContext
from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
)

from aenv.examples.tau2_rl.sdk_environment import (
    ENVIRONMENT,
    BackgroundEnvironment,
    environment_variables,
)
from examples.tau2.episode.completions import MAX_NESTING
from examples.tau2.episode.failures import ConversationRefused, agent_failure, describe_error

# not a child of the logger `aenv`, which has the SDK's handler
logger = logging.getLogger("tau2_rl")

# the default deadline of an episode, in seconds
TIMEOUT = 600.0
# how often a call to the scheduler that finds no connection is repeated: after 1, 2 and 4 s
RETRIES = 3
# seconds that an instance gets after the episode's deadline, to evaluate and to answer
GRACE = 30.0


class EpisodeOver(AgentsException):
    """The instance's episode has ended. It is raised to end the Agents SDK's run."""


@asynccontextmanager
async def open_conversation(data: dict[str, Any]) -> AsyncIterator["Conversation"]:
    """Open a conversation with a new instance, which is released in the end in any case.

    `data` is that of `run_agent_return_reward`.

    Raises:
        ValueError: the row cannot be played in an instance.
        AEnvError: the service or the instance failed.
        RuntimeError: no instance was ready in time, or the instance plays another episode.
    """
    time_to_start = float(data.get("timeout") or TIMEOUT) + GRACE
    environment = BackgroundEnvironment(
        ENVIRONMENT,
        environment_variables=environment_variables(data),
        ttl=f"{time_to_start + GRACE:.0f}s",
        timeout=time_to_start,
        # a service without room starts the instance when another episode is over
        startup_timeout=time_to_start,
        max_retries=RETRIES,
    )
    try:
        try:
            async with asyncio.timeout(time_to_start):
                # shielded, because a cancelled caller needs the instance's id to release it
                await asyncio.shield(environment.in_background(environment.initialize))
                await environment.in_background(environment.wait_until_ready)
                conversation = await start_conversation(environment, data)
        except TimeoutError:
            raise RuntimeError(
                f"the AEnvironment service had no instance ready within {time_to_start:g} s"
            ) from None
        yield conversation
    finally:
        try:
            async with asyncio.timeout(GRACE):
                await environment.in_background(environment.release)
        except TimeoutError:
            logger.warning(
                "the AEnvironment service does not answer; an instance is left to its time to live"
            )


async def start_conversation(
    environment: BackgroundEnvironment, data: dict[str, Any]
) -> "Conversation":
    """Fetch the system prompt, the tools and the first messages from an instance.

    Raises:
        RuntimeError: the instance plays another episode, or its episode has begun.
    """
    status = await environment.in_background(environment.call_function, "tau2_get_status", {})
    asked = {
        key: data[key] for key in ("domain", "task_id", "solo_mode") if data.get(key) is not None
    }
    plays = {key: status[key] for key in asked}
    if plays != asked or status["turns"] or status["done"]:
        raise RuntimeError(
            f"the instance plays {plays}, {status['turns']} turns so far; "
            f"asked for was a new episode of {asked}: "
            "an instance plays one episode, and DUMMY_INSTANCE_IP names one instance"
        )
    tools = await environment.in_background(environment.list_tools)
    return Conversation(environment, status, [_function_schema(tool) for tool in tools])


def _function_schema(tool: dict[str, Any]) -> dict[str, Any]:
    """Convert a tool as the SDK lists it to a function as OpenAI's API describes it."""
    return {
        # the SDK's prefix, `tau2-env@1.0.0/`, is not valid in the name of a function
        "name": tool["name"].removeprefix(f"{ENVIRONMENT}/"),
        "description": tool["description"],
        "parameters": tool["inputSchema"],
    }


class Conversation(RunHooks):
    """The history of an episode as the Agents SDK's items, and the two ways to continue it.

    `on_llm_end` gets each turn of the policy. `call_tool` gets the calls that the Agents SDK makes.

    Args:
        environment: the instance, which is ready.
        status: what the instance's `tau2_get_status` returned.
        functions: the tools as OpenAI's API describes functions.
    """

    def __init__(
        self,
        environment: BackgroundEnvironment,
        status: dict[str, Any],
        functions: list[dict[str, Any]],
    ):
        system, *messages = status["messages"]
        self.environment = environment
        self.system_prompt: str = system["content"]
        self.solo_mode: bool = status["solo_mode"]
        self.timeout: float = status["timeout"]
        self.tool_schemas = [{"type": "function", "function": function} for function in functions]
        self.tools: list[Tool] = [self._tool(function) for function in functions]
        self.items: list[TResponseInputItem] = []
        self.turns = 0
        # the ids of all tool calls so far
        self._call_ids: set[str] = set()
        # the results that the instance sent for the last message, by the calls' ids
        self._results: dict[str, str] = {}
        self._receive(messages)

    async def play(self, agent: Agent) -> float:
        """Let the agent speak until the episode is over, and return tau2's reward.

        Raises:
            AEnvError, OpenAIError, BadAnswer, AgentsException, RuntimeError, ConversationRefused:
                the episode says nothing about the policy.
        """
        deadline = asyncio.timeout(self.timeout + GRACE / 2)
        try:
            async with deadline:
                await self._converse(agent)
        except openai.APIStatusError as error:
            failure = agent_failure(error, is_answered=self.turns > 0)
            if failure is None or self.turns == 0:
                raise
            if isinstance(failure, ConversationRefused):
                raise failure from error
            logger.info("the policy's own failure: %s", describe_error(failure))
            return 0.0
        except Exception:
            # past its deadline, the instance has a reward for the episode all the same
            if not deadline.expired():
                raise
        reward = await self.environment.in_background(self.environment.call_reward, {})
        logger.info(
            "%s after %d steps", reward["failure"] or reward["termination"], reward["steps"]
        )
        for hint in reward.get("hints", []):
            logger.info("note: %s", hint)
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
                # the Agents SDK refuses calls of unknown tools; the instance has answered them
                if not self._results:
                    raise
                self._results.clear()

    async def on_llm_end(self, context: Any, agent: Agent, response: ModelResponse) -> None:
        """Send the policy's turn to the instance, unless the Agents SDK calls `call_tool` for it.

        Raises:
            EpisodeOver: the turn ended the episode.
        """
        self.turns += 1
        calls = [item for item in response.output if isinstance(item, ResponseFunctionToolCall)]
        self._make_ids_unique(calls)
        text = _take_text(response)
        self.items += response.to_input_items()
        _log_turn(text, calls)
        if not text and len(calls) == 1 and self._can_be_called(calls[0]):
            return
        turn = {
            "message": text or None,
            "tool_calls": [
                {"id": call.call_id, "name": call.name, "arguments": call.arguments}
                for call in calls
            ],
        }
        status = await self.environment.in_background(
            self.environment.call_function, "tau2_send_message", turn
        )
        if status["done"]:
            raise EpisodeOver
        self._receive(status["messages"])

    async def call_tool(self, context: ToolContext, arguments: str) -> str:
        """Return the result of a tool call, as tau2 shows it to the agent.

        Raises:
            EpisodeOver: the call ended the episode.
            AEnvError, RuntimeError: the instance failed.
        """
        if context.tool_call_id in self._results:
            return self._results.pop(context.tool_call_id)
        result = await self.environment.in_background(
            self.environment.call_tool, context.tool_name, _arguments_as_object(arguments)
        )
        texts = [part["text"] for part in result.content]
        if result.is_error:
            raise RuntimeError(f"the instance failed: {' '.join(texts)}")
        # `Tau2Tool` sends two texts when the episode is over
        if len(texts) > 1:
            raise EpisodeOver
        text = "".join(texts)
        self._add({"role": "tool", "tool_call_id": context.tool_call_id, "content": text})
        return text

    def _tool(self, function: dict[str, Any]) -> FunctionTool:
        return FunctionTool(
            function["name"],
            function["description"],
            function["parameters"],
            self.call_tool,
            strict_json_schema=False,
        )

    def _can_be_called(self, call: ResponseFunctionToolCall) -> bool:
        """Whether the Agents SDK knows the tool, and MCP leaves the arguments as they are."""
        is_known = call.name in {tool.name for tool in self.tools}
        return is_known and _arguments_as_object(call.arguments) is not None

    def _make_ids_unique(self, calls: list[ResponseFunctionToolCall]) -> None:
        """Rename calls whose id has occurred: the Agents SDK drops them from its history."""
        for call in calls:
            if call.call_id in self._call_ids:
                call.call_id = f"{call.call_id}-{self.turns}-{len(self._call_ids)}"
            self._call_ids.add(call.call_id)

    def _receive(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            self._add(message)
            if message["role"] == "tool":
                self._results[message["tool_call_id"]] = message["content"]

    def _add(self, message: dict[str, Any]) -> None:
        """Add a message in OpenAI's chat format as one or more of the Agents SDK's items."""
        logger.info("%s: %s", message["role"], message["content"])
        items: list[dict[str, Any]] = []
        if message["role"] == "tool":
            call_id = message["tool_call_id"]
            output = message["content"]
            items.append({"type": "function_call_output", "call_id": call_id, "output": output})
        elif message["content"]:
            items.append({"role": message["role"], "content": message["content"]})
        for call in message.get("tool_calls") or []:
            items.append({"type": "function_call", "call_id": call["id"], **call["function"]})
        self.items += cast(list[TResponseInputItem], items)


def _take_text(response: ModelResponse) -> str:
    """Return the text of a response, and remove its refusal, for which the Agents SDK would raise.

    The text has the words of the refusal.
    """
    text = ""
    for message in response.output:
        if isinstance(message, ResponseOutputMessage):
            parts = [part for part in message.content if isinstance(part, ResponseOutputText)]
            message.content = [*parts]
            text += "".join(part.text for part in parts)
    return text


def _log_turn(text: str, calls: list[ResponseFunctionToolCall]) -> None:
    lines = [text] if text else []
    lines += [f"{call.name}({call.arguments})" for call in calls]
    logger.info("agent: %s", "\n".join(lines))


def _arguments_as_object(text: str) -> dict[str, Any] | None:
    """Parse the arguments of a tool call; None where MCP would change them or refuse them."""
    try:
        arguments = json.loads(text or "{}")
        # this raises for NaN, for infinity, and for lone surrogates
        json.dumps(arguments, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    # the number of brackets is at least the depth; each JSON reader has its own limit of depth
    brackets = text.count("{") + text.count("[")
    return arguments if isinstance(arguments, dict) and brackets <= MAX_NESTING else None
