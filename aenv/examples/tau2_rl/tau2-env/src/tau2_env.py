"""The environment `tau2-env`: one episode of `Tau2AgentWorkflow`, whose agent speaks from outside.

The agent's turns come in as calls of its tools over MCP (a turn of that one call) or by `tau2_send_message` (a turn of
any kind). Everything else is the workflow's: the user simulator, tau2's orchestrator, the evaluation. What is played is
set by environment variables, see `settings`; an instance that cannot play it ends at once, with the reason.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aenv.core import get_function_registry
from fastmcp.tools import Tool
from fastmcp.tools.tool import ToolResult
from mcp.types import TextContent
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter, ValidationError

from aenv import register_function, register_reward
from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.config import VARIABLES, Tau2EnvConfig


def settings(variables: Mapping[str, str]) -> tuple[Tau2EnvConfig, str]:
    """The episode and its task id: `TAU2_TASK_ID`, and the fields of `Tau2EnvConfig` as `VARIABLES` names them.

    A variable that is missing or empty leaves the field's default. `TAU2_SOLO_MODE` defaults to whether there is no user
    LLM; `TAU2_USER_LLM_ARGS` is JSON; `TAU2_USER_LLM_API_KEY` is read by the user LLM's client.

    Raises:
        ValueError: a variable cannot be read, or there is no such episode.
    """
    given: dict[str, Any] = {
        field: variables[name] for field, name in VARIABLES.items() if variables.get(name)
    }
    given.setdefault("solo_mode", not (given.get("user_llm") or given.get("user_llm_base_url")))
    try:
        if "user_llm_args" in given:
            given["user_llm_args"] = json.loads(given["user_llm_args"])
        config = TypeAdapter(Tau2EnvConfig).validate_python(given)
    except json.JSONDecodeError as error:
        raise ValueError(f"TAU2_USER_LLM_ARGS is not JSON: {error}") from error
    except ValidationError as error:
        problems = (
            f"{VARIABLES[problem['loc'][0]]}: {problem['msg']}" for problem in error.errors()
        )
        raise ValueError("; ".join(problems)) from None
    if config.domain not in environment.DOMAINS:
        raise ValueError(
            f"TAU2_DOMAIN is {config.domain!r}, but must be one of {', '.join(environment.DOMAINS)}"
        )
    task_id = variables.get("TAU2_TASK_ID")
    if not task_id:
        raise ValueError("TAU2_TASK_ID is not set")
    try:
        task = environment.find_task(config.domain, task_id)
    except LookupError as error:
        raise ValueError(f"TAU2_TASK_ID: {error}") from None
    if config.solo_mode and not environment.playable_solo(task):
        raise ValueError(
            f"{config.domain} task {task_id!r} has no ticket to be played solo: set TAU2_USER_LLM and TAU2_USER_LLM_API_BASE"
        )
    return config, task_id


class Episode:
    """A conversation that waits for its agent."""

    def __init__(self, config: Tau2EnvConfig, task_id: str):
        self.config, self.task_id = config, task_id
        self.workflow = Tau2AgentWorkflow(asdict(config))
        self.system_prompt = ""
        self.turns = 0
        self.messages: list[dict] = []
        self._seen = 0
        self._agent_is_to_speak = asyncio.Event()
        self._turn: asyncio.Future[ChatCompletion]
        self._play: asyncio.Task | None = None

    async def ready(self) -> None:
        """Wait until the agent is to speak, or the episode is over; the first one to wait opens it.

        Raises:
            EpisodeRejected: the episode ended by no doing of the agent, e.g. the user simulator's.
        """
        if self._play is None:
            self._play = asyncio.create_task(
                self.workflow.play_with(self._complete, {"task_id": self.task_id})
            )
            self._play.add_done_callback(lambda _: self._agent_is_to_speak.set())
        await self._agent_is_to_speak.wait()
        if self.is_over:
            self._play.result()

    @property
    def is_over(self) -> bool:
        return self._play is not None and self._play.done()

    async def _complete(self, history: list[dict], *_: Any) -> ChatCompletion:
        self.system_prompt = history[0]["content"]
        self.messages = history[self._seen :]
        self._turn = asyncio.get_running_loop().create_future()
        self._agent_is_to_speak.set()
        completion = await self._turn
        self._seen = len(history) + 1
        return completion

    async def say(self, message: str | None, tool_calls: list[dict]) -> None:
        """Take the agent's turn, and wait for what it leads to; a turn that comes after the deadline leads to nothing.

        Args:
            tool_calls: each with `id`, `name` and `arguments`, a string of JSON.
        """
        await self.ready()
        if self.is_over:
            return
        self._agent_is_to_speak.clear()
        self.turns += 1
        calls = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in tool_calls
        ]
        said = {"role": "assistant", "content": message, "tool_calls": calls or None}
        finish_reason = "tool_calls" if calls else "stop"
        self._turn.set_result(
            ChatCompletion.model_validate(
                {
                    "id": f"turn-{self.turns}",
                    "choices": [{"index": 0, "message": said, "finish_reason": finish_reason}],
                    "created": 0,
                    "model": "outside",
                    "object": "chat.completion",
                }
            )
        )
        await self.ready()

    async def status(self) -> dict[str, Any]:
        """`messages`, in OpenAI's format, are those that came up since the agent last spoke: at first, from the system's on."""
        await self.ready()
        config = self.config
        return {
            "domain": config.domain,
            "task_id": self.task_id,
            "solo_mode": config.solo_mode,
            "max_steps": config.max_steps,
            "timeout": config.timeout,
            "turns": self.turns,
            "done": self.is_over,
            "messages": [] if self.is_over else self.messages,
        }

    async def reward(self) -> dict[str, Any]:
        """tau2's reward, how it came about, and why the episode ended."""
        await self.ready()
        if not self.is_over:
            raise RuntimeError(
                f"the episode is not over: the agent is to speak, after {self.turns} turns"
            )
        info = self._play.result()
        return {
            "total_reward": info.reward,
            "done": True,
            "steps": info.steps,
            "termination": info.termination,
            "failure": info.failure,
            "reward_info": info.simulation.reward_info.model_dump(mode="json"),
        }


