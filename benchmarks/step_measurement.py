"""Measures what `benchmarks/train_step.py` reports: tokens in tries, and steps of the actor."""

import argparse
import os
from dataclasses import asdict
from pathlib import Path

import torch
from areal.api.cli_args import PPOActorConfig
from areal.utils.data import concat_padded_tensors
from transformers import PretrainedConfig

from benchmarks.actor_steps import TOLERANCE, Step, differences, progress, train
from benchmarks.models import load_model, load_tokenizer
from benchmarks.recorded_episodes import (
    DOMAIN,
    Group,
    Sample,
    parses_tool_calls,
    record,
    solved,
    tasks_that_change_the_database,
)
from benchmarks.tries import Batch, count_packed_tokens, first_turns, renumbered, samples_of
from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.command_line import as_hydra_override
from examples.tau2.training.launch import ConfigError
from examples.tau2.utils import Tau2PPOConfig

BENCHMARK = ("actor.init_from_scratch=true", "actor.optimizer.lr=0.0")
ON_CPU = (
    "actor.dtype=float32",
    "actor.archon.attn_type=sdpa",
    "actor.gradient_checkpointing=false",
    "actor.mb_spec.max_tokens_per_mb=6144",
)
# If it is not compiled, the flex attention of tree training keeps all scores: tokens x tokens x
# heads x 4 bytes.
ON_GPU = ("actor.archon.attn_type=varlen", "actor.archon.enable_compile=true")


def measure(args: argparse.Namespace) -> dict:
    """Record, count and train; return all that is reported, as JSON has it.

    `args` are the options of train_step.py.

    Raises:
        ConfigError: nothing can be measured with these options.
    """
    if args.json and not args.json.parent.is_dir():
        raise ConfigError([f"--json: there is no folder {args.json.parent}"])
    gpu = torch.cuda.is_available()
    config = load(args.config, args.overrides)
    device_overrides = ON_GPU if gpu else ON_CPU
    actor = load(args.config, [*BENCHMARK, *device_overrides, *args.overrides]).actor
    tasks = tasks_that_change_the_database()
    if args.tasks > len(tasks):
        raise ConfigError(
            [f"--tasks: only {len(tasks)} training tasks of {DOMAIN} change the database"]
        )
    chosen_tasks = tasks[: args.tasks]
    model = load_model(args.model)
    tokenizer = load_tokenizer(args.tokenizer)
    recorded_limit = microbatch_limit(config.actor)
    limit = microbatch_limit(actor)

    check_tool_calls_are_parsed(config)
    progress(f"recording {args.episodes} episodes of {args.tasks} tasks ...")
    groups = record(config, tokenizer, chosen_tasks, args.episodes, args.thinking)
    task_ids = [task.id for task in chosen_tasks]
    recorded = count_tokens(task_ids, groups, recorded_limit)
    if args.samples:
        trained = list(first_turns(groups, args.samples))
    else:
        trained = [samples_of(group) for group in groups]
    trained_counts = count_packed_tokens(samples_of(trained), limit)

    batches = [concat_padded_tensors(group) for group in trained]
    if args.model == "tiny":
        batches, model.vocab_size = renumbered(batches)
    check_trainable(batches, model, actor)
    if not gpu:
        # compiling would take longer than all that is compiled
        os.environ.setdefault("TORCH_COMPILE_DISABLE", "1")
    steps = train(actor, model, tokenizer, batches, args.steps)
    tolerance = TOLERANCE[actor.dtype]
    off = differences(steps["plain"][-1], steps["tree"][-1])
    return {
        "tokens_per_trie": recorded_limit,
        **recorded,
        "model": args.model,
        "device": torch.cuda.get_device_name() if gpu else "CPU",
        "dtype": actor.dtype,
        "tokens_per_microbatch": limit,
        "trained": trained_counts,
        "steps": {way: [as_json(step) for step in made] for way, made in steps.items()},
        "differences": off,
        "tolerance": tolerance,
        # a difference that is not a number is not equal
        "equal": all(value <= tolerance for value in off.values()),
    }


def load(config_file: Path, overrides: list[str]) -> Tau2PPOConfig:
    """Load a config as `train.py` does.

    Raises:
        ConfigError: the file cannot be read, or an option is wrong.
    """
    options = [as_hydra_override(override) for override in overrides]
    config, problems = load_config(["--config", str(config_file), *options], Tau2PPOConfig)
    if problems:
        raise ConfigError(problems)
    return config


def check_tool_calls_are_parsed(config: Tau2PPOConfig) -> None:
    """Check that the scripted agent can call tools, without which every episode would fail.

    Raises:
        ConfigError: a call of the agent would stay text.
    """
    try:
        is_parsed, cause = parses_tool_calls(config), ""
    except (ImportError, ValueError) as error:
        is_parsed, cause = False, f" ({error})"
    if not is_parsed:
        parser = config.rollout.agent.tool_call_parser
        raise ConfigError(
            [
                f"AReaL parses no tool call of the scripted agent{cause}, so nothing would be "
                "measured: this Python must be able to import sglang, and "
                f"rollout.agent.tool_call_parser={parser} must parse Qwen3's calls, as qwen does"
            ]
        )


def microbatch_limit(actor: PPOActorConfig) -> int:
    """Return the most tokens that a microbatch, or in tree training a trie, may have.

    Raises:
        ConfigError: there is no limit.
    """
    limit = actor.mb_spec.max_tokens_per_mb
    if limit is None:
        raise ConfigError(["actor.mb_spec.max_tokens_per_mb is not set"])
    return limit


def count_tokens(task_ids: list[str], groups: list[Group], limit: int) -> dict:
    """Count the tokens of each group, and of all together, before and after packing."""
    rows = []
    all_samples: list[Sample] = []
    for task_id, group in zip(task_ids, groups, strict=True):
        samples = samples_of(group)
        all_samples += samples
        counts = count_packed_tokens(samples, limit)
        rows.append({"task": task_id, "episodes": len(group), "solved": solved(group), **counts})
    return {"groups": rows, "all": count_packed_tokens(all_samples, limit)}


def check_trainable(batches: list[Batch], model: PretrainedConfig, actor: PPOActorConfig) -> None:
    """Check that a step is possible and can show a difference.

    Raises:
        ConfigError: no step is possible, or every step would have a gradient of 0.
    """
    highest = max(int(batch["input_ids"].max()) for batch in batches)
    if highest >= model.vocab_size:
        raise ConfigError(
            [f"--model: a vocabulary of {model.vocab_size} lacks token {highest} of the tokenizer"]
        )
    rewards: set[float] = set()
    for batch in batches:
        rewards |= set(batch["rewards"].tolist())
    if len(rewards) == 1:
        raise ConfigError(
            ["--samples, --episodes: all samples have the same reward, and therefore no gradient"]
        )
    if actor.dtype not in TOLERANCE:
        raise ConfigError([f"actor.dtype is {actor.dtype}, not {' or '.join(TOLERANCE)}"])


def as_json(step: Step) -> dict:
    """Return the step as JSON, without its many logprobs."""
    return {**asdict(step), "logprobs": None}
