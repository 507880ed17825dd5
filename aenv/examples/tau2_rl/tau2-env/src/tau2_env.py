"""The environment `tau2-env`: one episode of `Tau2AgentWorkflow`, whose agent is outside.

The agent's turns come in over MCP, where a turn is a single call of a tool, or by
`tau2_send_message`, which takes any turn. The workflow does all else: the user simulator, tau2's
orchestrator, the evaluation. Environment variables say which episode is played: see
`read_settings`. An instance that cannot play the episode ends at once, and says why.
"""

import asyncio
import json
import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from aenv.core import get_function_registry
from aenv.core.function_registry import register_function, register_reward
from fastmcp.tools import Tool, ToolResult
from mcp.types import TextContent
from openai.types.chat import ChatCompletion
from pydantic import TypeAdapter, ValidationError

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.episode import environment
from examples.tau2.episode.completions import assistant_entry, chat_completion
from examples.tau2.episode.config import VARIABLES, Tau2EnvConfig
from examples.tau2.episode.failures import describe_error
from examples.tau2.episode.judge import needs_judge
from examples.tau2.episode.trajectory import Tau2RunInfo
from examples.tau2.episode.variables import require_variables
from examples.tau2.evaluation.setup_hints import setup_hints, signs_of_episode


def read_settings(variables: Mapping[str, str]) -> tuple[Tau2EnvConfig, str]:
    """Read the episode's config and task id from environment variables.

    `TAU2_TASK_ID` is the task id. `VARIABLES` names the variables of the config's fields. If a
    variable is missing or empty, the field has its default. `TAU2_SOLO_MODE` defaults to true if
    there is no user LLM. `TAU2_USER_LLM_ARGS` and `TAU2_JUDGE_LLM_ARGS` are JSON.
    `TAU2_USER_LLM_API_KEY` and `TAU2_JUDGE_LLM_API_KEY` are read by the clients of these LLMs.

    Raises:
        ValueError: a variable cannot be read, or there is no such episode.
    """
    config = _read_config(variables)
    if config.domain not in environment.DOMAINS:
        raise ValueError(
            f"TAU2_DOMAIN is {config.domain!r}, but must be one of {environment.DOMAIN_CHOICES}"
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
            f"{config.domain} task {task_id!r} has no ticket to be played solo: "
            "set TAU2_USER_LLM and TAU2_USER_LLM_API_BASE"
        )
    if needs_judge(task) and not config.names_judge:
        raise ValueError(
            f"an LLM must judge assertions of {config.domain} task {task_id!r}: "
            "set TAU2_JUDGE_LLM, and TAU2_JUDGE_LLM_API_BASE for a server of your own"
        )
    return config, task_id


def _read_config(variables: Mapping[str, str]) -> Tau2EnvConfig:
    fields: dict[str, Any] = {}
    for field, name in VARIABLES.items():
        if variables.get(name):
            fields[field] = variables[name]
    fields.setdefault("solo_mode", not (fields.get("user_llm") or fields.get("user_llm_base_url")))
    for field in ("user_llm_args", "judge_llm_args"):
        if field in fields:
            try:
                fields[field] = json.loads(fields[field])
            except ValueError as error:
                raise ValueError(f"{VARIABLES[field]} is not JSON: {error}") from error
    try:
        return TypeAdapter(Tau2EnvConfig).validate_python(fields)
    except ValidationError as error:
        problems = []
        for detail in error.errors():
            field = str(detail["loc"][0])
            problems.append(f"{VARIABLES[field]}: {detail['msg']}")
        raise ValueError("; ".join(problems)) from None


