"""Settings of the rollout with which the workflow does not work."""

import pytest

from examples.tau2.training.checks.rollout import check_rollout


@pytest.mark.parametrize(
    "override, expected",
    [
        ("rollout.agent.mode=subproc", "rollout.agent.mode=subproc: this workflow runs inline"),
        (
            "rollout.agent.export_style=concat",
            "rollout.agent.export_style=concat: use individual",
        ),
        ("actor._version=v2", "actor._version=v2: the advantages need AReaL's v1 controllers"),
        ("rollout._version=v2", "rollout._version=v2: the advantages need AReaL's v1 controllers"),
    ],
)
def test_each_problem_names_its_option(airline, override, expected):
    (problem,) = check_rollout(airline(override))
    assert problem.startswith(expected)
