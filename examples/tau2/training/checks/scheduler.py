"""Checks that the scheduler is one that a run can use."""

from collections.abc import Iterator

from examples.tau2.training.areal.features import runs_agents_under_ray
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def check_scheduler(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield a problem unless the scheduler is `local` or `slurm`, or `ray` if AReaL can."""
    scheduler = config.scheduler.type
    schedulers = ["local", "slurm"]
    if runs_agents_under_ray():
        schedulers.append("ray")
    if scheduler not in schedulers:
        yield f"scheduler.type={scheduler}: with this AReaL, choose {' or '.join(schedulers)}"
