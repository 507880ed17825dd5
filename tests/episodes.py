"""Episodes of tau2's mock domain through AReaL's real proxy, with a scripted engine behind it."""

import asyncio
from pathlib import Path
from typing import Any

from areal.experimental.openai.types import InteractionWithTokenLogpReward

from examples.tau2.agent import Tau2AgentWorkflow
from examples.tau2.episode.trajectory import Tau2RunInfo
from tests.areal_proxy import Proxy, tool_call
from tests.scripted import in_turn

CREATE = tool_call("create_task", '{"user_id": "user_1", "title": "Important Meeting"}')
BAD_CREATE = tool_call("create_task", '{"user_id": "user_1", "title": "Lunch"}')
DONE = tool_call("done", "{}")
SOLO = {"domain": "mock", "solo_mode": True}
SAMPLING = {"temperature": 1.0, "top_p": 1.0, "max_completion_tokens": 512}
# CREATE, and then DONE, solves it
TASK = {"task_id": "create_task_1"}


def episode(
    answers: list,
    econfig: dict | None = None,
    discount: float = 1.0,
    task: dict = TASK,
    **agent_config: Any,
) -> list[InteractionWithTokenLogpReward]:
    """Play one episode, and return AReaL's interactions in their order."""
    with Proxy(in_turn(*answers), turn_discount=discount, **agent_config) as proxy:
        workflow = proxy.workflow(Tau2AgentWorkflow({**SOLO, **(econfig or {})}, SAMPLING))
        return list(asyncio.run(workflow.arun_episode(None, task)).values())


def rewards(interactions) -> list[float]:
    return [round(interaction.reward, 6) for interaction in interactions]


def play(
    answers: list, folder: Path, econfig: dict | None = None, **agent_config: Any
) -> Tau2RunInfo:
    """Play one episode, and return the trajectory that it leaves in a file."""
    with Proxy(in_turn(*answers), **agent_config) as proxy:
        agent = Tau2AgentWorkflow({**SOLO, **(econfig or {})}, SAMPLING, output_dir=str(folder))
        interactions = asyncio.run(proxy.workflow(agent).arun_episode(None, TASK))
    (path,) = folder.rglob("*.json")
    info = Tau2RunInfo.from_json(path.read_bytes())
    last = list(interactions.values())[-1]
    assert last.reward == info.rewards[info.turns[-1].completion_id]
    return info
