"""Samples are chosen, and counted before and after AReaL packs them into tries."""

import pytest
import torch
from areal.utils.data import concat_padded_tensors

from benchmarks.recorded_episodes import Group, Sample
from benchmarks.tries import count_packed_tokens, first_turns, renumbered
from examples.tau2.training.launch import ConfigError


def sample(*tokens: int) -> Sample:
    input_ids = torch.tensor([tokens])
    return {
        "input_ids": input_ids,
        "attention_mask": torch.ones_like(input_ids, dtype=torch.bool),
        "loss_mask": torch.ones_like(input_ids),
        "rewards": torch.tensor([0.0]),
    }


THREE = [sample(1, 2, 3, 4), sample(1, 2, 3, 5, 6), sample(1, 9)]


@pytest.mark.parametrize(
    "limit, tries, tokens",
    [
        # one trie: 1 2 3 (4 | 5 6) | 9
        (100, 1, 7),
        # the trie 1 2 3 (4 | 5 6) is full
        (6, 2, 8),
    ],
)
def test_a_common_prefix_is_counted_once_per_trie(limit, tries, tokens):
    counted = count_packed_tokens(THREE, limit)
    assert (counted["tokens"], counted["tries"], counted["tokens_in_tries"]) == (11, tries, tokens)
    assert counted["ratio"] == 11 / tokens


def test_a_sample_longer_than_a_trie_is_refused():
    with pytest.raises(ConfigError, match="5 tokens.*max_tokens_per_mb=4"):
        count_packed_tokens(THREE, 4)


def test_renumbering_changes_no_prefix():
    batches = [concat_padded_tensors(THREE[:2]), concat_padded_tensors(THREE[2:])]
    (first, second), vocabulary = renumbered(batches)
    # padding is 0
    assert first["input_ids"].tolist() == [[1, 2, 3, 4, 0], [1, 2, 3, 5, 6]]
    assert second["input_ids"].tolist() == [[1, 7]]
    assert vocabulary == 8


def test_first_turns_are_those_of_all_episodes():
    a, b, c, d, e, f = (sample(token) for token in range(6))
    groups: list[Group] = [[[a, b], [c], [d]], [[e, f]]]
    chosen = []
    for turns in first_turns(groups, 5):
        chosen.append([turn["input_ids"].item() for turn in turns])
    assert chosen == [[0, 2, 3, 1], [4]]
