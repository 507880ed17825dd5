"""Packs samples into the tries of AReaL's tree training, and counts tokens before and after.

A trie holds a prefix that several samples have in common only once.
"""

from collections.abc import Iterator
from itertools import chain, zip_longest

import torch
from areal.utils.data import concat_padded_tensors

from benchmarks.recorded_episodes import Group, Sample
from examples.tau2.training.areal.trees import tree_sizes
from examples.tau2.training.launch import ConfigError

# Samples padded to one length: [samples, tokens]; rewards [samples].
Batch = dict[str, torch.Tensor]


def samples_of(group: Group) -> list[Sample]:
    """Return all turns of a group."""
    return list(chain.from_iterable(group))


def count_packed_tokens(samples: list[Sample], limit: int) -> dict[str, float]:
    """Count the tokens of samples before and after AReaL packs them into tries.

    A trie has at most `limit` tokens. `ratio` is the number of tokens before, divided by the number
    after.

    Raises:
        ConfigError: a sample does not fit into a trie.
    """
    lengths = [sample["input_ids"].shape[1] for sample in samples]
    longest = max(lengths)
    if longest > limit:
        raise ConfigError(
            [f"a sample has {longest} tokens: actor.mb_spec.max_tokens_per_mb={limit} is too small"]
        )
    trie_sizes = tree_sizes(concat_padded_tensors(samples), limit)
    generated = sum(int(sample["loss_mask"].sum()) for sample in samples)
    return {
        "samples": len(samples),
        "longest": longest,
        "tokens": sum(lengths),
        "tokens_generated": generated,
        "tries": len(trie_sizes),
        "tokens_in_tries": sum(trie_sizes),
        "ratio": sum(lengths) / sum(trie_sizes),
    }


def first_turns(groups: list[Group], count: int) -> Iterator[list[Sample]]:
    """Yield the first `count` samples, one list for each group that has any of them.

    The first turns of all episodes of a group come first, then their second turns, and so on.
    """
    for group in groups:
        turns = []
        for same_turn in zip_longest(*group):
            turns += [sample for sample in same_turn if sample is not None]
        chosen = turns[:count]
        count -= len(chosen)
        if chosen:
            yield chosen


def renumbered(batches: list[Batch]) -> tuple[list[Batch], int]:
    """Number the tokens that occur in the batches from 0; return the batches and the count."""
    tokens = torch.cat([batch["input_ids"].flatten() for batch in batches]).unique()
    changed = []
    for batch in batches:
        numbers = torch.searchsorted(tokens, batch["input_ids"].contiguous())
        changed.append({**batch, "input_ids": numbers})
    return changed, len(tokens)
