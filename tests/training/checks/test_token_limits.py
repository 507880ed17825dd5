"""Limits of sequence lengths that contradict each other."""

import pytest

from examples.tau2.training.areal.features import proxy_window
from examples.tau2.training.checks.token_limits import check_token_limits


@pytest.mark.parametrize(
    "override, expected",
    [
        ("sglang.context_length=4096", "must be less than sglang.context_length=4096"),
        (
            "gconfig.max_new_tokens=32768",
            "gconfig.max_new_tokens=32768 leaves no room for a prompt",
        ),
        (
            "actor.mb_spec.max_tokens_per_mb=1024",
            "actor.mb_spec.max_tokens_per_mb=1024 is less than the longest sequence",
        ),
        (
            "actor.pad_to_maximum=false",
            "actor.enable_tree_training=true needs actor.pad_to_maximum=true",
        ),
    ],
)
def test_each_problem_names_its_option(airline, override, expected):
    problems = list(check_token_limits(airline(override)))
    assert any(expected in problem for problem in problems), problems


def test_a_window_that_the_proxy_does_not_heed(airline):
    config = airline(
        "rollout.agent.engine_max_tokens=40000",
        "sglang.context_length=40001",
        "actor.mb_spec.max_tokens_per_mb=40064",
    )
    problems = list(check_token_limits(config))
    if proxy_window(40000) == 40000:
        assert problems == []
    else:
        assert problems == [
            "rollout.agent.engine_max_tokens=40000 has no effect: AReaL's proxy stops at 32768; "
            "set that"
        ]


def test_limits_that_fit(airline):
    assert list(check_token_limits(airline())) == []
