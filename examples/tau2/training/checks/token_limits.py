"""Checks that the limits of sequence lengths, in tokens, fit each other."""

from collections.abc import Iterator

from examples.tau2.training.areal.features import proxy_window
from examples.tau2.training.checks.ranges import sampling_by_option
from examples.tau2.utils import Tau2PPOConfig


def check_token_limits(config: Tau2PPOConfig) -> Iterator[str]:
    """Yield the limits of SGLang, the proxy, sampling and training that contradict each other."""
    given_window, served = config.rollout.agent.engine_max_tokens, config.sglang.context_length
    window = proxy_window(given_window)
    if given_window is not None and window < given_window:
        yield (
            f"rollout.agent.engine_max_tokens={given_window} has no effect: "
            f"AReaL's proxy stops at {window}; set that"
        )
    # SGLang refuses a request that could fill its context
    if served is not None and window >= served:
        yield (
            f"rollout.agent.engine_max_tokens={window} must be less than "
            f"sglang.context_length={served}; lower the former, or raise the latter"
        )
    for option, sampling in sampling_by_option(config).items():
        if sampling.max_new_tokens >= window:
            yield (
                f"{option}.max_new_tokens={sampling.max_new_tokens} leaves no room for a prompt in "
                f"a context of {window} tokens (rollout.agent.engine_max_tokens); lower it"
            )
    actor, trained = config.actor, config.actor.mb_spec.max_tokens_per_mb
    if trained is not None and trained < window:
        yield (
            f"actor.mb_spec.max_tokens_per_mb={trained} is less than the longest sequence, "
            f"rollout.agent.engine_max_tokens={window}; raise the former, or lower the latter"
        )
    is_padded_to_blocks = actor.pad_to_maximum and trained and trained % 128 == 0
    if actor.enable_tree_training and not is_padded_to_blocks:
        yield (
            "actor.enable_tree_training=true needs actor.pad_to_maximum=true and "
            "actor.mb_spec.max_tokens_per_mb to be a multiple of 128"
        )
