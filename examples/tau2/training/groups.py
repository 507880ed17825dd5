"""Keeps what the advantages need to know of the episodes of a group, and filters groups by it."""

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from examples.tau2.training.advantages import EPISODE, teaches


@dataclass
class Episode:
    """An episode that is being played; its outcome is the reward that its last turn gets for it."""

    outcome: float | None = None


# the episode that the current asyncio task plays
current_episode: ContextVar[Episode | None] = ContextVar("current_episode", default=None)


def remember_outcome(outcome: float) -> None:
    """Remember the outcome of the episode that is being played, if it is one of a group."""
    episode = current_episode.get()
    if episode is not None:
        episode.outcome = outcome


def has_advantages(trajectory: dict[str, Any]) -> bool:
    """Accept a group if any of its turns has an advantage other than 0.

    This is AReaL's `dynamic_filter_fn`. Episodes with equal outcomes teach nothing by themselves,
    but the penalty of a malformed turn does.
    """
    # an episode that is no member of a group cannot be compared with others
    return EPISODE in trajectory and teaches(trajectory)
