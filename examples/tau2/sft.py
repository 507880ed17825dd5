"""Fine-tune a model on turns of solved dialogs, with AReaL's supervised trainer: the start that `train.py` goes on from.

    python3 examples/tau2/sft.py --config examples/tau2/config_sft_cpu.yaml experiment_name=demo trial_name=sft

Prompts are those that AReaL's proxy will make of the same conversation; the loss is on what the assistant says. `turns.py`
has the format of the data, `expert.py` writes some. `option=value` overrides any field of the config. `--check` looks over
the plan and every turn, prints it, and launches nothing.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if (
    __name__ == "__main__"
):  # import from the repository's root, here and in AReaL's workers, which inherit this path
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from examples.tau2.training.launch import (
    ConfigError,
    Job,
    console,
    launch,
    start,
    tell_results,
    watch,
)

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

    from examples.tau2.data.turns import Turn
    from examples.tau2.utils import Tau2SFTConfig

    Sample = dict[
        str, torch.Tensor
    ]  # input_ids, int64, and loss_mask, bool: [tokens of prompt and answer]


def check(argv: list[str]) -> Job:
    """
    Raises:
        ConfigError: with all that is wrong.
    """
    from areal.utils.hf_utils import load_hf_tokenizer

    from examples.tau2.training.plan import is_placeholder, load_plan
    from examples.tau2.utils import Tau2SFTConfig

    plan, found = load_plan(argv, Tau2SFTConfig)
    found += problems(plan)
    try:
        tokenizer = load_hf_tokenizer(plan.tokenizer_path)
    except (OSError, ValueError) as error:
        raise ConfigError(
            [*found, f"tokenizer_path={plan.tokenizer_path}: {str(error).splitlines()[0]}"]
        ) from error
    samples = {}
    for option in ("train_dataset", "valid_dataset"):
        if (dataset := getattr(plan, option)) is None:
            samples[option] = None
            continue
        try:
            samples[option] = load_samples(Path(dataset.path), tokenizer)
            found += sample_problems(plan, option, samples[option])
        except ValueError as error:
            found += [f"{dataset.path}, {line}" for line in str(error).splitlines()]
        except OSError as error:
            if not is_placeholder(dataset.path):
                found.append(f"{option}.path={dataset.path} cannot be read: {error.strerror}")
    if not found:
        found += saving_problems(plan, samples["train_dataset"])
    if found:
        raise ConfigError(found)
    return Job(summary(plan, **samples), plan.run_timeout, lambda: train(argv, **samples))


def load_samples(path: Path, tokenizer: "PreTrainedTokenizerFast") -> list["Sample"]:
    """A file of turns as AReaL's trainer takes them.

    Raises:
        ValueError: a line of the message for each thing that is wrong with lines of the file.
        OSError: the file cannot be read.
    """
    import torch

    from examples.tau2.data.rendering import render_turn
    from examples.tau2.data.turns import read_turns

    def sample(turn: "Turn") -> "Sample":
        prompt, answer = render_turn(tokenizer, turn.messages, turn.tools, turn.answer)
        mask = torch.arange(len(prompt) + len(answer)) >= len(prompt)
        return {"input_ids": torch.tensor([*prompt, *answer]), "loss_mask": mask}

    return read_turns(path, sample)


def problems(plan: "Tau2SFTConfig") -> Iterator[str]:
    """What is wrong with a plan but for its data, a sentence each."""
    from examples.tau2.training.plan import allocation, keys, not_positive, recovery, storage

    yield from not_positive(
        {
            "train_dataset.batch_size": plan.train_dataset.batch_size,
            "valid_dataset.batch_size": plan.valid_dataset and plan.valid_dataset.batch_size,
            "total_train_steps": plan.total_train_steps,
            "run_timeout": plan.run_timeout,
            "cluster.n_nodes": plan.cluster.n_nodes,
            "saver.freq_steps": plan.saver.freq_steps,
            "evaluator.freq_steps": plan.evaluator.freq_steps,
            "recover.freq_steps": plan.recover.freq_steps,
            "actor.optimizer.lr": plan.actor.optimizer and plan.actor.optimizer.lr,
        }
    )
    if plan.scheduler.type not in ("local", "slurm"):
        yield f"scheduler.type={plan.scheduler.type}: choose local or slurm"
    for check in (allocation, storage, keys, recovery):
        yield from check(plan)


def sample_problems(plan: "Tau2SFTConfig", option: str, samples: list["Sample"]) -> Iterator[str]:
    """What is wrong with the data for this plan, a sentence each."""
    dataset, limit = getattr(plan, option), plan.actor.mb_spec.max_tokens_per_mb
    longest = max((len(sample["input_ids"]) for sample in samples), default=0)
    if limit and longest > limit:
        yield (
            f"actor.mb_spec.max_tokens_per_mb={limit} is less than the longest turn of {option}.path={dataset.path}, "
            f"{longest} tokens; raise it"
        )
    if len(samples) < (dataset.batch_size if dataset.drop_last else 1):
        yield (
            f"{option}.path={dataset.path} has {len(samples)} turns of solved dialogs, fewer than a batch "
            f"({option}.batch_size={dataset.batch_size})"
        )


def saving_problems(plan: "Tau2SFTConfig", samples: list["Sample"]) -> Iterator[str]:
    """Whether the run would end without a checkpoint of its last step."""
    saver, epochs = plan.saver, plan.total_train_epochs
    steps = epochs * (len(samples) // plan.train_dataset.batch_size)
    last = min(steps, plan.total_train_steps or steps)
    if (saver.freq_steps and last % saver.freq_steps == 0) or (
        saver.freq_epochs and epochs % saver.freq_epochs == 0 and last == steps
    ):
        return
    yield (
        f"saver.freq_epochs={saver.freq_epochs}, saver.freq_steps={saver.freq_steps}: the last of {last} steps in {epochs} "
        "epochs is not saved; set one of them so that it is"
    )


def summary(
    plan: "Tau2SFTConfig", train_dataset: list["Sample"], valid_dataset: list["Sample"] | None
) -> str:
    """The resolved plan, for human readers."""
    from examples.tau2.training.plan import overview

    def turns(dataset, samples: list["Sample"]) -> str:
        tokens = sum(len(sample["input_ids"]) for sample in samples)
        learnt = sum(int(sample["loss_mask"].sum()) for sample in samples)
        return f"{dataset.path}: {len(samples)} turns, {tokens} tokens, {learnt} of them answers"

    rows = {
        "training": f"{turns(plan.train_dataset, train_dataset)}; {plan.train_dataset.batch_size} a batch",
        "validation": turns(plan.valid_dataset, valid_dataset) if valid_dataset else "none",
        "allocation": f"{plan.actor.backend} on {plan.cluster.n_nodes} x {plan.cluster.n_gpus_per_node} GPUs, "
        f"{plan.scheduler.type} scheduler",
    }
    return overview(plan, rows)


def train(
    argv: list[str], train_dataset: list["Sample"], valid_dataset: list["Sample"] | None
) -> None:
    """Run AReaL's trainer from its config to its end."""
    from examples.tau2.training.trainer import Tau2SFTTrainer
    from examples.tau2.utils import Tau2SFTConfig

    config, folder = start(argv, Tau2SFTConfig)
    with console(folder / "console.log" if config.quiet else None) as terminal:
        print("starting the trainer ...", file=terminal)
        with Tau2SFTTrainer(
            config, train_dataset=train_dataset, valid_dataset=valid_dataset
        ) as trainer:
            watch(trainer, folder, terminal)
            trainer.train()
        tell_results(config, folder, terminal)


if __name__ == "__main__":
    sys.exit(launch(sys.argv[1:], __doc__, check))
