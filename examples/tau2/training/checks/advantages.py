"""Checks that a group's episodes can be compared, and that only one place compares them."""

from collections.abc import Iterator

from examples.tau2.training.advantages import BASELINES, SCALES
from examples.tau2.utils import Tau2PPOConfig

# options of newer versions of AReaL, and those that take their place
REPLACED = {"reward_normalization": "baseline", "drop_incomplete_group": "min_group_size"}


def check_advantages(config: Tau2PPOConfig) -> Iterator[str]:
    """Yield settings under which the advantages would not be those that the options name."""
    baseline, scale, episodes = config.baseline, config.advantage_scale, config.gconfig.n_samples
    if baseline not in (*BASELINES, None):
        yield f"baseline={baseline!r} must be {', '.join(BASELINES)} or null"
    elif baseline is None:
        if scale is not None:
            yield f"advantage_scale={scale} needs a baseline: set baseline=mean"
    else:
        yield from _check_comparison(config)
    for option, ours in REPLACED.items():
        # AReaL 1.0.4 does not have these options
        if getattr(config.gconfig, option, False):
            yield f"gconfig.{option}=true has no effect on groups of tau2: set {ours} instead"
    if scale not in SCALES:
        yield f"advantage_scale={scale!r} must be group, batch or null"
    if config.min_group_size is not None and not 2 <= config.min_group_size <= max(2, episodes):
        yield (
            f"min_group_size={config.min_group_size} must be between 2 and "
            f"gconfig.n_samples={episodes}"
        )


def _check_comparison(config: Tau2PPOConfig) -> Iterator[str]:
    baseline, actor = config.baseline, config.actor
    # with the filter, `check_sampling` says it
    if config.gconfig.n_samples == 1 and not config.group_filter:
        yield (
            f"baseline={baseline} compares the episodes of a group, and gconfig.n_samples=1 leaves "
            "none to compare: raise the latter, or set baseline=null"
        )
    if actor.adv_norm or actor.reward_norm:
        option = "actor.adv_norm" if actor.adv_norm else "actor.reward_norm"
        yield (
            f"baseline={baseline} makes the advantages, and {option} would change them again: "
            f"set {option}=null, or baseline=null"
        )
    if actor.reward_bias:
        yield (
            f"actor.reward_bias={actor.reward_bias} would be added to the advantages that "
            f"baseline={baseline} makes: set it to 0"
        )
    if config.critic is not None:
        yield f"baseline={baseline} takes the place of a critic: set critic=null, or baseline=null"
