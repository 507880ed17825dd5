"""A supervised run of the tiny model on turns of solved dialogs, as a user starts it on a CPU."""

import json
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from examples.tau2 import expert
from examples.tau2.training.checks import find_problems
from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.samples import load_samples
from examples.tau2.utils import Tau2PPOConfig
from tests.stack import ROOT, processes_of, run_to_the_end

EPOCHS = 6


@pytest.fixture(scope="module")
def turns(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "turns.jsonl"
    assert expert.main([str(path), "--domain", "mock", "--split", "base", "--solo-mode"]) == 0
    return path


@pytest.fixture(scope="module")
def run(model, turns, tmp_path_factory) -> tuple[Path, str]:
    """The folder of a finished run, and what it printed."""
    fileroot = tmp_path_factory.mktemp("runs")
    words = [
        *(sys.executable, "examples/tau2/sft.py", "--config", "examples/tau2/config_sft_cpu.yaml"),
        *("experiment_name=test", "trial_name=sft", f"cluster.fileroot={fileroot}"),
        *("run_timeout=null", f"actor.path={model}", f"total_train_epochs={EPOCHS}"),
        *(f"train_dataset.path={turns}", "train_dataset.batch_size=5"),
        f"valid_dataset={{path: {turns}, type: sft, batch_size: 4}}",
    ]
    printed = run_to_the_end(words, fileroot / "printed")
    assert processes_of(fileroot) == []
    return fileroot, printed


@pytest.fixture(scope="module")
def checkpoint(run) -> Path:
    return Path(
        next(line.split()[-1] for line in run[1].splitlines() if line.startswith("checkpoint "))
    )


def loss(folder: Path, turns: Path) -> float:
    """Mean negative log-likelihood of the answers' tokens in nats, by transformers."""
    # one turn at a time
    network = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    total = tokens = 0.0
    for sample in load_samples(turns, tokenizer):
        ids, mask = sample["input_ids"], sample["loss_mask"]
        with torch.no_grad():
            logprobs = network(input_ids=ids[None]).logits[0].log_softmax(-1)
        chosen = logprobs[:-1].gather(1, ids[1:, None])[:, 0][mask[1:]]
        total, tokens = total - chosen.sum().item(), tokens + len(chosen)
    return total / tokens


def test_the_loss_falls_and_is_that_of_the_checkpoint(run, checkpoint, turns, model):
    (path,) = run[0].glob("logs/*/test/sft/statistics.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert [record["step"] for record in records] == list(range(1, 2 * EPOCHS + 1))
    validated = [record["sft-eval/loss/avg"] for record in records if "sft-eval/loss/avg" in record]
    assert len(validated) == EPOCHS
    before, after = loss(model, turns), loss(checkpoint, turns)
    # packing mixes no turns
    assert after == pytest.approx(validated[-1], rel=1e-3)
    assert after < before / 2


def test_each_step_is_a_line(run):
    for step in range(1, 2 * EPOCHS + 1):
        assert f"step {step}/{2 * EPOCHS} | loss " in run[1]


def test_training_goes_on_from_the_checkpoint(checkpoint, tmp_path):
    argv = ["--config", f"{ROOT}/examples/tau2/config_cpu.yaml", f"++actor.path={checkpoint}"]
    config, wrong = load_config([*argv, f"++cluster.fileroot={tmp_path}"], Tau2PPOConfig)
    assert [*wrong, *find_problems(config)] == []
    assert (checkpoint / "chat_template.jinja").exists() and config.tokenizer_path == str(
        checkpoint
    )
