"""AReaL gets statistics of episodes, and the rewards by which it filters groups."""

import asyncio
import json
import logging

import pytest
from areal.infra import workflow_context
from areal.infra.remote_inf_engine import GroupedRolloutWorkflow
from areal.infra.rpc.guard import engine_blueprint
from areal.utils import stats_tracker
from areal.utils.data import concat_padded_tensors

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.train import GROUP_FILTER, TRACKER
from examples.tau2.training import groups
from tests.areal_proxy import Proxy
from tests.episodes import BAD_CREATE, CREATE, DONE, SAMPLING, SOLO, TASK
from tests.scripted import in_turn


@pytest.fixture(autouse=True)
def statistics():
    """Empty statistics, and no group under way, before and after a test."""
    for scope in ("rollout", "eval-rollout"):
        stats_tracker.get(scope).export(reset=True)
    yield
    groups._rewards.clear()


def workflow(**arguments) -> Tau2AgentWorkflow:
    """The workflow as `train.py` has AReaL make it."""
    return Tau2AgentWorkflow(SOLO, SAMPLING, tracker=TRACKER, **arguments)


async def play(proxy: Proxy, agent: Tau2AgentWorkflow, group: int, is_eval: bool = False) -> None:
    """Play an episode as AReaL's executor does, with the group's number in the context."""
    context = workflow_context.WorkflowContext(is_eval=is_eval, task_id=group)
    workflow_context.set(context)
    await proxy.workflow(agent).arun_episode(None, TASK)


@pytest.mark.parametrize(
    "answers, accepted", [([CREATE], False), ([BAD_CREATE], False), ([CREATE, BAD_CREATE], True)]
)
@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_groups_with_equal_rewards_are_filtered(answers, accepted, discount):
    """AReaL's executor calls the filter with the group's tensors, and its number in the context."""
    count = 0

    def answer(prompt):
        nonlocal count
        if "<tool_response>\n{" in prompt:
            return DONE
        count += 1
        return answers[count % len(answers)]

    async def play_group(proxy):
        workflow_context.set(workflow_context.WorkflowContext(task_id=7))
        grouped = GroupedRolloutWorkflow(proxy.workflow(workflow()), 4, logging.getLogger())
        interactions = await grouped.arun_episode(None, TASK)
        tensors = [interaction.to_tensor_dict() for interaction in interactions.values()]
        return groups.has_mixed_rewards(concat_padded_tensors(tensors))

    with Proxy(answer, turn_discount=discount) as proxy:
        assert asyncio.run(play_group(proxy)) is accepted
    assert not groups._rewards


def test_areal_finds_the_filter_by_its_path():
    assert f"{groups.__name__}.{groups.has_mixed_rewards.__name__}" == GROUP_FILTER


def test_evaluations_are_not_filtered():
    with Proxy(in_turn(CREATE, DONE)) as proxy:
        asyncio.run(play(proxy, workflow(), group=7, is_eval=True))
    assert not groups._rewards


def test_rewards_of_many_rejected_groups_are_forgotten(monkeypatch):
    monkeypatch.setattr(groups, "MAX_REMEMBERED", 2)

    def remember(group: int) -> None:
        workflow_context.set(workflow_context.WorkflowContext(task_id=group))
        groups.remember_reward(1.0)

    for group in range(4):
        remember(group)
    assert list(groups._rewards) == [2, 3]
    workflow_context.set(workflow_context.WorkflowContext())


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
    assert not groups._rewards
