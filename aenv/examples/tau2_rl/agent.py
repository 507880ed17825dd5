"""Play one tau2 task in AEnvironment with the OpenAI Agents SDK, and return tau2's reward.

    python aenv/examples/tau2_rl/agent.py --domain telecom --task_id <TASK_ID>

What happens in an episode, in order:

1. The AEnvironment service starts an instance of `tau2-env`, which plays this one episode.
2. The instance sends the system prompt, the tools and the first messages.
3. The Agents SDK asks the policy for a completion, and the completion goes to the instance.
4. The instance sends what follows: results of tools, or the user's next message. Then 3 again.
5. When the episode is over, the instance sends tau2's reward, and the service ends the instance.

The policy's server is given by arguments, or by `OPENAI_BASE_URL` and `OPENAI_API_KEY`.
"""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # import from the repository's root, as everything else does
    sys.path[0] = str(Path(__file__).resolve().parents[3])

import httpx
from agents import Agent, ModelSettings, OpenAIChatCompletionsModel
from agents.models import get_default_model
from openai import OpenAIError

from aenv.examples.tau2_rl.conversation import Conversation, open_conversation
from aenv.examples.tau2_rl.service.server import ensure_service
from examples.tau2.episode.answers import BadAnswer
from examples.tau2.episode.failures import ConversationRefused, describe_error
from examples.tau2.episode.llm import argument_problem, json_object, served_name, shared_client
from examples.tau2.episode.variables import require_variables, without_password


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
        data: `task_id`, and any field of `examples.tau2.episode.config.Tau2EnvConfig`. Fields that
            are missing or None have their defaults, with two exceptions. The user LLM is that of
            the environment variables `USER_LLM`. Without a user LLM the episode is played solo.
        base_url: URL of the policy's server; None: `OPENAI_BASE_URL`.
        api_key: key of the policy's server; None: `OPENAI_API_KEY`.
        http_client: makes the requests to the policy's server.
        model: name of the policy; None: `OPENAI_DEFAULT_MODEL`.
        temperature, top_p, max_completion_tokens: of each completion.
        extra_args: further arguments of each chat completion. What is None is not sent.

    Raises:
        ValueError: the episode cannot be played in an instance.
        AEnvError, OpenAIError, BadAnswer, AgentsException, RuntimeError, ConversationRefused:
            something else than the policy failed, so the episode says nothing about the policy.
    """
    client = await shared_client(base_url, api_key, http_client)
    arguments = {
        "temperature": temperature,
        "top_p": top_p,
        "max_completion_tokens": max_completion_tokens,
        **extra_args,
    }
    async with open_conversation(data) as conversation:
        agent = Agent(
            name="tau2",
            instructions=conversation.system_prompt,
            tools=conversation.tools,
            model=OpenAIChatCompletionsModel(served_name(model or get_default_model()), client),
            model_settings=model_settings(conversation, arguments),
            reset_tool_choice=False,
        )
        return await conversation.play(agent)


def model_settings(conversation: Conversation, arguments: dict[str, Any]) -> ModelSettings:
    """Make the Agents SDK's settings of a chat completion.

    `arguments` are `timeout`, `extra_headers`, `extra_query` and `extra_body` as openai's client
    has them, and anything that belongs in the request's body. Those that are None are not sent.
    """
    body = {name: value for name, value in arguments.items() if value is not None}
    request = {"timeout": body.pop("timeout")} if "timeout" in body else {}
    headers, query = body.pop("extra_headers", None), body.pop("extra_query", None)
    more = body.pop("extra_body", {})
    return ModelSettings(
        tool_choice="required" if conversation.solo_mode else "auto",
        extra_headers=headers,
        extra_query=query,
        # The Agents SDK's own schemas say `strict`. Chat templates render that, so the prompt would
        # differ from the one of `Tau2AgentWorkflow`.
        extra_body={"tools": conversation.tool_schemas, **body, **more},
        extra_args=request,
    )


def main(argv: list[str]) -> int:
    """Play one episode; print the conversation to stderr and the reward to stdout."""
    parser = argparse.ArgumentParser(description="Play one tau2 task in AEnvironment.")
    parser.add_argument("--domain", default="telecom", help="default: telecom")
    parser.add_argument("--task_id", required=True)
    parser.add_argument(
        "--solo_mode",
        action=argparse.BooleanOptionalAction,
        help="play without a user simulator (default: if TAU2_USER_LLM is not set)",
    )
    parser.add_argument("--model", help="name of the policy (default: OPENAI_DEFAULT_MODEL)")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="0.0 to 0.3 to evaluate (default: 1.0)"
    )
    parser.add_argument("--top_p", type=float, default=1.0, help="default: 1.0")
    parser.add_argument(
        "--max_completion_tokens", type=int, default=8192, help="of each completion (default: 8192)"
    )
    parser.add_argument(
        "--llm_args",
        type=json_object,
        default={},
        metavar="JSON",
        help="JSON object: more arguments of each completion; null leaves one out",
    )
    options = vars(parser.parse_args(argv))
    data = {key: options.pop(key) for key in ("domain", "task_id", "solo_mode")}
    llm_args = options.pop("llm_args")
    problem = argument_problem(llm_args)
    if problem:
        parser.error(f"--llm_args: {problem}")
    try:
        require_variables()
    except ValueError as error:
        parser.error(str(error))
    logging.basicConfig(format="%(message)s")
    logging.getLogger("tau2_rl").setLevel(logging.INFO)
    # the SDK also raises what it logs as an error
    logging.getLogger("aenv").setLevel(logging.CRITICAL)

    # a server of one's own may want no key
    options["api_key"] = os.environ.get("OPENAI_API_KEY") or "EMPTY"
    try:
        with ensure_service():
            reward = asyncio.run(run_agent_return_reward(data, **{**options, **llm_args}))
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        cause = describe_error(error)
        print(f"The episode says nothing about the policy: {cause}", file=sys.stderr)
        if isinstance(error, OpenAIError | BadAnswer | ConversationRefused):
            print(_policy_settings(options["model"]), file=sys.stderr)
        return 1
    print(f"reward {reward}")
    return 0


def _policy_settings(model: str | None) -> str:
    """Say which options and variables name the policy, and what they are."""
    url = without_password(os.environ.get("OPENAI_BASE_URL")) or "not set, so OpenAI's own server"
    key = "set" if os.environ.get("OPENAI_API_KEY") else "not set"
    return (
        f"The policy: OPENAI_BASE_URL is {url}; OPENAI_API_KEY is {key}; the model of --model or "
        f"OPENAI_DEFAULT_MODEL is {model or get_default_model()}. "
        "--llm_args adds, changes or removes arguments of its completions."
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