class Episode:
    """An episode that waits for its agent's turns.

    The workflow runs in an asyncio task. When it asks for the agent's completion, it gets a future,
    which the agent's next turn resolves.
    """

    def __init__(self, config: Tau2EnvConfig, task_id: str):
        self.config = config
        self.task_id = task_id
        self.workflow = Tau2AgentWorkflow(asdict(config))
        self.system_prompt = ""
        self.turns = 0
        # what the agent has not seen yet, in OpenAI's format
        self.messages: list[dict] = []
        # how many messages of the history the agent knows, its own included
        self._known = 0
        self._agent_must_speak = asyncio.Event()
        self._turn: asyncio.Future[ChatCompletion]
        self._play: asyncio.Task[Tau2RunInfo] | None = None

    async def ready(self) -> None:
        """Start the episode if it is new, and wait until the agent must speak or it is over.

        Raises:
            EpisodeRejected: the episode ended, but not by the agent's doing.
        """
        if self._play is None:
            episode = self.workflow.play_with(self._wait_for_turn, {"task_id": self.task_id})
            self._play = asyncio.create_task(episode)
            self._play.add_done_callback(lambda _: self._agent_must_speak.set())
        await self._agent_must_speak.wait()
        error = self._play.exception() if self._play.done() else None
        if error is not None:
            # the SDK prints the traceback, which would have all causes
            rejected = isinstance(error, EpisodeRejected)
            raise EpisodeRejected(str(error) if rejected else describe_error(error)) from None

    @property
    def is_over(self) -> bool:
        return self._play is not None and self._play.done()

    async def _wait_for_turn(self, history: list[dict], *_: Any) -> ChatCompletion:
        """Return the next turn from outside, as the completion that the workflow asks for."""
        self.system_prompt = history[0]["content"]
        self.messages = history[self._known :]
        self._turn = asyncio.get_running_loop().create_future()
        self._agent_must_speak.set()
        completion = await self._turn
        self._known = len(history) + 1
        return completion

    async def say(self, message: str | None, tool_calls: list[dict]) -> None:
        """Take a turn of the agent, and wait until the agent must speak again or it is over.

        Each of `tool_calls` has `id`, `name` and `arguments`, a string of JSON. A turn after the
        episode's end has no effect.

        Raises:
            EpisodeRejected: the episode ended, but not by the agent's doing.
        """
        await self.ready()
        if self.is_over:
            return
        self._agent_must_speak.clear()
        self.turns += 1
        calls = [(call["id"], call["name"], call["arguments"]) for call in tool_calls]
        entry = assistant_entry(message, calls)
        turn = chat_completion(entry, completion_id=f"turn-{self.turns}", model="outside")
        self._turn.set_result(turn)
        await self.ready()

    async def status(self) -> dict[str, Any]:
        """Return what is played, how far it is, and what the agent has not seen yet.

        `messages` are in OpenAI's format. Before the first turn they begin with the system prompt.
        """
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
        """Return tau2's reward, how it was computed, and why the episode ended.

        `hints` are sentences on what may be wrong with the set-up of the policy's server.

        Raises:
            RuntimeError: the episode is not over.
        """
        await self.ready()
        if self._play is None or not self._play.done():
            raise RuntimeError(
                f"the episode is not over: the agent is to speak, after {self.turns} turns"
            )
        info = self._play.result()
        reward_info = info.simulation.reward_info
        task = environment.find_task(self.config.domain, self.task_id)
        calls_are_expected = info.solo_mode or bool(environment.expected_actions(task))
        return {
            "total_reward": info.reward,
            "done": True,
            "steps": info.steps,
            "termination": info.termination,
            "failure": info.failure,
            "reward_info": reward_info and reward_info.model_dump(mode="json"),
            "hints": list(setup_hints(signs_of_episode(info), calls_are_expected)),
        }


class Tau2Tool(Tool):
    """A tool of tau2 with the schema that tau2 gives it.

    The result has one text: what tau2 shows the agent, errors included. It has none where that is
    empty, because the SDK has no empty text. It has two when the episode is over.
    """

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        call_id = f"call-{episode.turns}"
        call = {"id": call_id, "name": self.name, "arguments": json.dumps(arguments)}
        await episode.say(None, [call])
        if episode.is_over:
            texts = ["The episode", "is over."]
        else:
            texts = [message["content"] for message in episode.messages]
        return ToolResult(content=[TextContent(type="text", text=text) for text in texts if text])


try:
    require_variables()
    episode = Episode(*read_settings(os.environ))
except ValueError as error:
    raise SystemExit(f"tau2-env: {error}") from None

server = get_function_registry().get_server()
# the SDK makes the server before it loads this file
assert server is not None
# FastMCP's middleware would rewrite the schemas of nested arguments
server.middleware.clear()
for schema in environment.agent_schemas(
    episode.config.domain, episode.config.solo_mode, episode.config.add_thinking_tool
):
    server.add_tool(Tau2Tool(**schema["function"]))


@register_function
async def tau2_get_system_prompt() -> str:
    """Return tau2's instructions and policy; in solo mode with the ticket."""
    await episode.ready()
    return episode.system_prompt


@register_function
async def tau2_get_status() -> dict[str, Any]:
    """Return what is played and what the agent has not seen yet, see `Episode.status`."""
    return await episode.status()


@register_function
async def tau2_send_message(
    message: str | None = None, tool_calls: list[dict] | None = None
) -> dict[str, Any]:
    """Take a turn of the agent, see `Episode.say`, and return the status after it."""
    await episode.say(message, tool_calls or [])
    return await episode.status()


@register_reward
async def tau2_reward() -> dict[str, Any]:
    """Return the reward of the episode, see `Episode.reward`."""
    return await episode.reward()
