"""benchmarks/train_step.py: what it records, how it counts, and one run of it with an actor each way."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from areal.utils.data import concat_padded_tensors

from benchmarks import train_step
from benchmarks.train_step import Group, Sample, first_turns, renumbered, samples, sharing


def sample(*tokens: int, reward: float = 0.0) -> Sample:
    ids = torch.tensor([tokens])
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids, dtype=torch.bool),
        "loss_mask": torch.ones_like(ids),
        "rewards": torch.tensor([reward]),
    }


THREE = [sample(1, 2, 3, 4), sample(1, 2, 3, 5, 6), sample(1, 9)]


@pytest.mark.parametrize(
    "limit, tries, tokens",
    [
        (100, 1, 7),  # 1 2 3 (4 | 5 6) | 9
        (6, 2, 8),  # 1 2 3 (4 | 5 6) is full
    ],
)
def test_a_common_prefix_is_counted_once_per_trie(limit, tries, tokens):
    counted = sharing(THREE, limit)
    assert (counted["tokens"], counted["tries"], counted["tokens_in_tries"]) == (11, tries, tokens)
    assert counted["ratio"] == 11 / tokens


def test_a_sample_longer_than_a_trie_is_refused():
    with pytest.raises(train_step.Unusable, match="5 tokens.*max_tokens_per_mb=4"):
        sharing(THREE, 4)


def test_renumbering_changes_no_prefix():
    batches, vocabulary = renumbered(
        [concat_padded_tensors(THREE[:2]), concat_padded_tensors(THREE[2:])]
    )
    assert batches[0]["input_ids"].tolist() == [[1, 2, 3, 4, 0], [1, 2, 3, 5, 6]]  # 0 pads
    assert (batches[1]["input_ids"].tolist(), vocabulary) == ([[1, 7]], 8)


def test_first_turns_are_those_of_all_episodes():
    a, b, c, d, e, f = (sample(token) for token in range(6))
    groups: list[Group] = [[[a, b], [c], [d]], [[e, f]]]
    chosen = [[turn["input_ids"].item() for turn in turns] for turns in first_turns(groups, 5)]
    assert chosen == [[0, 2, 3, 1], [4]]


def test_records_a_group_as_areal_trains_on_it():
    tokenizer = train_step.load_tokenizer(None)
    tasks = train_step.tasks_that_change_the_database()[1:2]
    plan = train_step.load(train_step.CONFIG, [])
    (group,) = train_step.record(plan, tokenizer, tasks, episodes=2, thinking=20)
    assert [[turn["rewards"].item() for turn in episode] for episode in group] == [
        [1.0] * len(group[0]),
        [0.0] * len(group[1]),
    ]
    for turn in samples(group):
        generated = turn["input_ids"][turn["loss_mask"].bool()]
        assert tokenizer.decode(generated).startswith("<think>\n")
        assert generated[-1] == tokenizer.eos_token_id
        assert 4000 < turn["input_ids"].shape[1] < 8000
    assert sharing(samples(group), 24576)["ratio"] > len(group[0])  # the two episodes share, too


@pytest.mark.parametrize(
    "argv, problem",
    [
        (["--tasks", "99"], "only .* training tasks of airline"),
        (["--model", "/nowhere"], "/nowhere is neither one of tiny, 0.6b, 1.7b nor a folder"),
        (["--tokenizer", "/nowhere"], "/nowhere has no tokenizer"),
        (["--json", "/nowhere/x.json"], "no folder /nowhere"),
        (["--steps", "0"], "invalid positive value: '0'"),
        (["--config", "/nowhere.yaml"], "--config or an override: .*nowhere"),
    ],
)
def test_bad_options_are_named(argv, problem, capsys):
    with pytest.raises(SystemExit, match="2"):
        train_step.main(argv)
    assert re.search(f"error: .*{problem}", capsys.readouterr().err, re.DOTALL)


def test_both_ways_give_the_same(tmp_path):
    small = ["--tasks", "1", "--episodes", "2", "--samples", "2", "--steps", "1", "--thinking", "5"]
    script = Path(train_step.__file__)
    command = [sys.executable, script, *small, "--json", tmp_path / "result.json"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("turns of airline") and "equal: differences" in run.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    (plain,), (tree,) = result["steps"]["plain"], result["steps"]["tree"]
    assert result["equal"] and tree["loss"] == pytest.approx(plain["loss"], abs=1e-4)
    assert (
        tree["grad_norm"] == pytest.approx(plain["grad_norm"], rel=1e-4) and plain["grad_norm"] > 0
    )
    assert (
        (plain["microbatches"], tree["microbatches"]) == (2, result["trained"]["tries"]) == (2, 1)
    )
