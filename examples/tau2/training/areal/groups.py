"""Plays the episodes of a group, and trains on those that are there if some were rejected."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any, cast

from areal.api.cli_args import InferenceEngineConfig
from areal.infra import remote_inf_engine, workflow_context
from areal.infra.remote_inf_engine import GroupedRolloutWorkflow, RemoteInfEngine
from areal.utils import stats_tracker

from examples.tau2.training.advantages import episode_tensors
from examples.tau2.training.groups import Episode, current_episode, episodes_needed


@dataclass
class RolloutConfig(InferenceEngineConfig):
    """AReaL's config of a rollout engine, and the option that `groups.episodes_needed` takes."""

    min_group_size: int | None = None


class GroupOfEpisodes(GroupedRolloutWorkflow):
    """Plays the episodes of a group at once, and goes on without those that are rejected."""

    async def arun_episode(
        self, engine: RemoteInfEngine, data: dict[str, Any]
    ) -> dict[str, Any] | None:
        """Return the interactions of the group's episodes; None if too few have any.

        Each interaction has the tensors of `advantages.episode_tensors`.

        Raises:
            RuntimeError: fewer episodes are there than the group needs.
        """
        results = await asyncio.gather(
            *(self._play(index, engine, data) for index in range(self.group_size)),
            return_exceptions=True,
        )
        errors = [result for result in results if isinstance(result, BaseException)]
        episodes = [
            result for result in results if result and not isinstance(result, BaseException)
        ]
        config = cast(RolloutConfig, engine.config)
        needed = episodes_needed(self.group_size, config.min_group_size)
        is_enough = len(episodes) >= needed
        statistics = stats_tracker.get(workflow_context.stat_scope())
        statistics.scalar(
            **{
                "group/rejected": float(not is_enough),
                "group/incomplete": float(is_enough and len(episodes) < self.group_size),
            }
        )
        there = f"{len(episodes)} of {self.group_size} episodes of a group are there"
        if errors and is_enough:
            self.logger.warning("%s, and are used; the last error: %r", there, errors[-1])
        elif errors:
            raise RuntimeError(f"{there}; the last error: {errors[-1]!r}") from errors[-1]
        group: dict[str, Any] = {}
        for index, (interactions, episode) in enumerate(episodes):
            tensors = [interaction.to_tensor_dict() for interaction in interactions.values()]
            outcome = episode.outcome
            if outcome is None:
                # what the last turn got
                outcome = float(tensors[-1]["rewards"])
            described = episode_tensors(
                index, outcome, len(tensors), self.workflow.discount, episode.share
            )
            for turn, tensor in enumerate(tensors):
                tensor.update({key: values[turn : turn + 1] for key, values in described.items()})
            group.update(interactions)
        return group if is_enough else None

    async def _play(
        self, index: int, engine: RemoteInfEngine, data: dict[str, Any]
    ) -> tuple[dict[str, Any], Episode] | None:
        """Play one episode, and return its interactions and what it has told of itself."""
        # gather runs this in a task with a context of its own
        episode = Episode()
        current_episode.set(episode)
        context = workflow_context.get()
        if hasattr(context, "sample_idx"):
            # newer versions of AReaL tell the episodes of a group apart by it
            # pyrefly: ignore[unexpected-keyword]  # 1.0.4 does not have it
            workflow_context.set(replace(context, sample_idx=index))
        interactions = await self.workflow.arun_episode(engine, data)
        return (interactions, episode) if interactions else None


def play_groups_of_episodes() -> None:
    """Have the rollout engines of this process play each group as `GroupOfEpisodes`."""
    remote_inf_engine.GroupedRolloutWorkflow = GroupOfEpisodes
