"""Schedulers that a run can use."""

import pytest

from examples.tau2.training.checks.scheduler import check_scheduler


def test_another_scheduler(airline):
    assert list(check_scheduler(airline("scheduler.type=ray"))) == [
        "scheduler.type=ray: AReaL runs agent workflows under local and slurm only"
    ]


@pytest.mark.parametrize("scheduler", ["local", "slurm"])
def test_a_supported_scheduler(airline, scheduler):
    assert list(check_scheduler(airline(f"scheduler.type={scheduler}"))) == []
