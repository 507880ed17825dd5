"""Checks that the scheduler is one that a run can use."""

from collections.abc import Iterator

from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def check_scheduler(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield a problem unless the scheduler is `local` or `slurm`."""
    scheduler = config.scheduler.type
    if scheduler in ("local", "slurm"):
        return
    if isinstance(config, Tau2PPOConfig):
        yield f"scheduler.type={scheduler}: AReaL runs agent workflows under local and slurm only"
    else:
        yield f"scheduler.type={scheduler}: choose local or slurm"
