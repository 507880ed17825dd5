"""Problems of the data of a fine-tuning run, and of its last checkpoint."""

import pytest
import torch

from examples.tau2 import expert
from examples.tau2.cpu.tokenizer import train_tokenizer
from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.checks.supervised import (
    check_last_step_is_saved,
    check_samples,
    load_supervised_data,
)
from examples.tau2.utils import Tau2SFTConfig
from tests.own_tasks import mock_entry, write


def supervised(*overrides: str) -> Tau2SFTConfig:
    """The config for CPUs: 10 epochs, of which the last is saved, in batches of 10."""
    names = ["experiment_name=e", "trial_name=t", "train_dataset.path=turns.jsonl"]
    options = [f"++{option}" for option in (*names, "train_dataset.batch_size=10", *overrides)]
    argv = ["--config", "examples/tau2/config_sft_cpu.yaml", *options]
    config, problems = load_config(argv, Tau2SFTConfig)
    assert problems == []
    return config


@pytest.mark.parametrize(
    "overrides, is_saved",
    [
        ([], True),
        (["total_train_steps=9"], False),
        (["total_train_steps=9", "saver.freq_steps=3"], True),
        (["saver.freq_epochs=3"], False),
        (["saver.freq_epochs=null"], False),
        (["saver.freq_epochs=null", "saver.freq_steps=10"], True),
    ],
)
def test_the_last_step_must_be_saved(overrides, is_saved):
    problems = list(check_last_step_is_saved(supervised(*overrides), 10))
    if is_saved:
        assert problems == []
    else:
        (problem,) = problems
        assert "in 10 epochs is not saved; set one of them so that it is" in problem


def samples_of(*lengths: int) -> list[dict[str, torch.Tensor]]:
    return [{"input_ids": torch.zeros(length)} for length in lengths]


def test_the_longest_sample_must_fit_the_limit():
    dataset = supervised("train_dataset.batch_size=2").train_dataset
    (problem,) = check_samples("train_dataset", dataset, samples_of(3, 5), 4)
    assert problem == (
        "actor.mb_spec.max_tokens_per_mb=4 is less than the longest turn of "
        "train_dataset.path=turns.jsonl, 5 tokens; raise it"
    )
    for limit in (5, None):
        assert list(check_samples("train_dataset", dataset, samples_of(3, 5), limit)) == []


@pytest.mark.parametrize("drop_last, number", [("true", 2), ("false", 0)])
def test_there_must_be_a_batch(drop_last, number):
    dataset = supervised(
        "train_dataset.batch_size=3", f"train_dataset.drop_last={drop_last}"
    ).train_dataset
    (problem,) = check_samples("train_dataset", dataset, samples_of(*range(1, number + 1)), None)
    assert problem == (
        f"train_dataset.path=turns.jsonl has {number} turns of solved dialogs, fewer than "
        "a batch (train_dataset.batch_size=3)"
    )
    samples = samples_of(*range(1, number + 2))
    assert list(check_samples("train_dataset", dataset, samples, None)) == []


def test_data_are_loaded_with_all_their_problems(tmp_path):
    train_tokenizer([""], vocab_size=300, min_frequency=2).save_pretrained(tmp_path / "model")
    turns, bad = tmp_path / "turns.jsonl", tmp_path / "bad.jsonl"
    expert.main([str(turns), "--domain", "mock", "--split", "base", "--solo-mode"])
    bad.write_text(turns.read_text() + "{\n\n[]\n")
    model = [f"tokenizer_path={tmp_path}/model", "actor.mb_spec.max_tokens_per_mb=8192"]
    data, problems = load_supervised_data(supervised(*model, f"train_dataset.path={turns}"))
    assert len(data.train) == 10 and data.valid is None and problems == []

    both_bad = [f"train_dataset.path={bad}", f"valid_dataset={{path: {tmp_path}/no, type: sft}}"]
    _, problems = load_supervised_data(supervised(*model, *both_bad))
    assert [problem.split(": ")[0] for problem in problems] == [
        f"{bad}, line 11",
        f"{bad}, line 13",
        f"valid_dataset.path={tmp_path}/no cannot be read",
    ]
    assert load_supervised_data(supervised(*model, "train_dataset.path=/path/to/turns"))[1] == []


def test_a_file_of_another_kind_is_named_with_its_option(tokenizer_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write(tmp_path, [mock_entry("ann", "Lunch")])
    options = [f"tokenizer_path={tokenizer_folder}", "train_dataset.path='~/tasks.jsonl'"]
    assert load_supervised_data(supervised(*options))[1] == [
        "train_dataset.path=~/tasks.jsonl: this is a tasks file; "
        "a file of turns, JSONL with a turn per line, is wanted"
    ]


def test_without_a_tokenizer_there_are_no_data(tmp_path):
    data, (problem,) = load_supervised_data(supervised(f"tokenizer_path={tmp_path}"))
    assert problem.startswith(f"tokenizer_path={tmp_path}: its tokenizer cannot be loaded (")
    assert data.train == []
