"""Numbers that are out of range."""

import pytest

from examples.tau2.training.checks.ranges import check_ranges


@pytest.mark.parametrize(
    "override, expected",
    [
        ("econfig.max_steps=0", "econfig.max_steps=0 must be greater than 0"),
        ("econfig.timeout=nan", "econfig.timeout=nan must be greater than 0"),
        ("valid_dataset.batch_size=0", "valid_dataset.batch_size=0 must be greater than 0"),
        ("actor.optimizer.lr=0", "actor.optimizer.lr=0.0 must be greater than 0"),
        ("eval_gconfig.n_samples=0", "eval_gconfig.n_samples=0 must be greater than 0"),
        (
            "econfig.turn_discount=1.5",
            "econfig.turn_discount=1.5 is out of range; it must be between 0 and 1",
        ),
        (
            "econfig.invalid_format_penalty=-1",
            "econfig.invalid_format_penalty=-1.0 is out of range; it must be at least 0",
        ),
        (
            "gconfig.temperature=-0.5",
            "gconfig.temperature=-0.5 is out of range; it must be between 0 and 2",
        ),
        (
            "eval_gconfig.top_p=0",
            "eval_gconfig.top_p=0.0 is out of range; it must be between 1e-06 and 1",
        ),
    ],
)
def test_a_number_out_of_range(airline, override, expected):
    assert list(check_ranges(airline(override))) == [expected]


def test_options_without_a_number_are_in_range(airline):
    config = airline("valid_dataset=null", "actor.optimizer=null", "run_timeout=null")
    assert list(check_ranges(config)) == []