class Tau2Tool(Tool):
    """A tool of tau2 with the schema that tau2 gives it.

    Its one content is what tau2 shows the agent, errors included. There is none where that is empty, for which the SDK has
    no text, and there are two once the episode is over.
    """

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        id = f"call-{episode.turns}"
        await episode.say(None, [{"id": id, "name": self.name, "arguments": json.dumps(arguments)}])
        texts = (
            ["The episode", "is over."]
            if episode.is_over
            else [message["content"] for message in episode.messages]
        )
        return ToolResult(content=[TextContent(type="text", text=text) for text in texts if text])


try:
    episode = Episode(*settings(os.environ))
except ValueError as error:
    raise SystemExit(f"tau2-env: {error}") from None

server = get_function_registry().get_server()
server.middleware.clear()  # FastMCP's own would rewrite the schemas of nested arguments
for schema in environment.agent_schemas(
    episode.config.domain, episode.config.solo_mode, episode.config.add_thinking_tool
):
    server.add_tool(Tau2Tool(**schema["function"]))


@register_function
async def tau2_get_system_prompt() -> str:
    """tau2's own instructions and policy, in solo mode with the ticket."""
    await episode.ready()
    return episode.system_prompt


@register_function
async def tau2_get_status() -> dict[str, Any]:
    """What is played, how far it is, and what the agent has to hear: see `Episode.status`."""
    return await episode.status()


@register_function
async def tau2_send_message(
    message: str | None = None, tool_calls: list[dict] | None = None
) -> dict[str, Any]:
    """Take a turn of the agent and return the status after it: see `Episode.say`."""
    await episode.say(message, tool_calls or [])
    return await episode.status()


@register_reward
async def tau2_reward() -> dict[str, Any]:
    """See `Episode.reward`."""
    return await episode.reward()
