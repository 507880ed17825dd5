"""Checks that each number is in its range."""

from collections.abc import Iterator
from math import inf

from areal.api.cli_args import GenerationHyperparameters

from examples.tau2.utils import Tau2PPOConfig, Tau2SFTConfig


def check_ranges(config: Tau2PPOConfig | Tau2SFTConfig) -> Iterator[str]:
    """Yield the options whose number is out of range."""
    for option, number in _positive_numbers(config).items():
        # nan is not greater than 0 either
        if number is not None and not number > 0:
            yield f"{option}={number} must be greater than 0"
    if isinstance(config, Tau2PPOConfig):
        for option, (number, low, high) in _bounded_numbers(config).items():
            if not low <= number <= high:
                allowed = f"between {low:g} and {high:g}" if high < inf else f"at least {low:g}"
                yield f"{option}={number} is out of range; it must be {allowed}"


def sampling_by_option(config: Tau2PPOConfig) -> dict[str, GenerationHyperparameters]:
    """Return the sampling arguments of training and validation by the names of their options."""
    return {
        "gconfig": config.gconfig,
        "eval_gconfig": config.eval_gconfig or config.gconfig,
    }


def _positive_numbers(config: Tau2PPOConfig | Tau2SFTConfig) -> dict[str, float | None]:
    """Return the numbers that must be greater than 0; None stands for an option that is not set."""
    valid_dataset, optimizer = config.valid_dataset, config.actor.optimizer
    numbers: dict[str, float | None] = {
        "train_dataset.batch_size": config.train_dataset.batch_size,
        "valid_dataset.batch_size": valid_dataset.batch_size if valid_dataset else None,
        "total_train_steps": config.total_train_steps,
        "run_timeout": config.run_timeout,
        "cluster.n_nodes": config.cluster.n_nodes,
        "saver.freq_steps": config.saver.freq_steps,
        "evaluator.freq_steps": config.evaluator.freq_steps,
        "recover.freq_steps": config.recover.freq_steps,
        "actor.optimizer.lr": optimizer.lr if optimizer else None,
    }
    if isinstance(config, Tau2PPOConfig):
        numbers["econfig.max_steps"] = config.econfig.max_steps
        numbers["econfig.timeout"] = config.econfig.timeout
        for option, sampling in sampling_by_option(config).items():
            numbers[f"{option}.n_samples"] = sampling.n_samples
            numbers[f"{option}.max_new_tokens"] = sampling.max_new_tokens
        rollout = config.rollout
        numbers["rollout.max_concurrent_rollouts"] = rollout.max_concurrent_rollouts
        numbers["rollout.consumer_batch_size"] = rollout.consumer_batch_size
        numbers["rollout.agent.engine_max_tokens"] = rollout.agent.engine_max_tokens
        numbers["actor.ppo_n_minibatches"] = config.actor.ppo_n_minibatches
    return numbers


def _bounded_numbers(config: Tau2PPOConfig) -> dict[str, tuple[float, float, float]]:
    """Return the numbers that have bounds, each as (number, lowest, highest)."""
    econfig = config.econfig
    numbers: dict[str, tuple[float, float, float]] = {
        "econfig.turn_discount": (econfig.turn_discount, 0, 1),
        "econfig.invalid_format_penalty": (econfig.invalid_format_penalty, 0, inf),
        "econfig.action_reward": (econfig.action_reward, 0, 0.99),
        "revisit_share": (config.revisit_share, 0, 0.99),
        "rollout.max_head_offpolicyness": (config.rollout.max_head_offpolicyness, 0, inf),
        "cluster.n_gpus_per_node": (config.cluster.n_gpus_per_node, 0, inf),
    }
    if config.sglang.mem_fraction_static:
        numbers["sglang.mem_fraction_static"] = (config.sglang.mem_fraction_static, 0, 1)
    for option, sampling in sampling_by_option(config).items():
        numbers[f"{option}.temperature"] = (sampling.temperature, 0, 2)
        numbers[f"{option}.top_p"] = (sampling.top_p, 1e-6, 1)
    return numbers
