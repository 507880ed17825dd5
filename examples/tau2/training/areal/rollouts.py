"""Reads and sets what AReaL's controllers and workers keep about rollouts in private names."""

from areal.infra import RolloutController
from areal.infra.rpc.guard import engine_blueprint

from examples.tau2.training.groups import GroupResult


def continue_group_numbers(controller: RolloutController, first: int) -> None:
    """Have the controller number the groups of a resumed run from `first` on."""
    controller._task_id_generator._task_cnt = first


def is_group_under_way(controller: RolloutController, number: int) -> bool:
    """Tell whether the group of this number has not come back to the trainer yet.

    The controller numbers a group when it takes it from the data loader, and forgets the number
    when the group has come back.
    """
    is_taken = number < controller._task_id_generator._task_cnt
    return not is_taken or number in controller.dispatcher._active_task_ids


def take_group_results(controller: RolloutController) -> list[GroupResult]:
    """Return the results of the groups that all workers have played since the last call."""
    by_worker = controller._collective_rpc("take_group_results", http_timeout=60.0)
    return [result for results in by_worker for result in results]


def served_weight_version() -> int | None:
    """Return the version of the weights that this worker's engines serve; None without engines."""
    versions = [engine.get_version() for engine in engine_blueprint._engines.values()]
    return max(versions, default=None)
