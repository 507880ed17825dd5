"""Filters groups of episodes: only those whose episodes got different rewards are trained on."""

from collections import OrderedDict
from typing import Any

from areal.infra import workflow_context

# number of groups whose rewards are remembered; AReaL rejects some groups without asking for
# their rewards
MAX_REMEMBERED = 10_000

# rewards of the episodes of each group, by the group's number; AReaL makes a new workflow for
# every group, so the process remembers them
_rewards: OrderedDict[int, list[float]] = OrderedDict()


def remember_reward(reward: float) -> None:
    """Remember the reward of an episode of the group that AReaL is playing, if it is training."""
    context = workflow_context.get()
    if not context.is_eval and context.task_id is not None:
        _rewards.setdefault(context.task_id, []).append(reward)
    while len(_rewards) > MAX_REMEMBERED:
        _rewards.popitem(last=False)


def has_mixed_rewards(trajectory: dict[str, Any]) -> bool:
    """Accept a group unless all its episodes got the same reward, which teaches GRPO nothing.

    This is AReaL's `dynamic_filter_fn`. AReaL hands over the tensors of the group's interactions,
    after penalties and turn discounts and without episode boundaries. This function uses the
    rewards of the episodes instead, which `remember_reward` was told.
    """
    group = workflow_context.get().task_id
    rewards = _rewards.pop(group, []) if group is not None else []
    return len(set(rewards)) > 1
