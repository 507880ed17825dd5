"""Connects the episodes of a workflow with the AReaL rollout worker that plays them."""

from areal.infra import workflow_context
from areal.utils import stats_tracker

from examples.tau2.agent import RolloutContext
from examples.tau2.training.areal.rollouts import served_weight_version
from examples.tau2.training.groups import remember_outcome


class ArealTracker:
    """The tracker of `Tau2AgentWorkflow` in a rollout worker of AReaL."""

    def context(self) -> RolloutContext:
        """Return what AReaL knows of the episode that is being played."""
        context = workflow_context.get()
        return RolloutContext(context.is_eval, context.task_id, served_weight_version())

    def record(self, statistics: dict[str, float]) -> None:
        """Add an episode's numbers to AReaL's statistics of training, or to those of evaluation."""
        stats_tracker.get(workflow_context.stat_scope()).scalar(**statistics)

    def remember_outcome(self, outcome: float, share: float = 1.0) -> None:
        """Keep an episode's outcome for the comparison with its group."""
        remember_outcome(outcome, share)
