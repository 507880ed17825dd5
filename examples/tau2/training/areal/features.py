"""Asks the installed AReaL what it can do, as other versions of it can do more or less."""

import sys
from pathlib import Path

import areal
from areal.api.cli_args import GenerationHyperparameters
from areal.experimental.openai import client
from areal.infra import RayScheduler


def proxy_window(engine_max_tokens: int | None) -> int:
    """Return how many tokens the proxy allows for a prompt and its answer together.

    `engine_max_tokens` is the option of `rollout.agent`. AReaL 1.0.4 allows no more than its
    default, whatever that option says.
    """
    resolve = getattr(client, "_resolve_max_total_tokens", None)
    if resolve is None:
        most = GenerationHyperparameters().max_tokens
        return most if engine_max_tokens is None else min(engine_max_tokens, most)
    return resolve(0, sys.maxsize, engine_max_tokens)


def saves_megatrons_optimizer() -> bool:
    """Tell whether recovery checkpoints can have the optimizer of a Megatron engine.

    This reads AReaL's source, because its module cannot be imported without Megatron.
    """
    folder = Path(areal.__file__).parent
    source = folder / "engine" / "megatron_utils" / "checkpointer.py"
    return "dp_reshardable" in source.read_text()


def runs_agents_under_ray() -> bool:
    """Tell whether the Ray scheduler can start the proxies that agent workflows need."""
    return hasattr(RayScheduler, "_wait_for_fork_ready")
