"""Mends two faults of AReaL's schedulers, and asks them which worker has ended."""

import shlex
from dataclasses import replace
from functools import partial
from typing import Any

from areal.api import Scheduler
from areal.api.cli_args import SchedulingSpec
from areal.infra import LocalScheduler, RayScheduler, SlurmScheduler
from areal.infra.scheduler.exceptions import WorkerFailedError


def wait_for_forked_workers(scheduler: Scheduler, seconds: float) -> None:
    """Have the scheduler wait this long until a forked worker, such as a proxy, listens."""
    assert isinstance(scheduler, LocalScheduler | SlurmScheduler | RayScheduler)
    # pyrefly: ignore[missing-attribute]  # not in 1.0.4's RayScheduler, which is refused
    wait = scheduler._wait_for_fork_ready
    scheduler._wait_for_fork_ready = partial(wait, timeout=seconds)


def failed_worker(scheduler: Scheduler | None) -> WorkerFailedError | None:
    """Return the error of the first local worker that has ended; None if all run.

    For another scheduler than the local one, this returns None.
    """
    if not isinstance(scheduler, LocalScheduler):
        return None
    try:
        for role in list(scheduler._workers):
            scheduler._check_worker_health(role)
    except WorkerFailedError as error:
        return error
    return None


class PatchedSlurmScheduler(SlurmScheduler):
    """`SlurmScheduler` that starts workers without GPUs, and with their variables."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # AReaL divides by the number of GPUs of a node
        self._n_gpus_per_node = max(1, self._n_gpus_per_node)

    def job_name(self, role: str) -> str:
        """Return the name by which Slurm knows the job of a role's workers."""
        return self._slurm_name(role)

    def job_ids(self) -> dict[str, int]:
        """Return the number of each job that was submitted, by the role of its workers."""
        return dict(self._jobs)

    def log_path(self, role: str) -> str:
        """Return the path of the log of a role's workers."""
        return self._log_path_of(role)

    def _generate_sbatch_script(
        self, *args: Any, schedulings: list[SchedulingSpec], **kwargs: Any
    ) -> str:
        """Export the workers' variables in their shell: without a container AReaL drops them."""
        spec = schedulings[0]
        if self.container_type == "none":
            exports = [
                f"export {name}={shlex.quote(str(value))}" for name, value in spec.env_vars.items()
            ]
            commands = [*exports, *(spec.additional_bash_cmds or [])]
            spec = replace(spec, additional_bash_cmds=commands)
        return super()._generate_sbatch_script(*args, schedulings=[spec], **kwargs)
