"""Checks that AReaL can resume the run if recovery is on."""

from collections.abc import Iterator

from examples.tau2.training.areal.features import saves_megatrons_optimizer
from examples.tau2.training.recovery import recovery_is_on
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def check_recovery(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield the settings with which AReaL saves no checkpoint that it can resume from."""
    recover = config.recover
    if not recovery_is_on(recover):
        return
    if isinstance(config, Tau2PPOConfig) and config.critic:
        yield (
            "recover.mode=on with critic: AReaL saves the critic, but does not load it; "
            "set recover.mode to off"
        )
    if not config.actor.backend.startswith("megatron"):
        return
    is_without_optimizer = recover.no_save_optim and recover.no_load_optim
    if not (is_without_optimizer or saves_megatrons_optimizer()):
        yield (
            "recover.no_save_optim=false or recover.no_load_optim=false: this AReaL cannot save "
            "Megatron's optimizer; set both to true, and a resumed run starts with Adam's moments "
            "at zero"
        )
    if config.actor.megatron.async_save:
        yield (
            "actor.megatron.async_save=true: nothing tells when a checkpoint to recover from is "
            "whole; set it to false"
        )
