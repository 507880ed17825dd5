"""Checks that the sampling of a group's episodes suits GRPO."""

from collections.abc import Iterator

from examples.tau2.utils import Tau2PPOConfig


def check_sampling(config: Tau2PPOConfig) -> Iterator[str]:
    """Yield settings that leave no group to learn from, or train at another temperature."""
    temperature = config.gconfig.temperature
    if config.group_filter and temperature == 0:
        yield (
            "gconfig.temperature=0 makes the episodes of a group the same, "
            "and group_filter=true drops them; raise it"
        )
    if config.actor.temperature != temperature:
        yield (
            f"actor.temperature={config.actor.temperature} is not the "
            f"gconfig.temperature={temperature} that is sampled with; set both to the same"
        )
    if config.group_filter and config.gconfig.n_samples == 1:
        yield (
            "group_filter=true drops every group of gconfig.n_samples=1: "
            "raise the latter, or set the former to false"
        )
    if config.revisit_share and config.gconfig.n_samples == 1:
        yield (
            f"revisit_share={config.revisit_share} needs groups with several outcomes, and "
            "gconfig.n_samples=1 has none: raise the latter, or set the former to 0"
        )
