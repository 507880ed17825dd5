"""`sft.py` up to the start of processes; `end_to_end/test_fine_tuning.py` has the rest."""

from collections.abc import Callable
from pathlib import Path

import pytest

from examples.tau2 import expert
from examples.tau2.cpu.tokenizer import train_tokenizer, untrained_tokenizer
from examples.tau2.sft import prepare
from examples.tau2.training.launch import ConfigError, PreparedRun
from tests.hub import running_hub
from tests.templates import TEMPLATES

CPU = "examples/tau2/config_sft_cpu.yaml"


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory) -> Path:
    """A folder with a tokenizer, whose tokens are bytes: enough of a model for the checks."""
    folder = tmp_path_factory.mktemp("model")
    train_tokenizer([""], vocab_size=300, min_frequency=2).save_pretrained(folder)
    return folder


@pytest.fixture
def turns(tmp_path) -> Path:
    """A file of 10 turns."""
    path = tmp_path / "turns.jsonl"
    expert.main([str(path), "--domain", "mock", "--split", "base", "--solo-mode"])
    return path


@pytest.fixture
def prepare_cpu(model_folder, turns, tmp_path) -> Callable[..., PreparedRun]:
    """`prepare_cpu(*overrides)`: what `prepare` makes of the config for CPUs."""

    def prepare_with(*overrides: str) -> PreparedRun:
        options = [
            f"train_dataset.path={turns}",
            f"actor.path={model_folder}",
            f"cluster.fileroot={tmp_path}/runs",
            "actor.mb_spec.max_tokens_per_mb=8192",
            *overrides,
        ]
        return prepare(["--config", CPU, *(f"++{option}" for option in options)])

    return prepare_with


def test_a_good_config_is_summed_up_and_writes_nothing(prepare_cpu, model_folder, turns, tmp_path):
    prepared = prepare_cpu(
        "train_dataset.batch_size=4", f"valid_dataset={{path: {turns}, type: sft}}"
    )
    parts = (str(model_folder), "10 turns", "4 a batch", "archon:d1 on 1 x 0 GPUs", "10 epochs")
    for part in parts:
        assert part in prepared.summary
    assert prepared.timeout == 1500
    assert not (tmp_path / "runs").exists()


def test_all_problems_are_told_at_once(prepare_cpu, model_folder, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": 1, "answer": 1}\n\n{\n')
    expected = {
        "train_dataset.batch_size=16": (
            "has 10 turns of solved dialogs, fewer than a batch (train_dataset.batch_size=16)"
        ),
        "actor.mb_spec.max_tokens_per_mb=128": (
            "actor.mb_spec.max_tokens_per_mb=128 is less than the longest turn"
        ),
        "actor.optimizer.lr=0": "actor.optimizer.lr=0",
        "actor.backend=sglang:d1": "actor needs one of archon, megatron, fsdp",
        "scheduler.type=pbs": "scheduler.type=pbs: with this AReaL, choose local or slurm",
        "cluster.fileroot=/proc/x": "cluster.fileroot=/proc/x cannot be written",
        "nonsense=1": "nonsense",
        "actor.path=./nowhere": "actor.path=./nowhere is no folder",
        f"valid_dataset={{path: {bad}, type: sft}}": f"{bad}, line 1: messages is no list",
    }
    with pytest.raises(ConfigError) as error:
        prepare_cpu(*expected, f"tokenizer_path={model_folder}")
    problems = error.value.problems
    for text in (*expected.values(), f"{bad}, line 3: no JSON"):
        assert any(text in problem for problem in problems), (text, problems)
    # one more for line 3, and one for the folder of name_resolve, which is below fileroot
    assert len(problems) == len(expected) + 2


def test_a_run_that_would_not_save_its_last_step_is_refused(prepare_cpu):
    with pytest.raises(ConfigError, match="the last of .* is not saved"):
        prepare_cpu("total_train_steps=9")
    assert prepare_cpu("total_train_steps=9", "saver.freq_steps=3")


@pytest.mark.parametrize(
    "override, expected",
    [
        (
            "train_dataset.path=nowhere.jsonl",
            "train_dataset.path=nowhere.jsonl cannot be read: No such file",
        ),
        ("tokenizer_path=./nowhere", "tokenizer_path=./nowhere"),
    ],
)
def test_files_that_are_not_there_are_named(prepare_cpu, override, expected):
    with pytest.raises(ConfigError, match=expected):
        prepare_cpu(override)


def test_a_template_that_takes_arguments_as_objects_is_trained_on(prepare_cpu, tmp_path):
    option = model_with(TEMPLATES["Qwen3.5"], tmp_path)
    turns = tmp_path / "with_user.jsonl"
    expert.main([str(turns), "--domain", "mock", "--split", "base"])
    prepared = prepare_cpu(option, f"train_dataset.path={turns}", "train_dataset.batch_size=2")
    assert f"{turns}: 15 turns" in prepared.summary


def test_what_a_template_refuses_is_told_with_its_lines_and_words(prepare_cpu, turns, tmp_path):
    """The turns are of solo mode, where no user speaks."""
    with pytest.raises(ConfigError) as error:
        prepare_cpu(model_with(TEMPLATES["Qwen3.5"], tmp_path))
    assert error.value.problems == [
        f"{turns}, line 1-10: the chat template refuses the conversation (TemplateError: No user "
        "query found in messages.); take another model (actor.path), or put another "
        "chat_template.jinja into its folder"
    ]


def model_with(template: str, folder: Path) -> str:
    """Write a model folder with this chat template, and return the option that names it."""
    tokenizer = untrained_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder / "model")
    return f"actor.path={folder}/model"


def test_the_config_for_gpus_needs_only_the_data_and_the_storage(model_folder, tmp_path):
    options = [f"++cluster.fileroot={tmp_path}", f"++tokenizer_path={model_folder}"]
    with pytest.raises(ConfigError) as error:
        prepare(["--config", "examples/tau2/config_sft_8b.yaml", *options])
    assert error.value.problems == [
        "train_dataset.path=/path/to/tau2_sft_train.jsonl is a placeholder; set it"
    ]


def test_turns_of_the_hub(prepare_cpu, turns, tmp_path, monkeypatch):
    with running_hub(tmp_path / "cache", monkeypatch) as hub:
        commit = hub.commit("ann/dialogs", {"rl/turns.jsonl": turns.read_bytes()})
        named = "hf://datasets/ann/dialogs{}/rl/turns.jsonl"
        prepared = prepare_cpu(
            f"train_dataset.path={named.format('')}", "train_dataset.batch_size=4"
        )
        assert f"{named.format(f'@{commit}')}: 10 turns" in prepared.summary
