"""Checks that no option has a secret key, since AReaL saves options and sends them to trackers."""

import os
from collections.abc import Iterator

from areal.experimental.openai.proxy.server import DEFAULT_ADMIN_API_KEY

from examples.tau2.episode.llm import key_argument
from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def check_keys(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield the options that have a key, with the environment variable to set instead."""
    wandb, swanlab = config.stats_logger.wandb, config.stats_logger.swanlab
    variables: dict[str, str] = {}
    if isinstance(config, Tau2PPOConfig):
        if config.rollout.agent.admin_api_key != DEFAULT_ADMIN_API_KEY:
            variables["rollout.agent.admin_api_key"] = (
                "TAU2_PROXY_ADMIN_API_KEY (by default it is random)"
            )
        for role in ("user", "judge"):
            key = key_argument(getattr(config.econfig, f"{role}_llm_args"))
            if key:
                variables[f"econfig.{role}_llm_args.{key}"] = f"TAU2_{role.upper()}_LLM_API_KEY"
    if wandb.wandb_api_key:
        variables["stats_logger.wandb.wandb_api_key"] = "WANDB_API_KEY"
    # AReaL copies the environment variable into the option
    if swanlab.api_key != os.environ.get("SWANLAB_API_KEY"):
        variables["stats_logger.swanlab.api_key"] = "SWANLAB_API_KEY"
    for option, variable in variables.items():
        yield (
            f"{option} would be saved with the config and sent to trackers; "
            f"set the environment variable {variable} instead"
        )
