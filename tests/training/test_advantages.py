"""Advantages that compare the episodes of a group, by themselves and in AReaL's own actors."""

import ast
from collections.abc import Callable
from importlib.util import find_spec
from math import sqrt
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from areal.api.cli_args import NormConfig, PPOActorConfig
from areal.infra.controller.train_controller import _dispatch_tensors, _merge_tensors
from areal.trainer.ppo.actor import PPOActor
from areal.utils.data import concat_padded_tensors
from hypothesis import given
from hypothesis import strategies as st

from examples.tau2.training.advantages import (
    EPISODE_KEYS,
    episode_tensors,
    teaches,
    turn_advantages,
)
from examples.tau2.training.engines import ComparesEpisodes, archon, fsdp


def group(*episodes: tuple[float, list[float]], discount: float = 1.0) -> dict:
    """A group in AReaL's worker: for each episode its outcome, and its turns' own rewards."""
    samples = []
    for index, (outcome, own) in enumerate(episodes):
        returns = [0.0] * len(own)
        following = 0.0
        for turn in reversed(range(len(own))):
            reward = own[turn] + (outcome if turn == len(own) - 1 else 0.0)
            following = returns[turn] = reward + discount * following
        described = episode_tensors(index, outcome, len(own), discount)
        for turn, value in enumerate(returns):
            length = 3 + turn
            samples.append(
                {
                    "input_ids": torch.ones(1, length, dtype=torch.long),
                    "attention_mask": torch.ones(1, length, dtype=torch.bool),
                    "loss_mask": torch.tensor([[0] + [1] * (length - 1)]),
                    "logprobs": torch.zeros(1, length),
                    "versions": torch.zeros(1, length, dtype=torch.long),
                    "rewards": torch.tensor([value]),
                    **{key: values[turn : turn + 1] for key, values in described.items()},
                }
            )
    return concat_padded_tensors(samples)


def rounded(advantages: list[torch.Tensor]) -> list[list[float]]:
    return [[round(value, 4) for value in tensor.tolist()] for tensor in advantages]


def test_the_baseline_counts_each_episode_once_however_many_turns_it_has():
    mixed = group((1.0, [0.0]), (0.0, [0.0] * 5), (0.0, [0.0]), (0.0, [0.0]))
    assert rounded(turn_advantages([mixed], "mean")) == [[0.75] + [-0.25] * 7]
    assert rounded(turn_advantages([mixed], "leave_one_out")) == [[1.0] + [-0.3333] * 7]


def test_each_group_has_its_own_baseline():
    easy, hard = group((1.0, [0.0]), (0.5, [0.0])), group((0.5, [0.0]), (0.0, [0.0]))
    assert rounded(turn_advantages([easy, hard], "mean")) == [[0.25, -0.25], [0.25, -0.25]]


def test_scales():
    wide = group((1.0, [0.0]), (0.0, [0.0]), (0.0, [0.0]), (0.0, [0.0]))
    equal = group((1.0, [-0.1, 0.0]), (1.0, [0.0]))
    by_group = turn_advantages([wide, equal], "mean", "group")
    deviation = sqrt(3) / 4
    assert rounded(by_group)[0] == pytest.approx([0.75 / deviation] + [-0.25 / deviation] * 3, 1e-3)
    # equal outcomes are divided by 1, not by a rounding error
    assert rounded(by_group)[1] == [-0.1, 0.0, 0.0]
    batch_deviation = sqrt(4 * deviation**2 / 6)
    by_batch = turn_advantages([wide, equal], "mean", "batch")
    assert by_batch[0][0].item() == pytest.approx(0.75 / batch_deviation)
    assert by_batch[1][0].item() == pytest.approx(-0.1 / batch_deviation)
    assert turn_advantages([equal], "mean", "batch")[0][0].item() == pytest.approx(-0.1)


def test_what_belongs_to_turns_stays_with_them():
    """A malformed turn lowers its own return and that of the turns before; nobody's baseline."""
    penalized = group((1.0, [0.0, -0.1, 0.0]), (1.0, [0.0]))
    assert rounded(turn_advantages([penalized], "mean")) == [[-0.1, -0.1, 0.0, 0.0]]
    discounted = group((1.0, [0.0, 0.3]), (0.0, [0.0]), discount=0.5)
    # 0.5 * (0.5 + 0.3), 0.5 + 0.3, -0.5
    assert rounded(turn_advantages([discounted], "mean")) == [[0.4, 0.8, -0.5]]


def test_a_reward_for_actions_is_no_difference_between_outcomes():
    """Two solved episodes: the turns of one got 0.3 for expected actions, and its last turn 0.7."""
    for_actions = {
        **episode_tensors(0, 1.0, 2, 1.0, share=0.7),
        "rewards": torch.tensor([1.0, 0.7]),
    }
    for_outcome = {**episode_tensors(1, 1.0, 1, 1.0), "rewards": torch.tensor([1.0])}
    compared = {key: torch.cat([for_actions[key], for_outcome[key]]) for key in for_outcome}
    assert rounded(turn_advantages([compared], "mean")) == [[0.3, 0.0, 0.0]]


def test_a_long_episode_has_no_advantage_by_rounding():
    """AReaL's returns have 64 bits until they become tensors."""
    solved = group((1.0, [0.0] * 200), (1.0, [0.0] * 3), discount=0.999)
    assert not teaches(solved)


