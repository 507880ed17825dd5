"""Checks the data of a fine-tuning run, and that the run saves what it learns from them."""

from collections.abc import Iterator

from transformers import PreTrainedTokenizerFast

from examples.tau2.data.files import WrongFile
from examples.tau2.data.hub import HubError
from examples.tau2.training.checks.data import DatasetConfig
from examples.tau2.training.checks.placeholders import is_placeholder
from examples.tau2.training.checks.template import load_tokenizer
from examples.tau2.training.samples import Sample, SupervisedData, load_samples
from examples.tau2.utils import Tau2SFTConfig


def load_supervised_data(config: Tau2SFTConfig) -> tuple[SupervisedData, list[str]]:
    """Load the data sets of a run, and return them with the problems of their turns."""
    tokenizer, problems = load_tokenizer(config)
    if tokenizer is None:
        return SupervisedData([], None), problems
    limit = config.actor.mb_spec.max_tokens_per_mb
    train, problems = _load_dataset("train_dataset", config.train_dataset, tokenizer, limit)
    if config.valid_dataset is None:
        return SupervisedData(train, None), problems
    valid, valid_problems = _load_dataset("valid_dataset", config.valid_dataset, tokenizer, limit)
    return SupervisedData(train, valid), [*problems, *valid_problems]


def check_samples(
    option: str, dataset: DatasetConfig, samples: list[Sample], limit: int | None
) -> Iterator[str]:
    """Yield a problem if a sample is longer than the limit of tokens, or a batch is not full."""
    longest = max((len(sample["input_ids"]) for sample in samples), default=0)
    if limit and longest > limit:
        yield (
            f"actor.mb_spec.max_tokens_per_mb={limit} is less than the longest turn of "
            f"{option}.path={dataset.path}, {longest} tokens; raise it"
        )
    needed = dataset.batch_size if dataset.drop_last else 1
    if len(samples) < needed:
        yield (
            f"{option}.path={dataset.path} has {len(samples)} turns of solved dialogs, fewer than "
            f"a batch ({option}.batch_size={dataset.batch_size})"
        )


def check_last_step_is_saved(config: Tau2SFTConfig, samples: int) -> Iterator[str]:
    """Yield a problem if the run would end without a checkpoint of its last step.

    `samples` is the number of training samples.
    """
    saver, epochs = config.saver, config.total_train_epochs
    steps = epochs * (samples // config.train_dataset.batch_size)
    last_step = min(steps, config.total_train_steps or steps)
    saved_as_step = saver.freq_steps and last_step % saver.freq_steps == 0
    ends_with_epoch = last_step == steps
    saved_as_epoch = saver.freq_epochs and epochs % saver.freq_epochs == 0 and ends_with_epoch
    if not (saved_as_step or saved_as_epoch):
        yield (
            f"saver.freq_epochs={saver.freq_epochs}, saver.freq_steps={saver.freq_steps}: the last "
            f"of {last_step} steps in {epochs} epochs is not saved; set one of them so that it is"
        )


def _load_dataset(
    option: str, dataset: DatasetConfig, tokenizer: PreTrainedTokenizerFast, limit: int | None
) -> tuple[list[Sample], list[str]]:
    """Load one data set, and return its samples with the problems of its turns."""
    try:
        samples = load_samples(dataset.path, tokenizer)
    except (WrongFile, HubError) as error:
        return [], [f"{option}.path={dataset.path}: {error}"]
    except ValueError as error:
        return [], [f"{dataset.path}, {line}" for line in str(error).splitlines()]
    except OSError as error:
        # `check_placeholders` tells of a placeholder
        if is_placeholder(dataset.path):
            return [], []
        return [], [f"{option}.path={dataset.path} cannot be read: {error.strerror}"]
    return samples, list(check_samples(option, dataset, samples, limit))
