"""Groups of episodes: what their tensors say of episodes, and what becomes of incomplete ones."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from areal.api.cli_args import InferenceEngineConfig
from areal.infra import remote_inf_engine, workflow_context
from areal.infra.remote_inf_engine import GroupedRolloutWorkflow
from areal.infra.rpc.serialization import deserialize_value, serialize_value
from areal.utils import logging, stats_tracker
from areal.utils.data import concat_padded_tensors

from examples.tau2.agent import EpisodeRejected, Tau2AgentWorkflow
from examples.tau2.train import GROUP_FILTER, TRACKER
from examples.tau2.training import groups
from examples.tau2.training.advantages import DISCOUNT, EPISODE, OUTCOME
from examples.tau2.training.areal.groups import (
    GroupOfEpisodes,
    RolloutConfig,
    play_groups_of_episodes,
)
from tests.areal_proxy import Proxy
from tests.episodes import BAD_CREATE, CREATE, DONE, SAMPLING, SOLO, TASK


@pytest.fixture(autouse=True)
def statistics():
    """AReaL's statistics of rollouts, empty before and after a test."""
    tracker = stats_tracker.get("rollout")
    tracker.export(reset=True)
    workflow_context.set(workflow_context.WorkflowContext(task_id=7))
    yield lambda: tracker.export(reset=True)
    workflow_context.set(workflow_context.WorkflowContext())
    tracker.export(reset=True)


def in_order(*answers: str) -> Callable[[str], str]:
    """Give each new episode the next answer; an episode with a tool's result is done."""
    count = 0

    def answer(prompt: str) -> str:
        nonlocal count
        if "<tool_response>\n" in prompt:
            return DONE
        count += 1
        return answers[(count - 1) % len(answers)]

    return answer


class FailsSometimes(Tau2AgentWorkflow):
    """An agent of whose episodes those with these numbers are rejected."""

    def __init__(self, *numbers: int):
        super().__init__(SOLO, SAMPLING, tracker=TRACKER)
        self.numbers, self.count = numbers, 0

    async def run(self, *args, **kwargs):
        self.count += 1
        if self.count in self.numbers:
            raise EpisodeRejected(f"episode {self.count} was caused to fail")
        return await super().run(*args, **kwargs)


def engine(min_size: int | None) -> SimpleNamespace:
    """What a group needs to know of its rollout engine, in the config that reaches a worker."""
    config = RolloutConfig(
        **vars(InferenceEngineConfig(backend="sglang:d1")), min_group_size=min_size
    )
    return SimpleNamespace(config=deserialize_value(serialize_value(config)))


def play(
    agent: Tau2AgentWorkflow,
    answers: Callable[[str], str],
    size: int = 4,
    discount: float = 1.0,
    min_size: int | None = None,
) -> dict | None:
    """Play a group through AReaL's proxy; return its tensors, as AReaL's executor makes them."""
    with Proxy(answers, turn_discount=discount) as proxy:
        group = GroupOfEpisodes(proxy.workflow(agent), size, logging.getLogger())
        interactions = asyncio.run(group.arun_episode(engine(min_size), TASK))
    if interactions is None:
        return None
    return concat_padded_tensors([turn.to_tensor_dict() for turn in interactions.values()])


def test_each_turn_knows_its_episode_and_the_outcome_of_it():
    tensors = play(FailsSometimes(), in_order(CREATE, BAD_CREATE), size=2, discount=0.5)
    assert tensors[EPISODE].tolist() == [0, 0, 1, 1]
    outcomes = tensors[OUTCOME].tolist()
    assert sorted(outcomes) == [0.0, 0.0, 1.0, 1.0] and outcomes[0] == outcomes[1]
    assert tensors[DISCOUNT].tolist() == [0.5, 1.0] * 2
    assert tensors["rewards"].equal(tensors[OUTCOME] * tensors[DISCOUNT])


def test_the_penalty_of_a_last_turn_is_no_part_of_the_outcome():
    cut = '<tool_call>\n{"name": '
    tensors = play(FailsSometimes(), lambda prompt: cut, size=2)
    assert set(tensors[OUTCOME].tolist()) == {0.0}
    assert tensors["rewards"].max() < 0


@pytest.mark.parametrize(
    "answers, accepted", [([CREATE], False), ([BAD_CREATE], False), ([CREATE, BAD_CREATE], True)]
)
@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_groups_without_advantages_are_filtered(answers, accepted, discount):
    """AReaL's executor calls the filter with the group's tensors."""
    tensors = play(FailsSometimes(), in_order(*answers), discount=discount)
    assert groups.has_advantages(tensors) is accepted
    assert f"{groups.__name__}.{groups.has_advantages.__name__}" == GROUP_FILTER


def test_a_group_that_always_fails_is_trained_on_for_its_format():
    cut = '<tool_call>\n{"name": '
    tensors = play(FailsSometimes(), in_order(BAD_CREATE, cut))
    assert set(tensors[OUTCOME].tolist()) == {0.0}
    assert groups.has_advantages(tensors)


def test_the_rest_of_an_incomplete_group_is_trained_on(statistics):
    tensors = play(FailsSometimes(2), in_order(CREATE, BAD_CREATE))
    assert sorted(set(tensors[EPISODE].tolist())) == [0, 1, 2]
    assert statistics()["rollout/group/incomplete"] == 1.0


def test_areal_loses_the_group_of_a_rejected_episode():
    with Proxy(in_order(CREATE)) as proxy:
        group = GroupedRolloutWorkflow(proxy.workflow(FailsSometimes(2)), 4, logging.getLogger())
        with pytest.raises(EpisodeRejected, match="was caused to fail"):
            asyncio.run(group.arun_episode(None, TASK))


@pytest.mark.parametrize(
    "size, min_size, failures, is_there",
    [
        (4, None, 2, True),
        (4, None, 3, False),
        (3, None, 2, False),
        (4, 4, 1, False),
        (4, 1, 3, True),
        # validation may play fewer episodes of a task than training
        (2, 4, 0, True),
    ],
)
def test_a_group_with_too_few_episodes_is_rejected(statistics, size, min_size, failures, is_there):
    agent = FailsSometimes(*range(1, failures + 1))
    there = f"{size - failures} of {size} episodes of a group are there; the last error: Episode"
    if is_there:
        assert play(agent, in_order(CREATE), size, min_size=min_size)
    else:
        with pytest.raises(RuntimeError, match=there):
            play(agent, in_order(CREATE), size, min_size=min_size)
    assert statistics()["rollout/group/rejected"] == float(not is_there)


def test_the_engines_of_a_worker_play_these_groups(monkeypatch):
    monkeypatch.setattr(remote_inf_engine, "GroupedRolloutWorkflow", GroupedRolloutWorkflow)
    play_groups_of_episodes()
    assert remote_inf_engine.GroupedRolloutWorkflow is GroupOfEpisodes
