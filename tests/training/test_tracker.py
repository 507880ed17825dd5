"""AReaL gets the statistics of episodes."""

import asyncio
import json

import pytest
from areal.infra import workflow_context
from areal.infra.rpc.guard import engine_blueprint
from areal.utils import stats_tracker

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.train import TRACKER
from tests.areal_proxy import Proxy
from tests.episodes import CREATE, DONE, SAMPLING, SOLO, TASK
from tests.scripted import in_turn


@pytest.fixture(autouse=True)
def statistics():
    """Empty statistics before a test."""
    for scope in ("rollout", "eval-rollout"):
        stats_tracker.get(scope).export(reset=True)


def workflow(**arguments) -> Tau2AgentWorkflow:
    """The workflow as `train.py` has AReaL make it."""
    return Tau2AgentWorkflow(SOLO, SAMPLING, tracker=TRACKER, **arguments)


async def play(proxy: Proxy, agent: Tau2AgentWorkflow, group: int, is_eval: bool = False) -> None:
    """Play an episode as AReaL's executor does, with the group's number in the context."""
    context = workflow_context.WorkflowContext(is_eval=is_eval, task_id=group)
    workflow_context.set(context)
    await proxy.workflow(agent).arun_episode(None, TASK)


def test_statistics_reach_areals_tracker_train_and_eval_apart():
    async def play_both(proxy):
        await play(proxy, workflow(), group=1)
        await play(proxy, workflow(), group=1, is_eval=True)

    with Proxy(in_turn(CREATE, DONE, CREATE + CREATE, DONE)) as proxy:
        asyncio.run(play_both(proxy))
    train = stats_tracker.get("rollout").export(reset=True)
    evaluation = stats_tracker.get("eval-rollout").export(reset=True)
    assert train["rollout/episode/reward"] == 1.0
    assert evaluation["eval-rollout/episode/reward"] == 0.0
    assert train["rollout/tools/calls"] == 1
    assert evaluation["eval-rollout/tools/calls"] == 2
    assert train["rollout/termination/agent_stop"] == 1.0
    assert train["rollout/termination/max_steps"] == 0.0
    assert train["rollout/agent/completion_tokens"] > 10
    assert train["rollout/episode/rejected"] == 0.0


def test_a_rejected_episode_is_counted():
    with pytest.raises(EpisodeRejected), Proxy(in_turn(RuntimeError("CUDA error"))) as proxy:
        asyncio.run(play(proxy, workflow(), group=1))
    exported = stats_tracker.get("rollout").export(reset=True)
    assert exported["rollout/episode/rejected"] == 1.0


def test_a_trajectory_tells_its_group_and_the_version_of_its_weights(tmp_path, monkeypatch):
    class Engine:
        def __init__(self, version: int):
            self.version = version

        def get_version(self) -> int:
            return self.version

    monkeypatch.setattr(engine_blueprint, "_engines", {"rollout/0": Engine(3), "eval/0": Engine(5)})
    with Proxy(in_turn(CREATE, DONE)) as proxy:
        asyncio.run(play(proxy, workflow(output_dir=str(tmp_path)), group=9))
    (path,) = tmp_path.rglob("train/5/*.json")
    written = json.loads(path.read_text())
    assert (written["group"], written["weight_version"]) == (9, 5)


def test_without_a_tracker_nothing_is_told():
    with Proxy(in_turn(CREATE, DONE)) as proxy:
        asyncio.run(play(proxy, Tau2AgentWorkflow(SOLO, SAMPLING), group=7))
    exported = stats_tracker.get("rollout").export(reset=True)
    assert not [name for name in exported if name.startswith("rollout/episode/")]
