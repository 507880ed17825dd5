"""Episodes for the tests: played in AEnvironment, or without it for comparison."""

import asyncio

from aenv.examples.tau2_rl.agent import run_agent_return_reward
from examples.tau2.agent import Tau2AgentWorkflow
from tests.scripted import LLMServer, in_turn, say

# an episode, and the call that solves it
MOCK = {"domain": "mock", "task_id": "create_task_1", "solo_mode": True}
CREATE = ("create_task", {"user_id": "user_1", "title": "Important Meeting"})


def play(
    data: dict, answers: list, user: list | None = None, **arguments
) -> tuple[float, list[dict]]:
    """Play an episode in AEnvironment, with scripted answers of the policy and the user.

    Returns the reward, and the requests that the policy's server got.
    """
    with (
        LLMServer(in_turn(*answers)) as policy,
        LLMServer(in_turn(*(user or [say("###STOP###")]))) as simulator,
    ):
        if user:
            data = {**data, "user_llm_base_url": simulator.base_url}
        reward = asyncio.run(run_agent_return_reward(data, **{**server_of(policy), **arguments}))
        return reward, policy.requests


def play_directly(data: dict, answers: list, user: list | None = None) -> tuple[float, list[dict]]:
    """Play the same episode by `Tau2AgentWorkflow`."""
    with (
        LLMServer(in_turn(*answers)) as policy,
        LLMServer(in_turn(*(user or [say("###STOP###")]))) as simulator,
    ):
        econfig = {key: value for key, value in data.items() if key != "task_id"}
        if user:
            econfig["user_llm_base_url"] = simulator.base_url
        info = asyncio.run(Tau2AgentWorkflow(econfig).play(data, policy.base_url, "key"))
        return info.reward, policy.requests


def server_of(policy: LLMServer) -> dict:
    """The arguments of `run_agent_return_reward` that name the policy's server."""
    return {"base_url": policy.base_url, "api_key": "key", "model": "m"}
