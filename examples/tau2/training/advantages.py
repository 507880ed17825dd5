"""The advantages of GRPO: each episode is compared with the other episodes of its group.

AReaL trains on turns. The return of a turn, which AReaL's proxy makes, is the discounted sum of the
rewards from this turn on. It has two parts:

- the outcome of the episode, O: tau2's reward. The last turn got it for the whole episode, times
  one minus what turns got for expected actions. In the return of a turn it is discounted, by that
  factor and by turn_discount ** (number of later turns): d is the product of both;
- what belongs to single turns: penalties for malformed turns, and rewards for expected actions.

The advantage of a turn is (return - d * baseline) / scale. The baseline and the scale are made of
outcomes, one for each episode, so that an episode with many turns counts as much as one with few:

baseline       | of an episode
---------------|-----------------------------------------------------------------------------------
mean           | mean outcome of the group's episodes (GRPO, arxiv.org/abs/2402.03300)
leave_one_out  | mean outcome of the group's other episodes (RLOO, arxiv.org/abs/2402.14740)

scale          | of an episode
---------------|-----------------------------------------------------------------------------------
None           | 1 (Dr. GRPO, arxiv.org/abs/2503.20783)
group          | standard deviation of the group's outcomes (GRPO); 1 if they are equal
batch          | standard deviation of all outcomes about the mean of their group, over all
               | data-parallel workers (REINFORCE++-baseline, arxiv.org/abs/2501.03262);
               | 1 if it is 0

The standard deviations are those of the population: the sum of squares is divided by n.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist

BASELINES = ("mean", "leave_one_out")
SCALES = (None, "group", "batch")

# Tensors of a group, besides AReaL's own. Each has one number for each turn.
# Index of the turn's episode in the group: int64, from 0 on without gaps.
EPISODE = "episode"
# Outcome of the turn's episode: float32.
OUTCOME = "outcome"
# The discount d of the outcome in the turn's return: float32.
DISCOUNT = "outcome_discount"
EPISODE_KEYS = (EPISODE, OUTCOME, DISCOUNT)

Group = dict[str, Any]


def episode_tensors(
    index: int, outcome: float, turns: int, turn_discount: float, share: float = 1.0
) -> Group:
    """Return the tensors that describe one episode of a group, each of shape [turns].

    `share` is the share of the outcome that the last turn got.
    """
    # AReaL computes returns with 64 bits
    later_turns = torch.arange(turns - 1, -1, -1, dtype=torch.float64)
    return {
        EPISODE: torch.full((turns,), index),
        OUTCOME: torch.full((turns,), outcome, dtype=torch.float32),
        DISCOUNT: (share * turn_discount**later_turns).float(),
    }


def without_episodes(group: Group) -> Group:
    """Return a group without the tensors of `EPISODE_KEYS`."""
    return {key: value for key, value in group.items() if key not in EPISODE_KEYS}


def turn_advantages(
    groups: Sequence[Group], baseline: str, scale: str | None = None
) -> list[torch.Tensor]:
    """Return the advantages of the turns of each group, float32 tensors of shape [turns].

    A group has the returns of its turns as `rewards`, and the tensors of `EPISODE_KEYS`. With the
    scale "batch", all ranks of the default process group must call this, if there is one.
    """
    centred = [_centred_outcomes(group) for group in groups]
    scales = _scales(centred, scale)
    advantages = []
    for group, outcomes, divisor in zip(groups, centred, scales, strict=True):
        own = outcomes[group[EPISODE]]
        if baseline == "leave_one_out":
            # the difference from the mean of the others is n / (n - 1) times that from the mean
            own = own * len(outcomes) / max(len(outcomes) - 1, 1)
        # the outcome's part of the return is replaced by its difference from the baseline
        turns_own = group["rewards"] - group[DISCOUNT] * group[OUTCOME]
        advantages.append((turns_own + group[DISCOUNT] * own) / divisor)
    return advantages


def teaches(group: Group) -> bool:
    """Tell whether any turn of a group has an advantage other than 0, with either baseline."""
    (advantages,) = turn_advantages([group], "mean")
    # sums of 32-bit numbers differ in their last digits
    return bool((advantages.abs() > 1e-6).any())


def episode_outcomes(group: Group) -> torch.Tensor:
    """Return the outcome of each episode of a group: float32 of shape [episodes]."""
    outcomes = group[OUTCOME].new_zeros(int(group[EPISODE].max()) + 1)
    outcomes[group[EPISODE]] = group[OUTCOME]
    return outcomes


def _centred_outcomes(group: Group) -> torch.Tensor:
    """Return the outcome of each episode of a group less their mean: [episodes]."""
    outcomes = episode_outcomes(group)
    return outcomes - outcomes.mean()


def _scales(centred: Sequence[torch.Tensor], scale: str | None) -> list[torch.Tensor | float]:
    """Return the divisor of the advantages of each group."""
    if scale is None:
        return [1.0] * len(centred)
    if scale == "group":
        return [_deviation(outcomes.square().sum(), len(outcomes)) for outcomes in centred]
    outcomes = torch.cat(list(centred))
    sums = torch.stack([outcomes.square().sum(), outcomes.new_tensor(len(outcomes))])
    if dist.is_initialized():
        # workers that hold the same groups add the same squares and numbers
        dist.all_reduce(sums)
    return [_deviation(sums[0], sums[1])] * len(centred)


def _deviation(squares: torch.Tensor, number: torch.Tensor | int) -> torch.Tensor:
    deviation = (squares / number).sqrt()
    # equal outcomes leave rounding errors of their mean
    return torch.where(deviation > 1e-6, deviation, torch.ones_like(deviation))
