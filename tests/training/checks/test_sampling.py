"""Sampling that does not suit GRPO."""

import pytest

from examples.tau2.training.checks.sampling import check_sampling


@pytest.mark.parametrize(
    "override, expected",
    [
        ("gconfig.n_samples=1", "group_filter=true drops every group of gconfig.n_samples=1"),
        ("actor.temperature=0.5", "actor.temperature=0.5 is not the gconfig.temperature=1.0"),
    ],
)
def test_each_problem_names_its_option(airline, override, expected):
    (problem,) = check_sampling(airline(override))
    assert problem.startswith(expected)


def test_equal_episodes_of_a_group(airline):
    cold = ["gconfig.temperature=0", "actor.temperature=0"]
    (problem,) = check_sampling(airline(*cold))
    assert problem.startswith("gconfig.temperature=0 makes the episodes of a group the same")
    assert list(check_sampling(airline(*cold, "group_filter=false"))) == []


def test_revisits_need_groups(airline):
    alone = ["gconfig.n_samples=1", "group_filter=false"]
    assert list(check_sampling(airline(*alone))) == []
    (problem,) = check_sampling(airline(*alone, "revisit_share=0.5"))
    assert problem.startswith("revisit_share=0.5 needs groups with several outcomes")
