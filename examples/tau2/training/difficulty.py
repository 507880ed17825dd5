"""Chooses the tasks that a run plays again soon, because their episodes had unequal outcomes.

A group teaches by the differences between its episodes. Tasks that are always solved, or always
failed, have none. So part of each batch goes to tasks whose last group had mixed outcomes. The
chance of such a task is in proportion to the variance of the outcomes, which is p * (1 - p) if a
share p of the episodes was solved. The rest of the batch goes to all tasks in turn, so that each
task is played, and its difficulty is measured anew.
"""

import random
from collections.abc import Mapping, Sequence
from heapq import nsmallest
from statistics import pvariance


def spread(outcomes: Sequence[float]) -> float:
    """Return the population variance of the outcomes of a group; exactly 0 if they are equal."""
    return pvariance(outcomes)


def draw(spreads: Mapping[int, float], number: int, rng: random.Random) -> list[int]:
    """Draw at most `number` different rows, each with a chance in proportion to its spread.

    A row is never drawn if its spread is 0. The same `rng` draws the same rows, whatever the order
    of `spreads`.
    """
    # The smallest of exponential variables is each of them with a chance in proportion to its rate.
    # So is the next one, among the others.
    arrivals = {row: rng.expovariate(spreads[row]) for row in sorted(spreads) if spreads[row] > 0}
    return nsmallest(number, arrivals, key=lambda row: arrivals[row])
