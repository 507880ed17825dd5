"""How AReaL packs sequences with common prefixes for tree training."""

from typing import Any

from areal.models.tree_attn.tree import _greedy_build_tries


def tree_sizes(batch: dict[str, Any], max_tokens_per_tree: int) -> list[int]:
    """Return the number of tokens of each tree that AReaL packs a padded batch into."""
    _, sizes = _greedy_build_tries(batch, max_tokens_per_tree)
    return sizes
