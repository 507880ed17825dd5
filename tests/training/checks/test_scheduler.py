"""Schedulers that a run can use."""

import pytest

from examples.tau2.training.areal.features import runs_agents_under_ray
from examples.tau2.training.checks.scheduler import check_scheduler


def test_another_scheduler(airline):
    (problem,) = check_scheduler(airline("scheduler.type=none"))
    assert problem.startswith("scheduler.type=none: with this AReaL, choose local or slurm")


@pytest.mark.parametrize("scheduler", ["local", "slurm"])
def test_a_supported_scheduler(airline, scheduler):
    assert list(check_scheduler(airline(f"scheduler.type={scheduler}"))) == []


def test_ray_is_supported_if_agents_can_run_under_it(airline):
    is_refused = bool(list(check_scheduler(airline("scheduler.type=ray"))))
    assert is_refused != runs_agents_under_ray()
