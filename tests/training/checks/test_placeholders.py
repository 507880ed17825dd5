"""Placeholders that the user has to replace."""

import pytest

from examples.tau2.training.checks.loading import load_config
from examples.tau2.training.checks.placeholders import check_placeholders, is_placeholder
from examples.tau2.utils import Tau2PPOConfig


def test_a_placeholder_is_told_with_its_option(airline):
    problems = check_placeholders(airline("actor.path=/path/to/model"))
    assert list(problems) == ["actor.path=/path/to/model is a placeholder; set it"]


def test_each_placeholder_is_told_once():
    config = "examples/tau2/config_8b_airline.yaml"
    argv = ["--config", config, "experiment_name=e", "trial_name=t"]
    problems = list(check_placeholders(load_config(argv, Tau2PPOConfig)[0]))
    assert [problem.split("=")[0] for problem in problems[:2]] == [
        "cluster.name_resolve.nfs_record_root",
        "cluster.fileroot",
    ]
    assert len(problems) == len({problem.split("=")[1] for problem in problems})


@pytest.mark.parametrize(
    "value, expected",
    [
        ("/path/to/model", True),
        ("http://<host>:8000/v1", True),
        ("/path/together", False),
        ("a < b", False),
        ("", False),
    ],
)
def test_what_a_placeholder_is(value, expected):
    assert is_placeholder(value) == expected
