"""The choice of tasks that are played again soon."""

import random
from collections import Counter

import pytest

from examples.tau2.training.difficulty import draw, spread


@pytest.mark.parametrize(
    "outcomes, expected",
    [
        ([1.0] * 8, 0.0),
        ([0.1] * 3, 0.0),
        ([0.0], 0.0),
        ([1.0, 0.0], 1 / 4),
        ([1.0] * 7 + [0.0], 7 / 64),
        # partial rewards
        ([0.5, 1.0], 1 / 16),
    ],
)
def test_the_spread_is_the_variance(outcomes, expected):
    assert spread(outcomes) == pytest.approx(expected, abs=0)


def test_rows_are_drawn_in_proportion_to_their_spread():
    rng = random.Random(1)
    spreads = {7: 0.25, 3: 0.125, 5: 0.125, 4: 0.0}
    drawn = Counter(row for _ in range(4000) for row in draw(spreads, 1, rng))
    shares = {row: number / 4000 for row, number in drawn.items()}
    assert shares == pytest.approx({7: 0.5, 3: 0.25, 5: 0.25}, abs=0.03)


def test_rows_are_drawn_once_and_those_without_spread_never():
    rng = random.Random(1)
    spreads = {7: 0.25, 3: 0.01, 5: 0.2, 4: 0.0}
    assert {tuple(sorted(draw(spreads, 3, rng))) for _ in range(100)} == {(3, 5, 7)}
    assert sorted(draw(spreads, 9, rng)) == [3, 5, 7]
    assert draw({}, 3, rng) == draw({4: 0.0}, 3, rng) == draw(spreads, 0, rng) == []


def test_the_order_of_the_rows_changes_no_draw():
    spreads = {row: row / 100 for row in range(25)}
    backwards = dict(reversed(spreads.items()))
    assert draw(spreads, 5, random.Random(2)) == draw(backwards, 5, random.Random(2))
