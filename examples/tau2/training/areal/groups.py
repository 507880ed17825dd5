"""Plays the episodes of a group, and trains on those that are there if some were rejected."""

import asyncio
from dataclasses import dataclass
from typing import Any, cast

from areal.api.cli_args import InferenceEngineConfig
from areal.infra import remote_inf_engine, workflow_context
from areal.infra.remote_inf_engine import GroupedRolloutWorkflow, RemoteInfEngine
from areal.utils import stats_tracker

from examples.tau2.training.advantages import episode_tensors
from examples.tau2.training.groups import Episode, current_episode


@dataclass
class RolloutConfig(InferenceEngineConfig):
    """AReaL's config of a rollout engine, and the number of episodes that a group needs.

    None: half of those that are played, but at least 2.
    """

    min_group_size: int | None = None


class GroupOfEpisodes(GroupedRolloutWorkflow):
    """Plays the episodes of a group at once, and goes on without those that are rejected."""

    async def arun_episode(
        self, engine: RemoteInfEngine, data: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return the interactions of the group's episodes; None if none has any.

        Each interaction has the tensors of `advantages.episode_tensors`.

        Raises:
            Exception: that of a rejected episode, if fewer are there than the group needs.
        """
        results = await asyncio.gather(
            *(self._play(engine, data) for _ in range(self.group_size)), return_exceptions=True
        )
        errors = [result for result in results if isinstance(result, BaseException)]
        episodes = [
            result for result in results if result and not isinstance(result, BaseException)
        ]
        config = cast(RolloutConfig, engine.config)
        needed = config.min_group_size or max(2, self.group_size // 2)
        is_enough = len(episodes) >= min(needed, self.group_size)
        statistics = stats_tracker.get(workflow_context.stat_scope())
        statistics.scalar(
            **{
                "group/rejected": float(not is_enough),
                "group/incomplete": float(is_enough and len(episodes) < self.group_size),
            }
        )
        if not is_enough:
            if errors:
                raise errors[0]
            return None
        group: dict[str, Any] = {}
        for index, (interactions, outcome) in enumerate(episodes):
            tensors = [interaction.to_tensor_dict() for interaction in interactions.values()]
            if outcome is None:
                # the workflow has told none: what the last turn got
                outcome = float(tensors[-1]["rewards"])
            described = episode_tensors(index, outcome, len(tensors), self.workflow.discount)
            for turn, tensor in enumerate(tensors):
                tensor.update({key: values[turn : turn + 1] for key, values in described.items()})
            group.update(interactions)
        return group

    async def _play(
        self, engine: RemoteInfEngine, data: dict[str, Any]
    ) -> tuple[dict[str, Any], float | None] | None:
        """Play one episode, and return its interactions and its outcome."""
        # gather runs this in a task with a context of its own
        episode = Episode()
        current_episode.set(episode)
        interactions = await self.workflow.arun_episode(engine, data)
        return (interactions, episode.outcome) if interactions else None


def play_groups_of_episodes() -> None:
    """Have the rollout engines of this process play each group as `GroupOfEpisodes`."""
    remote_inf_engine.GroupedRolloutWorkflow = GroupOfEpisodes