@given(
    st.lists(
        st.tuples(st.floats(0, 1), st.lists(st.just(0.0), min_size=1, max_size=4)),
        min_size=2,
        max_size=8,
    )
)
def test_outcomes_of_a_group_are_compared_among_themselves(episodes):
    """The last turns' advantages add up to 0, and grow with the outcome, for both baselines."""
    compared = group(*episodes)
    last_turns = [sum(len(own) for _, own in episodes[: n + 1]) - 1 for n in range(len(episodes))]
    order = sorted(range(len(episodes)), key=lambda n: episodes[n][0])
    for baseline in ("mean", "leave_one_out"):
        advantages = turn_advantages([compared], baseline)[0][last_turns]
        assert advantages.sum().item() == pytest.approx(0.0, abs=1e-5)
        assert (advantages[order].diff() >= -1e-5).all()


@pytest.mark.parametrize(
    "episodes, expected",
    [
        ([(1.0, [0.0]), (1.0, [0.0, 0.0])], False),
        ([(0.0, [0.0]), (0.0, [0.0])], False),
        # thirds, whose mean is not exact
        ([(1 / 3, [0.0])] * 7, False),
        ([(1.0, [0.0]), (0.0, [0.0])], True),
        ([(0.0, [-0.1]), (0.0, [0.0])], True),
        ([(1.0, [0.0]), (1.0, [-0.1, 0.0])], True),
    ],
)
@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_a_group_teaches_if_any_advantage_is_not_zero(episodes, expected, discount):
    assert teaches(group(*episodes, discount=discount)) is expected


# -- through AReaL's own actors -------------------------------------------------------------------

EPISODES = (
    [(1.0, [0.0, 0.0, 0.0]), (0.0, [-0.1])],
    [(1.0, [0.0]), (1.0, [0.0]), (0.0, [0.0, 0.0]), (0.0, [0.0])],
    [(0.5, [0.0]), (0.0, [0.0, -0.1])],
    [(0.0, [0.0]), (0.0, [-0.1])],
)


def megatrons_method(name: str) -> Callable:
    """Return a method of AReaL's Megatron actor, whose module cannot be imported without CUDA."""
    (folder,) = find_spec("areal.engine").submodule_search_locations
    source = Path(folder, "megatron_engine.py").read_text()
    (actor,) = [
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.ClassDef) and node.name == "MegatronPPOActor"
    ]
    (method,) = [
        node for node in actor.body if isinstance(node, ast.FunctionDef) and node.name == name
    ]
    method.returns = None
    names = {"torch": torch}
    exec(compile(ast.Module([method], []), "megatron_engine.py", "exec"), names)
    return names[name]


class MegatronsPart:
    """What AReaL's Megatron engine does for the advantages."""

    compute_advantages = megatrons_method("compute_advantages")


class MegatronStandIn(ComparesEpisodes, MegatronsPart):
    """Our Megatron engine, without the methods that need CUDA."""


MegatronStandIn.__abstractmethods__ = frozenset()


def actor_of(engine: type, **options) -> ComparesEpisodes:
    """An engine without a model, which no advantage needs."""
    made = object.__new__(engine)
    made.actor = PPOActor(PPOActorConfig(kl_ctl=0.0, **options), made)
    return made


def token_advantages(computed: list[dict]) -> list[list[float]]:
    """The advantage of each turn, which all of its trained tokens have."""
    found = []
    for one in computed:
        turns = []
        for advantages, mask in zip(one["advantages"], one["loss_mask"], strict=True):
            (value,) = set(advantages[mask.bool()].tolist())
            turns.append(round(value, 4))
        found.append(turns)
    return found


@pytest.mark.parametrize("engine", [archon.ArchonPPOActor, fsdp.FSDPPPOActor, MegatronStandIn])
def test_areals_actors_train_on_the_advantages_and_report_the_rewards(engine):
    groups = [group(*episodes) for episodes in EPISODES]
    computed = actor_of(engine).compute_advantages(groups, baseline="mean", scale="group")
    expected = turn_advantages(groups, "mean", "group")
    assert token_advantages(computed) == rounded(expected)
    for one, original in zip(computed, groups, strict=True):
        assert one["rewards"].equal(original["rewards"])
        assert not set(one) & set(EPISODE_KEYS)


def test_without_a_baseline_areals_normalization_decides():
    """The batch's mean puts the difficulty of a task into the gradient."""
    easy, hard = group((1.0, [0.0]), (1.0, [0.0])), group((0.0, [0.0]), (0.0, [0.0]))
    batch_mean = NormConfig(mean_level="batch", std_level=None)
    actor = actor_of(archon.ArchonPPOActor, adv_norm=batch_mean)
    assert token_advantages(actor.compute_advantages([easy, hard])) == [[0.5, 0.5], [-0.5, -0.5]]
    ours = actor_of(archon.ArchonPPOActor).compute_advantages([easy, hard], baseline="mean")
    assert token_advantages(ours) == [[0.0, 0.0], [0.0, 0.0]]


def worker(rank: int, folder: str, scale: str | None) -> None:
    """What one of two data-parallel workers makes of the groups that AReaL sends to it."""
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    shards, _ = _dispatch_tensors([group(*episodes) for episodes in EPISODES], 2)
    actor = actor_of(archon.ArchonPPOActor)
    computed = actor.compute_advantages(shards[rank], baseline="mean", scale=scale)
    torch.save(token_advantages(computed), f"{folder}/{rank}")
    dist.destroy_process_group()


@pytest.mark.processes
@pytest.mark.parametrize("scale", [None, "group", "batch"])
def test_two_workers_come_to_the_same_as_one(tmp_path, scale):
    torch.multiprocessing.spawn(worker, (str(tmp_path), scale), nprocs=2)
    groups = [group(*episodes) for episodes in EPISODES]
    _, indices = _dispatch_tensors(groups, 2)
    merged = _merge_tensors([torch.load(tmp_path / str(rank)) for rank in range(2)], indices)
    assert merged == rounded(turn_advantages(groups, "mean", scale))
