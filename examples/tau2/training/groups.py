"""Keeps what the advantages need to know of the episodes of a group, and filters groups by it.

A rollout worker keeps the result of each group until the trainer asks for it.
"""

from collections import deque
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from areal.infra import workflow_context

from examples.tau2.training.advantages import EPISODE, episode_outcomes, teaches


@dataclass
class Episode:
    """An episode that is being played.

    Its outcome is its reward; None if the workflow has told none. The last turn got this share of
    it, and the rest went to the turns that did expected actions.
    """

    outcome: float | None = None
    share: float = 1.0


@dataclass
class GroupResult:
    """What the trainer is told of a group that was played."""

    # AReaL's task id of the group
    number: int
    # of its episodes
    outcomes: list[float]
    # whether the filter accepted it
    accepted: bool


# results of this worker for which the trainer has not asked yet
_results: deque[GroupResult] = deque()

# the episode that the current asyncio task plays
current_episode: ContextVar[Episode | None] = ContextVar("current_episode", default=None)


def remember_outcome(outcome: float, share: float = 1.0) -> None:
    """Remember the outcome of the episode that is being played, if it is one of a group."""
    episode = current_episode.get()
    if episode is not None:
        episode.outcome, episode.share = outcome, share


def episodes_needed(group_size: int, min_group_size: int | None) -> int:
    """Return the number of episodes that must be there for a group to be trained on.

    Without a `min_group_size`, it is half of those that are played, rounded down, but at least 2.
    """
    return min(min_group_size or max(2, group_size // 2), group_size)


def has_advantages(trajectory: dict[str, Any]) -> bool:
    """Accept a group if any of its turns has an advantage other than 0.

    This is AReaL's `dynamic_filter_fn`. Episodes with equal outcomes teach nothing by themselves,
    but the penalty of a malformed turn does.
    """
    # an episode that is no member of a group cannot be compared with others
    accepted = EPISODE in trajectory and teaches(trajectory)
    _keep_result(trajectory, accepted)
    return accepted


def accept_all(trajectory: dict[str, Any]) -> bool:
    """Accept every group. This is AReaL's `dynamic_filter_fn` of a run that drops none."""
    _keep_result(trajectory, True)
    return True


def _keep_result(trajectory: dict[str, Any], accepted: bool) -> None:
    # AReaL calls a filter in the context of the group
    number = workflow_context.get().task_id
    if number is not None and EPISODE in trajectory:
        _results.append(GroupResult(number, episode_outcomes(trajectory).tolist(), accepted))


def take_results() -> list[GroupResult]:
    """Return the results that were kept since the last call, and keep them no longer."""
    # episodes end in another thread
    return [_results.popleft() for _ in range(len(_results))]
